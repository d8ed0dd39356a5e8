"""Batches: gone on with after whatever happened, none missing, none twice, memory flat."""

import csv
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_tools.engines import RunOptions
from data_tools.errors import UsageError
from data_tools.lock import InUse
from data_tools.video.record import identity
from in_process import InProcess
from trainer.batch.batch import measure_batch
from trainer.batch.folder import Batch, held, work_folders
from trainer.batch.inputs import BatchVideo, batch_videos
from trainer.batch.report import write_reports
from trainer.batch.results import VideoResult
from trainer.score.options import MeasureOptions

PREPARED = MeasureOptions(prepared=True, crop="mouth", device="cpu")


@pytest.fixture
def videos(video: Path, tmp_path: Path) -> Path:
    """Three talking heads and a file that is none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.mp4").write_bytes(video.read_bytes())
    (folder / "broken.mp4").write_text("no video")
    return folder


def run(
    videos: Path, batch: Batch, engine: InProcess, part: tuple[int, int] = (0, 1), **more: Any
) -> list[bytes]:
    """Measure; the lines of the results, sorted."""
    options = RunOptions(shard_id=part[0], num_shards=part[1], **more)
    file = measure_batch(batch_videos([videos], batch.out, None)[0], batch, options, engine)
    write_reports(file, options.part, None)
    return sorted(file.read_bytes().splitlines(keepends=True))


def test_a_batch_goes_on_and_measures_nothing_twice(
    videos: Path, video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch, engine = Batch(tmp_path / "out", weights, PREPARED), InProcess()
    file, table = batch.out / "results.jsonl", batch.out / "results.csv"
    lines = run(videos, batch, engine)
    assert [json.loads(line)["failure"] for line in lines] == ["", "", "no offset", ""]
    csv_before = table.read_bytes()
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 4 and "not a readable video" in rows[2]["doubts"]
    assert run(videos, batch, engine) == lines and len(engine.measured) == 4
    assert "4 of 4 videos are done" in capsys.readouterr().err

    # after a power cut in the middle of the last line, and with it the reports
    whole = file.read_bytes()
    torn = json.loads(whole.splitlines()[-1])["video"]
    file.write_bytes(whole[:-40])
    table.unlink()
    assert run(videos, batch, engine) == lines and table.read_bytes() == csv_before
    assert engine.measured[4:] == [Path(torn).name]

    # what failed stays so until it is asked for; what changed is measured again; what is gone stays
    (videos / "broken.mp4").write_bytes(video.read_bytes())
    stamp = os.stat(videos / "a.mp4")
    os.utime(videos / "a.mp4", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))
    (videos / "b.mp4").unlink()
    after = run(videos, batch, engine)
    assert sorted(engine.measured[5:]) == ["a.mp4", "broken.mp4"]
    found = [json.loads(line) for line in after]
    names = [Path(each["video"]).name for each in found]
    assert sorted(names) == ["a.mp4", "b.mp4", "broken.mp4", "c.mp4"]
    assert not any(each["failure"] for each in found)
    assert not list((batch.out / ".syncnet").glob("work*"))


def test_a_video_that_kills_its_process_costs_that_video(
    videos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = InProcess(
        lambda name: "its process died (exit status -9)" if name == "b.mp4" else None
    )
    batch = Batch(tmp_path / "out", weights, PREPARED)
    found = {Path(r["video"]).name: r for r in map(json.loads, run(videos, batch, engine))}
    assert found["b.mp4"]["failure"] == "process died" and len(found) == 4
    assert found["b.mp4"]["left_out"] == ["its process died (exit status -9), twice"]
    assert engine.measured.count("b.mp4") == 2 and engine.measured[-1] == "b.mp4"
    assert "b.mp4: its process died (exit status -9); trying once more" in capsys.readouterr().err
    report = json.loads((batch.out / "report.json").read_text())
    assert (report["videos"], report["failed"]) == (4, 2)
    assert report["no_offset_by_reason"] == {"not a readable video": 1, "process died": 1}
    healed = InProcess()
    again = run(videos, batch, healed, retry_failed=True)
    assert sorted(healed.measured) == ["b.mp4", "broken.mp4"] and len(again) == 4
    assert sum(bool(json.loads(line)["tracks"]) for line in again) == 3


def test_parts_together_are_the_whole(videos: Path, weights: Path, tmp_path: Path) -> None:
    whole = run(videos, Batch(tmp_path / "whole", weights, PREPARED), InProcess())
    batch, engine = Batch(tmp_path / "parts", weights, PREPARED), InProcess()
    parts = [run(videos, batch, engine, part=(number, 2)) for number in (0, 1)]
    assert sorted(parts[0] + parts[1]) == whole and [len(part) for part in parts] == [2, 2]
    assert (batch.out / "results-00001-of-00002.csv").exists()
    last = InProcess()
    assert run(videos, batch, last) == whole and last.measured == []
    same = "results.csv"
    assert (batch.out / same).read_bytes() == (tmp_path / "whole" / same).read_bytes()


def test_a_folder_is_for_one_way_of_measuring_and_one_run(
    videos: Path, weights: Path, tmp_path: Path
) -> None:
    batch = Batch(tmp_path / "out", weights, PREPARED)
    with held(batch, ""):
        pass
    other = Batch(batch.out, weights, MeasureOptions(prepared=True, crop="mouth", max_shift=20))
    with pytest.raises(UsageError, match="another max_shift"), held(other, ""):
        pass
    with (
        pytest.raises(UsageError, match="another fix_dir"),
        held(Batch(batch.out, weights, PREPARED, tmp_path), ""),
    ):
        pass
    with (
        pytest.raises(UsageError, match="not made by syncnet --out"),
        held(Batch(videos, weights, PREPARED), ""),
    ):
        pass
    with held(batch, "-00000-of-00002"):
        with held(batch, "-00001-of-00002"):
            pass
        for part in ("", "-00000-of-00002"):
            with pytest.raises(InUse, match="another syncnet"), held(batch, part):
                pass


def test_what_killed_runs_left_is_removed(weights: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    batch = Batch(tmp_path / "out", weights, PREPARED)
    with held(batch, ""):
        killed = work_folders(batch, "")
        old = killed.__enter__()  # and never left
        assert all(folder.is_dir() for folder in old)
        dear = tmp_path / "dear"
        dear.mkdir()
        half = batch.hidden / ".temporary-all.partial-1"  # killed as it was written
        half.touch()
        with work_folders(batch, "") as new:
            assert not half.exists()
            assert not any(folder.exists() for folder in old) and all(f.is_dir() for f in new)
            (batch.hidden / "temporary-all").write_text(str(dear))
        (batch.hidden / "temporary-all").write_text(str(dear))
        with work_folders(batch, ""):
            assert dear.is_dir()
        assert not any(folder.exists() for folder in new)


def test_memory_does_not_grow_with_the_results(weights: Path, tmp_path: Path) -> None:
    """200 results of 30 kB: of each only its name is kept."""
    (tmp_path / "v").mkdir()

    def videos(count: int) -> list[BatchVideo]:
        return [BatchVideo(tmp_path / "v" / f"{number:04d}.mp4") for number in range(count)]

    def engine(_: object, tasks: list[Any], __: object) -> Iterator[tuple[Any, None]]:
        row = {"trusted": True, "offset_frames": 1, "frame_confidence": 30_000 * "."}
        for task in tasks:
            task.work.mkdir(parents=True)
            path = task.video.path
            task.result.write_bytes(VideoResult(str(path), identity(path), "", [row]).line())
            yield task, None

    peaks = []
    for count in (20, 200):
        batch = Batch(tmp_path / f"out{count}", weights, PREPARED)
        tracemalloc.start()
        file = measure_batch(videos(count), batch, RunOptions(), engine)
        write_reports(file, "", None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert file.stat().st_size > 30_000 * count
    assert peaks[1] < peaks[0] + 300_000, peaks
