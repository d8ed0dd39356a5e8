"""Which videos make which shard, from their names and sizes alone, before the first is read.

So the bytes of the shards depend neither on the number of workers nor on how often the work was
stopped, and parts of a SLURM array need not talk to each other.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from sys import intern
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from data_tools.atomic import write_json
from data_tools.cli import check_options
from data_tools.clips import SPLITS, Clip
from data_tools.errors import UsageError
from data_tools.heap import no_collecting
from data_tools.layouts import LAYOUTS, OfficialLists, in_layout, matched, own_split
from data_tools.manifest import FORMAT
from data_tools.mfcc import FPS
from data_tools.names import shown
from data_tools.plan import MAX_SEED, PLAN, Plan, check_ratios, sample_keys
from data_tools.records import read_record
from data_tools.splits import assign_splits
from data_tools.video.options import PrepareOptions, as_called_now

_KEY_LENGTH = 70  # of a video: "_" and the clip's name in it come behind
_SHARDS_AT_LEAST = 64  # of a small set, as long as they do not get smaller than
_SMALLEST_SHARD = 4_000_000  # bytes
_PROBED = 16  # videos whose headers tell how long a byte of video lasts

# Bytes: of a pixel as JPEG of quality 90, of tar header and padding beside each frame, and of the
# features and the sound of a second. Measured on mouths and faces of our own shards.
_PER_PIXEL, _COLOUR, _PER_FRAME, _MFCC, _FLAC = 0.24, 1.3, 1100, 6_000, 16_000


@dataclass(frozen=True)
class ShardOptions:
    """What decides how videos are shared out among shards and splits.

    Attributes:
        ratios: train:val:test, in shares of the videos.
        split_by: What lies in one split as a whole: everything of a speaker, everything of a source
            video, or just each video by itself (default: speaker where it is known, else source).
        seed: Of the split and the shuffle.
        shard_mb: Megabytes per shard, as far as sizes foretell; a small set is cut into at least
            64, so that every core has work.
        flac: Store the sound as well.
        layout: The data set whose tree the videos lie in: it tells source, speaker and the split of
            a video by its path (docs/datasets.md).
        source_pattern: Group 1 of this regular expression, matched in a video's path below its
            folder, is its source video; by default the layout's, else each video is its own source.
        speaker_pattern: Group 1 of this one is who speaks in it; by default the layout's.
    """

    ratios: tuple[int, int, int] = (80, 10, 10)
    split_by: Literal["speaker", "source", "clip"] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] = 0
    shard_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 128
    flac: bool = False
    layout: (
        Literal[
            "voxceleb2", "lrs2", "lrs3", "hdtf", "grid", "mead", "crema-d", "talkvid", "folders"
        ]
        | None
    ) = None
    source_pattern: str | None = None
    speaker_pattern: str | None = None

    def check(self) -> None:
        """Find out whether they make sense.

        Raises:
            UsageError: a number is out of range, or a pattern is no regular expression.
        """
        check_options(self)
        check_ratios(self.ratios)


@dataclass(frozen=True, slots=True)
class PlannedVideo:
    """A video and what is known of it by its name.

    Attributes:
        file: its path, as text: a million take a third of the memory of as many `Path`.
        name: unlike any other's; its clips are called <name>/<clip>.
        key: begins the keys of its samples; unlike any other's, upper and lower case alike.
        source: the recording that it was cut from.
        speaker: who speaks, if that is known.
        split: the data set's own, if it has one; else that which it was assigned to.
        size: bytes.
        why: it is not read, in words; or nothing.
    """

    file: str
    name: str
    key: str
    source: str
    speaker: str | None
    split: str | None
    size: int
    why: str = ""

    @property
    def path(self) -> Path:
        """Of the file."""
        return Path(self.file)


@dataclass(frozen=True, slots=True)
class VideoShard:
    """The videos of one shard, in order; name: of its tar."""

    name: str
    split: str
    videos: tuple[PlannedVideo, ...]


@no_collecting()
def planned_videos(
    videos: Iterable[tuple[str, str, str]],
    options: ShardOptions,
    lists: OfficialLists | None = None,
) -> list[PlannedVideo]:
    """What is known of each video by its name, in the order given; those not listed are left out.

    videos: as `inputs.settle_names` gives them.

    Raises:
        UsageError: a pattern is no regular expression with one group, or nothing in a name matches
            it or the layout, or no video is listed.
    """
    layout = LAYOUTS[options.layout] if options.layout else None
    tree = f"--layout {options.layout} ({layout.tree})" if layout else ""
    source_of = _pattern("--source-pattern", options.source_pattern)
    speaker_of = _pattern("--speaker-pattern", options.speaker_pattern)
    own: dict[str, str | None] = {}
    if lists is not None:
        found = ((name, lists.find(name)) for _, name, _ in videos)
        own = {name: split for name, (listed, split) in found if listed}
        videos = [video for video in videos if video[1] in own]
        if not videos:
            raise UsageError(
                "--list names none of the videos; its lines must be ends of their paths"
            )
    else:
        videos = list(videos)
    keys = sample_keys([name for _, name, _ in videos], _KEY_LENGTH)
    planned = []
    for (file, name, why), key in zip(videos, keys, strict=True):
        source: str | None = name
        speaker: str | None = None
        if not why:
            place = name
            if layout is not None:
                source, speaker, place = in_layout(layout, name, file)
            source = source_of(name) if source_of else source
            speaker = speaker_of(name) if speaker_of else speaker
            if source is None or (layout and layout.speaker and speaker is None):
                raise _nothing(tree, place)
        split = own.get(name) or (own_split(layout, name) if layout else None)
        # Of a million videos many have these in common: one text each, not one a video.
        source, speaker = intern(source or name), speaker and intern(speaker)
        planned.append(PlannedVideo(file, name, key, source, speaker, split, _size(file), why))
    return planned


@no_collecting()
def plan_video_shards(
    videos: Sequence[PlannedVideo], options: ShardOptions, expansion: float
) -> list[VideoShard]:
    """Assign videos to splits and shards: deterministic in names, sizes and options.

    A video whose speaker is not known goes by its source, whatever is known of the others.

    Args:
        expansion: bytes of shards that are expected for a byte of video.

    Raises:
        UsageError: speakers are to be kept whole, and none is known.
    """
    if options.split_by == "speaker" and not any(video.speaker for video in videos):
        raise UsageError(
            "--split-by speaker: no speaker is known; give --layout or --speaker-pattern"
        )
    by = options.split_by or "speaker"
    nowhere = Path()  # names alone decide
    pseudo = [
        Clip(video.name, nowhere, video.split, (by == "speaker" and video.speaker) or video.source)
        for video in videos
    ]
    splits = assign_splits(
        pseudo, options.ratios, "clip" if by == "clip" else "source", options.seed
    )
    total = expansion * sum(video.size for video in videos)
    limit = min(options.shard_mb * 1e6, max(total / _SHARDS_AT_LEAST, _SMALLEST_SHARD))
    shards: list[VideoShard] = []
    for number, split in enumerate(SPLITS):
        chosen = [i for i, assigned in enumerate(splits) if assigned == split]
        np.random.default_rng([options.seed, 1 + number]).shuffle(chosen)
        current: list[PlannedVideo] = []
        filled = 0.0
        count = 0
        for i in chosen:
            size = expansion * videos[i].size
            if current and filled + size > limit:
                shards.append(VideoShard(f"{split}-{count:06d}.tar", split, tuple(current)))
                current, filled, count = [], 0.0, count + 1
            current.append(videos[i])
            filled += size
        if current:
            shards.append(VideoShard(f"{split}-{count:06d}.tar", split, tuple(current)))
    return shards


def _shares(ratios: tuple[int, int, int], own: set[str | None]) -> tuple[int, int, int]:
    train, val, test = (
        0 if split in own else share for split, share in zip(SPLITS, ratios, strict=True)
    )
    return (train, val, test) if train + val + test else (1, 0, 0)


def record_video_plan(
    out: Path,
    videos: Sequence[PlannedVideo],
    options: ShardOptions,
    prepare: PrepareOptions,
) -> float:
    """Write OUT/plan.json, or refuse if OUT was begun with another plan; returns the expansion.

    Raises:
        UsageError: OUT was made of other videos or with other options, or holds other shards.
        RecordError: its plan.json is damaged.
    """
    digest = hashlib.sha256()
    for video in videos:
        about = [video.name, video.source, video.speaker, video.split, video.size]
        digest.update(json.dumps(about).encode())
    chosen = manifest_options(options, prepare)
    path = out / PLAN
    if not path.exists():
        if any(file.suffix in (".tar", ".idx") for file in out.iterdir()):
            raise UsageError(f"{out} holds shards of unknown origin; choose another output folder")
        expansion = expected_expansion(videos, options, prepare)
        plan = Plan(FORMAT, chosen | {"expansion": expansion}, len(videos), digest.hexdigest())
        write_json(path, {k: v for k, v in asdict(plan).items() if v is not None})
        return expansion
    before = read_record(path, Plan, "is not a plan of prepare", "choose another output folder")
    recorded = before.options.get("expansion")
    if not isinstance(recorded, int | float):
        raise UsageError(f"{out} holds what `pack` made; choose another output folder")
    former = as_called_now(before.options, out)
    old = {**former, "videos": before.clips, "list": before.clips_sha256}
    new = {**chosen, "expansion": recorded, "videos": len(videos), "list": digest.hexdigest()}
    changed = sorted(name for name in old | new if old.get(name) != new.get(name))
    if changed:
        mended = "; --retry-failed takes what replaced a failed video" * (changed == ["list"])
        raise UsageError(
            f"{out} was begun with another {', '.join(changed[:3])}: take the same videos and "
            f"options, or another output folder{mended}"
        )
    return float(recorded)


def manifest_options(options: ShardOptions, prepare: PrepareOptions) -> dict[str, Any]:
    """What decided the bytes of the shards, as plan.json and manifest.json hold it."""
    both = {**asdict(prepare), **asdict(options), "size": prepare.side}
    both.pop("montage")
    if not prepare.no_speech:  # as before there was a choice
        both.pop("no_speech")
    chosen: dict[str, Any] = json.loads(json.dumps(both))  # lists, no tuples
    return chosen


def expected_expansion(
    videos: Sequence[PlannedVideo], options: ShardOptions, prepare: PrepareOptions
) -> float:
    """Bytes of shards expected for a byte of video: by the headers of a few, evenly spread."""
    from data_tools.video.probe import promised_length

    step = max(1, len(videos) // _PROBED)
    size, seconds = 0, 0.0
    for video in videos[::step][:_PROBED]:
        length = 0.0 if video.why else promised_length(video.path)
        if length > 0:
            size, seconds = size + video.size, seconds + length
    if not size:
        return 1.0
    return float(f"{seconds / size * bytes_a_second(options, prepare):.3g}")


def bytes_a_second(options: ShardOptions, prepare: PrepareOptions) -> float:
    """Bytes of shards for a second of video in which one face is seen."""
    pixel = _PER_PIXEL * (1 if prepare.gray else _COLOUR) * (prepare.quality / 90) ** 4
    frame = pixel * prepare.side**2 + _PER_FRAME
    return FPS * frame + _MFCC + (_FLAC if options.flac else 0)


def _pattern(option: str, pattern: str | None) -> Callable[[str], str] | None:
    """What finds a regular expression's group in a name; None: none is given."""
    if pattern is None:
        return None
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UsageError(f"{option} is no regular expression: {error}") from None
    if groups != 1:
        raise UsageError(f"{option} needs exactly one group")

    def found(name: str) -> str:
        groups = matched(pattern, name)
        if groups is None:
            raise _nothing(option, name)
        return groups

    return found


def _nothing(what: str, name: str) -> UsageError:
    return UsageError(f"{what} matches nothing in {shown(name)!r}")


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0
