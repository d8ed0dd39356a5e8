"""Videos that failed and were replaced since: they are tried again, by the plan that there is.

The plan of shards follows from sizes, and a replaced video has another. It keeps the place of the
one that failed: .prepare/replaced.json holds the size that each was planned with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_tools.atomic import write_json
from data_tools.records import Count, read_record
from data_tools.sharding import failed_records
from data_tools.video.options import PrepareOptions
from data_tools.video.record import HIDDEN
from data_tools.video_plan import PlannedVideo, ShardOptions, record_video_plan


@dataclass(frozen=True)
class Replaced:
    """Bytes of a video: as it was planned, and of the file that took its place."""

    planned: Count
    now: Count


def settle_plan(
    out: Path,
    videos: Sequence[PlannedVideo],
    options: ShardOptions,
    prepare: PrepareOptions,
    retry_failed: bool,
) -> tuple[list[PlannedVideo], float]:
    """The videos with the sizes that they are planned with, and as `record_video_plan`.

    Args:
        retry_failed: take the new file of a video that failed and has another size since.

    Raises:
        UsageError: as `record_video_plan`.
        RecordError: what an earlier run left in `out` is damaged.
    """
    file = out / HIDDEN / "replaced.json"
    known: dict[str, Replaced] = {}
    if file.exists():
        known = read_record(
            file,
            dict[str, Replaced],
            "does not hold the sizes of replaced videos",
            "choose another output folder",
        )
    replaced = dict(known)
    if retry_failed:
        failed = {record.name: record.file.size or 0 for record in failed_records(out)}
        for video in videos:
            before = failed.get(video.name, video.size)
            if before != video.size:
                first = known[video.name].planned if video.name in known else before
                replaced[video.name] = Replaced(first, video.size)
    settled = [
        replace(video, size=replaced[video.name].planned)
        if video.name in replaced and replaced[video.name].now == video.size
        else video
        for video in videos
    ]
    expansion = record_video_plan(out, settled, options, prepare)
    if replaced != known:
        write_json(file, {name: asdict(sizes) for name, sizes in replaced.items()})
    return settled, expansion
