"""By how much a video is mended, and when its copy is good enough."""

import json
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.video.decode import Sound, Video
from measured import track_result
from trainer import sync
from trainer.score import video as video_module
from trainer.score.course import offset_to_mend
from trainer.score.mend import not_seen_again, still_off
from trainer.score.offset_path import OffsetPath, Segment, follow_offset
from trainer.score.trust import Doubt, SyncError, TrackResult, doubts_about
from videos import earliness, write_video


def test_only_offsets_that_can_be_trusted_are_mended() -> None:
    with pytest.raises(SyncError, match="no offset can be trusted"):
        offset_to_mend([track_result(3, doubts=("too short",))])
    with pytest.raises(SyncError, match="off by -2 to 3 frames"):
        offset_to_mend([track_result(3), track_result(-2)])
    with pytest.raises(SyncError, match="nothing was measured"):
        offset_to_mend([])
    assert (
        offset_to_mend(
            [track_result(3, 5.0), track_result(4, 8.0), track_result(9, doubts=("unsure",))]
        )
        == 4
    )
    assert still_off([track_result(1), track_result(-1)]) == ""
    assert "still off: audio is 80 ms late" in still_off([track_result(1), track_result(-2)])
    assert "no offset can be trusted" in still_off([track_result(0, doubts=("unsure",))])
    assert "could not be measured again" in still_off([])


def test_a_copy_that_changes_or_is_not_seen_throughout_is_not_kept() -> None:
    path = OffsetPath((Segment(0, 200, 0, 0, 9.0), Segment(200, 400, 3, 3, 9.0)))
    track = track_result(0)
    changing = replace(track, end_seconds=16.2, score=replace(track.score, path=path))
    assert "still changes: in sync from" in still_off([track, changing])
    followed = replace(changing, doubts=(Doubt("changes", of_one_number=True),), start_seconds=0.0)
    assert not_seen_again([followed], [replace(track, end_seconds=16.0)]) == ""
    assert "from 0:08 to 0:16" in not_seen_again([followed], [replace(track, end_seconds=8.0)])


def flashing(path: Path) -> Path:
    """Twenty-four seconds with a flash and a beep each second; the beeps drift and jump."""
    pictures = np.full((24 * FPS, 32, 32, 3), 60, np.uint8)
    pictures[FPS // 2 :: FPS] = 230
    times = np.arange(24 * SAMPLE_RATE) / SAMPLE_RATE
    heard = times + early(times)
    sound = 12_000 * (np.abs(heard % 1 - 0.525) < 0.025) * np.sin(2 * np.pi * 1000 * heard)
    return write_video(path, pictures, sound.astype(np.int16), bframes=2)


def early(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how many seconds the sound is early: a drift of 4,000 ppm and a jump of 6 frames."""
    return 0.004 * (times - 12) + 0.24 * (times > 11.8) - 0.1


def flashes_and_beeps(path: Path, *_: object) -> tuple[list[TrackResult], list[str]]:
    """What a network would measure: which shift fits beside each flash."""
    with tempfile.TemporaryDirectory() as folder, Video(path) as video:
        sound = Sound(Path(folder) / "sound")
        bright = np.array(
            [
                one.frame.to_ndarray()[:32].mean()  # its luma
                for one in video.pictures(sound)
            ]
        )
        audio = sound.read(0, len(bright), video.origin or Fraction(0))
    offsets = FPS * np.array(earliness(bright, audio))
    count = len(bright) - 4
    near_K = np.clip(np.arange(count) // FPS, 0, len(offsets) - 1)
    apart_KS = np.arange(31) - 15 + offsets[near_K][:, None]
    rng = np.random.default_rng(0)
    follow = follow_offset(rng.normal(size=apart_KS.shape) + 3 * np.exp(-((apart_KS / 1.5) ** 2)))
    track = track_result(round(float(offsets.mean())))
    score = replace(track.score, path=follow, frames_K=np.ones(count))
    doubts = doubts_about(score, 0.9, None)
    ends = len(bright) / FPS
    return [replace(track, video=str(path), end_seconds=ends, score=score, doubts=doubts)], []


def test_a_drift_and_a_jump_are_mended_in_the_file(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video, out, report = (tmp_path / name for name in ("a.mp4", "out.mp4", "a.json"))
    flashing(video)
    monkeypatch.setattr(video_module, "measure", flashes_and_beeps)
    arguments = [str(video), "--weights", str(weights), "--fix", str(out), "--json", str(report)]
    assert sync.main(arguments) == 0
    said = capsys.readouterr().out
    assert "ppm slower) until 1" in said and "the sound was encoded anew (aac to aac" in said
    fix = json.loads(report.read_text())["fix"]
    assert fix["moved_frames"] is None and len(fix["pieces"]) == 2 and fix["written"]
    assert fix["pieces"][0]["slower_ppm"] == pytest.approx(4000, rel=0.1)
    (again,), _ = flashes_and_beeps(out)
    assert again.trusted and abs(again.offset_frames) <= 1
    assert again.score.path is not None
    for segment in again.score.path.segments:
        assert max(abs(segment.begin_frames), abs(segment.end_frames)) <= 1
    # A copy that cannot be written: of a URL by its own name, not by that of its temporary copy.
    out, url = tmp_path / "out.webm", video.as_uri()
    arguments = [url, "--weights", str(weights), "--fix", str(out), "--json", str(report)]
    assert sync.main(arguments) == 1
    said = capsys.readouterr().err
    assert f"--fix: {url} cannot be copied to out.webm" in said and "is a .mkv possible" in said
    fix = json.loads(report.read_text())["fix"]
    assert not fix["written"] and "pieces" not in fix and not out.exists()
