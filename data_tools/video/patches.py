"""RGB or gray of the parts of a picture that are cropped, byte for byte as of all of it.

Of a face in a picture of 720p most of the conversion would be thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from data_tools.video.convert import Converter, reformatted
from data_tools.video.hdr import is_pq

# Pixels; what is converted begins and ends at multiples of it, or with the picture, so that
# libswscale computes each pixel with the same instructions as in the whole picture.
_GRID = 64
_PLANAR = ("yuv420p", "yuvj420p")  # whose first plane is the brightness, a byte a pixel
# Pixels beyond the square, and as a share of its side, that decide what
# `data_tools.video.crop.cut` makes of it: crops have 16 pixels at least.
_AROUND, _AROUND_SHARE = 8, 1 / 16


class Patches:
    """Converts parts of pictures, all of one video.

    converter: for pictures that must be converted as a whole.
    """

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._scaler = VideoReformatter()
        self._canvas: NDArray[np.uint8] | None = None

    def rgb(self, frame: Any, squares: Iterable[tuple[float, float, float]]) -> NDArray[np.uint8]:
        """As `Converter.rgb`, (H, W, 3) RGB uint8, but certain only in and around the squares.

        The next call writes into the same array.

        squares: centre x, centre y and side of each, pixels.
        """
        if not self._divides(frame):
            return self._converter.rgb(frame)
        canvas = self._blank(frame.height, frame.width, 3)
        for x, y, side in squares:
            left, right = _span(x, side, frame.width, _GRID)
            top, bottom = _span(y, side, frame.height, _GRID)
            if left < right and top < bottom:
                part = _part(frame, left, top, right - left, bottom - top)
                how = Interpolation.BILINEAR
                small = reformatted(self._scaler, part, None, None, "rgb24", how)
                canvas[top:bottom, left:right] = small.to_ndarray()
        return canvas

    def gray(self, frame: Any, square: tuple[float, float, float]) -> NDArray[np.uint8]:
        """As `Converter.plain`, (H, W) uint8, but certain only in and around the square, as `rgb`.

        square: centre x, centre y and side, pixels.
        """
        plain = frame.format.name in _PLANAR and self._is_plain(frame)
        kind = frame.format.name, int(frame.color_range), int(frame.colorspace)
        table = _gray_of_brightness(*kind) if plain else None
        if table is None:
            return self._converter.plain(frame, gray=True)
        canvas = self._blank(frame.height, frame.width)
        x, y, side = square
        left, right = _span(x, side, frame.width, 1)
        top, bottom = _span(y, side, frame.height, 1)
        if left < right and top < bottom:
            part = _pixels(frame.planes[0])[top:bottom, left:right]
            cv2.LUT(part, table, dst=canvas[top:bottom, left:right])
        return canvas

    def _blank(self, *shape: int) -> NDArray[np.uint8]:
        if self._canvas is None or self._canvas.shape != shape:
            self._canvas = np.zeros(shape, np.uint8)
        return self._canvas

    def _is_plain(self, frame: Any) -> bool:
        """Whether the picture is shown as it is stored."""
        square = self._converter.size(frame) == (frame.height, frame.width)
        upright = not frame.rotation and all(plane.line_size > 0 for plane in frame.planes)
        return square and upright and not is_pq(frame)

    def _divides(self, frame: Any) -> bool:
        """Whether each pixel's colour depends on its own brightness and its own colour alone."""
        # Of odd sizes libswscale interpolates the colour; of other formats it is not known.
        even = frame.width % 2 == 0 and frame.height % 2 == 0
        return even and frame.format.name == "yuv420p" and self._is_plain(frame)


@cache
def _gray_of_brightness(pixels: str, color_range: int, colorspace: int) -> NDArray[np.uint8] | None:
    """The gray value of each brightness, (256,) uint8; None where libswscale sees colour, too.

    The pictures are of one kind: their pixels' format, range and colour space.
    """
    values = []
    for colour in (128, 240):
        ramp = av.VideoFrame(256, 2, pixels)
        ramp.color_range, ramp.colorspace = color_range, colorspace
        for plane in ramp.planes:
            _pixels(plane)[:] = colour
        _pixels(ramp.planes[0])[:, :256] = np.arange(256)
        values.append(Converter().plain(ramp, gray=True)[0])
    return values[0] if np.array_equal(*values) else None


def _span(centre: float, side: float, length: int, grid: int) -> tuple[int, int]:
    """First pixel and one past the last, within `length`, that hold the square and its margin."""
    reach = (0.5 + _AROUND_SHARE) * side + _AROUND
    begin = math.floor((centre - reach) / grid) * grid
    end = math.ceil((centre + reach) / grid) * grid
    return max(begin, 0), min(end, length)


def _part(frame: Any, left: int, top: int, width: int, height: int) -> Any:
    """A rectangle of a yuv420p frame as a frame of its own; all numbers are even."""
    part = av.VideoFrame(width, height, "yuv420p")
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        if hasattr(frame, name):  # PyAV 14 does not know all of them
            setattr(part, name, getattr(frame, name))
    for number, (whole, own) in enumerate(zip(frame.planes, part.planes, strict=True)):
        half = 1 if number == 0 else 2
        rows = slice(top // half, (top + height) // half)
        columns = slice(left // half, (left + width) // half)
        _pixels(own)[: height // half, : width // half] = _pixels(whole)[rows, columns]
    return part


def _pixels(plane: Any) -> NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
