"""The benchmark of inference: both ways agree, the floor counts what it should, memory is there."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import inference_speed, videos
from benchmarks.inference_speed import flops_per_window
from data_tools.video.decode import Video
from data_tools.video.sound import Sound
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet


def test_flops_are_those_of_the_layers() -> None:
    """The small model's, counted by hand: map x kernel x channels in x channels out."""
    lips = [32**2 * 125 * 24, 16**2 * 9 * 24 * 48, 8**2 * 9 * 48 * 64, 4**2 * 9 * 64 * 96]
    lips += [16 * 96 * 96]
    sound = [260 * 9 * 32, 130 * 9 * 32 * 48, 35 * 9 * 48 * 64, 12 * 9 * 64 * 64, 12 * 64 * 96]
    heads = [2 * 96 * 96, 2 * 96 * 128]
    expected = 2 * (sum(lips) + sum(sound) + sum(heads))
    assert flops_per_window(fold(SyncNet("small").eval())) == expected


@pytest.mark.slow
def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    file = tmp_path / "inference_speed.json"
    assert inference_speed.main(["--quick", "--json", str(file), "--cache", str(tmp_path)]) == 0
    result = json.loads(file.read_text())
    assert result["quick"] is True and result["largest_relative_difference"] < 1e-3
    assert result["times_faster"] > 0 and 0 < result["of_floor"] < 3
    assert all(peak > 50 for peak in result["peak_memory_mb"].values())
    assert list(result["sync_by_seconds"]) == ["4", "8"]
    assert "windows batched by 20" in inference_speed.readme(result)


def test_videos_of_the_benchmarks_are_what_was_asked(tmp_path: Path) -> None:
    path = inference_speed.long_video(tmp_path, 2)
    sound = Sound(tmp_path / "sound.raw")
    with Video(path) as video:
        assert sum(1 for _ in video.pictures(sound)) == 50
    assert videos.synthetic_video(tmp_path, 1).exists()
    frames, audio = inference_speed.synthetic_track(7)
    assert frames.shape == (7, 224, 224, 3) and audio.shape == (7 * 640,)
    assert frames.dtype == np.uint8 and audio.dtype == np.int16


def test_wrong_settings_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert inference_speed.main(["--frames", "5"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
