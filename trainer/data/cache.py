"""A cache of decoded frames between shards and step: every frame is decoded once, then copied.

Frames lie as the model takes them in mapped files (`data_tools.cache_file`), so that the page
cache is the memory: all processes of a machine and all later runs share it. The decoder fills it as
training goes. A frame is compared with its checksum when a process first reads it; whatever is not
right is missing, and decoded like any other. So batches hold the same bits as without a cache.
"""

import ctypes
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.cache_file import (
    HEAD,
    Head,
    Look,
    Replaced,
    ShardFrames,
    checksum,
    content_key,
    filled,
    folder_lock,
    in_gb,
)
from data_tools.errors import UserError
from data_tools.names import real_path
from data_tools.shards import more_descriptors
from trainer.data.cache_room import (
    BLOCK,
    LEFT_FREE,
    clip_costs,
    free_bytes,
    kept_clips,
    make_room,
)
from trainer.data.dataset import Dataset

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

_PENDING = 256 * 2**20  # bytes of frames that wait to be written; more are decoded again instead
_SYNC_BYTES, _SYNC_SECONDS = 64 * 2**20, 2.0  # written before they are made to reach the disk
_SHORT = 32 * 1024  # bytes of a run below which calls cost more than copying: threads do not pay


class CacheError(UserError):
    """A cache that cannot be used; says why."""


@dataclass(frozen=True)
class Filled:
    """What a cache holds of a set.

    Attributes:
        frames: in the clips of the set that are used.
        kept: of them may be kept: what fits.
        there: of them are there.
        frame_bytes: of each.
        rebuilt: damaged files that were thrown away when it was opened.
    """

    frames: int
    kept: int
    there: int
    frame_bytes: int
    rebuilt: int = 0

    @property
    def words(self) -> str:
        """For people."""
        share = self.there / max(1, self.frames)
        text = f"{self.there:,} of {self.frames:,} frames ({share:.0%}) are there"
        if self.kept < self.frames:
            text += f", {self.kept:,} fit"
        return f"{text}; all take {in_gb(self.frames * self.frame_bytes)}"


