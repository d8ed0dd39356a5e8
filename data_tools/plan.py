"""What `pack` will do, from names and sizes alone: which clip goes into which split and shard.

The plan is made before anything is read and recorded in OUT/plan.json, which tells one packing from
another.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_tools.atomic import write_json
from data_tools.cli import check_options
from data_tools.clip_data import content_digest
from data_tools.clips import SPLITS, Clip
from data_tools.errors import UsageError
from data_tools.jpeg import Conversion
from data_tools.keep import KeepError, Row
from data_tools.manifest import FORMAT
from data_tools.records import Count, read_record
from data_tools.splits import assign_splits

PLAN = "plan.json"
MAX_SEED = 2**63 - 1
_MAX_SHARE = 1_000_000_000  # of --ratios
_KEY_LENGTH = 80  # a ustar name holds 100 bytes; ".mfcc.npy" and frame numbers need the rest
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")


def check_ratios(ratios: tuple[int, int, int]) -> None:
    """Whether these can be the shares of train, val and test.

    Raises:
        UsageError: no.
    """
    if min(ratios) < 0 or sum(ratios) == 0 or max(ratios) > _MAX_SHARE:
        raise UsageError("--ratios needs three shares, none negative, for example 80:10:10")


def read_ratios(text: str) -> tuple[int, int, int]:
    """The shares that "80:10:10" names.

    Raises:
        UsageError: it names none.
    """
    try:
        train, val, test = (int(share) for share in text.split(":"))
    except ValueError:
        raise UsageError(f"--ratios {text!r} is not like 80:10:10") from None
    return train, val, test


@dataclass(frozen=True)
class PackOptions:
    """Everything that decides the bytes of the output, besides the clips themselves.

    Attributes:
        ratios: train:val:test, in shares.
        split_by: Keep all clips of a source video in one split, or split clip by clip.
        seed: Of the split and the shuffle.
        shard_mb: Input megabytes per shard.
        size: Resize frames to SIZE x SIZE (default: untouched).
        gray: Store gray frames.
        quality: Encode JPEGs anew at this quality.
        flac: Store the sound as well.
        source_pattern: Group 1 of this regular expression, matched in the clip's name, is its
            source video; by default the folder above the clip, or "source" in its clip.json, else
            each clip is its own source.
    """

    ratios: tuple[int, int, int] = (80, 10, 10)
    split_by: Literal["source", "clip"] = "source"
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] = 0
    shard_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 128
    size: Annotated[int, Meta(ge=16, le=4096)] | None = None
    gray: bool = False
    quality: Annotated[int, Meta(ge=1, le=100)] | None = None
    flac: bool = False
    source_pattern: str | None = None

    @property
    def conversion(self) -> Conversion:
        """The part that changes frames."""
        return Conversion(self.size, self.gray, self.quality)

    def check(self) -> None:
        """Find out whether they make sense.

        Raises:
            UsageError: a number is out of range.
        """
        check_options(self)
        check_ratios(self.ratios)


@dataclass(frozen=True)
class Plan:
    """plan.json: what decides the bytes of the output, to tell one packing from another."""

    format: str
    options: dict[str, Any]
    clips: Count
    clips_sha256: str
    keep_sha256: str | None = None  # None: packed without a keep.csv


@dataclass(frozen=True)
class ShardPlan:
    """The clips of one shard, in order."""

    name: str
    split: str
    clips: list[tuple[str, Clip]]  # key, clip
    offsets: dict[str, int] = field(default_factory=dict)  # of clips to be realigned, by key


def mark_copies(clips: list[Clip], sizes: list[list[int]]) -> list[Clip]:
    """The clips, those whose pictures and sound are another's naming it in `same_as`.

    Copies and hard links would put one clip into two splits. Only clips whose frames have the same
    sizes are read.
    """
    alike: dict[bytes, list[Clip]] = {}
    for clip, (_, _, *frames) in zip(clips, sizes, strict=True):
        if clip.same_as is None:
            alike.setdefault(hashlib.sha256(repr(frames).encode()).digest(), []).append(clip)
    same: dict[str, str] = {}
    for group in (group for group in alike.values() if len(group) > 1):
        first: dict[bytes, str] = {}
        for clip in group:
            digest = content_digest(clip)
            if digest is not None and first.setdefault(digest, clip.name) != clip.name:
                same[clip.name] = first[digest]
    # A link may lead to what is a copy itself.
    marked = {clip.name: same.get(clip.same_as or clip.name, clip.same_as) for clip in clips}
    return [replace(clip, same_as=marked[clip.name]) for clip in clips]


def plan_shards(
    clips: list[Clip],
    sizes: list[list[int]],
    options: PackOptions,
    keep: Mapping[str, Row] | None = None,
) -> list[ShardPlan]:
    """Assign clips to splits and shards: deterministic in names, file sizes, options and `keep`.

    `sizes`: of each clip, as `file_sizes` gives them.
    """
    own = [clip for clip in clips if clip.same_as is None]
    assigned = assign_splits(own, options.ratios, options.split_by, options.seed)
    split_of = dict(zip((clip.name for clip in own), assigned, strict=True))
    splits = [split_of[clip.same_as or clip.name] for clip in clips]
    keys = sample_keys([clip.name for clip in clips])
    rows = keep or {}
    if rows and not any(key in rows for key in keys):
        raise KeepError(
            f"the manifest names none of the {len(clips)} clips, first {keys[0]}: it is of others"
        )
    limit = options.shard_mb * 1_000_000
    plan = []
    for number, split in enumerate(SPLITS):
        chosen = [
            i
            for i in range(len(clips))
            if splits[i] == split and (keys[i] not in rows or rows[keys[i]].used)
        ]
        np.random.default_rng([options.seed, 1 + number]).shuffle(chosen)
        current: list[tuple[str, Clip]] = []
        filled = shard = 0
        for i in chosen:
            size = sum(sizes[i])
            if current and filled + size > limit:
                plan.append(_shard_plan(split, shard, current, rows))
                current, filled, shard = [], 0, shard + 1
            current.append((keys[i], clips[i]))
            filled += size
        if current:
            plan.append(_shard_plan(split, shard, current, rows))
    return plan


def record_plan(
    out: Path,
    clips: list[Clip],
    sizes: list[list[int]],
    options: PackOptions,
    keep: Mapping[str, Row] | None,
) -> None:
    """Write OUT/plan.json, or refuse if OUT was begun with another plan.

    Raises:
        UsageError: OUT was packed from other clips or with other options, or holds other shards.
        RecordError: its plan.json is damaged.
    """
    digest = hashlib.sha256()
    for clip, size in zip(clips, sizes, strict=True):
        same = [] if clip.same_as is None else [clip.same_as]
        digest.update(json.dumps([clip.name, clip.source, size, *same]).encode())
    keep_digest = None
    if keep is not None:
        rows = [[key, row.used, row.audio_shift] for key, row in sorted(keep.items())]
        keep_digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    # as JSON has them: lists, no tuples
    chosen = json.loads(json.dumps(asdict(options)))
    plan = Plan(FORMAT, chosen, len(clips), digest.hexdigest(), keep_digest)
    path = out / PLAN
    if path.exists():
        before = read_record(path, Plan, "is not a plan of pack", "choose another output folder")
        if before != plan:
            old, new = ({**p.options, **asdict(p)} for p in (before, plan))
            changed = sorted(k for k in old | new if k != "options" and old.get(k) != new.get(k))
            what = ", ".join(f"{k} was {old.get(k)}, is {new.get(k)}" for k in changed[:3])
            raise UsageError(
                f"{out} was packed with another configuration ({what}): "
                "choose another output folder or delete this one"
            )
    elif any(p.suffix in (".tar", ".idx") for p in out.iterdir()):
        raise UsageError(f"{out} holds shards of unknown origin; choose another output folder")
    else:
        write_json(path, {k: v for k, v in asdict(plan).items() if k != "keep_sha256" or v})


def file_sizes(clip: Clip) -> list[int]:
    """Bytes of audio.wav, audio.npy (-1: absent) and of each file in frames/."""
    audio = [clip.path / "audio.wav", clip.path / "audio.npy"]
    with os.scandir(clip.path / "frames") as entries:
        frames = [entry.stat().st_size for entry in entries if entry.is_file()]
    return [*(path.stat().st_size if path.exists() else -1 for path in audio), *sorted(frames)]


def _shard_plan(
    split: str, number: int, clips: list[tuple[str, Clip]], rows: Mapping[str, Row]
) -> ShardPlan:
    # a row's audio_shift is how far its sound must move; its offset how far it is off
    moved = {key: -rows[key].audio_shift for key, _ in clips if key in rows}
    offsets = {key: offset for key, offset in moved.items() if offset}
    return ShardPlan(f"{split}-{number:06d}.tar", split, clips, offsets)


def sample_keys(names: list[str], length: int = _KEY_LENGTH) -> list[str]:
    """Sample keys: names without dots, slashes, spaces or other characters.

    Unique without regard to case, for readers that unpack them on other file systems.

    length: the most characters of a key.
    """
    plain = [_NOT_PLAIN.sub("_", name)[:length] for name in names]
    kept = [key == name.replace("/", "_") for key, name in zip(plain, names, strict=True)]
    keys = plain
    for digits in (8, 16, 64):  # more where a clip is called as another one's key
        taken = Counter(key.lower() for key in keys)
        if len(taken) == len(keys) and (digits > 8 or all(kept)):
            break
        keys = [
            key
            if taken[key.lower()] == 1 and (kept[i] or digits > 8)
            else f"{plain[i][: length - 1 - digits]}-{_digest(names[i])[:digits]}"
            for i, key in enumerate(keys)
        ]
    return keys


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
