"""Decoded pictures as upright RGB or gray arrays, with square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.errors import not_prepared
from data_tools.video.sound import VideoError

try:
    import av
    from av.video.reformatter import Interpolation, VideoReformatter

    from data_tools.video.hdr import is_pq, tone_mapped
except ImportError as error:
    raise not_prepared(error.name, "reading videos") from None

# Names would be looked up for every picture.
_POINT, _AREA, _BILINEAR = Interpolation.POINT, Interpolation.AREA, Interpolation.BILINEAR


class Converter:
    """Turns decoded pictures into upright RGB arrays; keeps one scaler per size.

    aspect: width of a stored pixel over its height, as `Video.aspect`.

    Its methods raise VideoError at colours that nothing converts.
    """

    def __init__(self, aspect: Fraction = Fraction(1)) -> None:
        self._aspect = aspect
        self._square = aspect == 1
        self._scalers: dict[tuple[int, int, str], Any] = {}

    def short_side(self, frame: Any) -> int:
        """The shorter side of `frame` as it is to be shown, pixels."""
        return min(self.size(frame))

    def size(self, frame: Any) -> tuple[int, int]:
        """Height and width of `frame` with square pixels, before it is rotated."""
        width = frame.width if self._square else max(1, round(frame.width * self._aspect))
        return frame.height, width

    def plain(self, frame: Any, gray: bool, side: int | None = None) -> NDArray[np.uint8]:
        """As `rgb`, or (H, W) if gray: its luma, at a third of the cost.

        side: scale to (side, side), whatever the shape.
        """
        height, width = self.size(frame) if side is None else (side, side)
        return self._scaled(frame, height, width, "gray" if gray else "rgb24")

    def rgb(
        self, frame: Any, short_side: int | None = None, rough: bool = False
    ) -> NDArray[np.uint8]:
        """`frame` as (H, W, 3) RGB uint8, rotated and with square pixels as it is to be shown.

        short_side: scale down to this, if the picture is larger.
        rough: take single pixels instead of averaging, in a third of the time.
        """
        height, width = self.size(frame)
        if short_side is not None and short_side < min(height, width):
            scale = short_side / min(height, width)
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
        return self._scaled(frame, height, width, "rgb24", rough)

    def _scaled(
        self, frame: Any, height: int, width: int, pixels: str, rough: bool = False
    ) -> NDArray[np.uint8]:
        how = _POINT if rough else _AREA if height < frame.height else _BILINEAR
        stored = frame
        if how is _AREA and pixels == "rgb24" and frame.format.name == "yuv420p":
            # Scaled as it is stored, then converted: half to a quarter of the time of both at once.
            stored = self._reformatted(frame, height, width, "yuv420p", how)
        array = self._reformatted(stored, height, width, pixels, how).to_ndarray()
        array = tone_mapped(array) if is_pq(frame) else array
        turns = round((frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(array, turns)) if turns else array

    def _reformatted(self, frame: Any, height: int, width: int, pixels: str, how: Any) -> Any:
        key = height, width, pixels
        scaler = self._scalers.get(key)
        if scaler is None:
            scaler = self._scalers[key] = VideoReformatter()
        return reformatted(scaler, frame, width, height, pixels, how)


def reformatted(
    scaler: Any, frame: Any, width: int | None, height: int | None, pixels: str, how: Any
) -> Any:
    """`frame` by PyAV's `scaler`; None keeps its width or height.

    Raises:
        VideoError: nothing converts its colours.
    """
    try:
        # One thread: the processes are the parallelism.
        return scaler.reformat(frame, width, height, pixels, interpolation=how, threads=1)
    except (av.error.FFmpegError, ValueError):
        words = f"{frame.format.name} in the colour space {frame.colorspace} cannot be converted"
        raise VideoError("unknown colours", words) from None
