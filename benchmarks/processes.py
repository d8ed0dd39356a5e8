"""Functions in a process of their own, and what they cost: memory, processes, CPU time."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_tools.errors import UserError

_PRELOADED = [  # by name, for `start_fast`: what most loaders and steps import
    "benchmarks.loaders.ours",
    "benchmarks.loaders.torch_files",
    "benchmarks.step",
]
_start = "spawn"  # how `isolated` starts its processes


class ProcessFailed(UserError, RuntimeError):
    """What ran in a process of its own did not end well; the message says why."""


class _Elsewhere(Exception):
    """A traceback in another process, to be shown with the error here."""


def start_fast() -> None:
    """Let `isolated` fork its processes from one that has the imports behind it.

    For quick runs only: pages shared with that process would be missing from the memory measured.
    """
    global _start
    _start = "forkserver"
    multiprocessing.set_forkserver_preload(
        ["benchmarks.loaders.torch_files", "benchmarks.loaders.ours", "benchmarks.step"]
    )


def isolated(function: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
    """`function(*arguments)` in a fresh process, and what its tree of processes needed at most.

    Returns:
        the result, and peak_memory_mb (private and shared memory, without mapped files) and
        processes, both sampled.

    Raises:
        ProcessFailed: a `UserError` or `OSError` of the function, or the process died.
        RuntimeError: any other error of the function; its cause is the traceback there.
    """
    context: Any = multiprocessing.get_context(_start)
    here, there = context.Pipe()
    process = context.Process(target=_answer, args=(there, function, arguments))
    process.start()
    there.close()
    done, peak = threading.Event(), {"peak_memory_mb": 0.0, "processes": 0.0}

    def watch() -> None:
        while True:
            tree = process_tree(process.pid or 0)
            memory = sum(_memory_mb(pid) for pid in tree)
            peak["peak_memory_mb"] = max(peak["peak_memory_mb"], round(memory))
            peak["processes"] = max(peak["processes"], len(tree))
            if done.wait(0.3):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        good, answer, trace = here.recv()
    except EOFError:
        process.join()
        good, trace = False, ""
        answer = f"its process ended with status {process.exitcode}"
    except BaseException:
        process.terminate()
        raise
    finally:
        done.set()
        watcher.join()
    process.join()
    if good:
        return answer, peak
    if not trace:
        raise ProcessFailed(answer)
    raise RuntimeError(answer) from _Elsewhere(trace)


def _answer(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    # A spawned process would spawn its children; a training script on Linux forks them.
    multiprocessing.set_start_method("fork", force=True)
    try:
        pipe.send((True, function(*arguments), ""))
    except (UserError, OSError) as error:  # these tell by themselves
        pipe.send((False, str(error), ""))
    except (ValueError, RuntimeError) as error:
        pipe.send((False, str(error), traceback.format_exc()))
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}", traceback.format_exc()))


def process_tree(root: int) -> list[int]:
    """Process ids of `root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    tree, at = [root], 0
    while at < len(tree):
        tree += children.get(tree[at], [])
        at += 1
    return tree


def cpu_seconds() -> float:
    """CPU time so far of this process and all its descendants, the ended ones included."""
    ticks = 0
    for pid in process_tree(os.getpid()):
        if stat := _stat(pid):
            ticks += sum(int(value) for value in stat[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on (state, parent, ...)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None  # it ended


def _memory_mb(pid: int) -> float:
    """Its share of anonymous and shared memory; pages of mapped files belong to the cache."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    wanted = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(wanted)) / 1e3


def resident_mb() -> float:
    """Memory of this process without the pages of mapped files, MB."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 1e6


def run_module(module: str, *arguments: Path | str) -> None:
    """Run `python -m module` in a process of its own, to its end.

    Raises:
        UserError: it failed.
    """
    words = [sys.executable, "-m", module, *map(str, arguments)]
    if status := subprocess.run(words).returncode:
        raise UserError(f"python -m {' '.join(words[2:])} ended with {status}")
