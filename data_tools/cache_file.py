"""The decoded frames of one shard on disk: a sparse file of raw frames and a map of what is filled.

    <shard>-<key>.frames    frame i, (size, size, channels) uint8, begins at byte i * frame_bytes
    <shard>-<key>.map       4,096 bytes of head (JSON), then 8 bytes a frame: its CRC-32, or zero

A frame counts as filled by its checksum, which is written after the frame's bytes are on the disk.
Whoever reads compares, so that a flipped byte, a hole or a torn write is a missing frame, never a
wrong one. Frames are written by `pwrite`: through a mapping, a full disk would end the process.
"""

import fcntl
import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.atomic import atomic_path
from data_tools.records import Count
from data_tools.shards import Shard
from data_tools.split_index import user_cache

FORMAT: Final = "syncnet-frames/1"
FRAMES, MAP = ".frames", ".map"
HEAD = 4096  # bytes of a map before its entries
_RESERVED = slice(HEAD - 8, HEAD)  # of the head: bytes that its last user may come to fill
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@dataclass(frozen=True)
class Look:
    """How frames are kept: what, besides the shard, decides their bytes.

    Attributes:
        size: frames are size x size.
        channels: 3 (RGB) or 1 (gray).
        decoder: what decoded them, with its version: two need not agree in every bit.
    """

    size: Annotated[int, Meta(ge=1, le=65_500)]
    channels: Literal[1, 3]
    decoder: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return self.size * self.size * self.channels


@dataclass(frozen=True)
class Head:
    """What a map says of itself.

    Attributes:
        shard: path of the tar, for people and to find what is stale; of copies that share the file
            (`cp -p`, `rsync -a`), the first that was read.
        key: of `content_key`.
        frames: in the shard.
        look: how they are kept.
    """

    shard: str
    key: str
    frames: Count
    look: Look
    format: Literal["syncnet-frames/1"] = FORMAT


def default_folder() -> Path:
    """Where `auto` keeps frames: syncnet-trainer/frames in XDG_CACHE_HOME, or in ~/.cache.

    Not beside the shards, which may be read-only or on the network.
    """
    return user_cache() / "frames"


