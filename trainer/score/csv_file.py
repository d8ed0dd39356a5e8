"""CSV of what was measured: a row for each track, and one for everything that was left out."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_tools.atomic import atomic_path
from trainer.score.report import COLUMNS
from trainer.score.tolerance import Judged, Tolerance, track_verdict

VERDICT = "verdict"  # the column of a tolerance


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
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()

        def write(video: Judged) -> None:
            for row in video.rows:
                verdict = {VERDICT: track_verdict(row, tolerance)} if tolerance else {}
                writer.writerow(row | verdict)
            for reason in video.left_out:
                row = {"video": video.video, "trusted": False, "doubts": reason}
                writer.writerow(row | {VERDICT: "no offset"})

        yield write
