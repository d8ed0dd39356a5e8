"""Hears of it when another process of a training is gone, and ends this one in one sentence.

A process that exchanges gradients by gloo learns of it at once, by an error. By NCCL it may wait
for hours, and so it may where the first process packs. So each keeps a connection of its own to the
first process, which nothing but the end of either closes.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import torch
import torch.distributed as dist

from data_tools.errors import UserError
from trainer.train.distributed import Processes

# From hearing that a process is gone to the end of this one, if its main thread does not end it.
GRACE_SECONDS = 5.0
# From an error of the main thread to hearing that a lost process was its cause.
_HEARING_SECONDS = 2.0
# gloo closes the connections of a group that waits longer, and this one waits as long as a run.
_FOREVER = timedelta(days=3650)


class Lost(UserError):
    """Another process of this training is gone; says how to go on."""


@contextmanager
def watching(processes: Processes) -> Iterator[None]:
    """End with `Lost` when another process ends before its time; every process enters it.

    Where the main thread does not hear of it within `GRACE_SECONDS` (it computes, packs or hangs in
    an exchange with the lost one), the sentence is said and the process ends with status 1. Files
    appear whole or not at all, so that this may happen at any moment.

    Raises:
        Lost: instead of the error that the loss caused here.
    """
    if processes.world == 1:
        yield
        return
    watch = _Watch(processes)
    try:
        yield
        watch.say_goodbye()
    except RuntimeError as error:
        if isinstance(error, UserError) or not watch.lost.wait(_HEARING_SECONDS):
            raise
        raise Lost(watch.words) from error
    finally:
        watch.over.set()


class _Watch:
    """Threads that wait for a word of other processes: of the first, or there of all others."""

    def __init__(self, processes: Processes) -> None:
        self.lost, self.over = Event(), Event()
        self.words = (
            f"process {processes.rank} of {processes.world}: another process of this training is "
            "gone (it says why itself, or was killed, or its machine is down); `--resume auto` "
            "goes on from the last checkpoint"
        )
        self._group: Any = dist.new_group(backend="gloo", timeout=_FOREVER)
        self._others = range(1, processes.world) if processes.first else range(1)
        for other in self._others:
            Thread(target=self._listen, args=(other,), name="peers", daemon=True).start()

    def say_goodbye(self) -> None:
        """Tell those who listen that this process ends as it should."""
        with suppress(RuntimeError):  # whoever is gone already said so as well
            for other in self._others:
                dist.send(torch.zeros(1), other, group=self._group)

    def _listen(self, other: int) -> None:
        try:
            dist.recv(torch.zeros(1), other, group=self._group)
            return
        except RuntimeError:
            self.lost.set()
        if self.over.wait(GRACE_SECONDS):
            return
        print(f"trainer.run: {self.words}", file=sys.stderr, flush=True)
        os._exit(1)
