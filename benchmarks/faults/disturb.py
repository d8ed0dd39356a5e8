"""What befalls a program from within its own process: called before it begins, in a fork.

Each function takes plain values (they come as JSON) and replaces something that the program uses.
"""

import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_TRAINER = ("run", "refine", "sync", "evaluate", "export")


def program(name: str) -> Callable[[list[str]], int]:
    """What a program's arguments are given to: data_tools, or the name of one of the trainer's."""
    module = "data_tools.__main__" if name == "data_tools" else f"trainer.{name}"
    found: Callable[[list[str]], int] = importlib.import_module(module).main
    return found


def load(trainer: bool) -> None:
    """Load programs and what they use late; pictures of times are not drawn, being dear.

    trainer: whether the trainer's as well; they are loaded when they are called, else.
    """
    import data_tools.packing
    import data_tools.verifying

    program("data_tools")
    if not trainer:
        return
    import av  # noqa: F401
    import cv2  # noqa: F401
    import torch._dynamo  # noqa: F401

    import data_tools.prepare
    import data_tools.sharding  # noqa: F401
    from trainer.train import timing

    def draw_nothing(*given: Any) -> None:
        pass

    timing.plot = draw_nothing  # type: ignore[assignment]
    for name in _TRAINER:
        program(name)


def training_at_hand() -> None:
    """Let a refinement find its training in a fork, which is there within milliseconds.

    It waits for its arguments, or for the end of whoever might give them.
    """
    from data_tools.workers import PARENT
    from trainer.train import rounds

    arguments, give = os.pipe()
    parent, training = os.getpid(), os.fork()
    if not training:
        os.close(give)
        with os.fdopen(arguments, "rb") as stream:
            told = stream.read()
        status = 0
        if told:
            os.environ[PARENT] = str(parent)
            status = program("run")(json.loads(told))
            sys.stdout.flush()
        os._exit(status)
    os.close(arguments)

    def wait_for(command: list[str]) -> int:
        with os.fdopen(give, "wb") as stream:
            stream.write(json.dumps(command[3:]).encode())
        return os.waitstatus_to_exitcode(os.waitpid(training, 0)[1])

    rounds._wait_for = wait_for


def kill_at_file_call(number: int) -> None:
    """Kill this process by -9 as it begins its n-th fsync, replace, link, rename or unlink."""
    seen = 0

    def counted(honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return honest(*given, **named)

        return call

    for name in ("fsync", "replace", "rename", "link", "unlink"):
        setattr(os, name, counted(getattr(os, name)))


def damage(path: str, how: str, seed: int) -> None:
    """Damage a file in its place: "delete", "truncate", "zero" (a block) or "flip" (bits)."""
    rng, file = np.random.default_rng(seed), Path(path)
    size = file.stat().st_size
    if how == "delete":
        file.unlink()
    elif how == "truncate":
        os.truncate(file, int(rng.integers(0, size)))
    else:
        with file.open("r+b") as stream:
            for _ in range(int(rng.integers(1, 65))):
                place = int(rng.integers(0, size))
                stream.seek(place)
                old = stream.read(1)[0]
                stream.seek(place)
                if how == "zero":
                    stream.write(bytes(min(512, size - place)))
                else:
                    stream.write(bytes([old ^ 1 << int(rng.integers(0, 8))]))


def at_step(step: int, action: str, **given: Any) -> None:
    """Do something as a training step begins, the first being 0.

    action: "nan_loss", "nan_weights", "kill" (by -9), or "memory" (megabytes
        more than are taken; for good).
    """
    from trainer.train.step import TrainStep

    honest = TrainStep.take

    def take(self: Any, batches: Any, number: int, clock: Any) -> Any:
        if number != step:
            return honest(self, batches, number, clock)
        if action == "memory":
            memory(**given)
        elif action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "nan_weights":
            next(iter(self.model.parameters())).data.view(-1)[0] = np.nan
        elif action == "nan_loss":
            loss = self.loss
            self.loss = lambda *pairs: loss(*pairs) * np.nan
            try:
                return honest(self, batches, number, clock)
            finally:
                self.loss = loss
        return honest(self, batches, number, clock)

    TrainStep.take = take  # type: ignore[method-assign, assignment]


def nan_features(call: int) -> None:
    """Let the n-th array of features that is read from shards hold a NaN."""
    from trainer.data.dataset import Dataset

    honest, seen = Dataset.mfcc, 0

    def read(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        found = honest(self, *given, **named)
        if seen == call:
            found = np.array(found)
            found.reshape(-1)[0] = np.nan
        return found

    Dataset.mfcc = read  # type: ignore[method-assign]


def at_read(call: int, **given: Any) -> None:
    """Damage a file (as `damage`) as the loader is about to take pictures for the n-th time."""
    from trainer.data.dataset import Dataset

    honest, seen = Dataset.jpegs, 0

    def read(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == call:
            damage(**given)
        return honest(self, *arguments, **named)

    Dataset.jpegs = read  # type: ignore[method-assign]


def memory(megabytes: float) -> None:
    """Let this process take no more address space than it has and so many megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(megabytes * 1e6)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def clock(after: int, back: float) -> None:
    """Set the clock back: time.time and time.time_ns lose seconds after so many calls."""
    seen = 0

    def told(honest: Callable[[], Any], unit: int) -> Callable[[], Any]:
        def now() -> Any:
            nonlocal seen
            seen += 1
            return honest() - (type(honest())(back * unit) if seen > after else 0)

        return now

    time.time = told(time.time, 1)
    time.time_ns = told(time.time_ns, 10**9)


def no_pauses() -> None:
    """Ask a server again at once."""
    from data_tools import remote

    remote.PAUSE = 0.01  # type: ignore[misc]


def site(folder: str) -> None:
    """Let workers load sitecustomize.py from a folder first."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, before])
    sys.path.insert(0, folder)
