"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from threading import Thread


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned processes that leave Ctrl-C to the parent and do not outlive it."""
    # spawn: a fork would copy threads' locks (OpenCV, BLAS) in whatever state they are
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)


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
