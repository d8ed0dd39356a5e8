"""Re-read shards and name every fault."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.clips import ClipError
from data_tools.jpeg import decode_jpeg
from data_tools.manifest import (
    MANIFEST,
    NOTHING,
    ClipRecord,
    Manifest,
    ShardError,
    in_two_splits,
    read_manifest,
    read_stats,
)
from data_tools.mfcc import CEPSTRA
from data_tools.mirror import OWN, Mirror, mirror_at
from data_tools.progress import progress
from data_tools.records import RecordError, decode_record
from data_tools.remote import Remote, RemoteError
from data_tools.shard_writer import content_hash, describe
from data_tools.shards import Shard
from data_tools.sound import read_npy
from data_tools.tar_index import Member, format_idx, index_tar
from data_tools.video.record import HIDDEN
from data_tools.workers import each_result


def verify(folder: Path, workers: int = 1) -> list[str]:
    """Check manifest, tars, indices, hashes, MFCC and every frame; returns one line per fault.

    Raises:
        ShardError: the folder holds no manifest of shards.
    """
    manifest, mirror = read_manifest(folder), mirror_at(folder)
    check: Callable[[Path], list[str]] = verify_shard
    if mirror is not None:
        mirror.fetch_small(mirror.listed)
        check = partial(_verify_fetched, mirror.remote, mirror.most)
        workers = min(workers, mirror.at_once)  # each holds a shard; more would wait for room
    faults = []
    listed = {entry.name for entry in manifest.shards}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tar" and path.name not in listed:
            faults.append(f"{path.name}: not in the manifest")
        if (
            path.name.startswith(".")
            and path.name != HIDDEN
            and (mirror is None or path.name != OWN)
        ):
            faults.append(f"{path.name}: left over from a killed run; run pack again")
    tars = [folder / entry.name for entry in manifest.shards]
    with progress("verifying", len(tars), "shards") as advance:
        faults_of = {}
        for tar, own in each_result(check, tars, workers, "verifying"):
            faults_of[tar] = own
            advance(1)
    for tar in tars:
        faults += faults_of[tar]
    return faults + list(_manifest_faults(manifest, tars))


def verify_shard(tar: Path) -> list[str]:
    """The faults of one shard, each beginning with the file's name."""
    try:
        if not read_stats(tar).clips:
            return []
        shard = Shard(tar)
        samples = index_tar(tar)
    except ShardError as error:
        return [f"{tar.name}: {error}"]
    records, split = shard.records, shard.split
    faults = []
    if format_idx(samples) != tar.with_suffix(".idx").read_bytes().decode(errors="replace"):
        faults.append(f"{tar.with_suffix('.idx').name}: does not match the tar")
    if len(samples) != len(records):
        return [*faults, f"{tar.name}: {len(samples)} samples, statistics say {len(records)}"]
    with open(tar, "rb") as stream:
        for record, members in zip(records, samples, strict=True):
            contents = []
            for member in members:
                stream.seek(member.offset)
                contents.append(stream.read(member.size))
            wrong = _clip_faults(record, split, members, contents)
            faults += (f"{tar.name}: {fault}" for fault in wrong)
    return faults


def _verify_fetched(remote: Remote, most: int, tar: Path) -> list[str]:
    """As `verify_shard`, of a shard that is fetched for it; this may be a worker process."""
    mirror = mirror_at(tar.parent)
    if mirror is None:
        mirror = Mirror(remote, tar.parent, most)
        mirror.reopen()
    if tar.name not in mirror.entries:
        return verify_shard(tar)  # it holds no clip, and has no tar
    try:
        with mirror.open(tar.name):
            return verify_shard(tar)
    except (RemoteError, ShardError) as error:
        return [f"{tar.name}: {error}"]


def _manifest_faults(manifest: Manifest, tars: list[Path]) -> Iterator[str]:
    """Where the manifest and the statistics of the shards disagree."""
    totals = dict.fromkeys(manifest.splits, NOTHING)
    dropped: list[tuple[str, str]] = []
    damaged = False
    for entry, tar in zip(manifest.shards, tars, strict=True):
        try:
            stats = read_stats(tar)
        except ShardError:
            damaged = True  # named already
            continue
        own = stats.totals
        if stats.split != entry.split:
            yield f"{tar.name}: of {stats.split}, the manifest says {entry.split}"
        for what in ("clips", "frames", "bytes"):
            count, listed = getattr(own, what), getattr(entry, what)
            if count != listed:
                yield f"{tar.name}: {count} {what}, the manifest says {listed}"
        totals[entry.split] += own
        dropped += [(row.clip, row.reason) for row in stats.dropped]
    if damaged:
        return  # without one shard's counts there is no total
    if totals != manifest.splits:
        yield f"{MANIFEST}: the totals of its splits are not those of its shards"
    if sorted(dropped) != sorted((row.clip, row.reason) for row in manifest.dropped):
        yield f"{MANIFEST}: the clips left out are not those that its shards list"
    if manifest.clips_found != len(dropped) + sum(total.clips for total in totals.values()):
        yield f"{MANIFEST}: clips packed and left out do not add up to {manifest.clips_found}"
    yield from in_two_splits(tars)


def _clip_faults(
    record: ClipRecord, split: str, members: list[Member], contents: list[bytes]
) -> Iterator[str]:
    """What is wrong with one sample, given its members and their bytes."""
    names = [member.extension for member in members]
    jpegs = [f"{number:05d}.jpg" for number in range(record.frames)]
    if names[:2] != ["json", "mfcc.npy"] or names[-record.frames :] != jpegs:
        yield f"{record.key}: members are not json, mfcc.npy and {record.frames} frames in order"
        return
    try:
        described = decode_record(contents[0], dict[str, Any])
    except RecordError as error:
        yield f"{record.key}.json: cannot be read ({error})"
    else:
        expected = describe(record, split)
        differing = [name for name in expected if described.get(name) != expected[name]]
        if unknown := len(described.keys() - expected.keys()):
            differing.append(f"{unknown} unknown fields")
        if differing:
            yield f"{record.key}.json: differs from the statistics in {', '.join(differing)}"
    if sum(map(len, contents[1:])) != record.bytes:
        yield f"{record.key}: size differs from the statistics"
    if content_hash(zip(names[1:], contents[1:], strict=True)) != record.hash:
        yield f"{record.key}: content differs from its hash"
    try:
        features = read_npy(contents[1])
    except ValueError as error:
        yield f"{record.key}.mfcc.npy: {error}"
    else:
        if features.shape != (record.columns, CEPSTRA) or features.dtype != np.float32:
            yield f"{record.key}.mfcc.npy: {features.dtype} {features.shape}"
        elif not np.isfinite(features).all():
            yield f"{record.key}.mfcc.npy: values that are not finite"
    for member, content in zip(members, contents, strict=True):
        if member.extension.endswith(".jpg"):
            try:
                shape = decode_jpeg(content, member.name).shape
            except ClipError as error:
                yield str(error)
                continue
            stored = (record.height, record.width, record.channels)
            if shape != stored:
                yield f"{member.name}: decodes to {shape}, not {stored}"
