"""Turn one video into clips in one pass: shots, faces, tracks, crops, sound, a record.

Pictures are decoded once. The video's folder of clips appears by one rename; its record, which
says that it is done, comes after it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import soundfile

from data_tools.atomic import sync, write_json
from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.progress import still_alive
from data_tools.video.decode import Video
from data_tools.video.fixed import FixedFollower
from data_tools.video.follow import FaceFollower
from data_tools.video.left_out import doubts, notes
from data_tools.video.montage import Montage
from data_tools.video.options import PrepareOptions
from data_tools.video.record import (
    FacePlace,
    Row,
    VideoRecord,
    failed_row,
    montage_file,
    stalled_file,
    work_folder,
    write_record,
)
from data_tools.video.sound import Sound, VideoError
from data_tools.video.stages import StageClock
from data_tools.video.tracks import Track
from data_tools.video.verdicts import KeptClip, Sink, Verdicts


def prepare_video(
    path: Path,
    name: str,
    out: Path,
    options: PrepareOptions,
    threads: int = 1,
    stall_limit: float = 0.0,
    on_bytes: Callable[[int], None] | None = None,
    took: dict[str, float] | None = None,
) -> VideoRecord:
    """Prepare the video at `path` into the folder `out`/`name`; returns and writes its record.

    stall_limit: seconds without a new picture after which this process ends itself (0: never).
    on_bytes: called with the number of bytes read since the last call.
    took: seconds are added to its stages decode, shots, detect, crop, encode, speech, write.

    A video that cannot be used is no error: its record has "status": "failed" and the reason.
    """
    work = work_folder(out, name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    clock = StageClock({} if took is None else took)
    with watching(stalled_file(out, name), stall_limit) as beat:
        sink = partial(_write_clip, work / "clips")
        cut = cut_video(path, name, work, options, sink, threads, beat, on_bytes, clock)
    _publish(work, name, out, cut.rows)
    record = write_record(path, name, out, cut.rows, cut.notes, cut.doubts)
    shutil.rmtree(work)
    return replace(record, faces=cut.faces)


@dataclass(frozen=True)
class CutVideo:
    """What became of a video: the rows of its report, what `data_tools.video.left_out` says, and
    where the faces of its tracks are."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    faces: dict[int, FacePlace] = field(default_factory=dict)


def cut_video(
    path: Path,
    name: str,
    work: Path,
    options: PrepareOptions,
    sink: Sink,
    threads: int,
    beat: Callable[[], None],
    on_bytes: Callable[[int], None] | None,
    clock: StageClock,
) -> CutVideo:
    """Read a video to its end and hand its clips to `sink`, once all of it was read.

    Args:
        work: folder for what is too long to be held in memory, and for montage.jpg.
        beat: called now and then, as `watching` gives it.
        on_bytes: called with the number of bytes read since the last call.
        clock: told of the stages.

    A video that cannot be used is no error: its only row has the reason.
    """
    try:
        beat()
        with Video(path, threads, options.audio_stream, beside=True) as video:
            sound = Sound(work / "sound.raw")
            return _cut(video, sound, name, work, options, sink, clock, beat, on_bytes)
    except VideoError as error:
        return CutVideo([failed_row(name, error.reason, error.detail)])


def _cut(
    video: Video,
    sound: Sound,
    name: str,
    work: Path,
    options: PrepareOptions,
    sink: Sink,
    clock: StageClock,
    beat: Callable[[], None],
    on_bytes: Callable[[int], None] | None,
) -> CutVideo:
    """What became of a video that can be read; its clips went to `sink`."""
    montage = Montage() if options.montage else None
    kind = FixedFollower if options.fixed else FaceFollower
    follower = kind(video.aspect, work, options, clock, montage)
    told = 0
    clock.start()
    for count, picture in enumerate(video.pictures(sound), 1):
        clock.lap("decode")
        follower.see(picture)
        if count % FPS == 0:
            beat()
            if on_bytes is not None:
                on_bytes(video.bytes_read - told)
                told = video.bytes_read
    followed = follower.finish()
    beat()
    assert video.origin is not None
    verdicts = Verdicts(name, sink, options, followed, sound, video.origin, clock, beat)
    said = notes(video, sound)
    rows = verdicts.rows(said)
    clock.lap("write")
    beat()
    if montage is not None:
        montage.draw(work, followed.tracks, rows, followed.crops)
    faces = {track.number: _place(track) for track in followed.tracks if track.faces}
    return CutVideo(rows, said, doubts(video, sound), faces)


def _place(track: Track) -> FacePlace:
    """Where a track's face is in its middle picture."""
    picture = (track.first + track.last) // 2
    left, top, right, bottom = (round(float(v), 1) for v in track.boxes(picture, picture + 1)[0])
    return FacePlace((picture + 0.5) / FPS, (left, top, right, bottom))


def _write_clip(clips: Path, clip: KeptClip) -> None:
    """Write a clip into a folder of its own, in the seed's layout."""
    folder = clips / clip.item
    (folder / "frames").mkdir(parents=True)
    for number, jpeg in enumerate(clip.jpegs):
        (folder / "frames" / f"frame{number}.jpg").write_bytes(jpeg)
    wav = os.fsencode(folder / "audio.wav")  # soundfile takes text of UTF-8 alone
    soundfile.write(wav, clip.audio, SAMPLE_RATE, subtype="PCM_16")
    write_json(folder / "clip.json", clip.about)


def _publish(work: Path, name: str, out: Path, rows: list[Row]) -> None:
    """Put the clips, if any were kept, and the montage where they belong."""
    final = out / name
    shutil.rmtree(final, ignore_errors=True)
    if any(row.kept for row in rows if row.level == "clip"):
        _sync_filesystem(work)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.rename(work / "clips", final)
        sync(final.parent)
    if (work / "montage.jpg").exists():
        picture = montage_file(out, name)
        picture.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work / "montage.jpg", picture)


@contextmanager
def watching(log: Path, limit: float) -> Iterator[Callable[[], None]]:
    """A function to call now and then; `limit` seconds without a call end the process.

    Without a limit whoever listens (`data_tools.progress.heard_by`) is told of the calls.

    faulthandler's watchdog runs outside of Python, so that it also ends a call into a library
    that neither returns nor lets other threads run. It is a new thread every time, for which
    many short videos would wait: a call soon after another starts none.

    Args:
        log: where a process that ends itself leaves where it stood; empty of any other.
        limit: seconds; 0: none.
    """
    often = min(1.0, limit / 10)  # seconds between two starts, which the limit is too late by
    started = -math.inf

    def start() -> None:
        nonlocal started
        if time.monotonic() - started >= often:
            faulthandler.dump_traceback_later(limit + often, exit=True, file=file)
            started = time.monotonic()

    with log.open("w") as file:
        try:
            if limit:
                yield start
            else:
                yield still_alive
        finally:
            if limit:
                faulthandler.cancel_dump_traceback_later()


def _sync_filesystem(folder: Path) -> None:
    # One call for thousands of small files, where fsync on each would take a second a clip.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "cannot sync", str(folder))
    finally:
        os.close(descriptor)
