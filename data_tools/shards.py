"""The shard format: plain WebDataset tars with DALI's own index beside them, nothing else.

    train-000000.tar    one sample per clip, members in this order:
        <key>.json          clip, fps, frames, source, split, hash, height, width, channels, columns
        <key>.mfcc.npy      (T, 13) float32
        <key>.flac          the sound, if asked for
        <key>.00000.jpg ... the frames, contiguous and in order
    train-000000.idx    what DALI's wds2idx writes (v1.2): "ext offset size name" per member
    train-000000.json   statistics; its presence says that tar and idx are complete

Tar and idx hold every byte range, so `Shard` maps the tar and hands out views without a copy.
"""

import mmap
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.manifest import MANIFEST, ClipRecord, ShardError, read_manifest, read_stats
from data_tools.mfcc import CEPSTRA
from data_tools.records import read_whole
from data_tools.tar_index import BLOCK, NPY_HEADER

_COLUMN_BYTES = CEPSTRA * 4


class Shard:
    """A shard opened for reading: the tar mapped, the index in arrays.

    Attributes:
        split: that it belongs to.
        keys: of the clips, in order.
        records: what the statistics say of each clip.
        first_frame: (clips + 1,) int64, clip c owns frames first_frame[c]..first_frame[c+1]-1.
        offset, size: (frames,) int64, the byte range of each frame's JPEG.
        columns: (clips,) int64, MFCC columns of each clip.

    Raises:
        ShardError: a file is missing, the statistics are damaged or list no clip, the tar is
            shorter or longer than they say, or the index is not that of such a tar.
    """

    def __init__(self, tar: Path) -> None:
        self.tar = tar
        stats = read_stats(tar)
        self.split, self.records = stats.split, stats.clips
        if not self.records:
            raise ShardError(f"{tar.with_suffix('.json')} lists no clip; run pack again")
        idx = tar.with_suffix(".idx")
        for path in (tar, idx):
            if not path.exists():
                raise ShardError(f"{path} is missing; run pack again")
        self._tar_bytes = tar.stat().st_size
        if self._tar_bytes != stats.tar_bytes:
            raise ShardError(
                f"{tar} has {self._tar_bytes} bytes, {stats.tar_bytes} were written: "
                "truncated or changed; delete its .json and run pack again"
            )
        self._read_idx(idx)

    def _read_idx(self, idx: Path) -> None:
        wrong = ShardError(f"{idx} does not match {self.tar.name}; delete both and run pack again")
        members = _parse_idx(read_whole(idx, ShardError), self.records)
        if members is None:
            raise wrong
        offset, size, head = members
        # A tar leaves no choice: a header, the content, filled up to a block, the next header.
        if (size < 0).any() or (size > self._tar_bytes).any():
            raise wrong
        ends = offset + -(-size // BLOCK) * BLOCK
        if offset[0] != BLOCK or (offset[1:] != ends[:-1] + BLOCK).any():
            raise wrong
        count = np.array([record.frames for record in self.records])
        columns = np.array([record.columns for record in self.records])
        mfcc = np.cumsum([0, *(head + count)[:-1].tolist()]) + 1
        if ends[-1] > self._tar_bytes or (size[mfcc] != NPY_HEADER + _COLUMN_BYTES * columns).any():
            raise wrong
        self.keys = [record.key for record in self.records]
        self.columns: NDArray[np.int64] = columns
        self.first_frame: NDArray[np.int64] = np.cumsum([0, *count.tolist()], dtype=np.int64)
        is_frame = np.repeat(
            np.tile([False, True], len(head)), np.stack([head, count], axis=1).ravel()
        )
        self.offset: NDArray[np.int64] = offset[is_frame]
        self.size: NDArray[np.int64] = size[is_frame]
        self._mfcc_offset: list[int] = offset[mfcc].tolist()
        if not self._has_header(self.records[0], 0) or not self._has_header(self.records[-1], -1):
            raise wrong

    def _has_header(self, record: ClipRecord, frame: int) -> bool:
        """Whether the first (0) or last (-1) frame lies where the index points.

        A tar and an index that were not written together differ there.
        """
        header = self.bytes[self.offset[frame] - BLOCK : self.offset[frame]]
        name = f"{record.key}.{frame % record.frames:05d}.jpg".encode()
        return bytes(header[: len(name) + 1]) == name + b"\0"

    @cached_property
    def map(self) -> mmap.mmap:
        """The tar, mapped read-only."""
        with open(self.tar, "rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        # Training jumps about: without this the kernel reads ahead what nobody asked for.
        mapped.madvise(mmap.MADV_RANDOM)
        return mapped

    @cached_property
    def bytes(self) -> NDArray[np.uint8]:
        """(tar bytes,) uint8, the mapping as a plain ndarray: slicing np.memmap is 5x dearer."""
        return np.frombuffer(self.map, np.uint8)

    def mfcc(self, clip: int) -> NDArray[np.float32]:
        """The clip's (T, 13) features, a view."""
        start = self._mfcc_offset[clip] + NPY_HEADER
        columns = int(self.columns[clip])
        data = self.bytes[start : start + columns * _COLUMN_BYTES]
        return data.view(np.float32).reshape(columns, CEPSTRA)

    def jpeg(self, clip: int, frame: int) -> NDArray[np.uint8]:
        """The bytes of one frame's JPEG, a view."""
        at = int(self.first_frame[clip]) + frame
        return self.bytes[self.offset[at] : self.offset[at] + self.size[at]]


def open_shards(folder: Path, split: str) -> list[Shard]:
    """The shards of a split that hold clips, all faults named at once.

    Raises:
        ShardError: any shard of the split is missing or damaged (all are listed).
    """
    shards, faults = [], []
    for entry in read_manifest(folder).shards:
        if entry.split != split or entry.clips == 0:
            continue
        try:
            shard = Shard(folder / entry.name)
            if (shard.split, len(shard.keys)) != (entry.split, entry.clips):
                raise ShardError(
                    f"{shard.tar} holds {len(shard.keys)} clips of {shard.split}, {MANIFEST} says "
                    f"{entry.clips} of {entry.split}; run pack again"
                )
            shards.append(shard)
        except ShardError as error:
            faults.append(str(error))
    if faults:
        raise ShardError("\n".join(faults))
    return shards


def _parse_idx(
    content: bytes, records: list[ClipRecord]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Offset and size of every member, and how many stand before each clip's first frame.

    None if it is not the index of a tar that holds `records`.
    """
    lines = content.decode("utf-8", "replace").splitlines()
    if not lines or lines[0] != f"v1.2 {len(lines) - 1}" or len(lines) - 1 != len(records):
        return None
    offsets: list[str] = []
    sizes: list[str] = []
    heads: list[int] = []
    for line, record in zip(lines[1:], records, strict=True):
        fields = line.split(" ")
        extensions = fields[0::4]
        first = len(extensions) - record.frames
        if (
            len(fields) % 4
            or first < 2
            or extensions[:2] != ["json", "mfcc.npy"]
            or fields[3] != f"{record.key}.json"
            or extensions[first] != "00000.jpg"
            or extensions[-1] != f"{record.frames - 1:05d}.jpg"
        ):
            return None
        offsets += fields[1::4]
        sizes += fields[2::4]
        heads.append(first)
    try:
        return np.array(offsets, np.int64), np.array(sizes, np.int64), np.array(heads)
    except (ValueError, OverflowError):
        return None
