"""Measure many videos in any number of processes: what is done, what is left, what died.

Each result is on disk before the next; a run that was stopped, however, goes on where it was.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.atomic import atomic_path, remove_partials_of
from data_tools.engines import RunOptions
from data_tools.names import shown
from data_tools.progress import progress
from data_tools.records import decode_record
from trainer.batch.folder import Batch, held, work_folders
from trainer.batch.inputs import BatchVideo
from trainer.batch.measuring import MeasureTask, dropped_result, measure_task
from trainer.batch.mending import MENDED, mark_of
from trainer.batch.results import PATTERN, ResultFile, VideoResult, read_results

Engine = Callable[
    [Callable[..., None], list[Any], Callable[[int], None]], Iterable[tuple[Any, str | None]]
]


def measure_batch(
    videos: list[BatchVideo], batch: Batch, run: RunOptions, engine: Engine | None = None
) -> Path:
    """Measure every video that `batch.out` holds no result of; the file of all results.

    A video that changed since is measured again. A run over all videos takes over what runs over
    parts of them have found. Results of videos that are not among `videos` stay.

    Args:
        videos: as `trainer.batch.inputs.batch_videos` gives them, of all parts.
        run: how the work is shared out; which part this is.
        engine: `run.run` by default.

    Raises:
        UsageError: `out` holds something else, or results of other options; another run is at it.
        RecordError: what an earlier run left there is damaged.
        MissingPackage, WeightsError, OSError: as `trainer.batch.measuring.measure_task`.
    """
    own = videos[run.shard_id :: run.num_shards]
    with held(batch, run.part):
        file = batch.results(run.part)
        due = _Due({_key(video.path): video for video in own}, run.retry_failed)
        _drop_due(file, due, batch, run)
        with ResultFile(file) as results:
            done = _known(batch, run, results, due)
            todo = [video for video in own if _key(video.path) not in done]
            if len(todo) < len(own):
                print(f"{len(own) - len(todo)} of {len(own)} videos are done", file=sys.stderr)
            with work_folders(batch, run.part) as (work, temporary):
                # On other machines temporary files lie where those have them.
                near = temporary if run.engine == "local" else None
                threads = run.threads(len(todo))
                tasks = [
                    MeasureTask(number, video, batch, work, near, threads, run.stall_limit)
                    for number, video in enumerate(todo)
                ]
                _measure(tasks, results, engine or run.run)
    return file


@dataclass(frozen=True)
class _Due:
    """Which videos that have a result are to be measured all the same.

    Attributes:
        own: the videos of this run, by their keys.
        retry_failed: those that failed, too.
    """

    own: dict[str, BatchVideo]
    retry_failed: bool

    def has(self, result: VideoResult) -> bool:
        """Whether the video of `result` is to be measured again."""
        if (self.retry_failed and result.failed) or not result.is_current():
            return True
        video = self.own.get(_key(result.file.path))
        if video is None or video.target is None or result.mend is None:
            return False
        # Its copy was taken away, or moved: the same command writes it again.
        return result.mend.get("done") == MENDED and not os.path.lexists(video.target)


def _key(path: Path | str) -> str:
    """A video's file, by whatever way it is named."""
    try:
        return os.path.realpath(path)
    except ValueError:  # what can be no name of a file
        return str(path)


def _drop_due(file: Path, due: _Due, batch: Batch, run: RunOptions) -> None:
    """Write the results anew without those that are due, if there are.

    So is a failure where a part's run has succeeded since.
    """
    if not file.exists():
        return
    parts = [] if run.part else [each for each in batch.out.glob(PATTERN) if each != file]
    better = {
        _key(result.file.path)
        for part in parts
        for _, _, result in read_results(part)
        if not result.failed and result.is_current()
    }
    dropped = {
        begin
        for begin, _, result in read_results(file)
        if (key := _key(result.file.path)) in due.own
        and (due.has(result) or (result.failed and key in better))
    }
    if not dropped:
        return
    with atomic_path(file) as partial, file.open("rb") as old, partial.open("wb") as new:
        for begin, end, _ in read_results(file):
            if begin not in dropped:
                old.seek(begin)
                new.write(old.read(end - begin))


def _known(batch: Batch, run: RunOptions, results: ResultFile, due: _Due) -> set[str]:
    """The files of the videos that are done, by their keys.

    A run over all videos appends what other files know to its own.
    """
    own = batch.results(run.part)
    known = {_key(result.file.path) for _, _, result in read_results(own)}
    for other in sorted(batch.out.glob(PATTERN)):
        if other == own:
            continue
        for _, _, result in read_results(other):
            key = _key(result.file.path)
            if key in known or due.has(result):
                continue
            known.add(key)
            if not run.part:
                results.append(result)
    return known


def _measure(tasks: list[MeasureTask], results: ResultFile, engine: Engine) -> None:
    """Do the tasks, those whose process dies twice, and append the result of each."""
    with progress("measuring", len(tasks), "videos") as advance:
        for attempt in (1, 2):
            died: dict[int, tuple[str, str]] = {}
            for task, words in engine(measure_task, tasks, lambda _: None):
                if words is None and task.result.exists():
                    result = decode_record(task.result.read_bytes(), VideoResult, as_python=True)
                    _finish(task, result, results)
                    advance(1)
                    continue
                died[task.number] = _cause(task, words)
                if task.temporary is not None:
                    shutil.rmtree(task.temporary, ignore_errors=True)
            tasks = [task for task in tasks if task.number in died]
            for task in tasks:
                reason, why = died[task.number]
                if attempt == 1:
                    name = shown(task.video.path)
                    print(f"{name}: {why}; trying once more", file=sys.stderr)
                    continue
                if task.video.target is not None:
                    remove_partials_of(task.video.target)
                _finish(task, dropped_result(task, reason, f"{why}, twice"), results)
                advance(1)
            if not tasks:
                break


def _finish(task: MeasureTask, result: VideoResult, results: ResultFile) -> None:
    """Append the result of a task, and forget about the task."""
    results.append(result)
    shutil.rmtree(task.work, ignore_errors=True)
    if task.video.target is not None:
        mark_of(task.batch.hidden, task.video.target).unlink(missing_ok=True)


def _cause(task: MeasureTask, words: str | None) -> tuple[str, str]:
    """Why a task left no result: the class that the summary counts, and in words."""
    if task.stalled.exists() and task.stalled.stat().st_size:
        return "stalled", f"nothing new for {task.stall_limit:g} s (--stall-limit)"
    return "process died", words or "it left no result"
