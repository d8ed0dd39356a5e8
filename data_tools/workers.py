"""Worker processes that end with the process that started them."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from threading import Thread
from typing import Annotated, TypeVar

from msgspec import Meta

from data_tools.errors import UsageError, UserError
from data_tools.start import one_blas_thread

MAX_WORKERS = 1024
PARENT = "SYNCNET_PARENT"  # variable: the process that one started here is to end with
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDied(UserError):
    """A worker process was killed; says what to do."""


@dataclass(frozen=True)
class WorkerOptions:
    """How much is done at once.

    Attributes:
        workers: Processes; 0: one per core.
    """

    workers: Annotated[int, Meta(ge=0, le=MAX_WORKERS)] = 0


def process_count(workers: int) -> int:
    """How many processes `--workers` asks for; 0 is one per core.

    Raises:
        UsageError: it is negative or above MAX_WORKERS.
    """
    if not 0 <= workers <= MAX_WORKERS:
        raise UsageError(f"--workers must be 0 (one per core) or more, {MAX_WORKERS} at most")
    return workers or len(os.sched_getaffinity(0))


def each_result(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, work: str
) -> Iterator[tuple[Task, Result]]:
    """Call function(task) for every task; yields (task, result) as each ends, in no set order.

    With one worker or one task all is done in this process, in order. Otherwise `function`, tasks
    and results cross to other processes and back. When the caller stops early, or a task raises,
    tasks that have not begun are not done.

    Args:
        workers: processes, at least 1.
        work: what is done, for a sentence like "a packing process was killed".

    Raises:
        WorkerDied: a process was killed.
        Exception: whatever `function` raises.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, function(task)
        return
    with worker_pool(workers) as pool:
        running = {pool.submit(function, task): task for task in tasks}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BrokenProcessPool:
            raise WorkerDied(
                f"a {work} process was killed (out of memory?); run the same command again to go "
                "on, with fewer --workers"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes that leave Ctrl-C to the parent and do not outlive it."""
    # spawn: a fork would copy threads' locks (OpenCV, BLAS) in whatever state they are
    context = multiprocessing.get_context("spawn")
    with (
        shared_cores(workers),
        ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool,
    ):
        yield pool


@contextmanager
def shared_cores(workers: int) -> Iterator[None]:
    """Processes started meanwhile share the cores, unless OMP_NUM_THREADS says otherwise.

    Without it each has as many threads (OpenMP, BLAS) as there are cores, and they spin on each
    other's. It is read when the first library that uses it is loaded, which in a worker happens
    before any code of ours runs. NumPy's BLAS gets one in any case (`one_blas_thread`).
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    shares = {"OMP_NUM_THREADS": str(threads), **one_blas_thread()}
    added = {name: value for name, value in shares.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def start_worker() -> None:
    """Make this process ignore Ctrl-C and end when its parent does."""
    # A worker's own traceback would only hide the parent's message.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    # A worker that outlived a killed parent would write into the folder of the next run.
    if wait([parent.sentinel], 0):
        os._exit(1)
    Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def end_with_parent() -> None:
    """Let SIGTERM come to this process when the one that PARENT names, its parent, is dead.

    For a program in a process of its own, which would go on for days after its parent was killed
    by -9. Without PARENT nothing happens.
    """
    parent = os.environ.pop(PARENT, "")
    if not parent:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before
        os.kill(os.getpid(), signal.SIGTERM)


def _leave_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
