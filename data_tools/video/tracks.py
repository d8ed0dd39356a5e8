"""Follow faces from picture to picture: matching by overlap, bridging gaps, smoothing boxes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d

from data_tools.video.faces import Face

MIN_OVERLAP = 0.5  # intersection over union, as in the official tracker
MAX_GAP = 25  # pictures without a detection that a track survives, as in the official tracker
# Pictures; 13 as in the official pipeline. It removes outliers, the mean after it the steps of the
# median and of boxes in whole pixels, which would shake the crop.
MEDIAN, MEAN = 13, 7
MARGIN = MEDIAN // 2 + MEAN // 2  # pictures on each side that a smoothed box depends on


@dataclass
class Track:
    """One face through one shot: the pictures in which it was seen, ascending, and where."""

    number: int
    shot: int
    seen: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    closed: bool = False

    @property
    def first(self) -> int:
        """First picture."""
        return self.seen[0]

    @property
    def last(self) -> int:
        """Last picture so far."""
        return self.seen[-1]

    @property
    def final(self) -> int:
        """One past the last picture whose smoothed box no later detection can change."""
        return self.last + 1 if self.closed else self.last + 1 - MARGIN

    def boxes(self, begin: int, end: int) -> NDArray[np.float64]:
        """Smoothed boxes of pictures begin..end-1, (end - begin, 4): left, top, right, bottom.

        They depend on detections up to MARGIN pictures away, not on how the range is cut.
        """
        around = np.arange(begin - MARGIN, end + MARGIN)
        low = max(np.searchsorted(self.seen, around[0]) - 1, 0)
        high = np.searchsorted(self.seen, around[-1]) + 1
        seen = self.seen[low:high]
        # Beyond the ends np.interp repeats the first and the last box.
        boxes = np.array([face.box for face in self.faces[low:high]])
        every = np.stack([np.interp(around, seen, boxes[:, side]) for side in range(4)], axis=1)
        centre, size = (every[:, :2] + every[:, 2:]) / 2, every[:, 2:] - every[:, :2]
        both = np.concatenate([centre, size], axis=1)
        both = uniform_filter1d(median_filter(both, (MEDIAN, 1)), MEAN, axis=0)
        both = both[MARGIN : len(both) - MARGIN]
        return np.concatenate([both[:, :2] - both[:, 2:] / 2, both[:, :2] + both[:, 2:] / 2], 1)


class Tracker:
    """Greedy tracker: of all overlaps the largest is taken first. One shot at a time."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []  # every track so far, in order of their beginning
        self.active: list[Track] = []

    def update(self, index: int, shot: int, faces: list[Face]) -> None:
        """Detections of picture `index` of shot number `shot`; pictures may be skipped."""
        for track in self.active:
            track.closed = index - track.last > MAX_GAP + 1
        self.active = [track for track in self.active if not track.closed]
        pairs = match([track.faces[-1] for track in self.active], faces)
        for old, new in pairs:
            self.active[old].seen.append(index)
            self.active[old].faces.append(faces[new])
        taken = {new for _, new in pairs}
        for new, face in enumerate(faces):
            if new not in taken:
                track = Track(len(self.tracks), shot, [index], [face])
                self.tracks.append(track)
                self.active.append(track)

    def end_shot(self) -> None:
        """Close every track: none goes on over a cut."""
        for track in self.active:
            track.closed = True
        self.active = []


def match(
    faces: list[Face], others: list[Face], overlap: float = MIN_OVERLAP
) -> list[tuple[int, int]]:
    """Which faces overlap by `overlap` or more: pairs of places, the largest overlap first."""
    overlaps = [
        (iou(face.box, other.box), i, j)
        for i, face in enumerate(faces)
        for j, other in enumerate(others)
    ]
    pairs: list[tuple[int, int]] = []
    for value, i, j in sorted(overlaps, key=lambda entry: (-entry[0], entry[1:])):
        if value < overlap:
            break
        if all(i != a and j != b for a, b in pairs):
            pairs.append((i, j))
    return pairs


def iou(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (box, other)]
    return both / (sum(areas) - both)
