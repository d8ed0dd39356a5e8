"""The frames of a batch out of a cache, on the device that trains; what is missing, by its numbers.

Two kinds of `Store`: files of a folder (`trainer.data.cache`), and the memory of the device itself.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.cache_file import Look
from trainer.data.cache import Filled, FrameCache
from trainer.data.cache_room import which_fit
from trainer.data.dataset import Dataset

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What a store has of a part's frames.

    Attributes:
        frames: (M,) int64, the numbers of the part's M frames, counted over all shards.
        pixels: (M, frame_bytes) uint8 on the device; what is missing holds anything. (0, ...) if
            all are missing.
        missing: places among the M whose frames have to be decoded.
    """

    frames: Ints
    pixels: torch.Tensor
    missing: Ints


class Store(Protocol):
    """Keeps decoded frames."""

    @property
    def look(self) -> Look:
        """How frames are kept."""

    def find(self, first: Ints, length: int) -> Found:
        """The frames of runs of `length` that begin with frames `first`.

        May return before the device has them: `complete` waits.
        """

    def complete(self, found: Found, decoded: torch.Tensor | None) -> torch.Tensor:
        """(M, frame_bytes) uint8, all right and ready for every stream.

        Args:
            found: of `find`.
            decoded: (missing, frame_bytes) uint8 on the device; None where none is missing. Kept,
                if there is room.
        """

    def ahead(self, first: Ints, length: int) -> Bools:
        """(N,) bool: which runs are not all there; the others are soon asked for."""

    def summary(self) -> Filled:
        """What is there."""

    def close(self) -> None:
        """Let everything go; what was decoded is kept first."""


