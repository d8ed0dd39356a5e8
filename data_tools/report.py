"""report.csv and report.json: what became of every video, shot, track and clip."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data_tools.atomic import atomic_path, write_json
from data_tools.video.record import FAILED, Row, VideoRecord

_REPORTED = 10  # failed videos that are named on the screen; the report has all


@dataclass
class Tally:
    """What became of many videos, in numbers, so that none of them need be held.

    Attributes:
        videos: how many.
        seconds: their length.
        clips: that were kept.
        clip_seconds: their length.
        counts: how often each reason was given, by level, most often first.
        examples: the first row of each, by level and reason.
        failed: names and reasons of some videos that failed.
        failures: how many did.
        doubted: names and reasons of some that could be used only in part.
        doubts: how many.
    """

    videos: int = 0
    seconds: float = 0.0
    clips: int = 0
    clip_seconds: float = 0.0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[tuple[str, str], Row] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    failures: int = 0
    doubted: list[str] = field(default_factory=list)
    doubts: int = 0

    def add(self, name: str, record: VideoRecord) -> None:
        """One more video."""
        self.videos += 1
        self.seconds += record.seconds
        if record.status == FAILED:
            self.failures += 1
            if len(self.failed) < _REPORTED:
                self.failed.append(f"{name}: {record.detail}")
        if record.doubts:
            self.doubts += 1
            if len(self.doubted) < _REPORTED:
                self.doubted.append(f"{name}: {'; '.join(record.doubts)}")
        for row in record.rows:
            if row.level == "clip" and row.kept:
                self.clips += 1
                self.clip_seconds += row.end_seconds - row.start_seconds
            if not row.kept:
                self.counts.setdefault(row.level, Counter())[row.reason] += 1
                self.examples.setdefault((row.level, row.reason), row)

    def reasons(self) -> dict[str, dict[str, int]]:
        """How often each reason was given, by level, most often first."""
        return {level: dict(counter.most_common()) for level, counter in self.counts.items()}


def tally(records: Iterable[tuple[str, VideoRecord]]) -> Tally:
    """What became of many videos, given by name."""
    counted = Tally()
    for name, record in records:
        counted.add(name, record)
    return counted


def write_report(
    out: Path, records: list[tuple[str, VideoRecord]], part: str = "", faces: str = ""
) -> Path:
    """Write report.csv, a row for each video, shot, track and clip, and report.json; atomically.

    Args:
        part: put before the suffix, for a run over a part of the videos.
        faces: how they were found, in words.

    Returns the CSV's path.
    """
    file, counted = _write_table(out, iter(records), part)
    videos = {
        name: {key: value for key, value in record.as_dict().items() if key != "file"}
        for name, record in records
    }
    report = {"videos": videos, "dropped": counted.reasons(), "faces": faces}
    write_json(out / f"report{part}.json", report)
    return file


def write_large_report(
    out: Path, records: Iterator[tuple[str, VideoRecord]], part: str = "", faces: str = ""
) -> tuple[Path, Tally]:
    """As `write_report` of any number of videos, one at a time; report.json has sums alone."""
    file, counted = _write_table(out, records, part)
    sums: dict[str, Any] = {
        "videos": counted.videos,
        "seconds": round(counted.seconds, 3),
        "clips": counted.clips,
        "clip_seconds": round(counted.clip_seconds, 3),
        "dropped": counted.reasons(),
        "faces": faces,
    }
    write_json(out / f"report{part}.json", sums)
    return file, counted


def _write_table(
    out: Path, records: Iterator[tuple[str, VideoRecord]], part: str
) -> tuple[Path, Tally]:
    counted = Tally()
    file = out / f"report{part}.csv"
    with (
        atomic_path(file) as partial,
        open(partial, "w", encoding="utf-8", errors="backslashreplace", newline="") as table,
    ):
        writer = csv.DictWriter(table, [column.name for column in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for name, record in records:
            counted.add(name, record)
            writer.writerows(map(asdict, record.rows))
    return file, counted
