"""The shard format: plain WebDataset tars with DALI's own index beside them, nothing else.

    train-000000.tar    one sample a clip, members in this order:
        <key>.json          clip, fps, frames, source, split, hash, height, width, channels, columns
        <key>.mfcc.npy      (T, 13) float32
        <key>.flac          the sound, if asked for
        <key>.00000.jpg ... the frames, contiguous and in order
    train-000000.idx    what DALI's wds2idx writes (v1.2): "ext offset size name" a member
    train-000000.json   statistics; its presence says that tar and idx are complete

Tar and idx hold every byte range, so `Shard` maps the tar and hands out views without a copy.
"""

import errno
import hashlib
import io
import json
import mmap
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
import soundfile
import webdataset
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, write_json
from data_tools.clip_data import ClipData
from data_tools.clips import SPLITS
from data_tools.mfcc import CEPSTRA, FPS, SAMPLE_RATE
from data_tools.records import Count, RecordError, read_record, read_whole

FORMAT: Final = "syncnet-shards/1"
MANIFEST = "manifest.json"
_NPY_HEADER = 128  # bytes np.save puts before a (T, 13) float32 array
_COLUMN_BYTES = CEPSTRA * 4
_BLOCK = 512  # of a tar: a member's header, and what its content is filled up to

Split = Annotated[str, Meta(pattern=rf"^({'|'.join(SPLITS)})\Z")]
# Names become paths and members of a tar: they must not lead elsewhere.
_Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,90}\Z")]
_TarName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}\.tar\Z")]
_Length = Annotated[int, Meta(ge=1, le=10**9)]  # of a clip: frames, MFCC columns
_Side = Annotated[int, Meta(ge=1, le=65_500)]  # pixels; libjpeg's own limit


class ShardError(RecordError):
    """A shard that is missing, truncated or does not match its index; names it and the remedy."""


class Member(NamedTuple):
    """A tar member as the v1.2 index lists it."""

    extension: str
    offset: int
    size: int
    name: str


@dataclass(frozen=True)
class ClipRecord:
    """What a shard's statistics say of one clip."""

    key: _Key
    clip: str
    source: str
    frames: _Length
    columns: _Length
    height: _Side
    width: _Side
    channels: Literal[1, 3]
    bytes: Count
    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


@dataclass(frozen=True)
class DroppedClip:
    """A clip that was left out: the class of the reason, and the case."""

    clip: str
    reason: str
    detail: str


@dataclass(frozen=True)
class ShardStats:
    """<shard>.json: the clips of a shard in order, and those that it should have held."""

    split: Split
    clips: list[ClipRecord]
    dropped: list[DroppedClip]
    tar_bytes: Count

    def __post_init__(self) -> None:
        if len({record.key for record in self.clips}) < len(self.clips):
            raise ValueError("a key is there twice")

    @property
    def totals(self) -> "SplitTotals":
        """What the shard adds to its split."""
        frames = sum(record.frames for record in self.clips)
        return SplitTotals(len(self.clips), frames, self.tar_bytes)


@dataclass(frozen=True)
class SplitTotals:
    """What a split holds; bytes: of its tars."""

    clips: Count
    frames: Count
    bytes: Count

    def __add__(self, other: "SplitTotals") -> "SplitTotals":
        return SplitTotals(
            self.clips + other.clips, self.frames + other.frames, self.bytes + other.bytes
        )


