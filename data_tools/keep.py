"""Which clips to train on, after they were scored: `keep.csv`, one row per clip.

    clip,score,offset,verdict,reason
    clip_00007,0.91,0,keep,
    clip_00008,0.84,5,realign,audio is 200 ms early; delay it by 200 ms
    clip_00009,0.12,-9,no minimum,no offset fits clearly better than others
    clip_00010,0.33,8,far,its offset is not where this set lies (-3 frames to +1 frame) ...

`clip` is the clip's key in its shard. Rows of another verdict than `keep` and `realign` are not
trained on, and neither are clips without a row. Shards stay as they are; deleting the file or
editing a row takes everything back.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_tools.atomic import atomic_path
from data_tools.manifest import ShardError
from data_tools.records import RecordError, number, read_table, whole_number

KEEP, REALIGN = "keep", "realign"
SHIFTED, NO_MINIMUM, FAR, UNREADABLE = "shifted", "no minimum", "far", "unreadable"
VERDICTS = (KEEP, REALIGN, SHIFTED, NO_MINIMUM, FAR, UNREADABLE)  # that scores lead to
POOR = "poor"  # by a rule of `python -m data_tools filter`
ALL_VERDICTS = (*VERDICTS, POOR)
COLUMNS = ["clip", "score", "offset", "verdict", "reason"]
_FARTHEST = 1000  # frames; an offset beyond is a slip of the pen


class KeepError(ShardError):
    """A keep.csv that cannot be honoured; names the line and what is wrong with it."""


@dataclass(frozen=True)
class Row:
    """What is known of one clip.

    Attributes:
        verdict: one of ALL_VERDICTS.
        score: larger is better; None where the clip could not be judged.
        offset: frames, positive: the audio is early; None where none was found.
        reason: in words.
    """

    verdict: str
    score: float | None = None
    offset: int | None = None
    reason: str = ""

    @property
    def used(self) -> bool:
        """Whether the clip is trained on."""
        return self.verdict in (KEEP, REALIGN)

    @property
    def audio_shift(self) -> int:
        """Frames to add to the frame at which the sound of a window begins; 0 but for realign.

        Sound that is early by k frames lies k frames before its picture.
        """
        return -self.offset if self.verdict == REALIGN and self.offset is not None else 0


def read_keep(path: Path) -> dict[str, Row]:
    """The rows of a keep.csv by clip key.

    Raises:
        KeepError: the file is missing, is no keep.csv, a line is wrong, or nothing is kept.
    """
    rows: dict[str, Row] = {}
    try:
        table = read_table(path)
        if next(table, ("", []))[1] != COLUMNS:
            raise KeepError(f"{path} is no keep.csv: its first line must be {','.join(COLUMNS)}")
        for where, (clip, *rest) in table:
            if not clip or clip in rows:
                wrong = f"{clip[:80]!r} is twice" if clip else "'' is not named"
                raise KeepError(f"{where}: clip {wrong}")
            rows[clip] = _row(where, *rest)
    except FileNotFoundError:
        raise KeepError(f"{path} does not exist; `python -m trainer.refine` writes it") from None
    except OSError as error:
        raise KeepError(f"{path} cannot be read: {error}") from None
    except KeepError:
        raise
    except RecordError as error:
        raise KeepError(str(error)) from None
    if not any(row.used for row in rows.values()):
        raise KeepError(f"{path} keeps no clip ({len(rows)} rows): nothing is left to train on")
    return rows


def _row(where: str, score: str, offset: str, verdict: str, reason: str) -> Row:
    if verdict not in ALL_VERDICTS:
        raise KeepError(f"{where}: verdict {verdict[:80]!r} is none of {', '.join(ALL_VERDICTS)}")
    value = number(score) if score else None
    if score and value is None:
        raise KeepError(f"{where}: score {score[:80]!r} is no number")
    frames = whole_number(offset) if offset else None
    if offset and frames is None:
        raise KeepError(f"{where}: offset {offset[:80]!r} is no whole number of frames")
    if frames is not None and abs(frames) > _FARTHEST:
        raise KeepError(f"{where}: offset {offset} is beyond {_FARTHEST} frames")
    if verdict == REALIGN and frames is None:
        raise KeepError(f"{where}: {REALIGN} needs an offset")
    return Row(verdict, value, frames, reason)


def write_keep(path: Path, rows: dict[str, Row]) -> None:
    """Write a keep.csv, sorted by clip; whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for clip, row in sorted(rows.items()):
        score = "" if row.score is None else f"{row.score:.6g}"
        offset = "" if row.offset is None else str(row.offset)
        writer.writerow([clip, score, offset, row.verdict, row.reason])
    with atomic_path(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def in_words(rows: Iterable[Row]) -> str:
    """How many clips have which verdict: "230 keep, 12 shifted, 14 no minimum"."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(
        f"{counts[verdict]:,} {verdict}" for verdict in ALL_VERDICTS if counts[verdict]
    )
