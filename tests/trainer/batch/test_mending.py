"""--fix-dir: what is mended, what is not and why, whatever kills the run meanwhile."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_tools.engines import RunOptions
from in_process import InProcess
from measured import track_result
from trainer.batch import batch as batch_module
from trainer.batch import mending
from trainer.batch.batch import measure_batch
from trainer.batch.folder import Batch
from trainer.batch.inputs import BatchVideo, batch_videos
from trainer.batch.mending import mark_of
from trainer.batch.report import write_reports
from trainer.model.network import load_network
from trainer.score import video as video_module
from trainer.score.options import MeasureOptions

# of each video by its name: its offset, and that of its copy
OFFSETS = {"early": (5, 0), "late": (-3, 1), "sync": (0, 0), "stays": (5, 5), "far": (9, 0)}


@pytest.fixture
def videos(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in (*OFFSETS, "unsure", "nothing"):
        (folder / f"{name}.mp4").write_bytes(video.read_bytes())
    (folder / "late.avi").write_bytes(video.read_bytes())
    (folder / "early.mp4").rename(folder / "early.mkv")

    def measure(path: Path, *_: object) -> tuple[list[Any], list[str]]:
        if path.stem == "nothing":
            return [], ["no face"]
        name = next((name for name in OFFSETS if name in path.name), "")
        doubts = () if name else ("too short",)
        offset = OFFSETS[name][path.parent != folder] if name else 7
        return [replace(track_result(offset, doubts=doubts), video=str(path))], []

    monkeypatch.setattr(video_module, "measure", measure)
    return folder


def mend(videos: Path, batch: Batch, engine: InProcess, **more: Any) -> dict[str, dict[str, str]]:
    """Run a batch; the rows of mends.csv by the name of the video."""
    found, _ = batch_videos([videos], batch.out, batch.fix_dir)
    write_reports(measure_batch(found, batch, RunOptions(**more), engine), "", None)
    return {
        Path(row["video"]).name: row for row in csv.DictReader((batch.out / "mends.csv").open())
    }


def test_what_can_be_trusted_is_mended_and_measured_again(
    videos: Path, weights: Path, tmp_path: Path
) -> None:
    fixed = tmp_path / "fixed"
    (fixed / "far.mp4").parent.mkdir()
    (fixed / "far.mp4").write_text("dear")
    options = MeasureOptions(prepared=True, crop="mouth", device="cpu")
    batch = Batch(tmp_path / "out", weights, options, fixed)
    rows = mend(videos, batch, InProcess())
    assert {name: row["done"] for name, row in rows.items()} == {
        "early.mkv": "mended",
        "far.mp4": "failed",
        "late.avi": "mended",
        "late.mp4": "mended",
        "nothing.mp4": "not mended",
        "stays.mp4": "failed",
        "sync.mp4": "in sync",
        "unsure.mp4": "not mended",
    }
    early, late = rows["early.mkv"], rows["late.mp4"]
    assert (early["moved_frames"], early["moved_ms"]) == ("5", "200")
    assert early["words"] == "measured again: 000 in sync"
    assert late["moved_ms"] == "-120" and "000 audio is 40 ms early" in late["words"]
    assert early["file"] == str(fixed / "early.mkv") and Path(early["file"]).stat().st_size > 1000
    assert "far.mp4 exists; give --force" in rows["far.mp4"]["words"]
    assert rows["late.avi"]["file"] == str(fixed / "late.avi.mkv")
    assert "still off: audio is 200 ms early" in rows["stays.mp4"]["words"]
    assert "no offset can be trusted" in rows["unsure.mp4"]["words"]
    assert rows["nothing.mp4"]["words"] == "nothing was measured"
    assert sorted(path.name for path in fixed.iterdir()) == [
        *("early.mkv", "far.mp4", "late.avi.mkv", "late.mp4")
    ]
    assert (fixed / "far.mp4").read_text() == "dear"
    report = json.loads((batch.out / "report.json").read_text())
    assert report["mends"] == {"mended": 3, "in sync": 1, "not mended": 2, "failed": 2}
    assert report["failed"] == 3  # one without an offset, two without a mend
    assert not list((batch.hidden / "mending").iterdir())
    forced, again = replace(batch, force=True), InProcess()
    rows = mend(videos, forced, again, retry_failed=True)
    assert sorted(again.measured) == ["far.mp4", "nothing.mp4", "stays.mp4"]
    assert rows["far.mp4"]["done"] == "mended" and (fixed / "far.mp4").stat().st_size > 1000
    (fixed / "early.mkv").unlink()  # what is taken away is due again
    once_more = InProcess()
    assert mend(videos, batch, once_more)["early.mkv"]["done"] == "mended"
    assert once_more.measured == ["early.mkv"] and (fixed / "early.mkv").stat().st_size > 1000


def test_a_jump_whose_copy_cannot_be_written_is_a_failure(
    video: Path, weights: Path, tmp_path: Path
) -> None:
    """H.264 that is called x.webm, which cannot hold it."""
    given, target = tmp_path / "x.webm", tmp_path / "fixed" / "x.webm"
    given.write_bytes(video.read_bytes())
    one, two = (
        replace(track_result(offset), start_seconds=start, end_seconds=start + 6, video=str(given))
        for offset, start in ((3, 0.0), (-2, 6.0))
    )
    options = MeasureOptions(prepared=True, crop="mouth", device="cpu")
    batch = Batch(tmp_path / "out", weights, options, target.parent)
    network = load_network(weights, "cpu")
    row = mending.mend(BatchVideo(given, target), batch, [one, two], network, options)
    assert row is not None and row["done"] == "failed" and "pieces" not in row
    assert f"{given} cannot be copied to x.webm" in row["words"] and not target.exists()


class Killed(BaseException):
    """What a kill looks like from within."""


def test_a_copy_of_a_run_that_was_killed_is_made_again(
    videos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the copy is there and its result is not: the copy is ours, so it may go."""
    options = MeasureOptions(prepared=True, crop="mouth", device="cpu")
    batch = Batch(tmp_path / "out", weights, options, tmp_path / "fixed")
    whole = batch_module._finish

    def finish(task: Any, *rest: Any) -> Iterator[None]:
        if task.video.path.name == "far.mp4":
            raise Killed
        return whole(task, *rest)

    monkeypatch.setattr(batch_module, "_finish", finish)
    with pytest.raises(Killed):
        mend(videos, batch, InProcess())
    copy = tmp_path / "fixed" / "far.mp4"
    assert copy.exists() and mark_of(batch.hidden, copy).exists()
    monkeypatch.setattr(batch_module, "_finish", whole)
    half = copy.with_name(f".{copy.name}.partial-1-5eed")
    half.touch()
    again = InProcess()
    rows = mend(videos, batch, again)
    assert rows["far.mp4"]["done"] == "mended" and len(rows) == 8
    assert "early.mkv" not in again.measured and "far.mp4" in again.measured
    assert not half.exists()
