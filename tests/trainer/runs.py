"""Runs of `trainer.run` in processes of their own, disturbed at a place that is known exactly."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.train import timing

REPOSITORY = Path(__file__).parents[2]
TINY = ["--train.batch_size", "8", "--data.val_runs", "1", "--train.warmup_steps", "2"]


@dataclass(frozen=True)
class Job:
    """One run: its arguments, and what befalls it.

    Attributes:
        signal: sent by the process to itself as `at` begins: "step" (with that number),
            "validation", "save", "best" (best.pt is in place, last.pt not yet), "finish" (all is
            saved, the summary is not written yet), or the middle of another program, by its name;
            with the count from 0 of those before.
        file_limit: bytes that a file may have, as `ulimit -f` sets it.
        program: run, evaluate, calibrate or export.
    """

    argv: list[str]
    signal: str = ""
    at: tuple[str, int] = ("", 0)
    file_limit: int = 0
    program: str = "run"


@dataclass(frozen=True)
class Done:
    """How a run ended: minus the signal's number if one killed it."""

    status: int
    out: str
    err: str


# Reads lines: a job and where it shall write what it says, or the number of a process to wait for.
_FORKING = """
import json, os, resource, signal, sys
import torch
import trainer.run as run
from trainer import calibrate, evaluate, export
from trainer.score import answers, evaluation
from trainer.train import checkpoint, timing, trainer
from trainer.train.step import TrainStep
from trainer.train.validate import Validation

timing.plot = lambda rows, picture: None  # dear as well

def disturb(job):
    place, wanted = job["at"]
    where, name = {
        "step": (TrainStep, "take"), "validation": (Validation, "run"),
        "save": (checkpoint, "save"), "best": (os, "replace"),
        "finish": (trainer, "finish"),
        "evaluate": (evaluation, "measure_clip"), "calibrate": (answers, "score_part"),
        "export": (torch.jit, "trace_module"),
    }[place]
    honest, seen = getattr(where, name), []
    def disturbed(*given, **named):
        if place == "step":
            here = given[2] == wanted
        elif place == "best":
            if str(given[1]).endswith("last.pt"):
                seen.append(None)
            here = len(seen) > wanted
        else:
            here = len(seen) == wanted
            seen.append(None)
        if here:
            os.kill(os.getpid(), getattr(signal, job["signal"]))
        return honest(*given, **named)
    setattr(where, name, disturbed)

def do(job, said):
    for stream, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{said}.{kind}", os.O_WRONLY | os.O_CREAT), stream)
    if job["signal"]:
        disturb(job)
    if job["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
    mains = {"run": run, "evaluate": evaluate, "calibrate": calibrate, "export": export}
    return mains[job["program"]].main(job["argv"])

for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, int):
        print(os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    status = 99
    try:
        status = do(*asked)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    os._exit(status)
"""


class Forking:
    """Starts runs in processes forked from one that has the libraries, but no thread, yet."""

    def __init__(self, folder: Path) -> None:
        """folder: for what they say."""
        self._said, self._count = folder, 0
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKING],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "Forking":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self, job: Job) -> int:
        """Start one; returns the number of its process."""
        self._count += 1
        return self._ask([asdict(job), str(self._said / str(self._count))])

    def wait(self, process: int) -> Done:
        """Wait until the one started last is over."""
        status = self._ask(process)
        said = [(self._said / f"{self._count}.{kind}").read_text() for kind in ("out", "err")]
        return Done(status, *said)

    def run(self, *jobs: Job) -> list[Done]:
        """Do them one after another."""
        return [self.wait(self.start(job)) for job in jobs]

    def _ask(self, what: Any) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def command(shards: Path, run: Path, *more: str) -> list[str]:
    """The arguments of a small run."""
    return ["--data.shards", str(shards), "--run.dir", str(run), *TINY, *more]


def train_rows(run: Path) -> list[timing.StepRow]:
    """The rows of its training steps."""
    return [row for row in timing.read_rows(run / timing.STEPS) if row.phase == "train"]


def losses(run: Path) -> list[float | None]:
    """Of its training steps; None where one was not finite."""
    return [row.loss for row in train_rows(run)]


def names(folder: Path) -> set[str]:
    """Of all that lies there, hidden files included."""
    return {path.name for path in folder.iterdir()}
