"""From a video file to an offset in words, the mend, and every way it can go wrong."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from videos import canvas, head, write_video

from data_tools.remux import RemuxError, shift_sound
from data_tools.video import Sound, Video
from trainer import sync
from trainer.model import SyncNet
from trainer.scoring import Score


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fresh.pt"
    torch.save(SyncNet("small").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures, sound = head(5, 60, 96)
    return write_video(tmp_path_factory.mktemp("video") / "head.mp4", pictures, sound)


def found(offset: int, clearness: float = 9.0, doubts: tuple[str, ...] = ()) -> sync.Found:
    """A track with a deep minimum at an offset."""
    means = 10 + np.sin(np.arange(31.0)) / 10
    means[15 - offset] = 10 - clearness / 10
    score = Score(offset, 1.0, float(means.min()), means, np.ones(50))
    return sync.Found("a.mp4", "000", 0.0, 2.0, 50, 0.9, score, doubts)


def begins(path: Path, tmp_path: Path) -> Fraction:
    """Seconds by which the sound begins after the picture."""
    sound = Sound(tmp_path / "sound.raw")
    with Video(path) as opened:
        for _ in opened.pictures(sound):
            pass
        assert sound.start is not None and opened.origin is not None
        return sound.start - opened.origin


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("frames", [5, -7])
def test_sound_is_shifted_without_encoding(
    video: Path, tmp_path: Path, suffix: str, frames: int
) -> None:
    out = tmp_path / f"mended{suffix}"
    before = begins(video, tmp_path)
    shift_sound(video, out, Fraction(frames, 25))
    moved = begins(out, tmp_path) - before
    assert float(moved) == pytest.approx(frames / 25, abs=0.005)
    assert sorted(tmp_path.glob(".*")) == []


def test_the_input_is_never_overwritten(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never overwritten"):
        shift_sound(video, video, Fraction(1, 25))
    link = tmp_path / "link.mp4"
    link.symlink_to(video)
    with pytest.raises(ValueError, match="never overwritten"):
        shift_sound(video, link, Fraction(1, 25))
    with pytest.raises(ValueError, match="no suffix"):
        shift_sound(video, tmp_path / "out", Fraction(1, 25))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(RemuxError, match=r"text.mp4 cannot be copied"):
        shift_sound(tmp_path / "text.mp4", tmp_path / "out.mp4", Fraction(1, 25))
    assert not (tmp_path / "out.mp4").exists()


def test_only_offsets_that_can_be_trusted_are_mended(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "mended.mp4"
    with pytest.raises(sync.SyncError, match="no offset can be trusted"):
        sync.fix(video, out, [found(3, doubts=("too short",))])
    with pytest.raises(sync.SyncError, match="off by -2 to 3 frames"):
        sync.fix(video, out, [found(3), found(-2)])
    assert not out.exists()
    assert sync.fix(video, out, [found(3, 5.0), found(4, 8.0), found(9, doubts=("unsure",))]) == 4
    assert float(begins(out, tmp_path)) == pytest.approx(4 / 25, abs=0.03)


def test_a_prepared_crop_is_scored_and_everything_written(
    video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "plot")}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    arguments = [str(video), "--weights", str(weights), "--prepared", *options]
    assert sync.main(arguments) == 0
    said = capsys.readouterr().out
    assert "frames" in said and all(str(path) in said for path in files.values())
    (track,) = json.loads(files["json"].read_text())["tracks"]
    (row,) = csv.DictReader(files["csv"].read_text().splitlines())
    assert int(row["offset_frames"]) == track["offset_frames"]
    assert track["offset_ms"] == 40 * track["offset_frames"] and track["windows"] == 56
    assert len(track["mean_distance_by_shift"]) == 31 and len(track["frame_confidence"]) == 56
    assert files["plot"].read_bytes().startswith(b"\x89PNG")


def test_parity_leaves_out_the_last_window(video: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = [str(video), "--weights", str(weights), "--prepared", "--mode", "parity"]
    assert sync.main([*arguments, "--json", str(out)]) == 0
    (track,) = json.loads(out.read_text())["tracks"]
    assert track["windows"] == 55


@pytest.mark.slow
def test_faces_are_found_in_a_video(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, sound = head(7, 75)
    path = write_video(tmp_path / "wide.mp4", canvas([pictures]), sound)
    silent = write_video(tmp_path / "silent.mp4", canvas([pictures])[:30])
    assert sync.main([str(path), str(silent), "--weights", str(weights)]) == 1
    said = capsys.readouterr()
    assert "wide.mp4" in said.out and "no audio stream" in said.err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--max-shift", "0"], 2, "--max-shift must be at least 1"),
        (["more.mp4", "--fix", "out.mp4"], 2, "--fix takes one video"),
        (["--weights", "missing.pt"], 1, "missing.pt is no file"),
    ],
)
def test_bad_usage_is_one_sentence(
    video: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    words: str,
) -> None:
    try:
        got = sync.main([str(video), "--weights", str(weights), *arguments])
    except SystemExit as left:
        got = int(left.code or 0)
    assert got == status and words in capsys.readouterr().err


def test_bad_videos_are_one_sentence_each(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, sound = head(5, 60, 64)
    short = write_video(tmp_path / "short.mp4", pictures[:3], sound[: 3 * 640])
    (tmp_path / "text.mp4").write_text("no video")
    bad = [short, tmp_path / "text.mp4", tmp_path / "missing.mp4"]
    assert sync.main([*map(str, bad), "--weights", str(weights), "--prepared"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [path.name for path in bad]
    assert "too short" in lines[0] and "readable video" in lines[1]