class Counted:
    """A store that counts how many frames were asked for, and how many it had.

    Attributes:
        asked, found: frames since it was opened, in this process.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked = self.found = 0

    @property
    def look(self) -> Look:
        """As `Store.look`."""
        return self._store.look

    def find(self, first: Ints, length: int) -> Found:
        """As `Store.find`."""
        found = self._store.find(first, length)
        self.asked += len(found.frames)
        self.found += len(found.frames) - len(found.missing)
        return found

    def complete(self, found: Found, decoded: torch.Tensor | None) -> torch.Tensor:
        """As `Store.complete`."""
        return self._store.complete(found, decoded)

    def ahead(self, first: Ints, length: int) -> Bools:
        """As `Store.ahead`."""
        return self._store.ahead(first, length)

    def summary(self) -> Filled:
        """As `Store.summary`."""
        return self._store.summary()

    def close(self) -> None:
        """As `Store.close`."""
        self._store.close()


def counted(store: Store | None) -> Counted | None:
    """The store, its frames counted."""
    return None if store is None else Counted(store)


class Buffers:
    """Arrays of the host that are used again once nobody looks at them: fresh memory costs more.

    Args:
        pinned: in memory from which a GPU copies by itself.
    """

    def __init__(self, pinned: bool = False) -> None:
        self._pinned = pinned
        self._arrays: list[NDArray[np.uint8]] = []

    def take(self, rows: int, row_bytes: int) -> NDArray[np.uint8]:
        """(rows, row_bytes) uint8, with anything in it.

        It is in use as long as it or a tensor of it lives.
        """
        need = rows * row_bytes
        for number in range(len(self._arrays)):
            # the list's reference, and the call's own
            if sys.getrefcount(self._arrays[number]) <= 2:
                if self._arrays[number].nbytes >= need:
                    return self._arrays[number][:need].reshape(rows, row_bytes)
                break
        else:
            number = len(self._arrays)
            self._arrays.append(np.empty(0, np.uint8))
        array = np.empty(need, np.uint8)
        if self._pinned:
            array = torch.empty(need, dtype=torch.uint8, pin_memory=True).numpy()
        self._arrays[number] = array
        return array.reshape(rows, row_bytes)


class Queue:
    """Work on a device in a stream of its own, beside the training's; on a CPU nothing is queued.

    Args:
        device: where.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def work(self) -> Iterator[None]:
        """What is done within it is queued there."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def wait(self) -> None:
        """Until all that was queued is done; the host sleeps meanwhile."""
        if self._stream is not None:
            event = torch.cuda.Event(blocking=True)
            event.record(self._stream)
            event.synchronize()


class HostStore:
    """Frames in the files of a cache; to a GPU they are copied from pinned memory, in a stream.

    Args:
        cache: is closed with this.
        device: where frames are wanted.
    """

    def __init__(self, cache: FrameCache, device: torch.device) -> None:
        self._cache = cache
        self._queue = Queue(device)
        self._on_gpu = device.type == "cuda"
        self._buffers = Buffers(pinned=self._on_gpu)
        self._copying: list[NDArray[np.uint8]] = []  # of what is queued

    @property
    def look(self) -> Look:
        """How frames are kept."""
        return self._cache.look

    def find(self, first: Ints, length: int) -> Found:
        """As `Store` says."""
        frames = _numbers(first, length)
        rows = self._buffers.take(len(frames), self.look.frame_bytes)
        absent = self._cache.read(first, rows.reshape(len(first), length, -1))
        missing = np.flatnonzero(absent)
        pixels = torch.from_numpy(rows if len(missing) < len(rows) else rows[:0])
        if self._on_gpu and len(pixels):
            with self._queue.work():
                pixels = pixels.to(self._queue.device, non_blocking=True)
            self._copying.append(rows)
        return Found(frames, pixels, missing)

    def complete(self, found: Found, decoded: torch.Tensor | None) -> torch.Tensor:
        """As `Store` says."""
        if decoded is None and not self._on_gpu:
            return found.pixels
        with self._queue.work():
            if decoded is not None:
                frames = found.frames[found.missing]
                wanted = self._cache.wanted(frames)
                if len(wanted):
                    self._cache.offer(frames[wanted], _rows(decoded, wanted).cpu().numpy())
            pixels = _merged(found, decoded)
        self._queue.wait()
        self._copying.clear()
        return pixels

    def ahead(self, first: Ints, length: int) -> Bools:
        """As `Store` says."""
        return self._cache.advise(first, length)

    def summary(self) -> Filled:
        """As `Store` says."""
        return self._cache.summary()

    def close(self) -> None:
        """As `Store` says."""
        self._cache.close()


class DeviceStore:
    """Frames in the memory of the device, gathered there.

    Args:
        dataset: the clips.
        look: how frames are kept.
        budget: bytes of the device; taken at once.
        device: the GPU; a CPU does for a test.
    """

    def __init__(self, dataset: Dataset, look: Look, budget: int, device: torch.device) -> None:
        self._look = look
        hashes = [each for shard in dataset.shards for each in shard.hashes]
        fits = which_fit(dataset.frames * look.frame_bytes, hashes, budget, dataset.used)
        self._kept = np.repeat(fits, dataset.frames)
        self._frames = int(dataset.frames[dataset.used].sum())
        self._slot: Ints = np.full(len(self._kept), -1)  # of each frame's place; -1: not there
        self._used = 0
        self._queue = Queue(device)
        self._pixels = torch.empty(
            (int(self._kept.sum()), look.frame_bytes), dtype=torch.uint8, device=device
        )

    @property
    def look(self) -> Look:
        """How frames are kept."""
        return self._look

    def find(self, first: Ints, length: int) -> Found:
        """As `Store` says."""
        frames = _numbers(first, length)
        slot = self._slot[frames]
        missing = np.flatnonzero(slot < 0)
        device = self._queue.device
        with self._queue.work():
            if len(missing) == len(frames):
                pixels = torch.empty((0, self._look.frame_bytes), dtype=torch.uint8, device=device)
            else:
                places = torch.from_numpy(slot.clip(min=0)).to(device)
                pixels = torch.index_select(self._pixels, 0, places)
        return Found(frames, pixels, missing)

    def complete(self, found: Found, decoded: torch.Tensor | None) -> torch.Tensor:
        """As `Store` says."""
        with self._queue.work():
            if decoded is not None:
                self._keep(found.frames[found.missing], decoded)
            pixels = _merged(found, decoded)
        self._queue.wait()
        return pixels

    def _keep(self, frames: Ints, decoded: torch.Tensor) -> None:
        new, at = np.unique(frames, return_index=True)
        free = self._kept[new] & (self._slot[new] < 0)
        new, at = new[free], at[free]
        if len(new):
            places = slice(self._used, self._used + len(new))
            self._pixels[places] = _rows(decoded, at)
            self._slot[new] = np.arange(places.start, places.stop)
            self._used = places.stop

    def ahead(self, first: Ints, length: int) -> Bools:
        """As `Store` says."""
        return np.asarray((self._slot[first[:, None] + np.arange(length)] < 0).any(1))

    def summary(self) -> Filled:
        """As `Store` says."""
        kept = int(self._kept.sum())
        return Filled(self._frames, kept, self._used, self._look.frame_bytes)

    def close(self) -> None:
        """As `Store` says."""
        self._slot[:] = -1
        self._kept[:] = False
        self._pixels = self._pixels[:0].clone()


def _numbers(first: Ints, length: int) -> Ints:
    return np.asarray((first[:, None] + np.arange(length)).ravel())


def _rows(pixels: torch.Tensor, at: Ints) -> torch.Tensor:
    """Some rows in the order asked for; a view where they are all, in order."""
    if np.array_equal(at, np.arange(len(pixels))):
        return pixels
    if pixels.device.type == "cpu":  # many times as fast as torch's index_select over bytes
        return torch.from_numpy(pixels.numpy()[at])
    return pixels[torch.from_numpy(at).to(pixels.device)]


def _merged(found: Found, decoded: torch.Tensor | None) -> torch.Tensor:
    """All frames of a part: those found, and in their places those decoded."""
    if decoded is None:
        return found.pixels
    if len(found.missing) == len(found.frames):
        return decoded
    if found.pixels.device.type == "cpu":
        found.pixels.numpy()[found.missing] = decoded.numpy()
    else:
        found.pixels[torch.from_numpy(found.missing).to(found.pixels.device)] = decoded
    return found.pixels
