"""The sections of the suite, each in a process of its own that is ended when its time is up.

So a section that fails, hangs or leaves the GPU in a bad state takes nothing from the others.
"""

import importlib
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.gpu_suite.lab import Lab, Setting
from benchmarks.processes import process_tree

_GRACE = 1.25  # a section is told of its budget, and ended at so many times as much
_CPU = 2.0  # times the budget that it gets on a CPU, where times mean nothing


@dataclass(frozen=True)
class Section:
    """A question that the suite answers.

    Attributes:
        module: of this package; its function of the section's name measures.
        what: is measured, in a few words.
        seconds: it may take.
        unseen: what a CPU cannot show of it.
        timed: whether times are its answer: then nothing else runs beside it.
    """

    module: str
    what: str
    seconds: float
    unseen: str
    timed: bool = False


SECTIONS: dict[str, Section] = {
    "hardware": Section(
        "hardware", "GPU, driver, versions, and which decoder served", 45,
        "whether the hardware JPEG decoder serves",
    ),
    "decode": Section(
        "frames", "the same frames decoded by GPU and CPU", 45,
        "how far the GPU's decoder is from the CPU's",
    ),
    "sync": Section(
        "loop", "whether warm steps of the training loop synchronise", 60,
        "any synchronisation at all",
    ),
    "reuse": Section(
        "frames", "whether memory of batches is used again, or read, too early", 45,
        "any race between decoder and consumer",
    ),
    "faults": Section(
        "faults", "damaged frames quarantined", 60,
        "how the GPU's decoder fails",
    ),
    "resume": Section(
        "resume", "kill -9 and resume come to the same losses", 90,
        "whether a GPU's losses come back",
    ),
    "recipe": Section(
        "recipe", "the seed's recipe: loader, step, both; utilisation, MFU, memory", 180,
        "every rate of the recipe, MFU and GPU memory", timed=True,
    ),
    "steps": Section(
        "steps", "ways to compute the step", 65,
        "which way is faster on a GPU", timed=True,
    ),
    "memory": Section(
        "loop", "memory from step 50 to step 300", 45,
        "GPU memory", timed=True,
    ),
    "single": Section(
        "single", "piece sizes of single-pass inference", 20,
        "the piece sizes that fill a GPU", timed=True,
    ),
    "host": Section(
        "host", "JPEGs pinned or not", 20,
        "what pinned memory is worth", timed=True,
    ),
}  # fmt: skip


def run_sections(
    names: list[str],
    setting: Setting,
    shards: tuple[Path, Path],
    left: Callable[[], float],
    tell: Callable[[str, dict[str, Any] | None], None],
) -> None:
    """Those whose answer is no time all at once, then the others one after another.

    Args:
        left: seconds that are left to all.
        tell: called when a section begins (None), and with its figures when it has ended; never
            by two threads at once.
    """
    lock = Lock()

    def one(name: str) -> None:
        with lock:
            if left() < 3:
                tell(name, {"state": "skipped", "error": "no time was left", "seconds": 0.0})
                return
            tell(name, None)
        found = run_section(name, setting, shards, left())
        with lock:
            tell(name, found)

    beside = [name for name in names if not SECTIONS[name].timed]
    with ThreadPoolExecutor(len(beside) or 1) as pool:
        list(pool.map(one, beside))
    for name in names:
        if SECTIONS[name].timed:
            one(name)


def run_section(name: str, setting: Setting, shards: tuple[Path, Path], most: float) -> Any:
    """One section in a process of its own; never raises what the section raises.

    Args:
        most: seconds that are left to it, whatever its budget.

    Returns:
        its figures, with "state": "done", "failed" ("error", "trace"), "cut" (its time was up;
        what it had found is kept) or "died"; and "seconds".
    """
    section = SECTIONS[name]
    began = time.monotonic()
    asked = section.seconds * (1 if setting.device != "cpu" else _CPU)
    budget = min(asked, most)
    context: Any = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    last = began + min(_GRACE * asked + 5, most)
    with tempfile.TemporaryDirectory(
        prefix=f"gpu-suite-{name}-", ignore_cleanup_errors=True
    ) as folder:
        log, work = Path(folder) / "log", Path(folder) / "work"
        work.mkdir()
        process = context.Process(
            target=_inside, args=(there, name, setting, shards, began + budget, work, log)
        )
        process.start()
        there.close()
        found = _listen(process, here, last, budget)
        if found["state"] != "done" and log.exists():
            found["log"] = log.read_text(errors="replace")[-1500:]
    return found | {"seconds": round(time.monotonic() - began, 1)}


def _listen(process: Any, here: Any, last: float, budget: float) -> dict[str, Any]:
    """What a section tells until it has ended, or is ended."""
    figures: dict[str, Any] = {}
    state: dict[str, Any] = {"state": "cut", "error": f"its time was up ({budget:.0f} s)"}
    try:
        while here.poll(max(0.0, last - time.monotonic())):
            kind, key, value = here.recv()
            if kind == "figure":
                figures[key] = value
            else:
                state = {"state": kind, **value}
                break
    except EOFError:
        process.join(5)
        state = {"state": "died", "error": f"its process ended with status {process.exitcode}"}
    finally:
        _end(process)
    return figures | state


def _end(process: Any) -> None:
    """End a section's process and all that it has started, if they have not ended."""
    process.join(2)  # it has told all: let it leave by itself
    if process.is_alive():
        _kill(process_tree(process.pid))
    process.join()


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _inside(
    pipe: Any,
    name: str,
    setting: Setting,
    shards: tuple[Path, Path],
    until: float,
    folder: Path,
    log: Path,
) -> None:
    """Run in the section's process; what its libraries print goes to a file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)

    def send(key: str, value: Any) -> None:
        pipe.send(("figure", key, value))

    try:
        measure(name, Lab(setting, *shards, folder=folder, until=until, send=send))
    except BaseException as error:
        told = {"error": f"{type(error).__name__}: {error}"[:2000]}
        # the result is for others: it names no folder of this machine
        trace = traceback.format_exc().replace(f"{Path(__file__).parents[2]}/", "")
        pipe.send(("failed", "", told | {"trace": trace[-4000:]}))
    else:
        pipe.send(("done", "", {}))
    pipe.close()
    _kill(process_tree(os.getpid())[1:])  # compilers' workers, say
    os._exit(0)  # what a GPU's libraries do at the end may hang


def measure(name: str, lab: Lab) -> None:
    """Run a section in this process."""
    section = SECTIONS[name]
    module = importlib.import_module(f"benchmarks.gpu_suite.{section.module}")
    getattr(module, name)(lab)


def preload(cuda: bool) -> None:
    """Let the sections' processes have the imports behind them.

    Without DALI where there is a GPU: nothing may touch the driver before the processes part.
    """
    modules = ["torch", "msgspec", "jsonargparse", "rich.console", "benchmarks.result"]
    if not cuda:
        modules += ["benchmarks.loaders.ours", "benchmarks.step"]
    multiprocessing.set_forkserver_preload(modules)
