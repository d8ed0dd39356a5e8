"""What it will take to prepare videos, before it is begun: counts, hours, bytes, time (`--plan`).

Counts are exact. Hours, bytes and time come from a few videos, evenly spread over the list, that
are really prepared into a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data_tools.clips import SPLITS
from data_tools.mfcc import FPS
from data_tools.names import shown
from data_tools.prepare_summary import duration
from data_tools.sharding import ShardTask, make_shard, shard_records
from data_tools.video.options import PrepareOptions
from data_tools.video.probe import promised_length
from data_tools.video.verdicts import TOO_SHORT
from data_tools.video_plan import PlannedVideo, ShardOptions, VideoShard

_MOST, _LEAST, _ENOUGH = 48, 8, 240.0  # videos of the sample, and seconds that are enough
_EXAMPLES = 5


@dataclass(frozen=True)
class Sample:
    """A few videos that were really prepared.

    Attributes:
        videos: how many.
        size: their bytes.
        seconds: their length.
        clips: that came out of them.
        shard_bytes: of their shard.
        took: seconds that one process needed.
        tracks: that were found in them.
        short: of these, that have fewer frames than --min-frames.
    """

    videos: int
    size: int
    seconds: float
    clips: int
    shard_bytes: int
    took: float
    tracks: int
    short: int


def prepare_sample(videos: Sequence[PlannedVideo], options: PrepareOptions, flac: bool) -> Sample:
    """Prepare a few of the videos, evenly spread, in this process; nothing of them is kept."""
    readable = [video for video in videos if not video.why and video.size]
    chosen: list[PlannedVideo] = []
    length = 0.0
    for video in readable[:: max(1, len(readable) // _MOST)][:_MOST]:
        if len(chosen) >= _LEAST and length >= _ENOUGH:
            break
        chosen.append(video)
        length += promised_length(video.path)
    with tempfile.TemporaryDirectory(prefix="syncnet-") as folder:
        out = Path(folder)
        # The first time loads models; it would count for all the others.
        warm = VideoShard("val-000000.tar", "val", tuple(chosen[:1]))
        make_shard(ShardTask(out, warm, options, flac, 1, 0.0), None)
        shard = VideoShard("train-000000.tar", "train", tuple(chosen))
        started = time.perf_counter()
        make_shard(ShardTask(out, shard, options, flac, 1, 0.0), None)
        took = time.perf_counter() - started
        records = [record for _, record in shard_records(out, [shard])]
        tar = out / shard.name
        tracks = [row for record in records for row in record.rows if row.level == "track"]
        return Sample(
            videos=len(chosen),
            size=sum(video.size for video in chosen),
            seconds=sum(record.seconds for record in records),
            clips=sum(record.clips for record in records),
            shard_bytes=tar.stat().st_size if tar.exists() else 0,
            took=took,
            tracks=len(tracks),
            short=sum(row.reason == TOO_SHORT for row in tracks),
        )


def print_forecast(
    shards: Sequence[VideoShard],
    options: PrepareOptions,
    sharing: ShardOptions,
    processes: int,
    console: Console,
) -> None:
    """Print what will become of the videos, as far as names, sizes and a sample tell."""
    videos = [video for shard in shards for video in shard.videos]
    sample = prepare_sample(sorted(videos, key=lambda v: v.name), options, sharing.flac)
    each = max(1, sample.size)
    table = Table(title="as planned; of hours, MB and clips what a sample lets expect")
    for name in ("split", "videos", "speakers", "sources", "hours", "clips", "shards", "MB"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split in (*SPLITS, "all"):
        own = [shard for shard in shards if split in (shard.split, "all")]
        inside = [video for shard in own for video in shard.videos]
        share = sum(video.size for video in inside) / each
        speakers = {video.speaker for video in inside} - {None}
        table.add_row(
            split,
            f"{len(inside):,}",
            f"{len(speakers):,}" if speakers else "unknown",
            f"{len({video.source for video in inside}):,}",
            f"{share * sample.seconds / 3600:,.2f}",
            f"{share * sample.clips:,.0f}",
            f"{len(own):,}",
            f"{share * sample.shard_bytes / 1e6:,.1f}",
        )
    console.print(table)
    total = sum(video.size for video in videos) / each
    rate = sample.seconds / max(sample.took, 1e-9)
    seconds = total * sample.took / processes
    console.print(
        f"sample: {sample.videos} videos, {sample.seconds:.0f} s, {rate:.1f} video seconds a "
        f"second in one process; all of them in {processes} processes: about {duration(seconds)}",
        soft_wrap=True,
    )
    if sample.short:
        least = options.min_frames
        console.print(
            f"note: {sample.short} of the sample's {sample.tracks} tracks, which would become "
            f"clips, are shorter than --min-frames {least} ({least / FPS:g} s) and left out, about "
            f"{total * sample.short:,.0f} of all: a lower --min-frames keeps them",
            soft_wrap=True,
        )
    for video in videos[:: max(1, len(videos) // _EXAMPLES)][:_EXAMPLES]:
        words = f"  {video.name}: source {video.source}, speaker {video.speaker or 'unknown'}"
        console.print(shown(words + (f" ({video.why})" if video.why else "")), soft_wrap=True)
