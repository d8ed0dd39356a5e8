"""Run one function over many videos: processes on this machine, or a Ray cluster.

Both yield (task, words) as tasks end: None where the function returned, else how its process died.
A task's own exception is raised here: it concerns the run, not one video.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

from msgspec import Meta

from data_tools.errors import MissingPackage, UsageError, UserError, not_prepared
from data_tools.workers import WorkerDied, WorkerOptions, process_count, shared_cores, start_worker

Function = Callable[[Any, Callable[[int], None] | None], None]
Outcomes = Iterator[tuple[Any, str | None]]
Engine = Callable[[Function, list[Any], Callable[[int], None]], Iterable[tuple[Any, str | None]]]

_POLL_SECONDS = 0.2
_AHEAD = 2  # tasks for each process that the pool is given at once
_counter: Any = None  # of this worker process: bytes read, shared with the parent


@dataclass(frozen=True)
class RunOptions(WorkerOptions):
    """How the work is done and shared out; it decides nothing of what comes out.

    Attributes:
        engine: local, or ray: a Ray cluster.
        ray_address: A Ray cluster's (default: start one here).
        shard_id: Do part ID of NUM_SHARDS (SLURM arrays).
        num_shards: Into how many parts the videos are divided.
        stall_limit: A video that yields nothing new for so many seconds is given up; 0: never.
        retry_failed: Try videos again that failed in earlier runs, also those replaced since.
    """

    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    shard_id: int = 0
    num_shards: Annotated[int, Meta(ge=1)] = 1
    stall_limit: Annotated[float, Meta(ge=0, le=1e9)] = 120.0
    retry_failed: bool = False

    @property
    def part(self) -> str:
        """The name of the part of the videos, as the report's has it; none for all of them."""
        if self.num_shards == 1:
            return ""
        return f"-{self.shard_id:05d}-of-{self.num_shards:05d}"

    def check(self) -> None:
        """Whether they make sense together.

        Raises:
            UsageError: they do not.
        """
        if not 0 <= self.shard_id < self.num_shards:
            raise UsageError(f"--shard-id must be from 0 to {self.num_shards - 1}")
        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("--ray-address needs --engine ray")

    def threads(self, tasks: int) -> int:
        """Threads of each process: processes are the parallelism where there are enough of them.

        tasks: how many there are.
        """
        if self.engine != "local":
            return 1
        workers = min(process_count(self.workers), max(1, tasks))
        return max(1, len(os.sched_getaffinity(0)) // workers)

    def run(
        self, function: Function, tasks: list[Any], on_bytes: Callable[[int], None]
    ) -> Iterable[tuple[Any, str | None]]:
        """Run function(task, on_bytes) for every task by the engine that they name.

        Raises:
            UserError, MissingPackage: as `run_local` and `run_ray`.
        """
        if not tasks:
            return ()
        if self.engine == "ray":
            return run_ray(function, tasks, self.ray_address, on_bytes)
        return run_local(function, tasks, min(process_count(self.workers), len(tasks)), on_bytes)


def run_local(
    function: Function, tasks: list[Any], workers: int, on_bytes: Callable[[int], None]
) -> Outcomes:
    """Run function(task, on_bytes) for every task in `workers` processes.

    Raises:
        WorkerDied: one was killed at a moment at which it had no task.
    """
    try:
        from pebble import ProcessExpired, ProcessPool
    except ImportError:
        raise not_prepared("pebble", "preparing videos") from None
    context = multiprocessing.get_context("spawn")
    counter, told = context.Value("q", 0), 0
    with shared_cores(workers):
        pool = ProcessPool(workers, initializer=_start, initargs=(counter,), context=context)
        try:
            waiting = iter(tasks)
            pending: dict[Future[None], Any] = {}
            while True:
                # All at once, each poll would ask tens of thousands of them.
                with _interrupts_held():
                    for task in islice(waiting, _AHEAD * workers - len(pending)):
                        try:
                            pending[pool.schedule(_call, (function, task))] = task
                        except RuntimeError:  # of a pool that has broken: no kind of its own
                            if pool.active:
                                raise
                            raise BrokenProcessPool from None
                if not pending:
                    break
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
        except BrokenProcessPool:  # it died as it took a task, so that nobody knows of which
            raise WorkerDied(
                "a worker process was killed (out of memory?); run the same command again to go "
                "on, with fewer --workers"
            ) from None
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
    here = os.getcwd()

    def there(task: Any, on_bytes: None) -> None:
        with suppress(OSError):  # names may be relative; a cluster's workers lie elsewhere
            os.chdir(here)
        function(task, on_bytes)

    remote = ray.remote(num_cpus=1, max_retries=0)(there)
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


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits meanwhile, and for ever in the pool's threads and processes that begin now.

    Else a process that still loads its libraries would end in a traceback (`start_worker` comes
    after them).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def each_done(
    engine: Engine, function: Function, tasks: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Each task, with its name, as it is done; those whose process dies are tried once more.

    Args:
        tasks: by the names that people know them by.

    Raises:
        UserError: some died twice; the others are done then.
    """
    names = {id(task): name for name, task in tasks.items()}
    todo = list(tasks.values())
    for attempt in (1, 2):
        died: list[Any] = []
        for task, words in engine(function, todo, lambda count: None):
            name = names[id(task)]
            if words is None:
                yield name, task
                continue
            died.append(task)
            what = "trying once more" if attempt == 1 else "given up"
            print(f"{name}: {words}; {what}", file=sys.stderr)
        todo = died
    if todo:
        raise UserError(
            f"{len(todo)} of {len(tasks)} were given up, as their processes died twice: "
            f"{', '.join(names[id(task)] for task in todo[:4])}; run it again to go on, with more "
            "memory for each process"
        )


def _start(counter: Any) -> None:
    global _counter
    _counter = counter
    start_worker()


def _call(function: Function, task: Any) -> None:
    function(task, _count)


def _count(size: int) -> None:
    with _counter.get_lock():
        _counter.value += size