NOTHING = SplitTotals(0, 0, 0)


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of one shard; name: of its tar, beside the manifest."""

    name: _TarName
    split: Split
    clips: Count
    frames: Count
    bytes: Count


@dataclass(frozen=True)
class RejectedClip:
    """A clip that a keep.csv rejected."""

    clip: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """manifest.json: what `pack` made.

    Attributes:
        clips_found: packed or left out.
        options: of `pack`, as they were.
        rejected: by the keep.csv given; None where none was.
    """

    clips_found: Count
    shards: list[ShardEntry]
    splits: dict[Split, SplitTotals]
    dropped: list[DroppedClip]
    format: Literal["syncnet-shards/1"] = FORMAT
    options: dict[str, Any] = field(default_factory=dict)
    rejected: list[RejectedClip] | None = None

    def __post_init__(self) -> None:
        if len({entry.name for entry in self.shards}) < len(self.shards):
            raise ValueError("a shard is there twice")
        if missing := set(SPLITS) - set(self.splits):
            raise ValueError(f"splits: no {', '.join(sorted(missing))}")

    def as_dict(self) -> dict[str, Any]:
        """What manifest.json holds."""
        found = asdict(self)
        if self.rejected is None:
            del found["rejected"]
        return found


def clip_members(
    key: str, clip: str, source: str, split: str, data: ClipData, flac: bool
) -> tuple[ClipRecord, list[tuple[str, bytes]]]:
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
    )
    described = json.dumps(describe(record, split), sort_keys=True).encode()
    return record, [("json", described), *payload]


def describe(record: ClipRecord, split: str) -> dict[str, Any]:
    """What <key>.json says of a clip."""
    described = {**asdict(record), "fps": FPS, "split": split}
    del described["key"], described["bytes"]
    return described


def content_hash(payload: Iterable[tuple[str, bytes]]) -> str:
    """sha256 over the (extension, bytes) members of a clip other than its json, in tar order."""
    digest = hashlib.sha256()
    for extension, content in payload:
        digest.update(f"{extension} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def write_shard(
    tar: Path, clips: Iterable[tuple[ClipRecord, list[tuple[str, bytes]]]]
) -> list[ClipRecord]:
    """Write `tar` and its idx whole; returns the records written. No clip, no files.

    The caller writes the statistics afterwards (`commit_shard`): they are the commit mark.
    """
    records = []
    with (
        atomic_path(tar) as partial,
        open(partial, "wb") as stream,
        # A fixed owner and time make equal input give equal bytes.
        webdataset.TarWriter(stream, user="", group="", mtime=0, encoder=False) as writer,
    ):
        for record, members in clips:
            for extension, content in members:
                # One call a member: TarWriter sorts the members within a call.
                writer.write({"__key__": record.key, extension: content})
            records.append(record)
    if not records:
        tar.unlink()
        return records
    with atomic_path(tar.with_suffix(".idx")) as partial:
        partial.write_text(format_idx(index_tar(tar)), encoding="ascii")
    return records


def commit_shard(
    tar: Path, split: str, records: list[ClipRecord], dropped: list[DroppedClip]
) -> None:
    """Write the statistics that mark a shard as complete."""
    stats = ShardStats(split, records, dropped, tar.stat().st_size if records else 0)
    write_json(tar.with_suffix(".json"), asdict(stats))


def read_stats(tar: Path) -> ShardStats:
    """The statistics beside a shard.

    Raises:
        ShardError: they are missing or damaged.
    """
    path = tar.with_suffix(".json")
    try:
        return read_record(
            path,
            ShardStats,
            "cannot be used: its statistics are damaged",
            "delete it and run pack again",
            ShardError,
        )
    except FileNotFoundError:
        raise ShardError(f"{path} is missing: the shard is not complete; run pack again") from None


def read_manifest(folder: Path) -> Manifest:
    """The manifest that `pack` writes last.

    Raises:
        ShardError: there is none, or it is no manifest.
    """
    path = folder / MANIFEST
    try:
        return read_record(
            path,
            Manifest,
            "is not a manifest of shards",
            "run pack again, which mends it",
            ShardError,
        )
    except (FileNotFoundError, NotADirectoryError):
        raise ShardError(
            f"{path} is missing: not a folder of shards, or its packing did not end; "
            "run `python -m data_tools pack CLIPS OUT`"
        ) from None


def in_two_splits(tars: Iterable[Path]) -> list[str]:
    """What lies in more than one split under whatever name, a sentence each; [] is as it must be.

    Raises:
        ShardError: the statistics of a shard are missing or damaged.
    """
    first: dict[str, tuple[str, str]] = {}
    found = []
    for tar in tars:
        stats = read_stats(tar)
        for record in stats.clips:
            split, clip = first.setdefault(record.hash, (stats.split, record.clip))
            if split != stats.split:
                found.append(
                    f"{clip} ({split}) and {record.clip} ({stats.split}) are the same clip"
                )
    return found


def index_tar(tar: Path) -> list[list[Member]]:
    """The members of a tar by sample, offsets being those of the data, as wds2idx lists them.

    Raises:
        ShardError: the tar is truncated or no tar.
    """
    samples: list[list[Member]] = []
    last = None
    try:
        length = tar.stat().st_size
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                if (
                    not 0 <= info.size <= length - info.offset_data
                ):  # tarfile goes back and for ever
                    raise ShardError(f"{tar} is damaged: {info.name!r} says {info.size} bytes")
                if not info.isreg():
                    continue
                key, _, extension = info.name.partition(".")
                if key != last:
                    samples.append([])
                    last = key
                samples[-1].append(Member(extension, info.offset_data, info.size, info.name))
    except (ShardError, FileNotFoundError):
        raise
    except Exception as error:  # tarfile meets damage with errors of many kinds
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ShardError(f"{tar} cannot be read as a tar: {error}") from None
    return samples


def format_idx(samples: list[list[Member]]) -> str:
    """The text of a v1.2 index."""
    lines = [f"v1.2 {len(samples)}"]
    lines += [" ".join(f"{m.extension} {m.offset} {m.size} {m.name}" for m in s) for s in samples]
    return "\n".join(lines) + "\n"


class Shard:
    """A shard opened for reading: the tar mapped, the index in arrays.

    Attributes:
        split: that it belongs to.
        keys: one a clip.
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
        lines = read_whole(idx, ShardError).decode("utf-8", "replace").splitlines()
        wrong = ShardError(f"{idx} does not match {self.tar.name}; delete both and run pack again")
        if not lines or lines[0] != f"v1.2 {len(lines) - 1}" or len(lines) - 1 != len(self.records):
            raise wrong
        offsets: list[str] = []
        sizes: list[str] = []
        heads: list[int] = []  # members before the first frame, by clip
        for line, record in zip(lines[1:], self.records, strict=True):
            fields = line.split(" ")
            extensions = fields[0::4]
            frames = record.frames
            first = len(extensions) - frames
            if (
                len(fields) % 4
                or first < 2
                or extensions[:2] != ["json", "mfcc.npy"]
                or fields[3] != f"{record.key}.json"
                or extensions[first] != "00000.jpg"
                or extensions[-1] != f"{frames - 1:05d}.jpg"
            ):
                raise wrong
            offsets += fields[1::4]
            sizes += fields[2::4]
            heads.append(first)
        try:
            offset = np.array(offsets, dtype=np.int64)
            size = np.array(sizes, dtype=np.int64)
        except (ValueError, OverflowError):
            raise wrong from None
        # A tar leaves no choice: a header, the content, filled up to a block, the next header.
        if (size < 0).any() or (size > self._tar_bytes).any():
            raise wrong
        ends = offset + -(-size // _BLOCK) * _BLOCK
        if offset[0] != _BLOCK or (offset[1:] != ends[:-1] + _BLOCK).any():
            raise wrong
        head = np.array(heads)
        count = np.array([record.frames for record in self.records])
        columns = np.array([record.columns for record in self.records])
        mfcc = np.cumsum([0, *(head + count)[:-1].tolist()]) + 1
        if (
            ends[-1] > self._tar_bytes
            or (size[mfcc] != _NPY_HEADER + _COLUMN_BYTES * columns).any()
        ):
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
        # The members that the index points at must be there: a look at the first and last headers
        # finds a tar and an index that were not written together.
        for frame, record in ((0, self.records[0]), (-1, self.records[-1])):
            number = 0 if frame == 0 else record.frames - 1
            header = self.bytes[self.offset[frame] - _BLOCK : self.offset[frame]]
            name = f"{record.key}.{number:05d}.jpg".encode()
            if bytes(header[: len(name) + 1]) != name + b"\0":
                raise wrong

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
        start = self._mfcc_offset[clip] + _NPY_HEADER
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


def _npy(features: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(features, dtype="<f4"), allow_pickle=False)
    content = stream.getvalue()
    if len(content) != _NPY_HEADER + features.nbytes:
        raise RuntimeError(f"np.save wrote a header of {len(content) - features.nbytes} bytes")
    return content


def _flac(audio: NDArray[np.int16]) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return stream.getvalue()
