"""By how much sound may be off: the industry's tolerances, and the verdicts that follow.

The sign is that of all offsets here: positive, the audio is early (heard before it is seen). The
documents write "sound advanced" or "audio leads" for it, and allow less of it than of late sound:
light is faster than sound, so people know late sound from life.
"""

import re
from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from data_tools.mfcc import FPS
from data_tools.names import shown

Verdict = Literal["in tolerance", "out of tolerance", "not sure", "no offset"]
VERDICTS: tuple[Verdict, ...] = ("in tolerance", "out of tolerance", "not sure", "no offset")

_NAMED = 3  # videos that the one line of the summary names
_FRAMES = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")


@dataclass(frozen=True)
class Tolerance:
    """How far sound may be off.

    Attributes:
        name: as --tolerance calls it.
        early_ms: by how many milliseconds it may come before the picture, 0 or more.
        late_ms: and after it, 0 or more.
        source: the document and what of it; empty for the user's own.
    """

    name: str
    early_ms: float
    late_ms: float
    source: str = ""

    def holds(self, offset_ms: float) -> bool:
        """Whether an offset (positive: early) lies within; the limits themselves do."""
        return -self.late_ms <= offset_ms <= self.early_ms

    def __str__(self) -> str:
        return f"{self.name}: audio at most {self.early_ms:g} ms early, {self.late_ms:g} ms late"


TOLERANCES = {
    known.name: known
    for known in (
        Tolerance(
            "ebu-r37",
            40,
            60,
            "EBU Recommendation R37-2007, the limits at the output that feeds transmitters "
            "(each stage of production before: 5 ms early, 15 ms late)",
        ),
        Tolerance(
            "bt1359",
            90,
            185,
            "Recommendation ITU-R BT.1359-1 (1998), threshold of acceptability, end to end",
        ),
        Tolerance(
            "bt1359-detectable",
            45,
            125,
            "Recommendation ITU-R BT.1359-1 (1998), threshold of detectability",
        ),
        Tolerance(
            "netflix",
            1000 / FPS,
            1000 / FPS,
            "Netflix Partner Help Center, Sync - Dialogue (an issue from 2 frames on) and Sync - "
            "Global Offset (one frame or less is for information)",
        ),
    )
}
"""By name. What each document says, and how it is known here:

ebu-r37: EBU Recommendation R37-2007, "The relative timing of the sound and vision components of a
television signal": sound no more than 40 ms before and 60 ms after the picture at the output that
feeds transmitters. The document itself could not be looked up when this was written, so no clause
is cited; EBU's page of it says which limits it sets, and tables of others give the figures.

bt1359, bt1359-detectable: Recommendation ITU-R BT.1359-1 (11/1998), "Relative timing of sound and
vision for broadcasting": detectable from +45 ms (sound advanced) and -125 ms (sound delayed) on,
acceptable to +90 ms and -185 ms. Nor could this one: both pairs are those of TV Technology
("Updating Lip Sync Issues", by the NAB's director of communications engineering).

netflix: Netflix's Partner Help Center, error codes "Sync - Dialogue": "at or more than 2 frames"
is an issue; "Sync - Global Offset (Audio)": 1 frame or less is for information. So one frame is
within, of 40 ms as all frames here. Its pages were read, older ones say "less than 100 ms".
"""


def read_tolerance(text: str | Tolerance) -> Tolerance:
    """The tolerance that --tolerance names, or as many frames of 40 ms either way.

    text: one that was read already is given back, as jsonargparse asks twice.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if isinstance(text, Tolerance):
        return text
    if text in TOLERANCES:
        return TOLERANCES[text]
    if not _FRAMES.fullmatch(text):
        raise ArgumentTypeError(
            f"must be {', '.join(TOLERANCES)} or a number of frames of {1000 // FPS} ms, not "
            f"{text[:100]!r}"
        )
    allowed = float(text) * 1000 / FPS
    return Tolerance(f"{text} frame{'' if float(text) == 1 else 's'}", allowed, allowed)


class Judged(NamedTuple):
    """A video that is to be judged.

    Attributes:
        video: its file, as it was given.
        rows: of its tracks, as `trainer.score.report.row`.
        left_out: what could not be measured and why, in words.
    """

    video: str
    rows: list[dict[str, Any]]
    left_out: list[str]


def sure_offsets(row: Mapping[str, Any]) -> list[float]:
    """The offsets of a track that can be trusted, milliseconds; none if none can.

    Its own, and where its row has parts with offsets of their own ("segments": it jumps or drifts),
    those at either end of each that is sure.
    """
    offsets = [row["offset_ms"]] if row["trusted"] else []
    for part in row.get("segments") or ():
        if part["sure"]:
            ends = part["begin_offset_frames"], part["end_offset_frames"]
            offsets += [end * 1000 / FPS for end in ends if end is not None]
    return offsets


def track_verdict(row: Mapping[str, Any], tolerance: Tolerance) -> Verdict:
    """What is said of a track: out of tolerance if any of its `sure_offsets` is."""
    offsets = sure_offsets(row)
    if not offsets:
        return "not sure"
    return "in tolerance" if all(map(tolerance.holds, offsets)) else "out of tolerance"


def video_verdict(video: Judged, tolerance: Tolerance) -> Verdict:
    """What is said of a video: out of tolerance if one of its tracks that can be trusted is."""
    said = {track_verdict(row, tolerance) for row in video.rows}
    for verdict in ("out of tolerance", "in tolerance", "not sure"):
        if verdict in said:
            return verdict
    return "no offset"


def worst_offset(video: Judged, tolerance: Tolerance) -> float:
    """The largest offset of a video that is out of tolerance, milliseconds."""
    offsets = [offset for row in video.rows for offset in sure_offsets(row)]
    return max((each for each in offsets if not tolerance.holds(each)), key=abs)


@dataclass
class Counts:
    """The verdicts on many videos, of which only the first few are held.

    Attributes:
        tolerance: by which they are judged.
        videos: how many got each verdict.
        out: the first videos that are out of tolerance, with their worst track, in words.
    """

    tolerance: Tolerance
    videos: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
    out: list[str] = field(default_factory=list)

    def add(self, video: Judged) -> Verdict:
        """One more video; what is said of it."""
        verdict = video_verdict(video, self.tolerance)
        self.videos[verdict] += 1
        if verdict == "out of tolerance" and len(self.out) < _NAMED:
            worst = worst_offset(video, self.tolerance)
            self.out.append(f"{shown(video.video)} {worst:+.0f} ms")
        return verdict

    def __str__(self) -> str:
        """One line: "verdict (ebu-r37: ...): 3 in tolerance, 1 out of tolerance (b.mp4 +120 ms)"
        and the rest."""
        parts = [f"{self.videos[verdict]} {verdict}" for verdict in VERDICTS]
        if self.out:
            more = self.videos["out of tolerance"] - len(self.out)
            names = ", ".join(self.out) + (f", {more} more" if more else "")
            parts[1] += f" ({names})"
        return f"verdict ({self.tolerance}): {', '.join(parts)}"
