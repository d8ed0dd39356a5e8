"""Pack clips into WebDataset shards with DALI indices: `python -m data_tools pack CLIPS OUT`.

The plan (split, shuffle, which clip goes to which shard) is made from names and sizes alone, before
anything is read, and recorded in OUT/plan.json. A shard is the unit of work and of resume.
"""

import argparse
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from data_tools.atomic import remove_partials, write_json
from data_tools.clips import (
    SPLITS,
    Clip,
    ClipError,
    Conversion,
    content_digest,
    find_clips,
    load_clip,
    realign,
)
from data_tools.keep import KeepError, Row, in_words, read_keep
from data_tools.lock import locked
from data_tools.progress import progress
from data_tools.records import Count, read_record, utf8
from data_tools.shards import (
    FORMAT,
    MANIFEST,
    NOTHING,
    ClipRecord,
    DroppedClip,
    Manifest,
    RejectedClip,
    ShardEntry,
    clip_members,
    commit_shard,
    in_two_splits,
    read_stats,
    write_shard,
)
from data_tools.workers import process_count, worker_pool

PLAN = "plan.json"
MAX_SEED = 2**63 - 1
_MAX_SHARD_MB = 1_000_000
_MAX_SHARE = 1_000_000_000  # of --ratios
_KEY_LENGTH = 80  # a ustar name holds 100 bytes; ".mfcc.npy" and frame numbers need the rest


@dataclass(frozen=True)
class PackOptions:
    """Everything that decides the bytes of the output, besides the clips themselves."""

    ratios: tuple[int, int, int] = (80, 10, 10)  # train : val : test
    split_by: str = "source"  # or "clip"
    seed: int = 0
    shard_mb: int = 128
    size: int | None = None
    gray: bool = False
    quality: int | None = None
    flac: bool = False
    source_pattern: str | None = None

    @property
    def conversion(self) -> Conversion:
        """The part that changes frames."""
        return Conversion(self.size, self.gray, self.quality)


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


def pack(
    clips_folder: Path,
    out: Path,
    options: PackOptions = PackOptions(),
    workers: int = 1,
    keep: Mapping[str, Row] | None = None,
) -> Manifest:
    """Pack every usable clip of `clips_folder`; returns the manifest written to OUT/manifest.json.

    Shards already complete are kept. Clips that fail are left out and listed under "dropped" with
    "clip", "reason" and "detail".

    Args:
        keep: rows of a keep.csv by key: rejected clips are left out and listed under "rejected",
            those to be realigned are cut so that picture and sound fit. Clips without a row (those
            of other splits) stay, and every clip stays in the split that it has without `keep`.

    Raises:
        ValueError: no clips, wrong options, or OUT was packed from other clips or options.
        InUse: another pack is writing there.
        KeepError: `keep` names none of the clips.
        RecordError: what an earlier run left in OUT is damaged.
    """
    _check_options(options)
    if out.resolve() == clips_folder.resolve():
        raise ValueError(f"{out} is the folder of the clips; choose another output folder")
    clips = find_clips(clips_folder, options.source_pattern)
    with progress("scanning", len(clips), "clips") as advance:
        sizes = []
        for clip in clips:
            sizes.append(file_sizes(clip))
            advance(1)
    clips = mark_copies(clips, sizes)
    plan = plan_shards(clips, sizes, options, keep)
    with locked(out, "pack"):
        _record_plan(out, clips, sizes, options, keep)
        remove_partials(out)
        todo = [shard for shard in plan if not _is_complete(out, shard)]
        with progress("packing", sum(len(s.clips) for s in todo), "clips") as advance:
            _run(out, todo, options, workers, advance)
        manifest = _manifest(out, plan, options)
        if keep is not None:
            rejected = [
                RejectedClip(key, row.verdict, row.reason)
                for key, row in sorted(keep.items())
                if not row.used
            ]
            manifest = replace(manifest, rejected=rejected)
        write_json(out / MANIFEST, manifest.as_dict())
    return manifest


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
    keys = _keys(clips)
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


