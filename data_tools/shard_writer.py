"""Clips -> a shard: tar, idx and statistics, byte for byte the same from the same clips."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, write_json
from data_tools.clip_data import ClipData
from data_tools.manifest import ClipRecord, DroppedClip, ShardStats, read_stats
from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.tar_index import BLOCK, NPY_HEADER, Member, format_idx

_PADDING = [bytes(size) for size in range(BLOCK)]
_BUFFER = 1 << 20  # bytes: a short clip is written at once

Members: TypeAlias = list[tuple[str, bytes]]  # extension and bytes, in the order of the tar


def clip_members(
    key: str,
    clip: str,
    source: str,
    split: str,
    data: ClipData,
    flac: bool,
    speaker: str | None = None,
) -> tuple[ClipRecord, Members]:
    """A clip as the ordered (extension, bytes) members of its sample, and its record."""
    payload = [("mfcc.npy", _npy(data.mfcc))]
    if flac and data.audio is not None:
        payload.append(("flac", _flac(data.audio)))
    payload += [(f"{number:05d}.jpg", jpeg) for number, jpeg in enumerate(data.jpegs)]
    record = ClipRecord(
        key=key,
        clip=clip,
        source=source,
        frames=len(data.jpegs),
        columns=len(data.mfcc),
        height=data.height,
        width=data.width,
        channels=1 if data.channels == 1 else 3,
        bytes=sum(len(content) for _, content in payload),
        hash=content_hash(payload),
        speaker=speaker,
    )
    described = json.dumps(describe(record, split), sort_keys=True).encode()
    return record, [("json", described), *payload]


def describe(record: ClipRecord, split: str) -> dict[str, Any]:
    """What <key>.json says of a clip."""
    described = {**record.as_dict(), "fps": FPS, "split": split}
    del described["key"], described["bytes"]
    return described


def content_hash(payload: Iterable[tuple[str, bytes]]) -> str:
    """sha256 over the (extension, bytes) members of a clip other than its json, in tar order."""
    digest = hashlib.sha256()
    for extension, content in payload:
        digest.update(f"{extension} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def write_shard(tar: Path, clips: Iterable[tuple[ClipRecord, Members]]) -> list[ClipRecord]:
    """Write `tar` and its idx whole; returns the records written. No clip, no files.

    The caller writes the statistics afterwards (`commit_shard`): they are the commit mark.
    """
    with writing_shard(tar) as shard:
        for record, members in clips:
            shard.add(record, members)
    return shard.records


@contextmanager
def writing_shard(tar: Path) -> Iterator["ShardWriter"]:
    """As `write_shard`, for whoever has one clip after another: `add` takes them."""
    with atomic_path(tar) as partial, open(partial, "wb", buffering=_BUFFER) as stream:
        shard = ShardWriter(stream)
        yield shard
        shard.finish()
    if not shard.records:
        tar.unlink()
        return
    with atomic_path(tar.with_suffix(".idx")) as partial:
        partial.write_text(format_idx(shard.index), encoding="ascii")


class ShardWriter:
    """A shard that is being written.

    Attributes:
        records: of the clips so far.
        index: of their members, as `index_tar` would read them from the tar.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end = 0  # bytes so far
        self.records: list[ClipRecord] = []
        self.index: list[list[Member]] = []

    def add(self, record: ClipRecord, members: Members) -> None:
        """Append a clip, as `clip_members` gives it."""
        listed = []
        pieces = []  # written at once: a frame alone is little
        for extension, content in members:
            name, size = f"{record.key}.{extension}", len(content)
            header = _header(name, size)
            begin = self._end + len(header)
            listed.append(Member(extension, begin, size, name))
            pieces += [header, content, _PADDING[-size % BLOCK]]
            self._end = begin + size + -size % BLOCK
        self._stream.writelines(pieces)
        self.records.append(record)
        self.index.append(listed)

    def finish(self) -> None:
        """End the tar: two empty blocks, filled up as `tarfile` does."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self._end % tarfile.RECORDSIZE))

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self._end += len(content)


def commit_shard(
    tar: Path, split: str, records: list[ClipRecord], dropped: list[DroppedClip]
) -> None:
    """Write the statistics that mark a shard as complete."""
    stats = ShardStats(split, records, dropped, tar.stat().st_size if records else 0)
    write_json(tar.with_suffix(".json"), stats.as_dict())


def is_complete(tar: Path) -> bool:
    """Whether the shard at `tar` is all there, or complete without a clip.

    Raises:
        ShardError: its statistics are damaged.
    """
    if not tar.with_suffix(".json").exists():
        return False
    stats = read_stats(tar)
    if not stats.clips:
        return True
    written = tar.exists() and tar.stat().st_size == stats.tar_bytes
    return written and tar.with_suffix(".idx").exists()


def _header(name: str, size: int) -> bytes:
    """What `tarfile` writes before a member, for every picture in a twelfth of its time."""
    plain = name.encode()
    if len(plain) > tarfile.LENGTH_NAME or not name.isascii() or size >= 8**11:
        return _tarfile_header(name, size)
    block, rest = _empty_header()
    number = b"%011o" % size
    total = rest + sum(plain) + sum(number)
    block = plain + block[len(plain) : 124] + number + block[135:]
    return block[:148] + b"%06o\0 " % total + block[156:]


@cache
def _empty_header() -> tuple[bytes, int]:
    """A header without name and size, and the sum of its bytes with spaces in the sum's place."""
    block = bytearray(_tarfile_header("", 0))
    block[124:135] = bytes(11)
    block[148:156] = b" " * 8
    return bytes(block), sum(block)


def _tarfile_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    # A fixed owner and time make equal input give equal bytes.
    info.uname, info.gname, info.mtime = "", "", 0
    return info.tobuf(tarfile.PAX_FORMAT)


def _npy(features: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(features, dtype="<f4"), allow_pickle=False)
    content = stream.getvalue()
    if len(content) != NPY_HEADER + features.nbytes:
        raise RuntimeError(f"np.save wrote a header of {len(content) - features.nbytes} bytes")
    return content


def _flac(audio: NDArray[np.int16]) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return stream.getvalue()
