"""The shard format: plain WebDataset tars with DALI's own index beside them, nothing else.

    train-000000.tar    one sample per clip, members in this order:
        <key>.json          clip, fps, frames, source, split, hash, height, width, channels, columns
        <key>.mfcc.npy      (T, 13) float32
        <key>.flac          the sound, if asked for
        <key>.00000.jpg ... the frames, contiguous and in order
    train-000000.idx    what DALI's wds2idx writes (v1.2): "ext offset size name" per member
    train-000000.json   statistics; its presence says that tar and idx are complete
    index-train.bin     compact index of a large split, made when it is opened (split_index.py)

Tar and idx hold every byte range, so `Shard` maps the tar and hands out views without a copy.
"""

import mmap
import os
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.lost_pages import watch
from data_tools.manifest import (
    MANIFEST,
    ClipRecord,
    ShardEntry,
    ShardError,
    read_manifest,
    read_stats,
)
from data_tools.mfcc import CEPSTRA
from data_tools.mirror import Mirror, mirror_at
from data_tools.shard_index import (
    CLIP,
    COLUMN_BYTES,
    FRAME,
    ShardIndex,
    Stamp,
    parse_shard,
    stamp_of,
)
from data_tools.split_index import IndexedShard, SplitIndex, find_index, keep_index
from data_tools.tar_index import BLOCK, NPY_HEADER