def in_gb(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def content_key(shard: Shard, look: Look) -> str:
    """32 hex digits that change with the shard's content, the look and the decoder.

    Of the shard: the clips and their hashes, where each JPEG lies and how long it is, and when the
    tar was last written: one that is packed again, or changed in place, is another.
    """
    size, written = shard.stamp
    clips = [[each.key, each.hash, each.frames, each.columns] for each in shard.records]
    told = [FORMAT, asdict(look), size, written, clips]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(np.ascontiguousarray(shard.offset, np.int64).tobytes())
    digest.update(np.ascontiguousarray(shard.size, np.int64).tobytes())
    return digest.hexdigest()[:32]


def checksum(frame: NDArray[np.uint8], number: int) -> int:
    """The entry of a frame that is filled: its CRC-32, begun with its number, and the complement.

    So it is never zero, and an entry of which a bit was turned is none.
    """
    crc = zlib.crc32(frame.data, number + 1)
    return crc | (crc ^ 0xFFFFFFFF) << 32


def filled(entries: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which entries say that their frame is there."""
    return np.asarray((entries & _LOW) == ((entries >> _HALF) ^ _LOW))


def read_head(path: Path) -> Head | None:
    """The head of a map; None if it is none of ours."""
    try:
        with path.open("rb") as stream:
            content = stream.read(HEAD)
        return msgspec.json.decode(content.split(b"\0", 1)[0], type=Head)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_entries(path: Path, head: Head) -> NDArray[np.uint64]:
    """(frames,) the entries of a map; (0,) if it was cut or cannot be read."""
    try:
        if path.stat().st_size < HEAD + 8 * head.frames:  # before so much is allocated
            return np.zeros(0, np.uint64)
        return np.fromfile(path, np.uint64, head.frames, offset=HEAD)
    except OSError:
        return np.zeros(0, np.uint64)


def count_filled(path: Path, head: Head) -> int:
    """How many frames a map says are there; 0 if it was cut."""
    return int(filled(read_entries(path, head)).sum())


def reserved(path: Path) -> int:
    """Bytes that the last user of a map may come to fill; 0 if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return int.from_bytes(stream.read(HEAD)[_RESERVED], "little")
    except OSError:
        return 0


def allocated(path: Path) -> int:
    """Bytes that a file and its map take on the disk; 0 for what is not there.

    Args:
        path: of either.
    """
    total = 0
    for name in (path.with_suffix(FRAMES), path.with_suffix(MAP)):
        with suppress(OSError):
            total += name.stat().st_blocks * 512
    return total


def remove(path: Path) -> bool:
    """Remove a file of frames and its map, unless a process uses them; whether they are gone."""
    frames = path.with_suffix(FRAMES)
    try:
        with frames.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _unlink(frames)
    except FileNotFoundError:
        _unlink(frames)
    except OSError:
        return False
    return True


def _unlink(frames: Path) -> None:
    # The map first: a map without its frames would be taken for a full one of holes.
    frames.with_suffix(MAP).unlink(missing_ok=True)
    frames.unlink(missing_ok=True)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from making or removing files there; waits for them."""
    with open(folder / ".lock", "a+b") as stream:
        with suppress(OSError):  # a file system without locks: what is written there agrees
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class Replaced(OSError):
    """A file of frames that is mapped was removed, cut, or made anew meanwhile."""


class ShardFrames:
    """The frames of one shard, mapped; made where they are missing, and anew where damaged.

    To be opened within `folder_lock`.

    Args:
        folder: of the cache.
        head: what the file holds.
        reserve: bytes that this process may come to fill.

    Attributes:
        path: of the frames; the map lies beside it.
        frames: in the file.
        frame_bytes: of each.
        address: in memory, of frame 0.
        rows: (frames, frame_bytes) uint8, mapped: whatever is there.
        rebuilt: whether a damaged file was thrown away.

    Raises:
        OSError: the files cannot be made.
    """

    def __init__(self, folder: Path, head: Head, reserve: int = 0) -> None:
        self.path = frames_path(folder, head)
        self.frames, self.frame_bytes = head.frames, head.look.frame_bytes
        self._bytes = self.frames * self.frame_bytes
        self._map_bytes = HEAD + 8 * self.frames
        self.rebuilt = False
        if not self._is_whole(head):
            self.rebuilt = self.path.with_suffix(MAP).exists()
            # New files, not these mended: a process that still has them mapped is left alone.
            _unlink(self.path)
            self._make(head)
        with self.path.open("rb") as stream:
            # The mapping holds a duplicate of the descriptor, and with it the lock.
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_SH)
            self._data = mmap.mmap(stream.fileno(), self._bytes, access=mmap.ACCESS_READ)
            self._inode = os.fstat(stream.fileno()).st_ino
        with self.path.with_suffix(MAP).open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), self._map_bytes)
        self._pixels = np.frombuffer(self._data, np.uint8)
        self.address: int = self._pixels.ctypes.data
        self.rows = self._pixels.reshape(self.frames, self.frame_bytes)
        self.entries = np.frombuffer(self._map, np.uint64, self.frames, HEAD)
        with suppress(OSError):
            os.utime(self.path.with_suffix(MAP))  # used last now
        self._map[_RESERVED] = max(reserve, 0).to_bytes(8, "little")

    def _is_whole(self, head: Head) -> bool:
        beside = self.path.with_suffix(MAP)
        try:
            sizes = self.path.stat().st_size, beside.stat().st_size
        except OSError:
            return False
        if sizes != (self._bytes, self._map_bytes) or (found := read_head(beside)) is None:
            return False
        return replace(found, shard=head.shard) == head

    def _make(self, head: Head) -> None:
        with self.path.open("wb") as stream:
            os.ftruncate(stream.fileno(), self._bytes)
        text = msgspec.json.encode(head)
        if len(text) > HEAD - 9:
            raise OSError(f"{head.shard}: too long a path for a cache of its frames")
        with atomic_path(self.path.with_suffix(MAP)) as partial, partial.open("wb") as stream:
            # In full: a hole in what is written through a mapping would need room later.
            stream.write(text.ljust(self._map_bytes, b"\0"))

    def is_there(self) -> bool:
        """Whether both files still have their size: what is mapped beyond it must not be read."""
        return self._data.size() == self._bytes and self._map.size() == self._map_bytes

    def advise(self, number: int, count: int) -> None:
        """Have the kernel read frames ahead."""
        begin = number * self.frame_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        self._data.madvise(mmap.MADV_WILLNEED, begin, (number + count) * self.frame_bytes - begin)

    def holds(self, number: int, frame: NDArray[np.uint8]) -> bool:
        """Whether `frame`, read as frame `number`, is what was written as that."""
        return int(self.entries[number]) == checksum(frame, number)

    def write(self, descriptor: int, numbers: Sequence[int], frames: NDArray[np.uint8]) -> None:
        """Write frames, not yet as filled.

        Args:
            descriptor: of `writable`.
            numbers: of the frames.
            frames: (len(numbers), frame_bytes) uint8.

        Raises:
            OSError: they cannot be written.
        """
        for number, frame in zip(numbers, frames, strict=True):
            left, at = memoryview(frame), number * self.frame_bytes
            while left:
                done = os.pwrite(descriptor, left, at)
                left, at = left[done:], at + done

    @contextmanager
    def writable(self) -> Iterator[int]:
        """A descriptor to write frames by.

        Raises:
            Replaced: the file was removed, made anew or cut.
            OSError: it cannot be opened.
        """
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Replaced(f"{self.path} was removed") from None
        try:
            if os.fstat(descriptor).st_ino != self._inode or not self.is_there():
                raise Replaced(f"{self.path} was replaced")
            yield descriptor
        finally:
            os.close(descriptor)

    def fill(self, numbers: Sequence[int], entries: Sequence[int]) -> None:
        """Note that frames are filled; their bytes must be on the disk."""
        if self.is_there():
            self.entries[list(numbers)] = np.array(entries, np.uint64)


def frames_path(folder: Path, head: Head) -> Path:
    """Where the frames of a shard lie."""
    return folder / f"{Path(head.shard).stem[:100]}-{head.key}{FRAMES}"
