"""What the loaders share: settings, the batch, small batches put together."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import torch

from benchmarks.sources import COLUMNS, RUN, Source

Batch = tuple[torch.Tensor, torch.Tensor]
MOST_COPIES = 2  # to a GPU, that may be under way


@dataclass(frozen=True)
class Settings:
    """What a loader may use.

    Attributes:
        workers: processes of the torch loaders that stay as the seed had them.
        cores: workers or threads of all others.
        device: where batches are wanted.
    """

    workers: int = 16
    cores: int = len(os.sched_getaffinity(0))
    device: str = "cpu"


class Epochs(Protocol):
    """An open loader: each call gives the batches of the next epoch."""

    def __call__(self) -> Iterator[Batch]: ...


def epochs_of(batches: Iterator[Batch], source: Source) -> Epochs:
    """Epochs of `source.steps` batches cut out of an endless iterator."""
    return lambda: (next(batches) for _ in range(source.steps))


def joiner(
    source: Source, parts: int, device: str = "cpu"
) -> Callable[[Iterator[Any]], Iterator[Batch]]:
    """Puts small batches together in memory that is used again: fresh memory costs more.

    For a GPU it is pinned memory, so that `mover` copies it at full speed; and one more of it than
    `mover` lets copies be under way.
    """
    height, width, channels = source.frame_shape
    n = source.batch_size
    shape = (n, RUN, height, width, channels)
    buffers: list[Batch] = []
    turn = count()

    def join(small: Iterator[Any]) -> Iterator[Batch]:
        if parts == 1:
            yield from map(tuple, small)
            return
        if not buffers:
            for _ in range(2 if device == "cpu" else MOST_COPIES + 1):
                buffers.append(
                    (
                        torch.empty(shape, dtype=torch.uint8, pin_memory=device != "cpu"),
                        torch.empty(n, COLUMNS, 13, pin_memory=device != "cpu"),
                    )
                )
        while True:
            frames, mfcc = buffers[next(turn) % len(buffers)]
            filled = 0
            while filled < n:
                part = next(small, None)
                if part is None:
                    return
                frames[filled : filled + len(part[0])] = part[0]
                mfcc[filled : filled + len(part[1])] = part[1]
                filled += len(part[0])
            yield frames, mfcc

    return join


def mover(device: str) -> Callable[[Any], Batch]:
    """A function that moves a batch to the device.

    To a GPU without waiting, if it comes from pinned memory; but at most `MOST_COPIES` copies are
    under way, so that a loader knows when it may use that memory again.
    """
    if device == "cpu":
        return lambda batch: batch
    return _Mover(device)


class _Mover:
    def __init__(self, device: str) -> None:
        self._device = device
        self._under_way: deque[torch.cuda.Event] = deque()

    def __call__(self, batch: Any) -> Batch:
        while len(self._under_way) >= MOST_COPIES:
            self._under_way.popleft().synchronize()
        moved = (
            batch[0].to(self._device, non_blocking=True),
            batch[1].to(self._device, non_blocking=True),
        )
        copied = torch.cuda.Event()
        copied.record()
        self._under_way.append(copied)
        return moved


def stack(samples: list[Batch]) -> Batch:
    """A batch of samples."""
    return torch.stack([s[0] for s in samples]), torch.stack([s[1] for s in samples])


def colour_name(source: Source) -> str:
    """The frames' colour as simplejpeg names it."""
    return "RGB" if source.frame_shape[2] == 3 else "GRAY"
