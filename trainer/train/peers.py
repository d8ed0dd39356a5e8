"""Hears of it when another process of a training is gone, and ends this one in one sentence.

A process that exchanges gradients by gloo learns of it at once, by an error. By NCCL it may wait
for hours, and so it may where the first process packs. So each keeps a connection of its own to the
first process, which nothing but the end of either closes.
"""

import os
import sys
import time
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
# The same, where the other process ended by an error of its own and said so: this one may have met
# the same error and be closing what it has open.
LEAVING_SECONDS = 25.0
# From the good end of this process to the others': they may still be saving, or wait for a core.
_GOODBYE_SECONDS = 600.0
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
    watch, well = _Watch(processes), False
    try:
        yield
        well = True
    except RuntimeError as error:
        if isinstance(error, UserError) or not watch.lost.wait(_HEARING_SECONDS):
            raise
        raise Lost(watch.words) from error
    finally:
        watch.end(well)


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
        self._threads = [
            Thread(target=self._listen, args=(other,), name="peers", daemon=True)
            for other in self._others
        ]
        for thread in self._threads:
            thread.start()

    def end(self, well: bool) -> None:
        """Say goodbye to those who listen, and wait for theirs: not for ever, for they may hang.

        A thread that still listens when the interpreter ends would abort the process.

        Args:
            well: whether this process ends as it should, so that the others need not.
        """
        self.over.set()
        for other in self._others:
            with suppress(RuntimeError):  # gone already
                dist.send(torch.full((1,), float(well)), other, group=self._group)
        deadline = time.monotonic() + (_GOODBYE_SECONDS if well else GRACE_SECONDS)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _listen(self, other: int) -> None:
        well, grace = torch.zeros(1), GRACE_SECONDS
        try:
            dist.recv(well, other, group=self._group)
            grace = LEAVING_SECONDS
        except RuntimeError:
            well.zero_()
        if well.item():
            return
        self.lost.set()
        if self.over.wait(grace):
            return
        print(f"trainer.run: {self.words}", file=sys.stderr, flush=True)
        os._exit(1)
