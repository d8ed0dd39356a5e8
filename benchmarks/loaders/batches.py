"""What the loaders share: settings, the batch, small batches put together."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import torch

from benchmarks.sources import COLUMNS, RUN, Source

Batch = tuple[torch.Tensor, torch.Tensor]


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


def joiner(source: Source, parts: int) -> Callable[[Iterator[Any]], Iterator[Batch]]:
    """Puts small batches together in memory that is used again: fresh memory costs more."""
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
            for _ in range(2):
                buffers.append((torch.empty(shape, dtype=torch.uint8), torch.empty(n, COLUMNS, 13)))
        while True:
            frames, mfcc = buffers[next(turn) % 2]
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
    """A function that moves a batch to the device."""
    if device == "cpu":
        return lambda batch: batch
    return lambda batch: (
        batch[0].to(device, non_blocking=True),
        batch[1].to(device, non_blocking=True),
    )


def stack(samples: list[Batch]) -> Batch:
    """A batch of samples."""
    return torch.stack([s[0] for s in samples]), torch.stack([s[1] for s in samples])


def colour_name(source: Source) -> str:
    """The frames' colour as simplejpeg names it."""
    return "RGB" if source.frame_shape[2] == 3 else "GRAY"
