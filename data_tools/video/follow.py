"""Follow the faces of a video, picture by picture: shots, detections, tracks, crops.

Pictures wait, in the decoder's own format, until the smoothed box of every face in them is certain
(at most some 60 pictures), are cropped, written and forgotten.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from data_tools.video.convert import Converter
from data_tools.video.crop import cut, region, sharpness
from data_tools.video.decode import Picture
from data_tools.video.faces import Face
from data_tools.video.montage import Montage
from data_tools.video.options import PrepareOptions
from data_tools.video.patches import Patches
from data_tools.video.search import Search
from data_tools.video.shots import SIDE, Cuts
from data_tools.video.stages import StageClock
from data_tools.video.track_file import CropStore, TrackFile
from data_tools.video.tracks import Track, Tracker, match

_CHUNK = 25  # pictures that wait to be looked at in one batch
_STABLE = 0.6  # overlap of a face with itself `detect_every` pictures later
_SHARPNESS_EVERY = 15  # pictures


@dataclass(frozen=True)
class Followed:
    """What was seen in a video.

    Attributes:
        shots: first picture of each and one past its last.
        tracks: in order of their beginning.
        crops: of each track, by its number.
        pictures: how many there were.
    """

    shots: list[tuple[int, int]]
    tracks: list[Track]
    crops: dict[int, TrackFile]
    pictures: int


class FaceFollower:
    """Takes the pictures of a video in order, and keeps the crops of every face.

    Args:
        aspect: width of a stored pixel over its height.
        work: folder for the crops of a long video.
        clock: told of the stages shots, detect, crop and encode.
        montage: is shown the pictures in which faces were looked for.

    Raises:
        UsageError, MissingPackage: as `open_detector`.
    """

    def __init__(
        self,
        aspect: Fraction,
        work: Path,
        options: PrepareOptions,
        clock: StageClock,
        montage: Montage | None = None,
    ) -> None:
        self._store, self._options, self._clock = CropStore(work), options, clock
        self._writer = CropWriter(options, clock)
        self._converter = Converter(aspect)
        self._patches = Patches(self._converter)
        self._search = Search(self._converter, options, montage)
        self._cuts = Cuts(options.shot_threshold)
        self._tracker = Tracker()
        self._shots: list[tuple[int, int]] = []
        self._part = 0  # of the picture before
        self._count = 0
        self._pictures: dict[int, Picture] = {}  # those still needed
        self._waiting: list[int] = []  # pictures that no detection stands after yet
        self._anchor: tuple[int, list[Face]] | None = None  # the last picture looked at
        self._crops: dict[int, TrackFile] = {}

    def see(self, picture: Picture) -> None:
        """Take the next picture."""
        tiny = self._converter.rgb(picture.frame, SIDE, rough=True)
        begins = self._cuts.begins_shot(tiny)
        self._clock.lap("shots")
        if begins or picture.after_still or picture.part != self._part or not self._shots:
            self._end_shot()
            self._shots.append((picture.index, picture.index + 1))
        self._part = picture.part
        self._shots[-1] = self._shots[-1][0], picture.index + 1
        self._pictures[picture.index] = picture
        self._waiting.append(picture.index)
        self._count += 1
        if len(self._waiting) > _CHUNK:
            self._look(final=False)

    def finish(self) -> Followed:
        """The video has ended: everything that was seen in it."""
        self._end_shot()
        return Followed(self._shots, self._tracker.tracks, self._crops, self._count)

    def _end_shot(self) -> None:
        if self._waiting:
            self._look(final=True)
        self._tracker.end_shot()
        self._write_crops()
        self._anchor = None
        self._pictures.clear()

    def _look(self, final: bool) -> None:
        """Detect faces in every `detect_every`-th waiting picture, in more where they move."""
        faces: dict[int, list[Face]] = {}
        begin = self._waiting[0]
        if self._anchor is not None:
            begin, faces[self._anchor[0]] = self._anchor[0], self._anchor[1]
        coarse = list(range(begin, self._waiting[-1] + 1, self._options.detect_every))
        if final and coarse[-1] != self._waiting[-1]:
            coarse.append(self._waiting[-1])
        faces |= self._faces(index for index in coarse if index not in faces)
        moved = [
            range(index + 1, later)
            for index, later in pairwise(coarse)
            if len(match(faces[index], faces[later], _STABLE))
            < max(len(faces[index]), len(faces[later]))
        ]
        faces |= self._faces(chain.from_iterable(moved))
        self._clock.lap("detect")
        for index in sorted(faces):
            if self._anchor is None or index > self._anchor[0]:
                self._tracker.update(index, len(self._shots) - 1, faces[index])
        self._anchor = coarse[-1], faces[coarse[-1]]
        self._waiting = [index for index in self._waiting if index > coarse[-1]]
        self._write_crops()

    def _faces(self, indices: Iterable[int]) -> dict[int, list[Face]]:
        pictures = (self._pictures[index] for index in indices)
        return self._search.faces(pictures, self._options.detect_size)

    def _write_crops(self) -> None:
        """Write every crop whose box is certain; forget pictures that no track needs any more."""
        due: dict[int, list[tuple[TrackFile, NDArray[np.float64]]]] = defaultdict(list)
        needed: float = self._waiting[0] if self._waiting else math.inf
        for track in self._tracker.tracks:
            crops = self._crops.get(track.number)
            if crops is None:
                crops = self._crops[track.number] = TrackFile(self._store, track.first)
            if crops.next < track.final:
                for index, box in enumerate(track.boxes(crops.next, track.final), crops.next):
                    due[index].append((crops, box))
                crops.next = track.final
            if not track.closed:
                needed = min(needed, crops.next)
        for index in sorted(due):
            picture = self._pictures[index]
            squares = [region(box, self._options.crop) for _, box in due[index]]
            rgb = self._patches.rgb(picture.frame, squares)
            for (crops, _), square in zip(due[index], squares, strict=True):
                self._write_crop(rgb, square, crops, picture)
        for index in [index for index in self._pictures if index < needed]:
            del self._pictures[index]

    def _write_crop(
        self,
        rgb: NDArray[np.uint8],
        square: tuple[float, float, float],
        crops: TrackFile,
        picture: Picture,
    ) -> None:
        x, y, side = square
        pixels = cut(rgb, (x, y), side, self._options.side)
        if self._options.gray:
            pixels = _gray(pixels)
        self._writer.write(pixels, crops, picture)


class CropWriter:
    """Encodes crops and notes what is known of them.

    clock: told of the stages crop and encode.
    """

    def __init__(self, options: PrepareOptions, clock: StageClock) -> None:
        self._options, self._clock = options, clock

    def write(self, pixels: NDArray[np.uint8], crops: TrackFile, picture: Picture) -> None:
        """Append the crop of `picture`, (side, side, 1 or 3) RGB or gray uint8."""
        if picture.index % _SHARPNESS_EVERY == 0:
            crops.sharpness[picture.index] = sharpness(pixels)
        if picture.held:
            crops.held.append(picture.index)
        self._clock.lap("crop")
        colours = ("GRAY", "Gray") if self._options.gray else ("RGB", "420")
        jpeg = simplejpeg.encode_jpeg(pixels, self._options.quality, *colours, fastdct=False)
        crops.append(jpeg)
        self._clock.lap("encode")


def _gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], np.uint8)
