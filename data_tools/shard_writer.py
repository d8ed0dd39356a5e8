"""Clips -> a shard: tar, idx and statistics, byte for byte the same from the same clips."""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile
import webdataset
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, write_json
from data_tools.clip_data import ClipData
from data_tools.manifest import ClipRecord, DroppedClip, ShardStats, read_stats
from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.tar_index import BLOCK, NPY_HEADER, Member, format_idx

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
    with (
        atomic_path(tar) as partial,
        open(partial, "wb") as stream,
        # A fixed owner and time make equal input give equal bytes.
        webdataset.TarWriter(stream, user="", group="", mtime=0, encoder=False) as writer,
    ):
        shard = ShardWriter(writer)
        yield shard
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

    def __init__(self, writer: webdataset.TarWriter) -> None:
        self._writer = writer
        self.records: list[ClipRecord] = []
        self.index: list[list[Member]] = []

    def add(self, record: ClipRecord, members: Members) -> None:
        """Append a clip, as `clip_members` gives it."""
        listed = []
        for extension, content in members:
            # One call a member: TarWriter sorts the members within a call.
            self._writer.write({"__key__": record.key, extension: content})
            size = len(content)
            begin = self._writer.tarstream.offset - -(-size // BLOCK) * BLOCK
            listed.append(Member(extension, begin, size, f"{record.key}.{extension}"))
        self.records.append(record)
        self.index.append(listed)


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
