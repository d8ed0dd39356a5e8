"""Run one function over many videos: processes on this machine, or a Ray cluster.

Both yield (task, words) as tasks end: None where the function returned, else how its process died.
A task's own exception is raised here: it concerns the run, not one video.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from data_tools.errors import MissingPackage, UserError
from data_tools.workers import shared_cores, start_worker

Function = Callable[[Any, Callable[[int], None] | None], None]
Outcomes = Iterator[tuple[Any, str | None]]

_POLL_SECONDS = 0.2
_counter: Any = None  # of this worker process: bytes read, shared with the parent


def run_local(
    function: Function, tasks: list[Any], workers: int, on_bytes: Callable[[int], None]
) -> Outcomes:
    """Run function(task, on_bytes) for every task in `workers` processes."""
    try:
        from pebble import ProcessExpired, ProcessPool
    except ImportError:
        raise MissingPackage(
            "pebble is not installed; preparing videos needs: "
            "pip install 'syncnet-trainer[prepare]'"
        ) from None
    context = multiprocessing.get_context("spawn")
    counter, told = context.Value("q", 0), 0
    with shared_cores(workers):
        pool = ProcessPool(workers, initializer=_start, initargs=(counter,), context=context)
        try:
            pending: dict[Future[None], Any] = {
                pool.schedule(_call, (function, task)): task for task in tasks
            }
            while pending:
                done, _ = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                on_bytes(counter.value - told)
                told = counter.value
                for future in done:
                    task = pending.pop(future)
                    try:
                        future.result()
                        yield task, None
                    except ProcessExpired as error:
                        yield task, f"its process died (exit status {error.exitcode})"
            pool.close()
        finally:
            pool.stop()
            pool.join()


def run_ray(
    function: Function, tasks: list[Any], address: str | None, on_bytes: Callable[[int], None]
) -> Outcomes:
    """Run function(task, None) for every task on the Ray cluster at `address`.

    Without an address a cluster is started on this machine for the run. The nodes must share the
    file system and have this package installed.

    Raises:
        UserError: there is no cluster at `address`.
        MissingPackage: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingPackage(
            "ray is not installed; --engine ray needs: pip install 'syncnet-trainer[prepare,ray]'"
        ) from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
        except ConnectionError as error:
            raise UserError(f"no Ray cluster at {address}: {error}") from None
    # A retry is decided by the caller, who records why.
    remote = ray.remote(num_cpus=1, max_retries=0)(function)
    waiting = list(reversed(tasks))
    pending: dict[Any, Any] = {}
    try:
        while waiting or pending:
            most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
            while waiting and len(pending) < most:
                task = waiting.pop()
                pending[remote.remote(task, None)] = task
            for reference in ray.wait(list(pending), timeout=1.0)[0]:
                task = pending.pop(reference)
                try:
                    ray.get(reference)
                    yield task, None
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    yield task, f"its Ray worker died ({type(error).__name__})"
    finally:
        ray.shutdown()


def _start(counter: Any) -> None:
    global _counter
    _counter = counter
    start_worker()


def _call(function: Function, task: Any) -> None:
    function(task, _count)


def _count(size: int) -> None:
    with _counter.get_lock():
        _counter.value += size
