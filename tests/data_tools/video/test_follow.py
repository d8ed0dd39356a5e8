"""Which pictures the follower looks for faces in."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data_tools.video.decode import Picture
from data_tools.video.faces import Face
from data_tools.video.follow import FaceFollower, Followed
from data_tools.video.options import PrepareOptions
from data_tools.video.stages import StageClock

PICTURES = 61


class Scripted:
    """A search in which the face of picture `n` lies at `place(n)`, or is not there."""

    def __init__(self, place) -> None:
        self.place, self.seen = place, []

    def faces(self, pictures, size):
        found = {}
        for picture in pictures:
            self.seen.append(picture.index)
            left = self.place(picture.index)
            box = None if left is None else (left, 20.0, left + 60.0, 80.0)
            found[picture.index] = [] if box is None else [Face(box, 0.9)]
        return found


def follow(work: Path, place) -> tuple[Scripted, Followed]:
    follower = FaceFollower(Fraction(1), work, PrepareOptions(), StageClock({}))
    follower._search = search = Scripted(place)
    frame = av.VideoFrame.from_ndarray(np.full((120, 400, 3), 90, np.uint8), "rgb24")
    for index in range(PICTURES):
        follower.see(Picture(index, frame, False, False))
    return search, follower.finish()


def test_of_a_face_that_stands_still_every_fifth_picture_is_looked_at(tmp_path: Path):
    search, followed = follow(tmp_path, lambda index: 50.0)
    assert sorted(search.seen) == list(range(0, PICTURES, 5))
    assert [(track.first, track.last) for track in followed.tracks] == [(0, PICTURES - 1)]


@pytest.mark.parametrize(
    "place",
    [
        lambda index: 50.0 + 10 * max(0, min(index - 20, 5)),  # it moves by 50 pixels
        lambda index: 50.0 if index < 23 else None,  # it goes
        lambda index: None if index < 23 else 50.0,  # it comes
    ],
    ids=["moves", "goes", "comes"],
)
def test_where_a_face_moves_every_picture_is_looked_at(place, tmp_path: Path):
    search, _ = follow(tmp_path, place)
    assert sorted(search.seen) == sorted({*range(0, PICTURES, 5), *range(20, 25)})
