"""Runs of `trainer.run` in processes of their own, disturbed at a place that is known exactly."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer import timing

REPOSITORY = Path(__file__).parents[2]
TINY = ["--train.batch_size", "8", "--data.val_runs", "1", "--train.warmup_steps", "2"]


@dataclass(frozen=True)
class Job:
    """One run: its arguments, and what befalls it.

    Attributes:
        signal: sent by the process to itself as `at` begins: "step" (with that number),
            "validation", "save" or "best" (best.pt is in place, last.pt not yet; with the count
            from 0 of those before).
        file_limit: bytes that a file may have, as `ulimit -f` sets it.
    """

    argv: list[str]
    signal: str = ""
    at: tuple[str, int] = ("", 0)
    file_limit: int = 0


@dataclass(frozen=True)
class Done:
    """How a run ended: minus the signal's number if one killed it."""

    status: int
    out: str
    err: str


# The libraries are imported once; each run is a process forked before any of them has threads.
_FORKING = """
import json, os, resource, signal, sys
import torch._dynamo  # the optimizer's, late and dear
import trainer.run as run
from trainer import checkpoint
from trainer.validate import Validation

run.timing.plot = lambda rows, picture: None  # dear as well

def disturb(job):
    place, wanted = job["at"]
    where, name = {
        "step": (run._Training, "_step"), "validation": (Validation, "run"),
        "save": (checkpoint, "save"), "best": (os, "replace"),
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

statuses = []
for number, job in enumerate(json.loads(sys.argv[2])):
    child = os.fork()
    if child == 0:
        for stream, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{sys.argv[1]}/{number}.{kind}", os.O_WRONLY | os.O_CREAT), stream)
        if job["signal"]:
            disturb(job)
        if job["file_limit"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
        status = 99
        try:
            status = run.main(job["argv"])
        finally:
            sys.stdout.flush()
            if status == 99:
                sys.excepthook(*sys.exc_info())
            os._exit(status)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


def run_jobs(folder: Path, *jobs: Job) -> list[Done]:
    """Do them one after another; `folder`, to be made, takes what they say."""
    folder.mkdir(parents=True)
    done = python(_FORKING, str(folder), json.dumps([asdict(job) for job in jobs]))
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout)
    said = [
        [(folder / f"{number}.{kind}").read_text() for kind in ("out", "err")]
        for number in range(len(jobs))
    ]
    return [Done(status, *texts) for status, texts in zip(statuses, said, strict=True)]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code on this project."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, "-c", code, *arguments]
    return subprocess.run(script, capture_output=True, text=True, env=environment, timeout=240)


def command(shards: Path, run: Path, *more: str) -> list[str]:
    """The arguments of a small run."""
    return ["--data.shards", str(shards), "--run.dir", str(run), *TINY, *more]


def train_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of its training steps."""
    return [row for row in timing.read_rows(run / timing.STEPS) if row["phase"] == "train"]


def losses(run: Path) -> list[float]:
    """Of its training steps."""
    return [row["loss"] for row in train_rows(run)]


def names(folder: Path) -> set[str]:
    """Of all that lies there, hidden files included."""
    return {path.name for path in folder.iterdir()}
