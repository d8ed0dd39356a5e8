"""Look for the faces of pictures: everywhere, or only around where they were and will be.

Where two pictures a second apart hold the same faces, each face of a picture between them lies
somewhere between its two places. The detector then sees a window around these alone, of a picture
in which the smallest of them has 96 pixels: a face is placed as well there as in any larger one.
What is not found so is looked for everywhere. A thorough search cuts the windows out of the picture
that is searched everywhere, at multiples of the detector's own grid, where it computes nearly the
same numbers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.video.convert import Converter
from data_tools.video.decode import Picture
from data_tools.video.faces import Detector, Face, open_detector
from data_tools.video.montage import Montage
from data_tools.video.options import PrepareOptions
from data_tools.video.tracks import iou, match

_GRID = 32  # pixels of the scaled picture: the coarsest stride of the detector's feature maps
_MARGIN = 0.5  # of the longer side of a face, around it
# Of a quick search. Against pictures of 640 pixels, 144 faces of 23 real videos lie 2.0 % of their
# side off with 64 pixels or with 128 and with any margin from 0.25 on, 2.8 % with 40 pixels. With
# 64 a drawn face that `thorough` keeps at a confidence of 0.91 has 0.77, with 96 it has 0.89.
_QUICK_GRID, _QUICK_MARGIN = 8, 0.25
_QUICK_FACE = 96  # pixels of the longer side
_SAME = 0.3  # overlap of a face with itself a second later, or between
_TWICE = 0.5  # overlap above which two windows show one face
_MOST = 0.7  # share of the picture above which windows win nothing


@dataclass(frozen=True)
class Gap:
    """Pictures in order, with the faces of a picture before them and of one after, in full size."""

    pictures: list[Picture]
    before: list[Face]
    after: list[Face]


@dataclass(frozen=True)
class _Small:
    """Picture `index` as a detector sees it, (H, W, 3) RGB uint8.

    scales: how many of the picture's own pixels one of these is, across and down.
    """

    index: int
    pixels: NDArray[np.uint8]
    scales: tuple[float, float]


class Search:
    """Finds faces in the pictures of one video.

    Args:
        converter: of the video's pictures.
        montage: is shown the pictures in which faces are looked for.

    Attributes:
        windowed: whether `between` may win anything over `everywhere`.
        quick: whether it then scales pictures to the faces in them.

    Raises:
        UsageError, MissingPackage: as `open_detector`.
    """

    def __init__(
        self, converter: Converter, options: PrepareOptions, montage: Montage | None = None
    ) -> None:
        self._converter, self._montage = converter, montage
        self._size = options.detect_size
        self.windowed = options.windowed
        self.quick = self.windowed and options.face_search == "quick"
        model = options.detector_model
        self._detector: Detector = open_detector(options.detector, Path(model) if model else None)

    def everywhere(self, pictures: Iterable[Picture]) -> dict[int, list[Face]]:
        """The faces of these pictures, in their own pixels, by the picture's index."""
        small = {picture.index: (picture, self._small(picture)) for picture in pictures}
        for _, seen in small.values():
            self._show(seen)
        found = self._whole(seen for _, seen in small.values())
        if self.quick:
            # The detector's boxes of one face differ by some percent with its size in the picture:
            # a track that holds boxes of two sizes would shake.
            for index, (picture, seen) in small.items():
                ends = [(face, face) for face in found[index]]
                smaller = self._smaller(picture, ends) if ends else None
                if smaller is not None and smaller.pixels.shape != seen.pixels.shape:
                    found[index] = self._in_windows(smaller, ends) or found[index]
        return found

    def between(self, gaps: Iterable[Gap]) -> dict[int, list[Face]]:
        """As `everywhere`, of pictures between others whose faces are known."""
        found: dict[int, list[Face]] = {}
        rest: list[Picture] = []
        for gap in gaps:
            pairs = match(gap.before, gap.after, _SAME)
            alike = 0 < len(pairs) == max(len(gap.before), len(gap.after))
            ends = [(gap.before[old], gap.after[new]) for old, new in pairs]
            for picture in gap.pictures:
                faces = None
                if self.windowed and alike:
                    small = self._smaller(picture, ends) if self.quick else self._small(picture)
                    faces = self._in_windows(small, ends)
                if faces is None:
                    rest.append(picture)
                    continue
                found[picture.index] = faces
                if self._montage is not None:
                    self._show(self._small(picture))
        return found | self.everywhere(rest)

    def _show(self, small: _Small) -> None:
        if self._montage is not None:
            self._montage.see(small.index, small.pixels, small.scales[0])

    def _small(self, picture: Picture) -> _Small:
        """A picture as the detector sees it where it looks everywhere."""
        pixels = self._converter.rgb(picture.frame, self._size)
        scale = self._converter.short_side(picture.frame) / min(pixels.shape[:2])
        return _Small(picture.index, pixels, (scale, scale))

    def _smaller(self, picture: Picture, ends: Sequence[tuple[Face, Face]]) -> _Small:
        """A picture in which the smallest of these faces has some 96 pixels, never above."""
        short, long = sorted(self._converter.size(picture.frame))
        side = min(_longer_side(face) for pair in ends for face in pair)
        size = math.ceil(short * _QUICK_FACE / max(side, 1.0))
        if size >= min(self._size, short):
            return self._small(picture)
        pixels = self._converter.rgb(picture.frame, size)
        height, width = pixels.shape[:2]
        # So small, whole pixels make the two scales differ.
        scales = short / min(height, width), long / max(height, width)
        return _Small(picture.index, pixels, scales if height > width else scales[::-1])

    def _whole(self, pictures: Iterable[_Small]) -> dict[int, list[Face]]:
        # A batch is of one size, which may change in the middle of a video.
        groups: dict[tuple[int, ...], list[_Small]] = defaultdict(list)
        for small in pictures:
            groups[small.pixels.shape].append(small)
        found: dict[int, list[Face]] = {}
        for group in groups.values():
            batch = self._detector.detect([small.pixels for small in group])
            for small, faces in zip(group, batch, strict=True):
                found[small.index] = [_scaled(face, *small.scales) for face in faces]
        return found

    def _in_windows(self, small: _Small, ends: Sequence[tuple[Face, Face]]) -> list[Face] | None:
        """The faces that lie between these places, if each is found; all in full size."""
        pixels, scales = small.pixels, small.scales
        x, y = (1 / scale for scale in scales)
        places = [(_scaled(before, x, y), _scaled(after, x, y)) for before, after in ends]
        shape = (_QUICK_MARGIN, _QUICK_GRID) if self.quick else (_MARGIN, _GRID)
        windows = [_window(pair, pixels.shape[:2], *shape) for pair in places]
        area = sum((right - left) * (bottom - top) for left, top, right, bottom in windows)
        if area > _MOST * pixels.shape[0] * pixels.shape[1] and not self.quick:
            return None
        faces: list[Face] = []
        for (left, top, right, bottom), pair in zip(windows, places, strict=True):
            window = np.ascontiguousarray(pixels[top:bottom, left:right])
            seen = [_moved(face, left, top) for face in self._detector.detect([window])[0]]
            face = max(seen, key=lambda each: _overlap(each, pair), default=None)
            if face is None or _overlap(face, pair) < _SAME:
                return None
            if any(iou(face.box, other.box) > _TWICE for other in faces):
                return None
            faces.append(face)
        return [_scaled(face, *scales) for face in faces]


def _window(
    pair: tuple[Face, Face], shape: tuple[int, ...], margin: float, grid: int
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom: what holds both places and a margin, at multiples of the grid.

    margin: around a face, of its longer side.
    """
    boxes = np.array([face.box for face in pair])
    around = margin * max(map(_longer_side, pair))
    begin = np.floor((boxes[:, :2].min(axis=0) - around) / grid) * grid
    end = np.ceil((boxes[:, 2:].max(axis=0) + around) / grid) * grid
    left, top = (max(int(value), 0) for value in begin)
    right, bottom = (min(int(value), most) for value, most in zip(end, shape[::-1], strict=True))
    return left, top, right, bottom


def _longer_side(face: Face) -> float:
    left, top, right, bottom = face.box
    return max(right - left, bottom - top)


def _overlap(face: Face, pair: tuple[Face, Face]) -> float:
    return max(iou(face.box, end.box) for end in pair)


def _moved(face: Face, x: float, y: float) -> Face:
    left, top, right, bottom = face.box
    return Face((left + x, top + y, right + x, bottom + y), face.score)


def _scaled(face: Face, x: float, y: float) -> Face:
    left, top, right, bottom = face.box
    return Face((left * x, top * y, right * x, bottom * y), face.score)
