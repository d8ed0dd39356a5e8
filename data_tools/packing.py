"""Pack clips into WebDataset shards with DALI indices.

A shard is the unit of work and of resume: what is complete is kept (see `data_tools.plan` for what
goes where).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from data_tools.atomic import remove_partials, write_json
from data_tools.clip_data import load_clip, realign
from data_tools.clips import SPLITS, ClipError, find_clips
from data_tools.engines import Engine, each_done
from data_tools.errors import UsageError
from data_tools.keep import Row
from data_tools.lock import locked
from data_tools.manifest import (
    MANIFEST,
    NOTHING,
    ClipRecord,
    DroppedClip,
    Manifest,
    RejectedClip,
    ShardEntry,
)
from data_tools.names import real_path
from data_tools.plan import (
    PackOptions,
    ShardPlan,
    file_sizes,
    mark_copies,
    plan_shards,
    record_plan,
)
from data_tools.progress import progress
from data_tools.records import utf8
from data_tools.shard_writer import clip_members, commit_shard, is_complete, write_shard
from data_tools.upload import Upload
from data_tools.workers import each_result

_DEFAULTS = PackOptions()


def pack(
    clips_folder: Path,
    out: Path,
    options: PackOptions = _DEFAULTS,
    workers: int = 1,
    keep: Mapping[str, Row] | None = None,
    upload: Upload | None = None,
    engine: Engine | None = None,
) -> Manifest:
    """Pack every usable clip of `clips_folder`; returns the manifest written to OUT/manifest.json.

    Shards already complete are kept. Clips that fail are left out and listed under "dropped" with
    "clip", "reason" and "detail".

    Args:
        keep: rows of a keep.csv by key: rejected clips are left out and listed under "rejected",
            those to be realigned are cut so that picture and sound fit. Clips without a row (those
            of other splits) stay, and every clip stays in the split that it has without `keep`.
        upload: takes each shard to a bucket as it is packed, and the manifest at the end; what is
            there already is not packed again.
        engine: packs the shards, instead of `workers` processes of this machine.

    Raises:
        UsageError: no clips, wrong options, or OUT was packed from other clips or options.
        InUse: another pack is writing there.
        KeepError: `keep` names none of the clips.
        RecordError: what an earlier run left in OUT is damaged.
        RemoteError: the bucket cannot be read or written.
    """
    options.check()
    if real_path(out) == real_path(clips_folder):
        raise UsageError(f"{out} is the folder of the clips; choose another output folder")
    clips = find_clips(clips_folder, options.source_pattern)
    with progress("scanning", len(clips), "clips") as advance:
        sizes = []
        for clip in clips:
            sizes.append(file_sizes(clip))
            advance(1)
    clips = mark_copies(clips, sizes)
    plan = plan_shards(clips, sizes, options, keep)
    with locked(out, "pack"):
        if upload is not None:
            upload.begin()
        record_plan(out, clips, sizes, options, keep)
        remove_partials(out)
        todo = [shard for shard in plan if not is_complete(out / shard.name)]
        if upload is not None:
            todo = _left_to_pack(plan, todo, upload)
        with progress("packing", sum(len(s.clips) for s in todo), "clips") as advance:
            _run(out, todo, options, workers, advance, upload, engine)
        crops = {clip.crop for clip in clips}
        crop = crops.pop() if len(crops) == 1 else None
        manifest = _manifest(out, plan, options, crop)
        if keep is not None:
            manifest = replace(manifest, rejected=_rejected(keep))
        write_json(out / MANIFEST, manifest.as_dict())
        if upload is not None:
            upload.end()
    return manifest


def _rejected(keep: Mapping[str, Row]) -> list[RejectedClip]:
    return [
        RejectedClip(key, row.verdict, row.reason)
        for key, row in sorted(keep.items())
        if not row.used
    ]


def _nothing(count: int) -> None:
    pass


def pack_shard(
    out: Path,
    shard: ShardPlan,
    options: PackOptions,
    advance: Callable[[int], None] = _nothing,
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


def _left_to_pack(plan: list[ShardPlan], todo: list[ShardPlan], upload: Upload) -> list[ShardPlan]:
    """Those of `todo` that the bucket lacks; it gets those that are complete here."""
    upload.put_plan()
    left = []
    for shard in plan:
        if upload.has(shard.name):
            continue
        if shard in todo:
            left.append(shard)
        else:
            upload.put(shard.name)
    return left


def _run(
    out: Path,
    todo: list[ShardPlan],
    options: PackOptions,
    workers: int,
    advance: Callable[[int], None],
    upload: Upload | None,
    engine: Engine | None,
) -> None:
    alone = engine is None and (workers == 1 or len(todo) <= 1)
    # In this process every clip is counted; from others a shard is told of when it is done.
    work = partial(pack_shard, out, options=options, advance=advance if alone else _nothing)
    for shard in _each_packed(work, todo, workers, engine):
        if upload is not None:
            upload.put(shard.name)
        if not alone:
            advance(len(shard.clips))


def _each_packed(
    work: Callable[[ShardPlan], None],
    todo: list[ShardPlan],
    workers: int,
    engine: Engine | None,
) -> Iterator[ShardPlan]:
    if engine is None:
        for shard, _ in each_result(work, todo, workers, "packing"):
            yield shard
        return
    tasks = {shard.name: (work, shard) for shard in todo}
    for _, (_, shard) in each_done(engine, _pack_task, tasks):
        yield shard


def _pack_task(
    task: tuple[Callable[[ShardPlan], None], ShardPlan],
    on_bytes: Callable[[int], None] | None,
) -> None:
    """Pack one shard, as an engine calls it."""
    work, shard = task
    work(shard)


def _manifest(out: Path, plan: list[ShardPlan], options: PackOptions, crop: str | None) -> Manifest:
    shards: list[ShardEntry] = []
    dropped: list[DroppedClip] = []
    totals = dict.fromkeys(SPLITS, NOTHING)
    for shard in plan:
        entry, stats = ShardEntry.of(out / shard.name)
        shards.append(entry)
        totals[shard.split] += stats.totals
        dropped += stats.dropped
    return Manifest(
        clips_found=sum(len(shard.clips) for shard in plan),
        shards=shards,
        splits=totals,
        dropped=sorted(dropped, key=lambda row: row.clip),
        options=asdict(options),
        crop=next((known for known in ("face", "mouth", "whole") if known == crop), None),
    )
