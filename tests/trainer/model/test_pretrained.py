"""The network that comes with the package, on real videos of speakers it has never seen."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.strangers.groups import listed
from trainer.model.calibration import Evidence
from trainer.model.weights import PACKAGED, find_weights, read_calibration
from trainer.score.options import MeasureOptions
from trainer.score.trust import TrackResult
from trainer.score.video import measure_video
from videos import write_video


def ask(path: Path, prepared: bool = False) -> list[TrackResult]:
    return measure_video(path, MeasureOptions(prepared=prepared, device="cpu"))


@pytest.mark.parametrize("name", PACKAGED)
def test_it_comes_small_calibrated_and_with_its_card(name: str) -> None:
    weights = find_weights(name)
    assert weights.stat().st_size <= 4_000_000
    calibration = read_calibration(weights)
    assert calibration is not None
    sure, unsure = Evidence(9.0, 9.0, 250), Evidence(1.0, 0.5, 30)
    assert calibration.chance(sure) > 0.9 and calibration.chance(unsure) < 0.5
    card = (weights.parent / "README.md").read_text()
    assert "CC-BY 4.0" in card and "GRID" in card and f"`{name}`" in card


def test_it_is_not_sure_of_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (100, 64, 64, 3), dtype=np.uint8)
    sound = rng.integers(-9000, 9000, 100 * 640, dtype=np.int16)
    (found,) = ask(write_video(tmp_path / "noise.mp4", pictures, sound), prepared=True)
    assert not found.trusted and found.doubts


@pytest.mark.real
@pytest.mark.slow
def test_speakers_never_seen(real_clips: Path) -> None:
    """Every video is within two frames of what is listed; none that is trusted is off by more."""
    for video in listed():
        if video.offset is None or not (real_clips / video.path).is_file():
            continue
        tracks = ask(real_clips / video.path)
        assert tracks, video.name
        best = max(tracks, key=lambda one: one.windows)
        error = abs(best.score.offset - video.offset)
        assert error <= 2 or not best.trusted, (video.name, best.score.offset)
        assert error <= 1 or video.group != "grid", (video.name, best.score.offset)


@pytest.mark.real
def test_the_official_demonstration_is_three_frames_early(real_clips: Path) -> None:
    (track, *_) = ask(real_clips / "videos" / "example_224_25fps_12s.avi")
    assert abs(track.score.offset - 3) <= 1
