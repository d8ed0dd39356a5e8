"""Videos straight to shards: decoded, cropped, encoded and written to a tar in one pass.

A shard is the unit of work and of resume. No frame becomes a file, and on the disk there is never
more than the shards that are done and one for each process at work.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path

import cv2

from data_tools.atomic import atomic_path, remove_partials, write_json
from data_tools.clip_data import clip_of
from data_tools.clips import SPLITS, ClipError
from data_tools.errors import UserError
from data_tools.inputs import SAME_FILE
from data_tools.manifest import (
    MANIFEST,
    NOTHING,
    DroppedClip,
    Manifest,
    ShardEntry,
)
from data_tools.names import UNPLAIN, is_unplain
from data_tools.progress import progress
from data_tools.records import read_record, utf8
from data_tools.shard_writer import (
    ShardWriter,
    clip_members,
    commit_shard,
    is_complete,
    writing_shard,
)
from data_tools.video.cut_clips import CutVideo, cut_video, watching
from data_tools.video.options import PrepareOptions
from data_tools.video.record import (
    FAILED,
    HIDDEN,
    VideoRecord,
    failed_row,
    fault_in_words,
    montage_file,
    record_of,
)
from data_tools.video.stages import StageClock
from data_tools.video.verdicts import KeptClip
from data_tools.video_plan import PlannedVideo, ShardOptions, VideoShard, manifest_options

_REFUSED = ("same file", "name taken")  # failures that trying again cannot mend
_END = b"\0"  # of a name, which holds none
_MOST_DEATHS = 2  # of a process over one video


@dataclass(frozen=True)
class ShardTask:
    """One shard to make; everything that a worker is told.

    Attributes:
        given_up: videos that are not read again, by name: the reason and words.
        took: seconds are added to its stages, in this process alone.
    """

    out: Path
    shard: VideoShard
    options: PrepareOptions
    flac: bool
    threads: int
    stall_limit: float  # seconds; 0: none
    given_up: dict[str, tuple[str, str]] = field(default_factory=dict)
    took: dict[str, float] | None = None


@dataclass(frozen=True)
class ShardRecords:
    """.prepare/shards/<shard>.json: what became of the videos of a shard."""

    videos: list[VideoRecord]


Engine = Callable[
    [Callable[..., None], list[ShardTask], Callable[[int], None]],
    Iterable[tuple[ShardTask, str | None]],
]


class _Broken(Exception):
    """A video at which our own code failed: its shard is made anew without it."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words)
        self.name, self.words = name, words


