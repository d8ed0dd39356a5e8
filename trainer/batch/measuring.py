"""One video of a batch, in a worker process: measured, mended, its result left for the parent."""

import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path

import torch

from data_tools.atomic import atomic_path
from data_tools.lock import locked_file
from data_tools.progress import heard_by
from data_tools.video.record import fault_in_words, identity
from trainer.batch.folder import Batch
from trainer.batch.inputs import BatchVideo
from trainer.batch.mending import mend, nothing_to_mend
from trainer.batch.results import VideoResult
from trainer.model.network import Network, load_network
from trainer.score.report import as_json
from trainer.score.video import try_measuring

_place = ExitStack()  # what this process holds until it ends
_EACH = 1.0  # seconds from one sign of life to the next, at least: each starts a thread


@dataclass(frozen=True)
class MeasureTask:
    """One video to measure; everything that a worker is told.

    Attributes:
        number: among those of its run.
        video: what to measure, and where its mended copy is to be.
        batch: how.
        run_work: a folder of this run alone, where results are left.
        run_temporary: the same on this machine, for what measuring writes; None: the system's own.
        threads: of the process.
        stall_limit: seconds without progress after which the process ends itself; 0: never.
    """

    number: int
    video: BatchVideo
    batch: Batch
    run_work: Path
    run_temporary: Path | None
    threads: int
    stall_limit: float

    @property
    def work(self) -> Path:
        """The folder of this task alone, made by it."""
        return self.run_work / str(self.number)

    @property
    def temporary(self) -> Path | None:
        """The folder of its temporary files, if they have one of their own."""
        return self.run_temporary / str(self.number) if self.run_temporary else None

    @property
    def result(self) -> Path:
        """Where the result is left, a line of results.jsonl."""
        return self.work / "result.json"

    @property
    def stalled(self) -> Path:
        """Where a process that ends itself leaves where it stood; empty of any other."""
        return self.work / "stalled.txt"


def measure_task(task: MeasureTask, on_bytes: Callable[[int], None] | None) -> None:
    """Measure one video in a worker process; what was found is left in `task.result`.

    Raises:
        MissingPackage, WeightsError, OSError: it concerns every video.
    """
    shutil.rmtree(task.work, ignore_errors=True)
    task.work.mkdir(parents=True)
    _use_threads(task.threads)
    with _temporary_files(task.temporary), _ending_if_stalled(task.stalled, task.stall_limit):
        result = _result(task)
    with atomic_path(task.result) as partial:
        partial.write_bytes(result.line())


def _result(task: MeasureTask) -> VideoResult:
    path, batch = task.video.path, task.batch
    # Before it is read: if it changes meanwhile, the next run measures it again.
    file = identity(path)
    device = _device(batch.options.device, task.run_temporary)
    network = _network(batch.weights, device)
    options = replace(batch.options, mode=batch.options.mode or network.mode, device=device)
    found = VideoResult(str(path), file, options.mode or network.mode)
    try:
        tracks, left_out = try_measuring(path, network, options, full_disk_ends=True)
        mended = mend(task.video, batch, tracks, network, options)
    except Exception as error:
        # A bug of ours costs one video; its traceback is not lost.
        words = fault_in_words(error)
        traceback.print_exc(file=sys.stderr)
        return replace(found, left_out=[words], failure="internal error")
    failure = "" if tracks else "no offset"
    return replace(found, tracks=as_json(tracks), left_out=left_out, failure=failure, mend=mended)


@lru_cache(maxsize=1)
def _device(asked: str, folder: Path | None) -> str:
    """Where this process computes, as long as it lives."""
    # A Ray cluster's nodes have GPUs of their own, and Ray says who gets which.
    return asked if folder is None else own_device(asked, folder / "places", _place)


def own_device(asked: str, places: Path, held: ExitStack) -> str:
    """The device of one process of several: of "cuda" the GPUs in turn, any other as it is.

    Args:
        places: a folder on this machine, alike for all of them. Process i, the first number that no
            other holds, takes GPU i modulo how many there are; a process that dies frees its own.
        held: as long as it is open, the number is held.
    """
    gpus = torch.cuda.device_count() if asked == "cuda" else 0
    if gpus < 2:
        return asked
    places.mkdir(parents=True, exist_ok=True)
    for number in count():
        try:
            held.enter_context(locked_file(places / str(number)))
        except BlockingIOError:
            continue
        return f"cuda:{number % gpus}"
    raise AssertionError  # there is always a next number


@lru_cache(maxsize=1)
def _network(weights: Path, device: str) -> Network:
    """Loaded once by each process."""
    return load_network(weights, device)


@lru_cache(maxsize=1)
def _use_threads(threads: int) -> None:
    import cv2

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


@contextmanager
def _temporary_files(folder: Path | None) -> Iterator[None]:
    """Temporary files lie in `folder` meanwhile, where the parent finds those of a dead process."""
    before = tempfile.tempdir
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ending_if_stalled(log: Path, limit: float) -> Iterator[None]:
    """End this process when no progress of it was heard of for `limit` seconds; 0: never."""
    from data_tools.video.cut_clips import watching

    with watching(log, limit) as beat:
        heard = -float("inf")

        def listen() -> None:
            nonlocal heard
            now = time.monotonic()
            if limit and now - heard >= min(_EACH, limit / 4):
                heard = now
                beat()

        listen()
        with heard_by(listen):
            yield


def dropped_result(task: MeasureTask, failure: str, words: str) -> VideoResult:
    """The result of a video over which processes died.

    failure: the class that the summary counts.
    words: what happened.
    """
    path = task.video.path
    mended = None if task.video.target is None else nothing_to_mend()
    return VideoResult(str(path), identity(path), left_out=[words], failure=failure, mend=mended)
