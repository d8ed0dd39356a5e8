"""What became of a batch: results.csv, mends.csv, report.json and a few lines, from its results.

All are made from results.jsonl, one video in memory at a time, in the order of the videos' names.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from data_tools.atomic import atomic_path, write_json
from data_tools.mfcc import FPS
from data_tools.names import shown
from data_tools.records import RecordError
from trainer.batch.results import VideoResult, read_result, read_results
from trainer.score.csv_file import as_cells, csv_of_tracks
from trainer.score.scoring import TOLERANCE, in_words
from trainer.score.tolerance import Counts, Judged, Tolerance

MEND_COLUMNS = ("video", "done", "moved_frames", "moved_ms", "file", "words")
_REASONS = 5  # that the summary shows


@dataclass
class Summary:
    """A batch in numbers; `report.json` holds it.

    Attributes:
        videos: how many there are results of.
        failed: how many gave no offset, or could not be mended.
        tracks: how many there are.
        trusted: how many offsets can be trusted.
        offsets: how many of those lie at each number of frames.
        reasons: how many videos gave no offset, by the first words why.
        mends: what --fix-dir did, how often.
        verdicts: by the tolerance; None without one.
    """

    videos: int = 0
    failed: int = 0
    tracks: int = 0
    trusted: int = 0
    offsets: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    mends: Counter[str] = field(default_factory=Counter)
    verdicts: Counts | None = None

    def add(self, result: VideoResult) -> None:
        """One more video."""
        self.videos += 1
        self.failed += result.failed
        self.tracks += len(result.tracks)
        for row in result.tracks:
            if row["trusted"]:
                self.trusted += 1
                self.offsets[int(row["offset_frames"])] += 1
        if not result.tracks:
            self.reasons[_reason(result)] += 1
        if result.mend is not None:
            done = result.mend["done"]
            if not isinstance(done, str):
                raise TypeError("what was done is no text")
            self.mends[done] += 1
        if self.verdicts is not None:
            self.verdicts.add(judged(result))

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        verdicts = self.verdicts
        return {
            "videos": self.videos,
            "failed": self.failed,
            "tracks": self.tracks,
            "trusted": self.trusted,
            "trusted_by_offset_frames": {str(k): n for k, n in sorted(self.offsets.items())},
            "no_offset_by_reason": dict(self.reasons.most_common()),
            "mends": dict(self.mends),
            "tolerance": None if verdicts is None else str(verdicts.tolerance),
            "verdicts": None if verdicts is None else dict(verdicts.videos),
        }


def judged(result: VideoResult) -> Judged:
    """A result as it is judged."""
    return Judged(result.video, result.tracks, result.left_out)


def in_order(file: Path) -> Iterator[VideoResult]:
    """The results in a file, by the names of their videos; one is held at a time."""
    places = sorted((result.video, begin) for begin, _, result in read_results(file))
    for _, begin in places:
        yield read_result(file, begin)


def write_reports(file: Path, part: str, tolerance: Tolerance | None) -> tuple[Summary, list[Path]]:
    """Write what people read of the results in a file, beside it; and which files those are.

    Args:
        part: of the videos, as `RunOptions.part`.
        tolerance: by which results.csv says what is in tolerance; None: it does not.

    Raises:
        RecordError: a result is not as it was written.
        OSError: they cannot be written.
    """
    out = file.parent
    table, mends, report = (
        out / name for name in (f"results{part}.csv", f"mends{part}.csv", f"report{part}.json")
    )
    summary = Summary(verdicts=None if tolerance is None else Counts(tolerance))
    with csv_of_tracks(table, tolerance) as write_rows:
        for result in in_order(file):
            with as_written(file, result):
                summary.add(result)
                write_rows(judged(result))
    if summary.mends:
        _write_mends(file, mends)
    write_json(report, summary.as_dict())
    return summary, [file, table, *([mends] if summary.mends else []), report]


def _write_mends(file: Path, path: Path) -> None:
    """A row for each video that says what --fix-dir did with it."""
    with (
        atomic_path(path) as partial,
        partial.open("w", encoding="utf-8", newline="") as text,
    ):
        writer = csv.DictWriter(text, MEND_COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for result in in_order(file):
            if result.mend is not None:
                with as_written(file, result):
                    moved = result.mend.get("moved_frames")
                    in_ms = {} if moved is None else {"moved_ms": moved * 1000 // FPS}
                    writer.writerow(as_cells({"video": result.video, **result.mend, **in_ms}))


@contextmanager
def as_written(file: Path, result: VideoResult) -> Iterator[None]:
    """Let a result that another hand has changed be refused in words.

    Raises:
        RecordError: a field of its tracks, or of its copy, is missing or of another kind.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise RecordError(
            f"{file} holds a result of {shown(result.video)} that is not as it was written "
            f"({shown(error)[:80]}); delete its line to have that video measured again"
        ) from None


def print_summary(summary: Summary, console: Console) -> None:
    """A few lines: how many offsets there are and where they lie, and why others are not."""
    sure, none = summary.trusted, sum(summary.reasons.values())
    console.print(
        f"{summary.videos} videos: {summary.videos - none} gave an offset, {none} none; "
        f"{summary.tracks} tracks, {sure} of them to be trusted"
    )
    if sure:
        early = sum(n for offset, n in summary.offsets.items() if offset > TOLERANCE)
        late = sum(n for offset, n in summary.offsets.items() if offset < -TOLERANCE)
        console.print(
            f"of the trusted {sure - early - late} are in sync within {TOLERANCE} frame, in "
            f"{early} the audio is early, in {late} late"
        )
        common, count = summary.offsets.most_common(1)[0]
        if common and count > 1:
            console.print(f"most often ({count} times): {in_words(common)}")
    for reason, count in summary.reasons.most_common(_REASONS):
        console.print(f"no offset ({count}): {shown(reason)}", soft_wrap=True)
    if summary.mends:
        counts = ", ".join(f"{count} {done}" for done, count in summary.mends.most_common())
        console.print(f"--fix-dir: {counts}")


def _reason(result: VideoResult) -> str:
    """Why a video gave no offset, without what is of this video alone."""
    if result.failure and result.failure != "no offset":
        return result.failure
    words = result.left_out[0] if result.left_out else "no track"
    # "track 003: too short (7 frames)": which track, and the figures, are not the reason
    return re.sub(r"^(track|part) [^:]*: |[:(].*", "", words).strip()
