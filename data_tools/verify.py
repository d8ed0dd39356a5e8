"""Re-read shards and name every fault: `python -m data_tools verify OUT`."""

import argparse
import io
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from data_tools.clips import ClipError, decode_jpeg
from data_tools.mfcc import CEPSTRA
from data_tools.progress import progress
from data_tools.shards import (
    ClipRecord,
    Member,
    Shard,
    ShardError,
    content_hash,
    format_idx,
    index_tar,
    read_manifest,
    read_stats,
)


def verify(folder: Path, workers: int = 1) -> list[str]:
    """Check manifest, tars, indices, hashes, MFCC and every frame; returns the faults, one a line.

    Raises:
        ShardError: the folder holds no manifest of shards.
    """
    manifest = read_manifest(folder)
    faults = []
    listed = {entry["name"] for entry in manifest["shards"]}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tar" and path.name not in listed:
            faults.append(f"{path.name}: not in the manifest")
        if path.name.startswith("."):
            faults.append(f"{path.name}: left over from a killed run; run pack again")
    tars = [folder / entry["name"] for entry in manifest["shards"]]
    with progress("verifying", len(tars), "shards") as advance:
        if workers == 1 or len(tars) <= 1:
            for tar in tars:
                faults += verify_shard(tar)
                advance(1)
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(workers, len(tars)), mp_context=context) as pool:
                for found in pool.map(verify_shard, tars):
                    faults += found
                    advance(1)
    for entry, tar in zip(manifest["shards"], tars, strict=True):
        try:
            clips = len(read_stats(tar)["clips"])
        except ShardError:
            continue  # named already
        if clips != entry["clips"]:
            faults.append(f"{tar.name}: {clips} clips, the manifest says {entry['clips']}")
    return faults


def verify_shard(tar: Path) -> list[str]:
    """The faults of one shard, each beginning with the file's name."""
    try:
        if not read_stats(tar)["clips"]:
            return []
        records = Shard(tar).records
        samples = index_tar(tar)
    except ShardError as error:
        return [f"{tar.name}: {error}"]
    except (KeyError, TypeError) as error:
        return [f"{tar.name}: its statistics are damaged ({error})"]
    faults = []
    if format_idx(samples) != tar.with_suffix(".idx").read_text(encoding="utf-8"):
        faults.append(f"{tar.with_suffix('.idx').name}: does not match the tar")
    if len(samples) != len(records):
        return [*faults, f"{tar.name}: {len(samples)} samples, statistics say {len(records)}"]
    with open(tar, "rb") as stream:
        for record, members in zip(records, samples, strict=True):
            contents = []
            for member in members:
                stream.seek(member.offset)
                contents.append(stream.read(member.size))
            faults += (f"{tar.name}: {fault}" for fault in _clip_faults(record, members, contents))
    return faults


def _clip_faults(record: ClipRecord, members: list[Member], contents: list[bytes]) -> Iterator[str]:
    """What is wrong with one sample, given its members and their bytes."""
    names = [member.extension for member in members]
    jpegs = [f"{number:05d}.jpg" for number in range(record.frames)]
    if names[:2] != ["json", "mfcc.npy"] or names[-record.frames :] != jpegs:
        yield f"{record.key}: members are not json, mfcc.npy and {record.frames} frames in order"
        return
    try:
        described = json.loads(contents[0])
        differing = [
            field
            for field in ("clip", "source", "frames", "columns", "height", "width", "hash")
            if described[field] != getattr(record, field)
        ]
    except (ValueError, KeyError, TypeError) as error:
        yield f"{record.key}.json: cannot be read ({error})"
    else:
        if differing:
            yield f"{record.key}.json: differs from the statistics in {', '.join(differing)}"
    if content_hash(zip(names[1:], contents[1:], strict=True)) != record.hash:
        yield f"{record.key}: content differs from its hash"
    try:
        features = np.load(io.BytesIO(contents[1]), allow_pickle=False)
    except (ValueError, EOFError) as error:
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
            expected = (record.height, record.width, record.channels)
            if shape != expected:
                yield f"{member.name}: decodes to {shape}, not {expected}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `verify`."""
    parser.add_argument("out", type=Path, help="folder of shards")
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")


def main(args: argparse.Namespace) -> int:
    """Run `verify` from the command line; 1 if anything is wrong."""
    faults = verify(args.out, args.workers or len(os.sched_getaffinity(0)))
    for fault in faults:
        print(fault)
    manifest = read_manifest(args.out)
    clips = sum(split["clips"] for split in manifest["splits"].values())
    shards = len(manifest["shards"])
    if faults:
        print(f"{args.out}: {len(faults)} faults in {shards} shards")
        return 1
    print(f"{args.out}: {shards} shards, {clips} clips, no fault")
    return 0