def _shard_plan(
    split: str, number: int, clips: list[tuple[str, Clip]], rows: Mapping[str, Row]
) -> ShardPlan:
    # a row's audio_shift is how far its sound must move; its offset how far it is off
    moved = {key: -rows[key].audio_shift for key, _ in clips if key in rows}
    offsets = {key: offset for key, offset in moved.items() if offset}
    return ShardPlan(f"{split}-{number:06d}.tar", split, clips, offsets)


def assign_splits(
    clips: list[Clip], ratios: tuple[int, int, int], split_by: str, seed: int
) -> list[str]:
    """The split of each clip. Clips that lie in a split folder stay there.

    By "clip": the first floor(train), floor(val) and all the rest of a shuffled order. By "source":
    whole sources in shuffled order, each to the split that lacks most clips, so that one clip a
    source gives the same counts. With few sources train is served first, then val.

    Raises:
        ValueError: clips of one source lie in several split folders.
    """
    splits = [clip.split for clip in clips]
    free = [i for i in range(len(clips)) if splits[i] is None]
    fixed: dict[str, str] = {}
    for clip in clips:
        if clip.split and fixed.setdefault(clip.source, clip.split) != clip.split:
            raise ValueError(
                f"source {clip.source!r} has clips in {fixed[clip.source]}/ and {clip.split}/: "
                "one source must stay in one split"
            )
    rng = np.random.default_rng([seed, 0])
    total = sum(ratios)
    counts = [len(free) * ratio // total for ratio in ratios]
    counts[2] = len(free) - counts[0] - counts[1]
    if split_by == "clip":
        order = rng.permutation(free)
        bounds = np.repeat(np.arange(3), counts)
        for i, bound in zip(order, bounds, strict=True):
            splits[i] = SPLITS[bound]
    else:
        by_source: dict[str, list[int]] = {}
        for i in free:
            by_source.setdefault(clips[i].source, []).append(i)
        # A handful of clips must still give something to train and to validate on.
        for wanted in (0, 1):
            if counts[wanted] == 0 and ratios[wanted] > 0 and counts[2] > 0:
                counts[wanted], counts[2] = 1, counts[2] - 1
        lacking = np.array(counts)
        empty = [number for number in range(3) if counts[number] > 0]
        names = sorted(by_source)
        for left, pick in zip(range(len(names), 0, -1), rng.permutation(len(names)), strict=True):
            name = names[pick]
            if name in fixed:
                choice = SPLITS.index(fixed[name])
            else:
                choice = empty[0] if left <= len(empty) else int(lacking.argmax())
            if choice in empty:
                empty.remove(choice)
            lacking[choice] -= len(by_source[name])
            for i in by_source[name]:
                splits[i] = SPLITS[choice]
    return [split or "train" for split in splits]


def _check_options(options: PackOptions) -> None:
    if min(options.ratios) < 0 or sum(options.ratios) == 0 or max(options.ratios) > _MAX_SHARE:
        raise ValueError("--ratios needs three shares, none negative, for example 80:10:10")
    if not 0 <= options.seed <= MAX_SEED:
        raise ValueError(f"--seed must not be negative or above {MAX_SEED}")
    if not 1 <= options.shard_mb <= _MAX_SHARD_MB:
        raise ValueError(f"--shard-mb must lie between 1 and {_MAX_SHARD_MB}")
    if options.size is not None and not 16 <= options.size <= 4096:
        raise ValueError("--size must lie between 16 and 4096 pixels")
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise ValueError("--quality must lie between 1 and 100")


def _keys(clips: list[Clip]) -> list[str]:
    """Sample keys: the clip's name without dots, slashes, spaces or other characters.

    Unique without regard to case, for readers that unpack them on other file systems.
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]+", "_", clip.name)[:_KEY_LENGTH] for clip in clips]
    digests = [hashlib.sha256(clip.name.encode()).hexdigest() for clip in clips]
    kept = [key == clip.name.replace("/", "_") for key, clip in zip(plain, clips, strict=True)]
    keys = plain
    for digits in (8, 16, 64):  # more where a clip is called as another one's key
        taken = Counter(key.lower() for key in keys)
        keys = [
            key
            if taken[key.lower()] == 1 and (kept[i] or digits > 8)
            else f"{plain[i][: _KEY_LENGTH - 1 - digits]}-{digests[i][:digits]}"
            for i, key in enumerate(keys)
        ]
    return keys


def file_sizes(clip: Clip) -> list[int]:
    """Bytes of audio.wav, audio.npy (-1: absent) and of each file in frames/."""
    audio = [clip.path / "audio.wav", clip.path / "audio.npy"]
    with os.scandir(clip.path / "frames") as entries:
        frames = [entry.stat().st_size for entry in entries if entry.is_file()]
    return [*(path.stat().st_size if path.exists() else -1 for path in audio), *sorted(frames)]


def _record_plan(
    out: Path,
    clips: list[Clip],
    sizes: list[list[int]],
    options: PackOptions,
    keep: Mapping[str, Row] | None,
) -> None:
    """Write OUT/plan.json, or refuse if OUT was begun with another plan."""
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
            raise ValueError(
                f"{out} was packed with another configuration ({what}): "
                "choose another output folder or delete this one"
            )
    elif any(p.suffix in (".tar", ".idx") for p in out.iterdir()):
        raise ValueError(f"{out} holds shards of unknown origin; choose another output folder")
    else:
        write_json(path, {k: v for k, v in asdict(plan).items() if k != "keep_sha256" or v})


def _is_complete(out: Path, shard: ShardPlan) -> bool:
    tar = out / shard.name
    if not tar.with_suffix(".json").exists():
        return False
    stats = read_stats(tar)
    if not stats.clips:
        return True
    written = tar.exists() and tar.stat().st_size == stats.tar_bytes
    return written and tar.with_suffix(".idx").exists()


def _run(
    out: Path,
    todo: list[ShardPlan],
    options: PackOptions,
    workers: int,
    advance: Callable[[int], None],
) -> None:
    if workers == 1 or len(todo) <= 1:
        for shard in todo:
            pack_shard(out, shard, options, advance)
        return
    with worker_pool(min(workers, len(todo))) as pool:
        running = {pool.submit(pack_shard, out, shard, options): shard for shard in todo}
        try:
            for done in as_completed(running):
                done.result()
                advance(len(running[done].clips))
        except BrokenProcessPool:
            raise RuntimeError(
                "a packing process was killed (out of memory?); run the same command again to go "
                "on, with fewer --workers"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def pack_shard(
    out: Path,
    shard: ShardPlan,
    options: PackOptions,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Read, check and write the clips of one shard, then commit it."""
    dropped: list[DroppedClip] = []

    def usable() -> Iterator[tuple[ClipRecord, list[tuple[str, bytes]]]]:
        for key, clip in shard.clips:
            try:
                data = load_clip(clip, options.conversion)
                if key in shard.offsets:
                    data = realign(data, shard.offsets[key])
            except ClipError as error:
                words = clip.name, error.reason, error.detail  # a file's name may be in them
                dropped.append(DroppedClip(*map(utf8, words)))
            else:
                yield clip_members(key, clip.name, clip.source, shard.split, data, options.flac)
            advance(1)

    tar = out / shard.name
    tar.with_suffix(".json").unlink(missing_ok=True)
    records = write_shard(tar, usable())
    commit_shard(tar, shard.split, records, dropped)


def _manifest(out: Path, plan: list[ShardPlan], options: PackOptions) -> Manifest:
    shards: list[ShardEntry] = []
    dropped: list[DroppedClip] = []
    totals = dict.fromkeys(SPLITS, NOTHING)
    for shard in plan:
        stats = read_stats(out / shard.name)
        own = stats.totals
        shards.append(ShardEntry(shard.name, shard.split, own.clips, own.frames, own.bytes))
        totals[shard.split] += own
        dropped += stats.dropped
    return Manifest(
        clips_found=sum(len(shard.clips) for shard in plan),
        shards=shards,
        splits=totals,
        dropped=sorted(dropped, key=lambda row: row.clip),
        options=asdict(options),
    )


def summarise(manifest: Manifest, out: Path, console: Console) -> None:
    """Print what went into the shards and what was left out, by reason."""
    table = Table(title=f"{out}")
    for name in ("split", "clips", "hours", "frames", "MB"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split in SPLITS:
        total = manifest.splits[split]
        hours = total.frames / 25 / 3600
        table.add_row(
            split,
            f"{total.clips:,}",
            f"{hours:.2f}",
            f"{total.frames:,}",
            f"{total.bytes / 1e6:,.1f}",
        )
    console.print(table)
    dropped = manifest.dropped
    if not dropped:
        return
    reasons = Table(title=f"{len(dropped)} of {manifest.clips_found} clips left out")
    for name in ("reason", "clips", "for example"):
        reasons.add_column(name, justify="right" if name == "clips" else "left")
    for reason, count in Counter(row.reason for row in dropped).most_common():
        example = next(row for row in dropped if row.reason == reason)
        words = f"{example.clip}: {example.detail}"
        reasons.add_row(reason, str(count), _printable(words))
    console.print(reasons)


def _printable(words: str) -> str:
    """`words` on one line: a clip's name may hold line breaks and what turns a line round."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `pack`."""
    parser.add_argument(
        "clips", type=Path, help="folder of clips: [<split>/]<clip>/{audio.wav,frames/}"
    )
    parser.add_argument("out", type=Path, help="folder for the shards")
    parser.add_argument("--ratios", default="80:10:10", help="train:val:test (default %(default)s)")
    parser.add_argument(
        "--split-by",
        choices=("source", "clip"),
        default="source",
        help="keep all clips of a source video in one split (default), or split clip by clip",
    )
    parser.add_argument(
        "--source-pattern",
        metavar="REGEX",
        help="group 1, matched in the clip's name, is its source video; by default the folder "
        'above the clip, or "source" in its clip.json, else each clip is its own source',
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split and the shuffle (default 0)"
    )
    parser.add_argument(
        "--size", type=int, help="resize frames to SIZE x SIZE (default: untouched)"
    )
    parser.add_argument("--gray", action="store_true", help="store gray frames")
    parser.add_argument("--quality", type=int, help="encode JPEGs anew at this quality")
    parser.add_argument("--flac", action="store_true", help="store the sound as well")
    parser.add_argument(
        "--shard-mb", type=int, default=128, help="input megabytes a shard (default %(default)s)"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="KEEP.csv",
        help="of `trainer.refine`: leave out the clips it rejects, put those to be realigned in "
        "place; clips without a row stay",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    parser.add_argument(
        "--allow-dropped",
        action="store_true",
        help="exit with status 0 although clips were left out (they are listed all the same)",
    )


def main(args: argparse.Namespace) -> int:
    """Run `pack` from the command line; 1 if clips were left out or none remained."""
    try:
        train, val, test = (int(part) for part in args.ratios.split(":"))
    except ValueError:
        raise ValueError(f"--ratios {args.ratios!r} is not like 80:10:10") from None
    workers = process_count(args.workers)
    options = PackOptions(
        ratios=(train, val, test),
        split_by=args.split_by,
        seed=args.seed,
        shard_mb=args.shard_mb,
        size=args.size,
        gray=args.gray,
        quality=args.quality,
        flac=args.flac,
        source_pattern=args.source_pattern,
    )
    keep = None if args.manifest is None else read_keep(args.manifest)
    manifest = pack(args.clips, args.out, options, workers, keep)
    console = Console(markup=False, highlight=False, emoji=False)  # a name may hold [brackets]
    summarise(manifest, args.out, console)
    if keep is not None:
        console.print(f"by {args.manifest}: {in_words(keep.values())}", soft_wrap=True)
    dropped = len(manifest.dropped)
    packed = manifest.clips_found - dropped
    console.print(f"manifest: {args.out / MANIFEST}", soft_wrap=True)
    if packed == 0:
        raise RuntimeError("no clip could be packed: see the reasons above")
    if dropped:
        console.print(
            f"{dropped} clips were left out (listed in the manifest); the shards are complete "
            "without them" + ("" if args.allow_dropped else "; --allow-dropped makes this exit 0"),
            soft_wrap=True,
        )
    for split in ("train", "val"):
        if manifest.splits[split].clips == 0:
            console.print(f"note: the {split} split is empty; see --ratios and --split-by")
    repeated = in_two_splits(args.out / shard.name for shard in manifest.shards)
    for words in repeated:
        console.print(f"{_printable(words)}; remove one and pack into a new folder")
    return 1 if repeated or (dropped and not args.allow_dropped) else 0
