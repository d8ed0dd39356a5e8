"""Videos whose picture is the crop of one face already: one place a shot, not a search a picture.

The whole picture or a fixed part of it is taken as it is, or the face is looked for in a few
pictures of the shot's beginning and taken at that place.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_tools.video.convert import Converter
from data_tools.video.crop import cut, region
from data_tools.video.decode import Picture
from data_tools.video.faces import Face
from data_tools.video.follow import CropWriter, Followed
from data_tools.video.montage import Montage
from data_tools.video.options import PrepareOptions
from data_tools.video.patches import Patches
from data_tools.video.search import Search
from data_tools.video.shots import SIDE, Cuts
from data_tools.video.sound import VideoError
from data_tools.video.stages import StageClock
from data_tools.video.track_file import CropStore, TrackFile
from data_tools.video.tracks import Track

# Pixels that faces are looked for in. In 41 real crops of 256 pixels the place of the mouth is, in
# the median, within 3 % of its side of where every second picture at full size has it: as with 192
# pixels. In 60 others of 1.2 s it is within 4.3 % (9 in 10 clips: 8.4 %) with three pictures, and
# within 4.8 % (7.7 %) with the one in the middle.
_DETECT = 96
_WAITING = 50  # pictures, at most, from which the place of the face is found
_PLACES = 3  # pictures looked at among them; one, if there are fewer


class FixedFollower:
    """As `data_tools.video.follow.FaceFollower`, of pictures that hold one face and hold it still.

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
        self._options, self._clock = options, clock
        self._store = CropStore(work)
        self._writer = CropWriter(options, clock)
        self._converter = Converter(aspect)
        self._patches = Patches(self._converter)
        looks = options.crop != "whole"
        self._search = Search(self._converter, options, montage) if looks else None
        self._cuts = None if options.no_shots else Cuts(options.shot_threshold)
        self._shots: list[tuple[int, int]] = []
        self._tracks: list[Track] = []
        self._crops: dict[int, TrackFile] = {}
        self._part = 0
        self._count = 0
        self._waiting: list[Picture] = []  # of a shot whose face is still to be found
        self._placed = False  # the face of this shot is found, or there is none
        self._face: Face | None = None
        self._square = (0.0, 0.0, 0.0)  # what is cut: centre and side, if there is a face

    def see(self, picture: Picture) -> None:
        """Take the next picture."""
        whole = None
        if self._search is None:
            whole = self._whole(picture)
            self._clock.lap("crop")
        begins = False
        if self._cuts is not None:
            begins = self._cuts.begins_shot(self._tiny(picture, whole))
            self._clock.lap("shots")
        if begins or picture.after_still or picture.part != self._part or not self._shots:
            self._end_shot()
            self._shots.append((picture.index, picture.index + 1))
        self._part = picture.part
        self._shots[-1] = self._shots[-1][0], picture.index + 1
        self._count += 1
        if whole is not None:
            self._write(picture, whole)
            return
        if self._placed:
            if self._face is not None:
                self._write(picture, self._cut(picture))
            return
        self._waiting.append(picture)
        if len(self._waiting) == _WAITING:
            self._place()

    def finish(self) -> Followed:
        """The video has ended: everything that was seen in it."""
        self._end_shot()
        return Followed(self._shots, self._tracks, self._crops, self._count)

    def _end_shot(self) -> None:
        if self._waiting:
            self._place()
        self._placed, self._face = False, None

    def _place(self) -> None:
        """Find the face in the pictures that wait, and write them, if it is there."""
        waiting, self._waiting, self._placed = self._waiting, [], True
        looked = [len(waiting) // 2]
        if len(waiting) == _WAITING:
            looked = np.linspace(0, _WAITING - 1, _PLACES).round().astype(int).tolist()
        size = self._options.detect_size
        faces = self._largest([waiting[i] for i in looked], min(size, _DETECT))
        if not faces:  # it turns away for a moment, or is small
            faces = self._largest(waiting[:: self._options.detect_every], size)
        self._clock.lap("detect")
        if not faces:
            return
        box = np.median([face.box for face in faces], axis=0)
        left, top, right, bottom = (float(value) for value in box)
        score = float(np.mean([face.score for face in faces]))
        self._face = Face((left, top, right, bottom), score)
        self._square = region(box, self._options.crop)
        for picture in waiting:
            self._write(picture, self._cut(picture))

    def _largest(self, pictures: list[Picture], size: int) -> list[Face]:
        """The largest face of each picture that has one, in its own pixels.

        size: shorter side of the pictures that faces are looked for in.
        """
        assert self._search is not None
        found = self._search.faces(pictures, size)
        return [
            max(faces, key=lambda each: each.box[3] - each.box[1])
            for faces in found.values()
            if faces
        ]

    def _tiny(self, picture: Picture, whole: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """The picture that cuts are found in: one pixel in so many of what is made already."""
        if whole is None or self._options.gray or self._options.box is not None:
            return self._converter.rgb(picture.frame, SIDE, rough=True)
        tiny = cv2.resize(whole, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        return np.asarray(tiny, np.uint8)

    def _cut(self, picture: Picture) -> NDArray[np.uint8]:
        """What lies in the place of the face."""
        x, y, reach = self._square
        picked = (
            self._patches.gray(picture.frame, self._square)
            if self._options.gray
            else self._patches.rgb(picture.frame, [self._square])
        )
        return cut(picked, (x, y), reach, self._options.side)

    def _write(self, picture: Picture, pixels: NDArray[np.uint8]) -> None:
        track = self._track(picture)
        crops = self._crops[track.number]
        if self._options.gray:
            pixels = pixels[:, :, None]
        crops.next = picture.index + 1
        self._writer.write(pixels, crops, picture)

    def _track(self, picture: Picture) -> Track:
        """The track of this shot, which goes on with `picture`."""
        shot = len(self._shots) - 1
        if not self._tracks or self._tracks[-1].shot != shot:
            track = Track(len(self._tracks), shot, [picture.index], closed=True)
            self._tracks.append(track)
            self._crops[track.number] = TrackFile(self._store, picture.index)
        track = self._tracks[-1]
        track.seen[1:] = [picture.index]
        if self._face is not None:
            track.faces = [self._face] * len(track.seen)
        return track

    def _whole(self, picture: Picture) -> NDArray[np.uint8]:
        """The whole picture, its middle if it is no square, or the part that --box names."""
        side, gray = self._options.side, self._options.gray
        box = self._options.box
        height, width = self._converter.size(picture.frame)
        if box is None and height == width:
            return self._converter.plain(picture.frame, gray, side)
        pixels = self._converter.plain(picture.frame, gray)
        height, width = pixels.shape[:2]
        if box is None:
            reach = min(height, width)
            left, top = (width - reach) // 2, (height - reach) // 2
        else:
            left, top, reach, _ = box
            if left + reach > width or top + reach > height:
                words = f"the picture is {width}x{height}, --box reaches to {left + reach},"
                raise VideoError("box outside", f"{words}{top + reach}")
        part = np.ascontiguousarray(pixels[top : top + reach, left : left + reach])
        if reach == side:
            return part
        how = cv2.INTER_AREA if reach > side else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(part, (side, side), interpolation=how), np.uint8)
