"""Whether what came of a shard is what its manifest says, by hashes and sizes."""

import hashlib
from pathlib import Path

from data_tools.manifest import ShardEntry, ShardError, ShardStats, read_stats
from data_tools.records import RecordError, decode_record
from data_tools.shard_writer import content_hash
from data_tools.tar_index import format_idx, index_tar


def check_statistics(entry: ShardEntry, content: bytes) -> str | None:
    """What is wrong with a shard's statistics; None: they are what the manifest says.

    Manifests of earlier versions have no hash of them; then the totals are compared.
    """
    if entry.sha256 is not None and hashlib.sha256(content).hexdigest() != entry.sha256:
        return "its statistics have another hash"
    try:
        stats = decode_record(content, ShardStats)
    except RecordError as error:
        return f"its statistics are damaged: {error}"
    own = stats.totals
    if (stats.split, own.clips, own.frames, own.bytes) != (
        entry.split,
        entry.clips,
        entry.frames,
        entry.bytes,
    ):
        return "its statistics have other totals"
    return None


def content_fault(tar: Path, of: Path) -> str | None:
    """What is wrong with a tar, given the statistics and the idx beside `of`; None: nothing.

    Args:
        tar: where its bytes lie.
        of: where it belongs.
    """
    stats = read_stats(of)
    size = tar.stat().st_size
    if size != stats.tar_bytes:
        return f"{size} bytes instead of {stats.tar_bytes}"
    try:
        samples = index_tar(tar)
    except ShardError:
        return "no whole tar"
    if format_idx(samples).encode(errors="surrogateescape") != of.with_suffix(".idx").read_bytes():
        return "another index"
    if len(samples) != len(stats.clips):
        return f"{len(samples)} clips instead of {len(stats.clips)}"
    with tar.open("rb") as stream:
        for record, members in zip(stats.clips, samples, strict=True):
            payload = []
            for member in members[1:]:
                stream.seek(member.offset)
                payload.append((member.extension, stream.read(member.size)))
            if content_hash(payload) != record.hash:
                return f"another content of {record.key}"
    return None
