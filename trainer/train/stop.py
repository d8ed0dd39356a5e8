"""Leaving a training early: what a signal asks for, and how all processes agree on a step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from trainer.train.distributed import Processes


class StopRequest:
    """Whether someone has asked this process to save and leave; true once they have.

    Attributes:
        signal: name of the first signal that asked, "SIGTERM"; None before.
    """

    def __init__(self) -> None:
        self.signal: str | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def ask(self, number: int, frame: object = None) -> None:
        """A handler of signals. A second Ctrl-C interrupts at once.

        Raises:
            KeyboardInterrupt: Ctrl-C after any request.
        """
        if self.signal is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.signal = signal.Signals(number).name


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen to SIGTERM, Ctrl-C and the closing of the terminal instead of dying of them."""
    request = StopRequest()
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # by nohup
        numbers.remove(signal.SIGHUP)
    before = {number: signal.signal(number, request.ask) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Agreement:
    """Whether any process wants to stop, known to all at the same step, without waiting for it.

    The answer to step n's question is read at step n + 1, when it has long arrived.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._flag = torch.zeros(1)
        self._pending: Any = None

    def ask(self, wanted: bool) -> bool:
        """Say whether this process wants to stop; returns whether all shall stop now."""
        if self._processes.world == 1:
            return wanted
        agreed = False
        if self._pending is not None:
            self._pending.wait()
            agreed = bool(self._flag.item() > 0)
        self._flag = torch.tensor([float(wanted)])
        self._pending = dist.all_reduce(self._flag, group=self._processes.control, async_op=True)
        return agreed
