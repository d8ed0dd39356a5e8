"""From a video to its tracks, in Python."""

import errno
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data_tools.errors import UsageError, UserError
from data_tools.video.record import fault_in_words
from trainer.model.network import load_network
from trainer.model.weights import WeightsError
from trainer.score import video as module
from trainer.score.options import MeasureOptions
from trainer.score.trust import SyncError
from trainer.score.video import measure, measure_video, try_measuring
from videos import flashes, head, write_video


def test_where_the_clock_restarts_each_part_is_measured(weights: Path, tmp_path: Path) -> None:
    parts = [flashes(tmp_path / "part.ts", 0.0, Fraction(start)).read_bytes() for start in (9, 1)]
    (tmp_path / "whole.ts").write_bytes(b"".join(parts))
    network = load_network(weights, "cpu")
    one, _ = measure(tmp_path / "part.ts", network, MeasureOptions(prepared=True))
    assert [row.track for row in one] == [""]
    found, dropped = measure(tmp_path / "whole.ts", network, MeasureOptions(prepared=True))
    assert [row.track for row in found] == ["part 1", "part 2"] and dropped == []
    assert [row.windows for row in found] == pytest.approx([one[0].windows] * 2, abs=2)
    assert (found[0].start_seconds, found[1].start_seconds) == (0, pytest.approx(3.04, abs=0.05))
    assert found[1].end_seconds == pytest.approx(6.08, abs=0.08)
    # the second part alone gives what it gives after the first, but for the pictures' phase
    np.testing.assert_allclose(found[0].score.means_S, one[0].score.means_S, rtol=0.05)


def test_a_video_is_measured_in_python(video: Path, weights: Path) -> None:
    options = MeasureOptions(prepared=True, max_shift=10)
    (track,) = measure_video(str(video), options, weights)
    assert track.video == str(video) and track.track == "" and track.windows == 56
    assert track.offset_ms == 40 * track.offset_frames and abs(track.offset_frames) <= 10
    assert track.score.reach == 10 and track.trusted is (track.doubts == ())
    assert (track.start_seconds, track.end_seconds) == (0, pytest.approx(2.4, abs=0.05))
    network = load_network(weights, "cpu")
    (again,) = measure_video(video, options, network)
    np.testing.assert_array_equal(again.score.means_S, track.score.means_S)


def test_the_weights_of_the_package_are_the_default(video: Path) -> None:
    (track,) = measure_video(video, MeasureOptions(prepared=True))
    assert track.probability is not None and track.meaning


def test_what_a_user_can_mend_is_a_user_error(video: Path, weights: Path, tmp_path: Path) -> None:
    prepared = MeasureOptions(prepared=True)
    pictures, sound = head(5, 60, 64)
    short = write_video(tmp_path / "short.mp4", pictures[:3], sound[: 3 * 640])
    with pytest.raises(SyncError, match="too short"):
        measure_video(short, prepared, weights)
    with pytest.raises(UserError, match="not a readable video"):
        measure_video(tmp_path / "missing.mp4", prepared, weights)
    with pytest.raises(WeightsError, match=r"missing\.pt is no file"):
        measure_video(video, prepared, tmp_path / "missing.pt")
    with pytest.raises(UsageError, match="--max-shift must be at least 1"):
        measure_video(video, MeasureOptions(max_shift=0), weights)
    with pytest.raises(UsageError, match="must be auto, cpu or cuda"):
        measure_video(video, MeasureOptions(device="tpu"), weights)


def test_a_bug_of_ours_is_not_taken_for_a_bad_video(
    video: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(module, "measure", broken)
    with pytest.raises(RuntimeError, match="ours"):
        try_measuring(video, load_network(weights, "cpu"), MeasureOptions())


def test_a_full_disk_is_the_videos_fault_only_if_asked(
    video: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/x.wav")

    monkeypatch.setattr(module, "measure", full)
    network = load_network(weights, "cpu")
    tracks, why = try_measuring(video, network, MeasureOptions())
    assert not tracks and "has no room for temporary files; TMPDIR names another" in why[0]
    with pytest.raises(OSError, match="no room for temporary files; TMPDIR names") as raised:
        try_measuring(video, network, MeasureOptions(), full_disk_ends=True)
    with pytest.raises(OSError):  # a batch ends by it, and goes on when there is room
        fault_in_words(raised.value)
