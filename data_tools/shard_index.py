"""What opening a shard has to know, in arrays of 8 bytes a frame and 20 a clip."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.manifest import ClipRecord, ShardError, read_stats
from data_tools.mfcc import CEPSTRA
from data_tools.records import read_whole
from data_tools.tar_index import BLOCK, NPY_HEADER

COLUMN_BYTES: Final = CEPSTRA * 4
# All members begin at a block of the tar, so that 32 bits reach 2 TiB into it.
CLIP: Final = np.dtype(
    [
        ("frames", "<u4"),
        ("columns", "<u4"),  # of its MFCC
        ("mfcc", "<u4"),  # the block at which the npy begins
        ("height", "<u2"),
        ("width", "<u2"),
        ("channels", "<u4"),
    ]
)
FRAME: Final = np.dtype("<u4")
_LARGEST_TAR = 2**32 * BLOCK
_LARGEST_MEMBER = 2**32 - 1
_AT_ONCE = 2**18  # frames that are checked at a time: their numbers stay in the processor's cache

# A tar's, its idx's and its json's size in bytes and time of writing in ns.
_Whole = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Stamp = tuple[_Whole, _Whole, _Whole, _Whole, _Whole, _Whole]


@dataclass(frozen=True)
class ShardIndex:
    """Where the clips and frames of a shard lie.

    Attributes:
        split: that it belongs to.
        tar_bytes: of the tar.
        clips: (clips,) CLIP.
        frames: (frames, 2) uint32, of each JPEG the block of the tar at which it begins, and its
            size in bytes.
    """

    split: str
    tar_bytes: int
    clips: NDArray[Any]
    frames: NDArray[np.uint32]


def parse_shard(tar: Path, absent: bool = False) -> tuple[ShardIndex, list[ClipRecord]]:
    """Index and clips of a shard from its idx and its statistics, compared with the tar.

    absent: the tar is still to come, and is compared then.

    Raises:
        ShardError: a file is missing, the statistics are damaged or list no clip, the tar is
            shorter or longer than they say, or the index is not that of such a tar.
    """
    stats = read_stats(tar)
    if not stats.clips:
        raise ShardError(f"{tar.with_suffix('.json')} lists no clip; run pack again")
    idx = tar.with_suffix(".idx")
    for path in (idx,) if absent else (tar, idx):
        if not path.exists():
            raise ShardError(f"{path} is missing; run pack again")
    tar_bytes = stats.tar_bytes if absent else tar.stat().st_size
    if tar_bytes != stats.tar_bytes:
        raise ShardError(
            f"{tar} has {tar_bytes} bytes, {stats.tar_bytes} were written: "
            "truncated or changed; delete its .json and run pack again"
        )
    if tar_bytes > _LARGEST_TAR:
        raise ShardError(f"{tar} is larger than {_LARGEST_TAR:,} bytes; pack smaller shards")
    arrays = _arrays(read_whole(idx, ShardError), stats.clips, tar_bytes)
    if arrays is None or not (absent or _is_of(tar, stats.clips, arrays[1])):
        raise ShardError(f"{idx} does not match {tar.name}; delete both and run pack again")
    return ShardIndex(stats.split, tar_bytes, *arrays), stats.clips


def stamp_of(tar: str, known: tuple[int, int] | None = None) -> Stamp | None:
    """Size and time of writing of a shard's three files; None if one is missing.

    known: of the tar, where it is still to come.
    """
    found = list(known or ())
    beside = (f"{tar[:-4]}.idx", f"{tar[:-4]}.json")
    for path in beside if known else (tar, *beside):
        try:
            status = os.stat(path)
        except OSError:
            return None
        found += (status.st_size, status.st_mtime_ns)
    return found[0], found[1], found[2], found[3], found[4], found[5]


def lie_within(
    clips: NDArray[Any],
    frames: NDArray[np.uint32],
    first_clip: NDArray[np.int64],
    first_frame: NDArray[np.int64],
    tar_bytes: NDArray[np.int64],
) -> bool:
    """Whether all that an index of several shards names lies in their tars, in order.

    So whoever goes by it reads no byte from elsewhere, whoever wrote it.

    Args:
        clips, frames: as `ShardIndex` has them, of all shards.
        first_clip, first_frame: (shards + 1,) int64, of each shard.
        tar_bytes: (shards,) int64.
    """
    counts = clips["frames"].astype(np.int64)
    of_clip = np.cumsum(counts) - counts
    if not (counts.all() and clips["columns"].all() and clips["height"].all()):
        return False
    if not clips["width"].all() or not np.isin(clips["channels"], (1, 3)).all():
        return False
    if (np.append(of_clip, counts.sum())[first_clip] != first_frame).any():
        return False
    # A header stands before each member, and MFCC before the frames of their clip.
    ends = BLOCK * clips["mfcc"].astype(np.int64) + NPY_HEADER
    ends += COLUMN_BYTES * clips["columns"].astype(np.int64)
    if (ends > BLOCK * (frames[of_clip, 0].astype(np.int64) - 1)).any():
        return False
    last = first_frame[1:] - 1
    ends = BLOCK * frames[last, 0].astype(np.int64) + frames[last, 1]
    if (ends > tar_bytes).any():
        return False
    for at in range(0, len(frames), _AT_ONCE):
        part = frames[at : at + _AT_ONCE + 1].astype(np.int64)
        least = part[:-1, 0] + -(-part[:-1, 1] // BLOCK) + 1
        begin, end = np.searchsorted(last, (at, at + len(least)))
        least[last[begin:end] - at] = 0  # the next one is of another tar
        if (least > part[1:, 0]).any():
            return False
    return True


def _arrays(
    content: bytes, records: list[ClipRecord], tar_bytes: int
) -> tuple[NDArray[Any], NDArray[np.uint32]] | None:
    """Clips and frames of `ShardIndex` from an idx; None if it is not that of such a tar."""
    members = _parse_idx(content, records)
    if members is None:
        return None
    offset, size, head = members
    # A tar leaves no choice: a header, the content, filled up to a block, the next header.
    if (size < 0).any() or (size > tar_bytes).any():
        return None
    ends = offset + -(-size // BLOCK) * BLOCK
    if offset[0] != BLOCK or (offset[1:] != ends[:-1] + BLOCK).any() or ends[-1] > tar_bytes:
        return None
    count = np.array([record.frames for record in records])
    columns = np.array([record.columns for record in records])
    mfcc = np.cumsum([0, *(head + count)[:-1].tolist()]) + 1
    if (size[mfcc] != NPY_HEADER + COLUMN_BYTES * columns).any():
        return None
    is_frame = np.repeat(np.tile([False, True], len(head)), np.stack([head, count], axis=1).ravel())
    if size[is_frame].max() > _LARGEST_MEMBER:
        return None
    clips = np.empty(len(records), CLIP)
    clips["frames"], clips["columns"], clips["mfcc"] = count, columns, offset[mfcc] // BLOCK
    for name in ("height", "width", "channels"):
        clips[name] = [getattr(record, name) for record in records]
    frames = np.stack([offset[is_frame] // BLOCK, size[is_frame]], axis=1).astype(FRAME)
    return clips, frames


def _is_of(tar: Path, records: list[ClipRecord], frames: NDArray[np.uint32]) -> bool:
    """Whether the first and the last frame lie where the index points.

    A tar and an index that were not written together differ there.
    """
    with open(tar, "rb") as stream:
        for record, number, row in ((records[0], 0, 0), (records[-1], -1, -1)):
            name = f"{record.key}.{number % record.frames:05d}.jpg".encode() + b"\0"
            start = BLOCK * (int(frames[row, 0]) - 1)
            if os.pread(stream.fileno(), len(name), start) != name:
                return False
    return True


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
