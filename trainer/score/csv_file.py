"""CSV of what was measured: a row for each track, and one for everything that was left out."""

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_tools.atomic import atomic_path
from trainer.score.report import COLUMNS
from trainer.score.tolerance import Judged, Tolerance, track_verdict

VERDICT = "verdict"  # the column of a tolerance
_FILES = {"video", "file"}  # columns


@contextmanager
def csv_of_tracks(
    path: Path, tolerance: Tolerance | None = None
) -> Iterator[Callable[[Judged], None]]:
    """Yield a function that writes the rows of one video; the file is there when the body ends.

    What was left out has a row without an offset, why in `doubts`.

    Args:
        tolerance: by which the last column says what is in tolerance; None: there is no such
            column.

    Raises:
        OSError: the file cannot be written.
    """
    columns = (*COLUMNS, VERDICT) if tolerance else COLUMNS
    with (
        atomic_path(path) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()

        def write(video: Judged) -> None:
            for row in video.rows:
                verdict = {VERDICT: track_verdict(row, tolerance)} if tolerance else {}
                writer.writerow(as_cells(row | verdict))
            for reason in video.left_out:
                row = {"video": video.video, "trusted": False, "doubts": reason}
                writer.writerow(as_cells(row | {VERDICT: "no offset"}))

        yield write


def as_cells(row: dict[str, Any]) -> dict[str, Any]:
    """A row as every reader of CSV takes it.

    Bytes of a name that are no UTF-8 are written \\xNN, and what begins as a formula would, as the
    video "=1+2.mp4" does, as "./=1+2.mp4", which is the same file.
    """
    cells = {
        name: os.fsencode(value).decode(errors="backslashreplace")
        if isinstance(value, str)
        else value
        for name, value in row.items()
    }
    for name in _FILES & cells.keys():
        if cells[name].startswith(("=", "+", "-", "@")):
            cells[name] = f"./{cells[name]}"
    return cells
