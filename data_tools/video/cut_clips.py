"""Turn one video into clips in one pass: shots, faces, tracks, crops, sound, a record.

Pictures are decoded once. The video's folder of clips appears by one rename; its record, which
says that it is done, comes after it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_tools.atomic import sync
from data_tools.mfcc import FPS
from data_tools.video.decode import Video
from data_tools.video.follow import FaceFollower
from data_tools.video.left_out import doubts, notes
from data_tools.video.montage import Montage
from data_tools.video.options import PrepareOptions
from data_tools.video.record import (
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
from data_tools.video.verdicts import Verdicts


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
    noted: list[str] = []
    doubted: list[str] = []
    work = work_folder(out, name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    clock = StageClock({} if took is None else took)
    with open(stalled_file(out, name), "w") as log:
        beat = _heartbeat(stall_limit, log)
        try:
            beat()
            with Video(path, threads, options.audio_stream) as video:
                sound = Sound(work / "sound.raw")
                rows = _cut(video, sound, name, work, options, clock, beat, on_bytes)
                noted, doubted = notes(video, sound), doubts(video, sound)
        except VideoError as error:
            rows = [failed_row(name, error.reason, error.detail)]
        finally:
            if stall_limit:
                faulthandler.cancel_dump_traceback_later()
    _publish(work, name, out, rows)
    record = write_record(path, name, out, rows, noted, doubted)
    shutil.rmtree(work)
    stalled_file(out, name).unlink(missing_ok=True)
    return record


def _cut(
    video: Video,
    sound: Sound,
    name: str,
    work: Path,
    options: PrepareOptions,
    clock: StageClock,
    beat: Callable[[], None],
    on_bytes: Callable[[int], None] | None,
) -> list[Row]:
    """Read the video to its end; the rows of its report. The clips are in work/clips."""
    montage = Montage() if options.montage else None
    follower = FaceFollower(video.aspect, work, options, clock, montage)
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
    verdicts = Verdicts(name, work, options, followed, sound, video.origin, clock, beat)
    rows = verdicts.rows(notes(video, sound))
    clock.lap("write")
    beat()
    if montage is not None:
        montage.draw(work, followed.tracks, rows, followed.crops)
    return rows


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


def _heartbeat(limit: float, log: Any) -> Callable[[], None]:
    """A function to call now and then; `limit` seconds without a call end the process.

    faulthandler's watchdog runs outside of Python, so that it also ends a call into a library
    that neither returns nor lets other threads run.
    """
    if not limit:
        return lambda: None
    return lambda: faulthandler.dump_traceback_later(limit, exit=True, file=log)


def _sync_filesystem(folder: Path) -> None:
    # One call for thousands of small files, where fsync on each would take a second a clip.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "cannot sync", str(folder))
    finally:
        os.close(descriptor)
