"""The compact index of a split: one mapped file beside the manifest: opening parses nothing.

    index-train.bin     32 bytes of head: magic, length and checksums of what follows
                        JSON: name, sizes and times of writing of every shard; blanks
                        20 bytes a clip, 8 bytes a frame: `data_tools.shard_index`

It is made from idx and statistics when a large split is opened, and made anew when a shard's files
have another size or time of writing, or when its own checksum is not right. Where the folder of the
shards cannot be written, it lies in the user's cache.
"""

import hashlib
import logging
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.atomic import atomic_path
from data_tools.names import real_path
from data_tools.records import LARGEST, RecordError, decode_record, open_regular
from data_tools.shard_index import CLIP, FRAME, ShardIndex, Stamp, lie_within, stamp_of

log = logging.getLogger(__name__)

WORTH = 100_000  # frames; fewer are parsed in less than a tenth of a second

_MAGIC: Final = b"syncnet-index/1\n"
_HEAD = struct.Struct("<16sQII")  # magic; length and CRC-32 of the JSON; CRC-32 of the arrays
_ALIGNED = 64
_AT_ONCE = 2**22  # bytes
# A file that was written so shortly before it was read might have been written again within the
# same tick of the file system's clock, its size and time unchanged.
TICK_NS = 2 * 10**9


@dataclass(frozen=True)
class IndexedShard:
    """What an index says of one shard.

    Attributes:
        name: of its tar.
        stamp: of its files, when they were read.
        clips, frames: in it.
    """

    name: str
    stamp: Stamp
    clips: Annotated[int, Meta(ge=1, le=2**32)]
    frames: Annotated[int, Meta(ge=1, le=2**32)]


@dataclass(frozen=True)
class _Told:
    """The JSON of an index."""

    split: str
    shards: list[IndexedShard]


@dataclass(frozen=True)
class SplitIndex:
    """Where the clips and frames of a split lie.

    Attributes:
        split: its name.
        shards: in the manifest's order.
        clips: (clips,) CLIP, of all shards, one after another.
        frames: (frames, 2) uint32, likewise.
    """

    split: str
    shards: list[IndexedShard]
    clips: NDArray[Any]
    frames: NDArray[np.uint32]

    def by_shard(self) -> list[ShardIndex]:
        """Of each shard, views."""
        found, clip, frame = [], 0, 0
        for shard in self.shards:
            clips = self.clips[clip : clip + shard.clips]
            frames = self.frames[frame : frame + shard.frames]
            found.append(ShardIndex(self.split, shard.stamp[0], clips, frames))
            clip, frame = clip + shard.clips, frame + shard.frames
        return found


def user_cache() -> Path:
    """syncnet-trainer in XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return folder / "syncnet-trainer"


def index_paths(folder: Path, split: str) -> tuple[Path, Path]:
    """Where the index of a split may lie: beside the manifest, and in the user's cache."""
    name = f"index-{split}.bin"
    where = hashlib.sha256(os.fsencode(real_path(folder))).hexdigest()[:32]
    return folder / name, user_cache() / "index" / f"{where}-{name}"


def find_index(
    folder: Path,
    split: str,
    wanted: Sequence[tuple[str, int]],
    stamp: Callable[[str], Stamp | None] = stamp_of,
) -> SplitIndex | None:
    """The index of a split as its shards are now; None if there is none.

    Args:
        wanted: name and number of clips of each shard, as the manifest says.
        stamp: of a tar as it is now.
    """
    stamps: list[Stamp | None] | None = None
    for path in index_paths(folder, split):
        if (index := _read_index(path)) is None or index.split != split:
            continue
        if [(shard.name, shard.clips) for shard in index.shards] != list(wanted):
            continue
        if stamps is None:
            base = os.fspath(folder)
            stamps = [stamp(os.path.join(base, name)) for name, _ in wanted]
        if [shard.stamp for shard in index.shards] == stamps:
            return index
    return None


def keep_index(folder: Path, index: SplitIndex, began_ns: int) -> None:
    """Write an index where the next opening finds it, if it is worth it and can be done.

    Args:
        began_ns: time in ns at which the first of its shards was about to be read.
    """
    newest = max(max(shard.stamp[1::2]) for shard in index.shards)
    if len(index.frames) < WORTH or newest > began_ns - TICK_NS:
        return
    beside, cached = index_paths(folder, index.split)
    try:
        _write_index(beside, index)
        return
    except OSError:
        pass  # a folder that is read-only, or full
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        _write_index(cached, index)
    except OSError as error:
        log.warning(
            "no index of %s can be kept, so that opening it takes longer each time: %s",
            folder,
            error,
        )


def _write_index(path: Path, index: SplitIndex) -> None:
    told = msgspec.json.encode(asdict(_Told(index.split, index.shards)))
    told += b" " * (-(_HEAD.size + len(told)) % _ALIGNED)
    arrays = [np.ascontiguousarray(each) for each in (index.clips, index.frames)]
    crc = 0
    for each in arrays:
        crc = zlib.crc32(each.view(np.uint8).ravel().data, crc)
    with atomic_path(path) as partial, open(partial, "wb") as stream:
        stream.write(_HEAD.pack(_MAGIC, len(told), zlib.crc32(told), crc))
        stream.write(told)
        for each in arrays:
            stream.write(each.view(np.uint8).ravel().data)


def _read_index(path: Path) -> SplitIndex | None:
    """What a file holds, mapped; None if it is missing, damaged or names what no tar holds."""
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return None
            magic, length, crc_told, crc_arrays = _HEAD.unpack(head)
            if magic != _MAGIC or length > min(size, LARGEST):
                return None
            data = stream.read(length)
            if zlib.crc32(data) != crc_told:
                return None
            told = decode_record(data, _Told)
            first_clip = np.cumsum([0, *(shard.clips for shard in told.shards)])
            first_frame = np.cumsum([0, *(shard.frames for shard in told.shards)])
            clip_bytes = int(first_clip[-1]) * CLIP.itemsize
            arrays = _HEAD.size + length
            frame_bytes = int(first_frame[-1]) * 2 * FRAME.itemsize
            if not told.shards or size != arrays + clip_bytes + frame_bytes:
                return None
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, RecordError, ValueError):
        return None
    content = memoryview(mapped)[arrays:]
    crc = 0
    for at in range(0, len(content), _AT_ONCE):
        crc = zlib.crc32(content[at : at + _AT_ONCE], crc)
    if crc != crc_arrays:
        return None
    clips = np.frombuffer(content[:clip_bytes], CLIP)
    frames = np.frombuffer(content[clip_bytes:], FRAME).reshape(-1, 2)
    tar_bytes = np.array([shard.stamp[0] for shard in told.shards])
    if not lie_within(clips, frames, first_clip, first_frame, tar_bytes):
        return None
    return SplitIndex(told.split, told.shards, clips, frames)
