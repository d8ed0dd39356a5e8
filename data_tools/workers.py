"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from threading import Thread

MAX_WORKERS = 1024


def process_count(workers: int) -> int:
    """How many processes `--workers` asks for; 0 is one a core.

    Raises:
        ValueError: it is negative or above MAX_WORKERS.
    """
    if not 0 <= workers <= MAX_WORKERS:
        raise ValueError(f"--workers must be 0 (one a core) or more, {MAX_WORKERS} at most")
    return workers or len(os.sched_getaffinity(0))


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

    Without it each has as many threads (BLAS, OpenMP) as there are cores, and they spin on each
    other's. It is read when the first library that uses it is loaded, which in a worker happens
    before any code of ours runs.
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // workers))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


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


def _leave_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