class FrameCache:
    """Frames of a dataset in files of a folder.

    Args:
        folder: is made if need be; a local disk, one a machine.
        dataset: the clips.
        look: how frames are kept.
        budget: bytes that the folder may take in all.
        threads: that copy.

    Attributes:
        look: as given.
        first_frame: (shards + 1,) int64: shard s owns the frames first_frame[s].. of all.
        kept: (frames,) bool: which may be kept.

    Raises:
        CacheError: the folder cannot be used.
    """

    def __init__(
        self, folder: Path, dataset: Dataset, look: Look, budget: int, threads: int = 1
    ) -> None:
        self.look, self.folder = look, folder
        shards = dataset.shards
        self.first_frame: Ints = np.cumsum([0, *(int(each.first_frame[-1]) for each in shards)])
        more_descriptors(2 * len(shards))
        heads = [
            Head(str(real_path(each.tar)), content_key(each, look), int(each.first_frame[-1]), look)
            for each in shards
        ]
        costs = clip_costs(dataset.frames, look.frame_bytes)
        wanted = int(costs[dataset.used].sum())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with folder_lock(folder):
                maps = len(heads) * (HEAD + BLOCK)
                room = make_room(folder, heads, budget, wanted + maps) - maps
                fits = kept_clips(folder, heads, dataset, costs, room)
                reserve = np.bincount(dataset.shard, costs * fits, len(shards)).tolist()
                self._files = [
                    ShardFrames(folder, head, int(share))
                    for head, share in zip(heads, reserve, strict=True)
                ]
        except OSError as error:
            raise CacheError(
                f"{folder} cannot hold a cache of frames: {error.strerror or error}; "
                "name another folder (data.cache) or do without (off)"
            ) from error
        self.kept = np.repeat(fits, dataset.frames)
        self._dataset = dataset
        self._good = np.zeros(len(self.kept), np.bool_)  # compared with their checksum
        self._offered = ~self.kept
        self._address = np.array([each.address for each in self._files])
        self._lost: set[int] = set()  # shards whose files went away
        self._pool = ThreadPoolExecutor(threads, "cache") if threads > 1 else None
        self._threads = threads
        self._filler = _Filler(self._files, folder)

    def __enter__(self) -> "FrameCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def summary(self) -> Filled:
        """What is there, as the maps say; frames are compared when they are read."""
        used, frames = self._dataset.used, self._dataset.frames
        if used.all():
            there = sum(int(filled(each.entries).sum()) for each in self._files)
        else:
            each_filled = np.concatenate([filled(each.entries) for each in self._files])
            there = int((each_filled & np.repeat(used, frames)).sum())
        rebuilt = sum(each.rebuilt for each in self._files)
        kept = int(self.kept.sum())
        return Filled(int(frames[used].sum()), kept, there, self.look.frame_bytes, rebuilt)

    def read(self, first: Ints, out: Bytes) -> Bools:
        """Copy runs of consecutive frames out of the cache.

        Args:
            first: (N,) first frame of each run, counted over all shards.
            out: (N, R, frame_bytes) uint8, contiguous, filled where frames are there.

        Returns:
            (N, R) bool: which frames are missing; what `out` has there means nothing.
        """
        count, length, _ = out.shape
        run_bytes = length * self.look.frame_bytes
        frames = first[:, None] + np.arange(length)
        missing = ~self._good.take(frames)
        shard = self._shard_of(first)
        used = (0,) if len(self._files) == 1 else np.unique(shard).tolist()
        lost = [number for number in used if not self._is_there(number)]
        if lost:
            missing |= np.isin(shard, lost)[:, None]
        if not missing.any() and len(used) == 1 and run_bytes < _SHORT:
            [number] = used
            rows = frames if number == 0 else frames - self.first_frame[number]
            self._files[number].rows.take(rows, 0, out, "clip")
            return missing
        whole = ~missing.any(1)
        within = first - self.first_frame[shard]
        source = self._address[shard] + within * self.look.frame_bytes
        target = out.ctypes.data + np.arange(count) * run_bytes
        self._share(
            lambda rows: _copy(target[rows].tolist(), source[rows].tolist(), run_bytes),
            np.flatnonzero(whole),
            run_bytes,
        )
        unsure = np.flatnonzero(~whole & ~np.isin(shard, lost))
        if len(unsure):
            self._share(
                lambda rows: self._compare(rows, shard, within, out, missing), unsure, run_bytes
            )
            self._good[frames[unsure][~missing[unsure]]] = True
        return missing

    def _shard_of(self, frames: Ints) -> Ints:
        if len(self._files) == 1:
            return np.zeros(len(frames), np.int64)
        return np.asarray(np.searchsorted(self.first_frame, frames, side="right") - 1)

    def advise(self, first: Ints, length: int) -> Bools:
        """Have the kernel read runs ahead, those that are there.

        Returns:
            (N,) bool: which are not, as far as the maps say.
        """
        # What was read before is in memory, or the kernel's own reading ahead has to do.
        good = self._good[first[:, None] + np.arange(length)]
        if good.all():
            return np.zeros(len(first), np.bool_)
        absent = ~good.all(1)
        unsure = np.flatnonzero(absent)
        shard = self._shard_of(first[unsure])
        starts = (first[unsure] - self.first_frame[shard]).tolist()
        for row, number, start in zip(unsure.tolist(), shard.tolist(), starts, strict=True):
            file = self._files[number]
            if self._is_there(number) and filled(file.entries[start : start + length]).all():
                file.advise(start, length)
                absent[row] = False
        return np.asarray(absent)

    def wanted(self, frames: Ints) -> Ints:
        """Places among `frames` of those that `offer` would keep now: as many as may wait."""
        new: Ints = np.flatnonzero(~self._offered[frames])
        return new[: self._filler.room() // self.look.frame_bytes]

    def _compare(self, rows: Ints, shard: Ints, within: Ints, out: Bytes, missing: Bools) -> None:
        """Copy the frames of some rows one by one, those that are as they were written."""
        for row in rows.tolist():
            file, start = self._files[shard[row]], int(within[row])
            said = filled(file.entries[start : start + out.shape[1]])
            for at in np.flatnonzero(said | ~missing[row]).tolist():
                out[row, at] = file.rows[start + at]
                # what was copied is compared: the file may change at any time
                if missing[row, at] and file.holds(start + at, out[row, at]):
                    missing[row, at] = False

    def offer(self, frames: Ints, pixels: Bytes) -> None:
        """Have decoded frames written, later and by a thread, as many as may wait.

        Args:
            frames: (M,), counted over all shards.
            pixels: (M, frame_bytes) uint8; copied.
        """
        new = self.wanted(frames)
        if not len(new):
            return
        chosen, at = np.unique(frames[new], return_index=True)
        self._offered[chosen] = True
        shard = self._shard_of(chosen)
        self._filler.put(shard, chosen - self.first_frame[shard], pixels[new[at]].copy())

    def close(self) -> None:
        """Write what was offered and let the files go; nothing may be read any more."""
        self._filler.close()
        if self._pool is not None:
            self._pool.shutdown()
        self._files.clear()  # the filler's as well: the last that holds the mappings

    def flush(self) -> None:
        """Wait until all that was offered is filled."""
        self._filler.flush()

    def _share(self, work: Callable[[Ints], None], rows: Ints, run_bytes: int) -> None:
        """Do `work` on rows, in threads where that pays."""
        if self._pool is None or len(rows) < 2 or run_bytes < _SHORT:
            work(rows)
            return
        parts = np.array_split(rows, self._threads)
        others = [self._pool.submit(work, part) for part in parts[1:]]
        work(parts[0])
        for each in others:
            each.result()

    def _is_there(self, number: int) -> bool:
        """Whether a shard's files are as they were: not if they were cut."""
        if number in self._lost:
            return False
        if self._files[number].is_there():
            return True
        self._lost.add(number)
        log.warning("%s was cut: its frames are decoded", self._files[number].path)
        return False


def _copy(target: list[int], source: list[int], size: int) -> None:
    # memmove by ctypes lets other threads run, and costs less than slices of arrays do.
    for to, begin in zip(target, source, strict=True):
        ctypes.memmove(to, begin, size)


@dataclass(frozen=True)
class _Job:
    """Frames to write: of which shards, their numbers in those, and (M, frame_bytes) pixels."""

    shard: Ints
    number: Ints
    pixels: Bytes


class _Filler:
    """A thread that writes frames, makes them reach the disk, and then notes them as filled."""

    def __init__(self, files: list[ShardFrames], folder: Path) -> None:
        self._files, self._folder = files, folder
        self._jobs: queue.Queue[_Job | threading.Event | None] = queue.Queue()
        self._waiting = 0  # bytes
        self._lock = threading.Lock()
        self._full = False
        self._written: dict[int, list[tuple[int, int]]] = {}  # shard: numbers and their entries
        self._unsynced = 0  # bytes
        self._thread: threading.Thread | None = None

    def room(self) -> int:
        """Bytes of frames that may wait besides those that do."""
        return 0 if self._full else max(0, _PENDING - self._waiting)

    def put(self, shard: Ints, number: Ints, pixels: Bytes) -> None:
        """Have frames written."""
        with self._lock:
            self._waiting += pixels.nbytes
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="cache-filler", daemon=True)
            self._thread.start()
        self._jobs.put(_Job(shard, number, pixels))

    def flush(self) -> None:
        """Wait until all that was put is filled, or cannot be."""
        if self._thread is not None:
            done = threading.Event()
            self._jobs.put(done)
            while not done.wait(0.1) and self._thread.is_alive():
                pass

    def close(self) -> None:
        """Fill what was put, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()
        self._full = True

    def _work(self) -> None:
        synced = time.monotonic()
        while True:
            try:
                job = self._jobs.get(timeout=_SYNC_SECONDS)
            except queue.Empty:
                job = threading.Event()
            if isinstance(job, _Job):
                self._attempt(partial(self._write, job))
                with self._lock:
                    self._waiting -= job.pixels.nbytes
                if self._unsynced < _SYNC_BYTES and time.monotonic() - synced < _SYNC_SECONDS:
                    continue
            self._attempt(self._sync)
            synced = time.monotonic()
            if isinstance(job, threading.Event):
                job.set()
            if job is None:
                return

    def _attempt(self, work: Callable[[], None]) -> None:
        """Training goes on without what cannot be written."""
        try:
            work()
        except OSError as error:
            self._stop(str(error))

    def _stop(self, why: str) -> None:
        if not self._full:
            log.warning("%s is filled no further: %s", self._folder, why)
        self._full = True

    def _write(self, job: _Job) -> None:
        if self._full:
            return
        free = free_bytes(self._folder)
        if free - job.pixels.nbytes < LEFT_FREE:
            self._stop(f"the disk has but {in_gb(free)} left")
            return
        for shard in np.unique(job.shard).tolist():
            rows = job.shard == shard
            numbers, pixels = job.number[rows].tolist(), job.pixels[rows]
            with suppress(Replaced), self._files[shard].writable() as descriptor:
                self._files[shard].write(descriptor, numbers, pixels)
                entries = [checksum(frame, at) for at, frame in zip(numbers, pixels, strict=True)]
                self._written.setdefault(shard, []).extend(zip(numbers, entries, strict=True))
                self._unsynced += pixels.nbytes

    def _sync(self) -> None:
        written, self._written, self._unsynced = self._written, {}, 0
        for shard, frames in written.items():
            with suppress(Replaced), self._files[shard].writable() as descriptor:
                os.fdatasync(descriptor)
                self._files[shard].fill(*zip(*frames, strict=True))