def prepare_shards(
    shards: Sequence[VideoShard],
    out: Path,
    options: PrepareOptions,
    flac: bool,
    run: Engine,
    threads: int = 1,
    stall_limit: float = 120.0,
    retry_failed: bool = False,
) -> None:
    """Make every shard that is not complete; those that are stay as they are.

    Args:
        run: an engine of data_tools.engines with its own arguments bound.
        threads: of each process.
        stall_limit: seconds without a new picture after which a video is given up; 0: never.
        retry_failed: make those shards anew, too, that hold a video that failed.

    Raises:
        UserError: a process dies before it has begun with a video.
        RecordError: what an earlier run left in `out` is damaged.
    """
    due = [shard for shard in shards if _is_due(out, shard, retry_failed)]
    todo = [ShardTask(out, shard, options, flac, threads, stall_limit) for shard in due]
    deaths: Counter[tuple[str, str]] = Counter()
    read = 0
    with progress("preparing", max(1, sum(map(_size, due)) // 10**6), "MB") as advance:

        def on_bytes(count: int) -> None:
            nonlocal read
            advance((read + count) // 10**6 - read // 10**6)
            read += count

        while todo:
            again = []
            for task, words in run(make_shard, todo, on_bytes):
                if words is not None or not is_done(out, task.shard):
                    again.append(_after_death(task, words, deaths))
            todo = again


def make_shard(task: ShardTask, on_bytes: Callable[[int], None] | None) -> None:
    """Make one shard in a worker process, whatever an earlier one left of it.

    The statistics beside the tar come last: they say that all of it is there.
    """
    cv2.setNumThreads(task.threads)
    tar, work = task.out / task.shard.name, _work_folder(task.out, task.shard)
    tar.with_suffix(".json").unlink(missing_ok=True)
    remove_partials(task.out, f"{tar.stem}.*")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    given_up = dict(task.given_up)
    with (
        watching(_stalled_file(task.out, task.shard), task.stall_limit) as beat,
        open(_current_file(task.out, task.shard), "wb", buffering=0) as current,
    ):
        while True:
            making = _Making(task, given_up, work, current, beat, on_bytes)
            try:
                with writing_shard(tar) as shard:
                    records = [making.video(video, shard) for video in task.shard.videos]
                break
            except _Broken as broken:
                given_up[broken.name] = "internal error", broken.words
    file = _records_file(task.out, task.shard)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as partial:
        partial.write_text(json.dumps({"videos": [record.as_dict() for record in records]}))
    commit_shard(tar, task.shard.split, shard.records, making.dropped)
    shutil.rmtree(work)


class _Making:
    """The clips of a shard's videos on their way into its tar."""

    def __init__(
        self,
        task: ShardTask,
        given_up: dict[str, tuple[str, str]],
        work: Path,
        current: FileIO,
        beat: Callable[[], None],
        on_bytes: Callable[[int], None] | None,
    ) -> None:
        self._task, self._given_up, self._work = task, given_up, work
        self._current = current  # says which video is being read, for whoever outlives us
        self._beat, self._on_bytes = beat, on_bytes
        self._clock = StageClock({} if task.took is None else task.took)
        side = task.options.side
        self._shape = (side, side, 1 if task.options.gray else 3)
        self.dropped: list[DroppedClip] = []

    def video(self, video: PlannedVideo, shard: ShardWriter) -> VideoRecord:
        """Read a video, put its clips into the shard; what became of it."""
        # Written over what it held: to make the file anew takes a hundredth of a short clip's time.
        self._current.seek(0)
        self._current.write(video.name.encode() + _END)
        cut = self._cut(video, shard)
        return record_of(video.path, video.name, cut.rows, cut.notes, cut.doubts)

    def _cut(self, video: PlannedVideo, shard: ShardWriter) -> CutVideo:
        refused = self._given_up.get(video.name)
        if video.why:
            reason = "same file" if video.why.startswith(SAME_FILE) else "name taken"
            refused = reason, video.why
        elif is_unplain(video.path):
            refused = "not a file", UNPLAIN
        if refused:
            return CutVideo([failed_row(video.name, *refused)])
        told = 0

        def count(size: int) -> None:
            nonlocal told
            told += size
            if self._on_bytes is not None:
                self._on_bytes(size)

        def take(clip: KeptClip) -> None:
            self._take(video, clip, shard)

        try:
            cut = cut_video(
                video.path,
                video.name,
                self._work,
                self._task.options,
                take,
                self._task.threads,
                self._beat,
                count,
                self._clock,
            )
        except Exception as error:
            raise _Broken(video.name, fault_in_words(error)) from error
        count(max(video.size - told, 0))
        if (self._work / "montage.jpg").exists():
            picture = montage_file(self._task.out, video.name)
            picture.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._work / "montage.jpg", picture)
        return cut

    def _take(self, video: PlannedVideo, clip: KeptClip, shard: ShardWriter) -> None:
        name = f"{video.name}/{clip.item}"
        try:
            data = clip_of(list(clip.jpegs), self._shape, clip.audio)
        except ClipError as error:
            self.dropped.append(DroppedClip(*map(utf8, (name, error.reason, error.detail))))
            raise
        members = clip_members(
            f"{video.key}_{clip.item}",
            name,
            video.source,
            self._task.shard.split,
            data,
            self._task.flac,
            video.speaker,
        )
        shard.add(*members)


def is_done(out: Path, shard: VideoShard) -> bool:
    """Whether a shard is complete, and what became of its videos is written down."""
    return is_complete(out / shard.name) and _records_file(out, shard).exists()


def shard_records(out: Path, shards: Iterable[VideoShard]) -> Iterator[tuple[str, VideoRecord]]:
    """What became of each video of these shards, which are complete, by its name.

    Raises:
        RecordError: the records of a shard are damaged.
    """
    for shard in shards:
        yield from ((record.name, record) for record in _read_records(out, shard))


def failed_records(out: Path) -> Iterator[VideoRecord]:
    """The records of the videos in `out` that failed and that may be tried again.

    Raises:
        RecordError: the records of a shard are damaged.
    """
    for file in sorted((out / HIDDEN / "shards").glob("*.json")):
        yield from filter(_may_be_mended, _open_records(file))


def merge_shards(
    out: Path, shards: Sequence[VideoShard], options: ShardOptions, prepare: PrepareOptions
) -> Manifest:
    """The manifest of shards that are all complete, which is written to OUT/manifest.json.

    Raises:
        ShardError: the statistics of a shard are missing or damaged.
    """
    entries: list[ShardEntry] = []
    dropped: list[DroppedClip] = []
    totals = dict.fromkeys(SPLITS, NOTHING)
    for shard in shards:
        entry, stats = ShardEntry.of(out / shard.name)
        entries.append(entry)
        totals[shard.split] += stats.totals
        dropped += stats.dropped
    manifest = Manifest(
        clips_found=len(dropped) + sum(total.clips for total in totals.values()),
        shards=entries,
        splits=totals,
        dropped=sorted(dropped, key=lambda row: row.clip),
        options=manifest_options(options, prepare),
        crop=prepare.crop,
    )
    write_json(out / MANIFEST, manifest.as_dict())
    return manifest


def _is_due(out: Path, shard: VideoShard, retry_failed: bool) -> bool:
    if not is_done(out, shard):
        return True
    return retry_failed and any(map(_may_be_mended, _read_records(out, shard)))


def _may_be_mended(record: VideoRecord) -> bool:
    return record.status == FAILED and record.reason not in _REFUSED


def _after_death(task: ShardTask, words: str | None, deaths: Counter[tuple[str, str]]) -> ShardTask:
    """The task once more, without the video over which its process died a second time.

    Raises:
        UserError: it died before it had begun with one, twice.
    """
    current = _current_file(task.out, task.shard)
    name = current.read_bytes().partition(_END)[0].decode() if current.exists() else ""
    deaths[task.shard.name, name] += 1
    reason, why = "process died", words or "it left no record"
    stalled = _stalled_file(task.out, task.shard)
    if stalled.exists() and stalled.stat().st_size:
        reason, why = "stalled", f"nothing new for {task.stall_limit:g} s (--stall-limit)"
    if deaths[task.shard.name, name] < _MOST_DEATHS:
        print(f"{name or task.shard.name}: {why}; trying once more", file=sys.stderr)
        return task
    if not name:
        raise UserError(f"{task.shard.name}: {why}, twice; not enough memory? try fewer --workers")
    return replace(task, given_up={**task.given_up, name: (reason, f"{why}, twice")})


def _read_records(out: Path, shard: VideoShard) -> list[VideoRecord]:
    return _open_records(_records_file(out, shard))


def _open_records(file: Path) -> list[VideoRecord]:
    fault = "does not hold what became of a shard's videos"
    remedy = "delete it and run prepare again"
    return read_record(file, ShardRecords, fault, remedy, as_python=True).videos


def _records_file(out: Path, shard: VideoShard) -> Path:
    return out / HIDDEN / "shards" / Path(shard.name).with_suffix(".json")


def _work_folder(out: Path, shard: VideoShard) -> Path:
    return out / HIDDEN / "work" / Path(shard.name).stem


def _current_file(out: Path, shard: VideoShard) -> Path:
    return _work_folder(out, shard) / "current.txt"


def _stalled_file(out: Path, shard: VideoShard) -> Path:
    return _work_folder(out, shard) / "stalled.txt"


def _size(shard: VideoShard) -> int:
    return sum(video.size for video in shard.videos)
