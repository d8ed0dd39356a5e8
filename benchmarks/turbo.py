"""libjpeg-turbo alone: the ceiling of every loader on a CPU."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray


def decode_all(jpegs: list[bytes], channels: int) -> Callable[[], None]:
    """A function that decodes `jpegs` with libjpeg-turbo into fresh rows of one reused array."""
    colour = "RGB" if channels == 3 else "GRAY"
    first = simplejpeg.decode_jpeg(jpegs[0], colour)
    rows = np.empty((len(jpegs), *first.shape), np.uint8)

    def decode() -> None:
        for row, jpeg in zip(rows, jpegs, strict=True):
            simplejpeg.decode_jpeg(jpeg, colour, fastdct=False, fastupsample=False, buffer=row)

    return decode


@contextmanager
def decoding(jpegs: list[bytes], channels: int, threads: int) -> Iterator[Callable[[], None]]:
    """A function that decodes all of `jpegs` once, divided among so many threads."""
    parts = [decode_all(jpegs[at::threads], channels) for at in range(min(threads, len(jpegs)))]
    with ThreadPoolExecutor(threads) as pool:
        yield lambda: _finish(pool.map(lambda part: part(), parts))


def _finish(results: Iterator[Any]) -> None:
    for _ in results:
        pass


def rate(jpegs: list[bytes], channels: int, threads: int, seconds: float) -> float:
    """How often a second all of `jpegs` are decoded, once memory is warm."""
    with decoding(jpegs, channels, threads) as decode:
        decode()
        turns, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            decode()
            turns += 1
        return turns / (time.perf_counter() - start)


def decode_rows(jpegs: list[NDArray[np.uint8]], rows: NDArray[np.uint8]) -> None:
    """Decode `jpegs` into `rows`, (N, H, W, C) RGB or gray."""
    colour = "RGB" if rows.shape[-1] == 3 else "GRAY"
    for jpeg, row in zip(jpegs, rows, strict=True):
        simplejpeg.decode_jpeg(jpeg, colour, fastdct=False, fastupsample=False, buffer=row)
