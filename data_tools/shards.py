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
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import soundfile
import webdataset
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, write_json
from data_tools.clips import SPLITS, ClipData
from data_tools.mfcc import CEPSTRA, FPS, SAMPLE_RATE

MANIFEST = "manifest.json"
_NPY_HEADER = 128  # bytes np.save puts before a (T, 13) float32 array
_COLUMN_BYTES = CEPSTRA * 4


class ShardError(Exception):
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

    key: str
    clip: str
    source: str
    frames: int
    columns: int
    height: int
    width: int
    channels: int
    bytes: int
    hash: str


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
        channels=data.channels,
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
    tar: Path, split: str, records: list[ClipRecord], dropped: list[dict[str, str]]
) -> None:
    """Write the statistics that mark a shard as complete."""
    stats = {
        "split": split,
        "clips": [asdict(record) for record in records],
        "dropped": dropped,
        "tar_bytes": tar.stat().st_size if records else 0,
    }
    write_json(tar.with_suffix(".json"), stats)


def read_stats(tar: Path) -> dict[str, Any]:
    """The statistics beside a shard.

    Raises:
        ShardError: they are missing or damaged.
    """
    path = tar.with_suffix(".json")
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
        stats["clips"], stats["dropped"], stats["tar_bytes"]
    except FileNotFoundError:
        raise ShardError(f"{path} is missing: the shard is not complete; run pack again") from None
    except (ValueError, KeyError, TypeError):
        raise ShardError(
            f"{path} is not a shard's statistics; delete it and run pack again"
        ) from None
    return cast(dict[str, Any], stats)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest that `pack` writes last.

    Raises:
        ShardError: there is none, or it is no manifest.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for entry in manifest["shards"]:
            entry["name"], entry["split"], entry["clips"], entry["frames"], entry["bytes"]
        for split in SPLITS:
            total = manifest["splits"][split]
            total["clips"], total["frames"], total["bytes"]
        for row in manifest["dropped"]:
            row["clip"], row["reason"], row["detail"]
        int(manifest["clips_found"])
    except (FileNotFoundError, NotADirectoryError):
        raise ShardError(
            f"{path} is missing: not a folder of shards, or its packing did not end; "
            "run `python -m data_tools pack CLIPS OUT`"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ShardError(f"{path} is not a manifest of shards") from None
    return cast(dict[str, Any], manifest)


def in_two_splits(tars: Iterable[Path]) -> list[str]:
    """What lies in more than one split under whatever name, a sentence each; [] is as it must be.

    Raises:
        ShardError: the statistics of a shard are missing or damaged.
    """
    first: dict[str, tuple[str, str]] = {}
    found = []
    for tar in tars:
        stats = read_stats(tar)
        for record in stats["clips"]:
            split, clip = first.setdefault(record["hash"], (stats["split"], record["clip"]))
            if split != stats["split"]:
                found.append(
                    f"{clip} ({split}) and {record['clip']} ({stats['split']}) are the same clip"
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
        keys: one a clip.
        records: what the statistics say of each clip.
        first_frame: (clips + 1,) int64, clip c owns frames first_frame[c]..first_frame[c+1]-1.
        offset, size: (frames,) int64, the byte range of each frame's JPEG.
        columns: (clips,) int64, MFCC columns of each clip.

    Raises:
        ShardError: a file is missing, the tar is shorter or longer than the index and statistics
            say, or the index is no v1.2 index.
    """

    def __init__(self, tar: Path) -> None:
        self.tar = tar
        stats = read_stats(tar)
        try:
            self.records = [ClipRecord(**record) for record in stats["clips"]]
        except TypeError:
            name = tar.with_suffix(".json")
            raise ShardError(
                f"{name} is not a shard's statistics; delete it and run pack again"
            ) from None
        idx = tar.with_suffix(".idx")
        for path in (tar, idx):
            if not path.exists():
                raise ShardError(f"{path} is missing; run pack again")
        if tar.stat().st_size != stats["tar_bytes"]:
            raise ShardError(
                f"{tar} has {tar.stat().st_size} bytes, {stats['tar_bytes']} were written: "
                "truncated or changed; delete its .json and run pack again"
            )
        self._read_idx(idx)

    def _read_idx(self, idx: Path) -> None:
        lines = idx.read_text(encoding="utf-8", errors="replace").splitlines()
        wrong = ShardError(f"{idx} does not match {self.tar.name}; delete both and run pack again")
        if not lines or lines[0] != f"v1.2 {len(lines) - 1}" or len(lines) - 1 != len(self.records):
            raise wrong
        self.keys: list[str] = []
        offsets: list[NDArray[np.int64]] = []
        sizes: list[NDArray[np.int64]] = []
        mfcc_offset: list[int] = []
        mfcc_size: list[int] = []
        counts = [0]
        length = self.tar.stat().st_size
        for line, record in zip(lines[1:], self.records, strict=True):
            fields = line.split(" ")
            extensions = fields[0::4]
            frames = record.frames
            first = len(extensions) - frames
            if (
                len(fields) % 4
                or extensions[:2] != ["json", "mfcc.npy"]
                or fields[3] != f"{record.key}.json"
                or extensions[first : first + 1] != ["00000.jpg"]
                or extensions[-1] != f"{frames - 1:05d}.jpg"
            ):
                raise wrong
            try:
                offset = np.array(fields[1::4], dtype=np.int64)
                size = np.array(fields[2::4], dtype=np.int64)
            except (ValueError, OverflowError):
                raise wrong from None
            # Bounded first: a sum must not pass the largest number and begin anew below zero.
            if min(offset.min(), size.min()) < 0 or max(offset.max(), size.max()) > length:
                raise wrong
            if (offset[1:] < offset[:-1] + size[:-1]).any():
                raise wrong
            self.keys.append(record.key)
            offsets.append(offset[first:])
            sizes.append(size[first:])
            mfcc_offset.append(int(offset[1]))
            mfcc_size.append(int(size[1]))
            counts.append(frames)
        self.first_frame: NDArray[np.int64] = np.cumsum(counts, dtype=np.int64)
        self.offset: NDArray[np.int64] = np.concatenate(offsets)
        self.size: NDArray[np.int64] = np.concatenate(sizes)
        if self.offset[-1] + self.size[-1] > length:
            raise wrong
        self._mfcc_offset = mfcc_offset
        self.columns: NDArray[np.int64] = (np.array(mfcc_size) - _NPY_HEADER) // _COLUMN_BYTES
        if (self.columns != [record.columns for record in self.records]).any():
            raise wrong
        # The members that the index points at must be there: a look at the first and last headers
        # finds a tar and an index that were not written together.
        for frame, record in ((0, self.records[0]), (-1, self.records[-1])):
            number = 0 if frame == 0 else record.frames - 1
            header = self.bytes[self.offset[frame] - 512 : self.offset[frame]]
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
    manifest = read_manifest(folder)
    shards, faults = [], []
    for entry in manifest["shards"]:
        if entry["split"] != split or entry["clips"] == 0:
            continue
        try:
            shards.append(Shard(folder / entry["name"]))
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
