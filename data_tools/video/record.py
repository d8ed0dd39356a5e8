"""What became of a video: the rows of its report, its record, and where both lie in the folder.

Knows no video library, so that whoever only reads records needs none.
"""

from __future__ import annotations

import errno
import hashlib
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from data_tools.atomic import NO_ROOM, write_json
from data_tools.errors import MissingPackage
from data_tools.records import Count, fields_of
from data_tools.records import read_record as read_json_record

HIDDEN = ".prepare"  # records and work in progress, below the folder of clips
KEPT: Final = "kept"
DROPPED: Final = "dropped"
FAILED: Final = "failed"
_OF_THE_DISK = (*NO_ROOM, errno.EROFS, errno.EIO)

Level = Literal["video", "shot", "track", "clip"]
_Seconds = Annotated[float, Meta(ge=-1e9, le=1e9)]
_Measure = Annotated[float, Meta(ge=0, le=1e9)]


@dataclass(frozen=True)
class Row:
    """A line of the report: a video, or a shot, track or clip of it, and what became of it."""

    video: str
    level: Level
    item: str
    start_seconds: _Seconds
    end_seconds: _Seconds
    frames: Count
    kept: bool
    reason: str = ""  # the class that the summary counts
    detail: str = ""  # in words
    confidence: _Measure | None = None  # of the detector, mean, 0..1
    face_size: _Measure | None = None  # longer side, median, pixels of the video
    sharpness: _Measure | None = None  # of the crop
    speech: _Measure | None = None  # share of the sound; None: not asked for


@dataclass(frozen=True)
class FacePlace:
    """Where a track's face is in one of its pictures.

    Attributes:
        seconds: of the video, the middle of the picture's 40 ms.
        box: left, top, right, bottom, pixels of the upright picture with square pixels.
    """

    seconds: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class VideoFile:
    """Where a file lies, and what tells it from a later one there; None: it was not there."""

    path: str
    size: Count | None = None  # bytes
    mtime_ns: int | None = None


@dataclass(frozen=True)
class VideoRecord:
    """What became of a video.

    Attributes:
        rows: its report, the first about the video as a whole.
        faces: where tracks' faces are, by the tracks' numbers; not written to its file.
    """

    name: str
    file: VideoFile
    status: Literal["kept", "dropped", "failed"]
    reason: str
    detail: str
    clips: Count
    seconds: _Seconds
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    faces: dict[int, FacePlace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows or self.rows[0].level != "video":
            raise ValueError("rows: the first is not about the video")
        # Only the file's path may be no UTF-8; all else is printed and written to the report.
        texts = [self.name, self.reason, self.detail, *self.notes, *self.doubts]
        for row in self.rows:
            texts += [row.video, row.item, row.reason, row.detail]
        if any("\ud800" <= character <= "\udfff" for character in "".join(texts)):
            raise ValueError("rows: text that is no UTF-8")

    def as_dict(self) -> dict[str, Any]:
        """What the record's file holds."""
        file = {key: value for key, value in fields_of(self.file).items() if value is not None}
        found = {**fields_of(self), "file": file, "rows": [fields_of(row) for row in self.rows]}
        del found["faces"]
        return found


def record_of(
    path: Path,
    name: str,
    rows: list[Row],
    notes: list[str] | None = None,
    doubts: list[str] | None = None,
) -> VideoRecord:
    """What became of a video.

    notes, doubts: as `data_tools.video.left_out` gives them, of a video that could be read.
    """
    video = rows[0]
    clips = sum(row.kept for row in rows if row.level == "clip")
    return VideoRecord(
        name=name,
        file=identity(path),
        status=KEPT if clips else DROPPED if len(rows) > 1 else FAILED,
        reason=video.reason,
        detail=video.detail,
        clips=clips,
        notes=notes or [],
        doubts=doubts or [],
        seconds=video.end_seconds,
        rows=rows,
    )


def write_record(
    path: Path,
    name: str,
    out: Path,
    rows: list[Row],
    notes: list[str] | None = None,
    doubts: list[str] | None = None,
) -> VideoRecord:
    """Write down that the video is done with, and how; as `record_of`."""
    record = record_of(path, name, rows, notes, doubts)
    file = record_file(out, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record.as_dict())
    return record


def read_record(name: str, out: Path) -> VideoRecord | None:
    """The record of the video called `name`, or None.

    Raises:
        RecordError: it is damaged.
    """
    try:
        return open_record(record_file(out, name))
    except FileNotFoundError:
        return None


def open_record(file: Path) -> VideoRecord:
    """The record of a video in `file`.

    Raises:
        RecordError: it is damaged.
        FileNotFoundError: there is none.
    """
    return read_json_record(
        file,
        VideoRecord,
        "is not the record of a video",
        "delete it and the video's clips, and prepare will make both anew",
        as_python=True,  # a file's name may be no UTF-8
    )


def is_of(record: VideoRecord, path: Path) -> bool:
    """Whether a record is of the file at `path` as it is now; where it lies does not matter."""
    now = identity(path)
    return (record.file.size, record.file.mtime_ns) == (now.size, now.mtime_ns)


def fault_in_words(error: Exception) -> str:
    """What an error that nobody foresaw was, and where, for the report.

    Raises:
        Exception: the error itself, where it is not the video's: a disk's or a missing package's.
    """
    if isinstance(error, MissingPackage):
        raise error
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        raise error
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {where.name}: {error}"


def failed_row(name: str, reason: str, detail: str) -> Row:
    """The only row of a video that failed as a whole."""
    return Row(name, "video", "", 0.0, 0.0, 0, False, reason, detail)


def identity(path: Path) -> VideoFile:
    """Where a file lies, and what tells it from a later one there: its size and time of change."""
    where = str(path.absolute())
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: what can be no name of a file
        return VideoFile(where)
    return VideoFile(where, status.st_size, status.st_mtime_ns)


def record_file(out: Path, name: str) -> Path:
    """Where the record of video `name` lies."""
    return out / HIDDEN / "videos" / f"{_key(name)}.json"


def stalled_file(out: Path, name: str) -> Path:
    """Where a process that ends itself for standing still leaves where it stood."""
    return work_folder(out, name) / "stalled.txt"


def montage_file(out: Path, name: str) -> Path:
    """Where the picture of the video's tracks lies."""
    return out / "montage" / f"{name}.jpg"


def work_folder(out: Path, name: str) -> Path:
    """Where what is made of video `name` lies until it is whole."""
    return out / HIDDEN / "work" / _key(name)


def _key(name: str) -> str:
    # Short and flat: a name may be as long as a file's may be, and lie below another.
    return hashlib.sha1(name.encode()).hexdigest()[:20]
