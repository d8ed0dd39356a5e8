"""Faces are looked for in small pictures and told in the pixels of the large ones."""

from __future__ import annotations

import av
import numpy as np
import pytest

from data_tools.video.convert import Converter
from data_tools.video.decode import Picture
from data_tools.video.options import PrepareOptions
from data_tools.video.search import Search
from data_tools.video.tracks import iou
from videos import canvas, head


def as_pictures(frames: np.ndarray) -> list[Picture]:
    return [
        Picture(
            index, av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24"), False, False
        )
        for index, frame in enumerate(frames)
    ]


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return as_pictures(canvas([head(1, 25)[0][:3], head(2, 25)[0][:3]], 320, 960))


def test_faces_are_told_in_pixels_of_the_picture(pictures: list[Picture]):
    search = Search(Converter(), PrepareOptions())
    large, small = (search.faces(pictures[:2], size) for size in (320, 200))
    assert list(large) == list(small) == [0, 1]
    for index in large:
        assert len(large[index]) == len(small[index]) == 2
        for face, expected in zip(
            *(sorted(found[index], key=lambda face: face.box) for found in (small, large)),
            strict=True,
        ):
            assert iou(face.box, expected.box) > 0.7  # drawn faces differ by size


def test_pictures_of_two_sizes_are_two_batches_in_one_call(pictures: list[Picture]):
    other = as_pictures(canvas([head(1, 25)[0][:3]], 400, 400))
    search = Search(Converter(), PrepareOptions())
    found = search.faces([pictures[0], other[1], pictures[2]], 320)
    assert sorted(found) == [0, 1, 2]
    assert [len(found[index]) for index in (0, 1, 2)] == [2, 1, 2]


def test_detectors_of_the_users_own_see_whole_pictures_in_one_batch(
    tmp_path, monkeypatch, pictures: list[Picture]
):
    (tmp_path / "batches.py").write_text(
        "from data_tools.video.faces import Face\n"
        "class Fixed:\n"
        "    seen = []\n"
        "    def detect(self, pictures):\n"
        "        Fixed.seen.append([picture.shape for picture in pictures])\n"
        "        return [[Face((10, 10, 60, 60), 1.0)] for _ in pictures]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    search = Search(Converter(), PrepareOptions(detector="batches:Fixed"))
    search.faces(pictures, 320)
    assert __import__("batches").Fixed.seen == [[(320, 960, 3)] * 3]