class Shard:
    """A shard opened for reading: the tar mapped when it is first read, the index in arrays.

    Args:
        tar: where it lies.
        index: of it, where that is known; else it is made and compared with the tar.
        mirror: fetches the tar when it is first read; None: it lies here.

    Attributes:
        split: that it belongs to.
        clips: (clips,) structured: frames, columns, mfcc, height, width and channels of each.
        frames: (frames, 2) uint32, of each frame's JPEG block and size (`ShardIndex`).
        tar_bytes: size of the tar.

    Raises:
        ShardError: as `data_tools.shard_index.parse_shard`.
    """

    def __init__(
        self, tar: Path, index: ShardIndex | None = None, mirror: Mirror | None = None
    ) -> None:
        self.tar, self.mirror = tar, mirror
        if index is None:
            index, self.records = parse_shard(tar, absent=mirror is not None)
        self.split, self.clips, self.frames = index.split, index.clips, index.frames
        self.tar_bytes = index.tar_bytes

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def records(self) -> list[ClipRecord]:
        """What the statistics say of each clip; they are read when first asked for.

        Raises:
            ShardError: they are missing or damaged, or have been changed since the opening.
        """
        return self._read_records()

    def _read_records(self) -> list[ClipRecord]:
        stats = read_stats(self.tar)
        found = [(each.frames, each.columns) for each in stats.clips]
        if found != self.clips[["frames", "columns"]].tolist():
            raise ShardError(
                f"{self.tar.with_suffix('.json')} was changed while in use; start again"
            )
        return stats.clips

    @cached_property
    def keys(self) -> list[str]:
        """Of the clips, in order; read as `records` are, which are not held for them.

        Raises:
            ShardError: as `records`.
        """
        return [record.key for record in self.__dict__.get("records") or self._read_records()]

    @property
    def hashes(self) -> list[str]:
        """Of the clips' content, in order; read as `keys` are, and not held.

        Raises:
            ShardError: as `records`.
        """
        return [record.hash for record in self.__dict__.get("records") or self._read_records()]

    @cached_property
    def first_frame(self) -> NDArray[np.int64]:
        """(clips + 1,) int64: clip c owns the frames first_frame[c]..first_frame[c+1]-1."""
        return np.cumsum([0, *self.clips["frames"].tolist()], dtype=np.int64)

    @property
    def columns(self) -> NDArray[np.int64]:
        """(clips,) int64, MFCC columns of each clip."""
        return np.asarray(self.clips["columns"], np.int64)

    @property
    def offset(self) -> NDArray[np.int64]:
        """(frames,) int64, where each frame's JPEG begins in the tar; made anew at each call."""
        return BLOCK * self.frames[:, 0].astype(np.int64)

    @property
    def size(self) -> NDArray[np.int64]:
        """(frames,) int64, bytes of each frame's JPEG; made anew at each call."""
        return self.frames[:, 1].astype(np.int64)

    @property
    def source(self) -> tuple[Mirror, str] | None:
        """From where the tar comes, and its name there; None: it lies here."""
        return None if self.mirror is None else (self.mirror, self.tar.name)

    @property
    def stamp(self) -> tuple[int, int]:
        """Size of the tar in bytes, and time of its writing in ns."""
        if self.mirror is not None:
            return self.mirror.stamp(self.tar.name)
        status = self.tar.stat()
        return status.st_size, status.st_mtime_ns

    @property
    def scarce(self) -> bool:
        """Whether there is no room for all tars at once: views are copies then."""
        return self.mirror is not None and self.mirror.scarce

    @cached_property
    def map(self) -> mmap.mmap:
        """The tar, mapped read-only; fetched if need be.

        Raises:
            ShardError: it has been cut or replaced since the opening; or as `Mirror.fetch`.
            OSError: it is missing, or too many files are open.
        """
        return self._mapped()

    def _mapped(self) -> mmap.mmap:
        mirror = self.mirror
        with open(self.tar, "rb") if mirror is None else mirror.open(self.tar.name) as stream:
            if os.fstat(stream.fileno()).st_size != self.tar_bytes:
                raise ShardError(f"{self.tar} was changed while in use; start again")
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            watch(Path(stream.name), self.tar_bytes)
        # Training jumps about: without this the kernel reads ahead what nobody asked for.
        mapped.madvise(mmap.MADV_RANDOM)
        return mapped

    @cached_property
    def bytes(self) -> NDArray[np.uint8]:
        """(tar bytes,) uint8, the mapping as a plain ndarray: slicing np.memmap is 5x dearer."""
        return np.frombuffer(self.map, np.uint8)

    def cuts(self, begin: Sequence[int], end: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Parts of the tar: views, or copies where room is scarce, so that the tar may go again."""
        if not self.scarce:
            return [self.bytes[b:e] for b, e in zip(begin, end, strict=True)]
        content = np.frombuffer(self._mapped(), np.uint8)
        return [content[b:e].copy() for b, e in zip(begin, end, strict=True)]

    def mfcc(self, clip: int) -> NDArray[np.float32]:
        """The clip's (T, 13) features, a view."""
        start = BLOCK * int(self.clips["mfcc"][clip]) + NPY_HEADER
        columns = int(self.clips["columns"][clip])
        [data] = self.cuts([start], [start + columns * COLUMN_BYTES])
        return data.view(np.float32).reshape(columns, CEPSTRA)

    def jpeg(self, clip: int, frame: int) -> NDArray[np.uint8]:
        """The bytes of one frame's JPEG, a view."""
        block, size = self.frames[int(self.first_frame[clip]) + frame].tolist()
        [data] = self.cuts([BLOCK * block], [BLOCK * block + size])
        return data


@dataclass(frozen=True)
class OpenSplit:
    """A split opened for reading.

    Attributes:
        shards: those that hold clips, in the manifest's order.
        clips: (clips,) structured, of all shards, one after another, as `Shard` has them.
        frames: (frames, 2) uint32, likewise.
    """

    shards: list[Shard]
    clips: NDArray[Any]
    frames: NDArray[np.uint32]


def open_shards(folder: Path, split: str) -> list[Shard]:
    """The shards of a split that hold clips, all faults named at once.

    Raises:
        ShardError: any shard of the split is missing or damaged (all are listed).
    """
    return open_split(folder, split).shards


def open_split(folder: Path, split: str) -> OpenSplit:
    """As `open_shards`, with the index of all of them.

    Nothing is parsed where a compact index (`data_tools.split_index`) is as new as the shards: they
    were compared with their tars when it was made. Else it is made, and kept if it is large.
    """
    entries = [
        entry for entry in read_manifest(folder).shards if entry.split == split and entry.clips
    ]
    if not entries:
        return OpenSplit([], np.empty(0, CLIP), np.empty((0, 2), FRAME))
    mirror = mirror_at(folder)
    if mirror is not None:
        mirror.fetch_small(entries)
    wanted = [(entry.name, entry.clips) for entry in entries]
    index = find_index(folder, split, wanted, partial(_stamp, mirror))
    if index is None:
        began = time.time_ns()
        index = _make_index(folder, split, entries, mirror)
        keep_index(folder, index, began)
    shards = [
        Shard(folder / entry.name, own, mirror)
        for entry, own in zip(entries, index.by_shard(), strict=True)
    ]
    return OpenSplit(shards, index.clips, index.frames)


def more_descriptors(count: int) -> None:
    """Let this process have so many more files open, as far as the system does.

    Every mapped tar is one, and 1,024 is what many systems begin with.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _stamp(mirror: Mirror | None, tar: str) -> Stamp | None:
    """`stamp_of` a tar that may be still to come."""
    return stamp_of(tar, None if mirror is None else mirror.stamp(os.path.basename(tar)))


def _make_index(
    folder: Path, split: str, entries: Iterable[ShardEntry], mirror: Mirror | None
) -> SplitIndex:
    """The index of a split out of what lies beside its tars.

    Raises:
        ShardError: any shard is missing or damaged (all are listed).
    """
    indices: list[ShardIndex] = []
    told: list[IndexedShard] = []
    faults = []
    for entry in entries:
        tar = folder / entry.name
        stamp = _stamp(mirror, str(tar))
        try:
            index, records = parse_shard(tar, absent=mirror is not None)
            if (index.split, len(records)) != (entry.split, entry.clips):
                raise ShardError(
                    f"{tar} holds {len(records)} clips of {index.split}, {MANIFEST} says "
                    f"{entry.clips} of {entry.split}; run pack again"
                )
            if stamp is None:
                raise ShardError(f"{tar} is being written; wait for pack to end")
        except ShardError as error:
            faults.append(str(error))
            continue
        indices.append(index)
        told.append(IndexedShard(entry.name, stamp, len(index.clips), len(index.frames)))
    if faults:
        raise ShardError("\n".join(faults))
    clips = np.concatenate([index.clips for index in indices])
    # A million clips have 2 GB of these: each part goes as it is copied, so they are held once.
    frames = np.empty((sum(shard.frames for shard in told), 2), FRAME)
    at = len(frames)
    while indices:
        part = indices.pop().frames
        frames[at - len(part) : at] = part
        at -= len(part)
    return SplitIndex(split, told, clips, frames)
