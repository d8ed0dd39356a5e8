"""Batches that a GPU is at work on: few enough for its memory."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch

Item = TypeVar("Item")
MOST = 2  # batches whose step is queued: one computes, one waits behind it


class Mark(Protocol):
    """A place in the work queued on a device, as `torch.cuda.Event` is one."""

    def query(self) -> bool:
        """Whether the device has come past it."""

    def synchronize(self) -> None:
        """Wait until it has."""


Marker = Callable[[], Mark]


def cuda_marker(device: torch.device) -> Marker:
    """Marks the end of what is queued on the device's current stream."""

    def mark() -> Mark:
        # blocking: the host sleeps, and leaves its core to the decoder
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(device))
        return event

    return mark


class InUse(Generic[Item]):
    """Holds batches until the device has done the work that was queued on them.

    The host queues steps much faster than a device computes them. Without a bound every batch of
    those steps lies in the device's memory, and the decoder keeps making more.

    Args:
        mark: marks the end of the work queued so far.
        most: batches held besides the one handed out last; the oldest is waited for.
    """

    def __init__(self, mark: Marker, most: int = MOST) -> None:
        self._mark = mark
        self._most = most
        self._used: deque[tuple[Item, Mark]] = deque()
        self._handed: list[Item] = []

    def hand(self, batch: Item) -> Item:
        """The batch, which is about to be used."""
        self._handed.append(batch)
        return batch

    def retire(self) -> None:
        """All work on the batches handed out is queued: let go of those whose work is done.

        Waits for the oldest while more than `most` are held.
        """
        if self._handed:
            mark = self._mark()
            self._used.extend((batch, mark) for batch in self._handed)
            self._handed.clear()
        while self._used and self._used[0][1].query():
            self._used.popleft()
        while len(self._used) > self._most:
            self._used[0][1].synchronize()
            self._used.popleft()
