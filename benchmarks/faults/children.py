"""Programs of this project as processes that faults befall, and how each of them ended."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """One program, and what befalls it.

    Attributes:
        program: its name, as `disturb.program` takes it.
        argv: its arguments.
        limit: seconds after which it counts as hung and is killed with all its processes.
        kill_after: seconds after which it is killed by -9, alone; None: never.
        worker: seconds after the first worker is there, and the signal that one of them gets.
        disturbed: functions of `disturb` that are called in its process first, with arguments.
        environment: variables set beside those of this process.
        file_limit: bytes that a file may have (RLIMIT_FSIZE); 0: any.
    """

    program: str
    argv: list[str]
    limit: float = 120.0
    kill_after: float | None = None
    worker: tuple[float, int] | None = None
    disturbed: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    file_limit: int = 0


@dataclass(frozen=True)
class Done:
    """How a program ended.

    Attributes:
        status: its exit status, minus the number of the signal that ended it; None: it hung.
        out, err: what it said.
        seconds: how long it ran.
        left: processes that it left behind.
        signalled: whether the signal for a worker was sent.
        cpu_s: seconds of processor that all programs have taken so far.
    """

    status: int | None
    out: str
    err: str
    seconds: float
    left: int
    signalled: bool
    cpu_s: float = 0.0


class Children:
    """Runs jobs one after another; a context manager.

    Args:
        folder: for what they say.
        trainer: whether the trainer's programs are loaded beforehand.
    """

    def __init__(self, folder: Path, trainer: bool = True) -> None:
        self._said, self.cpu_s = folder / "said", 0.0
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        which = ["trainer"] if trainer else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.server", "--serve", *which],
            env=environment,
            cwd=folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "Children":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        if kind is not None:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, job: Job) -> Done:
        """Do a job; how it ended.

        Raises:
            RuntimeError: the server itself has ended, which is a fault of the benchmark.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({**asdict(job), "said": str(self._said)}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server of the faults has ended")
        said = [
            self._said.with_suffix(f".{kind}").read_text(encoding="utf-8", errors="replace")
            for kind in ("out", "err")
        ]
        ended = json.loads(line)
        self.cpu_s = ended["cpu_s"]
        return Done(out=said[0], err=said[1], **ended)
