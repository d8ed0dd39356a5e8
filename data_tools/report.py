"""report.csv and report.json: what became of every video, shot, track and clip."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

from data_tools.atomic import atomic_path, write_json
from data_tools.video.record import Row, VideoRecord


def write_report(out: Path, records: list[tuple[str, VideoRecord]], part: str = "") -> Path:
    """Write report.csv, a row for each video, shot, track and clip, and report.json; atomically.

    part: put before the suffix, for a run over a part of the videos. Returns the CSV's path.
    """
    rows = [row for _, record in records for row in record.rows]
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, rows))
    file = out / f"report{part}.csv"
    with atomic_path(file) as partial:
        partial.write_text(table.getvalue(), encoding="utf-8", errors="backslashreplace")
    videos = {
        name: {key: value for key, value in record.as_dict().items() if key != "file"}
        for name, record in records
    }
    write_json(out / f"report{part}.json", {"videos": videos, "dropped": count_reasons(rows)})
    return file


def count_reasons(rows: list[Row]) -> dict[str, dict[str, int]]:
    """How often each reason was given, by level."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        if not row.kept:
            counts.setdefault(row.level, Counter())[row.reason] += 1
    return {level: dict(counter.most_common()) for level, counter in counts.items()}
