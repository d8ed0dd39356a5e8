"""results.jsonl: a line of JSON for each video, whole and on disk the moment it is measured.

A line is written in one piece behind the last one and synced before the next. So only the last one
can be torn, by a kill or a power cut; it is dropped when the file is opened again, and its video is
measured again.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from data_tools.atomic import finite, sync
from data_tools.records import RecordError, decode_record, fields_of, open_regular
from data_tools.video.record import VideoFile, identity

PATTERN = "results*.jsonl"  # of the run over all videos, and of parts of them


@dataclass(frozen=True)
class VideoResult:
    """What was found about a video.

    Attributes:
        video: its file, as it was given.
        file: the same in full, its size in bytes and its time of change.
        mode: in which it was scored.
        tracks: a row for each face track, with its curves, as `trainer.score.report.as_json`.
        left_out: what could not be measured and why, in words.
        failure: of a video without a track, the class that the summary counts; else empty.
        mend: what --fix-dir did, as `trainer.batch.mending.mended_row`; None without it.
    """

    video: str
    file: VideoFile
    mode: str = ""
    tracks: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failure: str = ""
    mend: dict[str, Any] | None = None

    @property
    def failed(self) -> bool:
        """Whether it gave no offset at all, or its copy could not be written."""
        return not self.tracks or bool(self.mend and self.mend.get("done") == "failed")

    def is_current(self) -> bool:
        """Whether the file is still as it was measured, or gone: what was found of it stays."""
        now = identity(Path(self.file.path))
        return now.size is None or (now.size, now.mtime_ns) == (self.file.size, self.file.mtime_ns)

    def line(self) -> bytes:
        """The line that holds it, its end included; JSON has no NaN: such a number is null."""
        content = finite({**fields_of(self), "file": fields_of(self.file)})
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def read_results(path: Path) -> Iterator[tuple[int, int, VideoResult]]:
    """The results in a file, each behind the bytes at which its line begins and ends.

    One is held at a time.

    A torn last line is passed over: its writer may be at it, or was killed.

    Raises:
        RecordError: another line holds no result; says what to do.
        OSError: the file cannot be read.
    """
    begin = 0
    fault: RecordError | None = None
    with open_regular(path) as stream:
        for number, line in enumerate(stream, 1):
            if fault is not None:
                raise fault
            try:
                result = decode_record(line, VideoResult, as_python=True)
            except RecordError as error:
                fault = RecordError(
                    f"{path}, line {number}, holds no result of a video: {error}; delete the line "
                    "to have that video measured again"
                )
                continue
            if line.endswith(b"\n"):
                yield begin, begin + len(line), result
                begin += len(line)


def read_result(path: Path, begin: int) -> VideoResult:
    """The result whose line begins at byte `begin`.

    Raises:
        RecordError, OSError: as `read_results`.
    """
    with open_regular(path) as stream:
        stream.seek(begin)
        return decode_record(stream.readline(), VideoResult, as_python=True)


class ResultFile:
    """A file of results to append to; its torn last line, if it has one, is cut off.

    One process at a time may open a file so.

    Raises:
        RecordError, OSError: as `read_results`; or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._end = 0
            for _, self._end, _ in read_results(path):
                pass
            os.ftruncate(self._descriptor, self._end)
            os.fsync(self._descriptor)
            if new:
                sync(path.parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> "ResultFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def append(self, result: VideoResult) -> None:
        """Write a result; it is on disk when this returns.

        Raises:
            OSError: the disk is full, say; then nothing of it is left behind.
        """
        line = result.line()
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], self._end + written)
            os.fsync(self._descriptor)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(line)
