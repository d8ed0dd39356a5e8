"""What JSON says of shards: manifest.json of the folder, <shard>.json of each shard.

Readers check every field; a name leads nowhere but to a file beside the manifest.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from data_tools.clips import SPLITS
from data_tools.records import Count, RecordError, fields_of, read_record

FORMAT: Final = "syncnet-shards/1"
MANIFEST = "manifest.json"

Split = Annotated[str, Meta(pattern=rf"^({'|'.join(SPLITS)})\Z")]
# Names become paths and members of a tar: they must not lead elsewhere.
_Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,90}\Z")]
_TarName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}\.tar\Z")]
_Length = Annotated[int, Meta(ge=1, le=10**9)]  # of a clip: frames, MFCC columns
_Side = Annotated[int, Meta(ge=1, le=65_500)]  # pixels; libjpeg's own limit


class ShardError(RecordError):
    """A shard that is missing, truncated or does not match its index; names it and the remedy."""


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
    speaker: str | None = None  # where it is known

    def as_dict(self) -> dict[str, Any]:
        """What the statistics hold."""
        content = fields_of(self)
        if self.speaker is None:
            del content["speaker"]
        return content


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

    def as_dict(self) -> dict[str, Any]:
        """What <shard>.json holds."""
        return {
            **fields_of(self),
            "clips": [record.as_dict() for record in self.clips],
            "dropped": [asdict(clip) for clip in self.dropped],
        }

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
    """What the manifest says of one shard.

    Attributes:
        name: of its tar, beside the manifest.
        sha256: of its statistics, in which each clip has a hash of its own; None: an older set.
    """

    name: _TarName
    split: Split
    clips: Count
    frames: Count
    bytes: Count
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None

    @staticmethod
    def of(tar: Path) -> "tuple[ShardEntry, ShardStats]":
        """The entry of a complete shard, and its statistics.

        Raises:
            ShardError: they are missing or damaged.
        """
        stats = read_stats(tar)
        own, digest = stats.totals, hashlib.sha256(tar.with_suffix(".json").read_bytes())
        entry = ShardEntry(
            tar.name, stats.split, own.clips, own.frames, own.bytes, digest.hexdigest()
        )
        return entry, stats


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
        crop: what all pictures show: "face", "mouth", or "whole" videos that others have cropped;
            None where that is not known.
    """

    clips_found: Count
    shards: list[ShardEntry]
    splits: dict[Split, SplitTotals]
    dropped: list[DroppedClip]
    format: Literal["syncnet-shards/1"] = FORMAT
    options: dict[str, Any] = field(default_factory=dict)
    rejected: list[RejectedClip] | None = None
    crop: Literal["face", "mouth", "whole"] | None = None

    def __post_init__(self) -> None:
        if len({entry.name for entry in self.shards}) < len(self.shards):
            raise ValueError("a shard is there twice")
        if missing := set(SPLITS) - set(self.splits):
            raise ValueError(f"splits: no {', '.join(sorted(missing))}")

    def as_dict(self) -> dict[str, Any]:
        """What manifest.json holds."""
        content = asdict(self)
        for name in ("rejected", "crop"):
            if content[name] is None:
                del content[name]
        for entry in content["shards"]:
            if entry["sha256"] is None:
                del entry["sha256"]
        return content


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
    repeated = []
    for tar in tars:
        stats = read_stats(tar)
        for record in stats.clips:
            split, clip = first.setdefault(record.hash, (stats.split, record.clip))
            if split != stats.split:
                repeated.append(
                    f"{clip} ({split}) and {record.clip} ({stats.split}) are the same clip"
                )
    return repeated
