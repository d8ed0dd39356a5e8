"""What a page says of a video, from the rows of its tracks: verdicts in words, figures, reasons."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from data_tools.mfcc import FPS
from data_tools.names import shown
from trainer.page.charts import MS, parts_of
from trainer.score.over_time import clock
from trainer.score.report import COLUMNS
from trainer.score.scoring import TOLERANCE
from trainer.score.speaking import role_words
from trainer.score.tolerance import Judged, Tolerance, track_verdict
from trainer.score.trust import percent

Status = Literal["off", "changes", "unsure", "none", "ok"]
ORDER: tuple[Status, ...] = ("off", "changes", "unsure", "none", "ok")  # what needs a look first
SIGNS: Mapping[Status, str] = {"off": "✕", "changes": "↯", "unsure": "?", "none": "–", "ok": "✓"}
LABELS: Mapping[Status, str] = {
    "off": "out of sync",
    "changes": "offset changes",
    "unsure": "not sure",
    "none": "no offset",
    "ok": "in sync",
}

# Fields of a row that a page draws or says elsewhere; any other that is plain it lists as it is.
_SAID = {
    *COLUMNS,
    *("mean_distance_by_shift", "fit_by_shift", "frame_confidence", "segments"),
    *("drift_error_ppm", "face", "speaking"),
}


@dataclass(frozen=True)
class Verdict:
    """A verdict: its kind, which decides sign and colour, and in words."""

    status: Status
    words: str

    @property
    def sign(self) -> str:
        """A sign, so that nobody needs the colour."""
        return SIGNS[self.status]


@dataclass(frozen=True)
class TrackView:
    """A track as a page shows it.

    Attributes:
        row: as `trainer.score.report.as_json` gives it.
        name, span: in words.
        verdict: on it.
        details: more in words, a line each.
        doubts: why it is not to be trusted.
        figures: names and values of its figures.
        followed: whether there is anything to draw of its offset over time.
        picture: its face, a JPEG as a data URI; empty without one.
    """

    row: Mapping[str, Any]
    name: str
    span: str
    verdict: Verdict
    details: list[str]
    doubts: list[str]
    figures: list[tuple[str, str]]
    followed: bool
    picture: str = ""


@dataclass(frozen=True)
class VideoView:
    """A video as a page shows it.

    Attributes:
        name: its file's, in words.
        seconds: of its timeline.
        verdict: on it.
        tracks: of it.
        left_out: what was left out and why.
        notes: what its user should know, and what became of its mend.
        mend: the offset that is to be mended: stretches of [from, to] seconds with milliseconds at
            either end, positive: delay the sound.
        mend_words: what it does, for a button.
        source: its file as the page's URL for it; empty where it cannot be played.
        data: its file in base64, where the page holds it.
    """

    name: str
    seconds: float
    verdict: Verdict
    tracks: list[TrackView]
    left_out: list[str]
    notes: list[str] = field(default_factory=list)
    mend: list[dict[str, float]] = field(default_factory=list)
    mend_words: str = ""
    source: str = ""
    data: str = ""


def track_status(row: Mapping[str, Any], tolerance: Tolerance | None) -> Status:
    """What is said of a track; by a tolerance, if there is one."""
    if tolerance is not None:
        verdict = track_verdict(row, tolerance)
        if verdict != "out of tolerance":
            return "ok" if verdict == "in tolerance" else "unsure"
        return "changes" if changes(row) else "off"
    if row["trusted"]:
        return "ok" if abs(row["offset_frames"]) <= TOLERANCE else "off"
    return "changes" if changes(row) else "unsure"


def changes(row: Mapping[str, Any]) -> bool:
    """Whether a track's offset jumps or drifts, and something of that is sure."""
    moves = bool(row.get("jumps") or row.get("drift_ppm"))
    return moves and any(part["sure"] for part in row.get("segments") or ())


def track_verdict_words(row: Mapping[str, Any], tolerance: Tolerance | None) -> Verdict:
    """The verdict on a track, in words for people."""
    status = track_status(row, tolerance)
    if changes(row):
        words = f"The offset changes: {row['over_time']}"
    elif row["trusted"]:
        words = _sure_words(row)
    else:
        words = f"Not sure; best guess: {row['offset_ms']:+d} ms"
    if tolerance is not None:
        words += f" ({track_verdict(row, tolerance)}, {tolerance.name})"
    return Verdict(status, words)


def video_verdict(rows: Sequence[Mapping[str, Any]], tolerance: Tolerance | None) -> Verdict:
    """The verdict on a video: of all its tracks what needs a look first."""
    if not rows:
        return Verdict("none", "No offset could be measured")
    status = min((track_status(row, tolerance) for row in rows), key=ORDER.index)
    sure = [row for row in rows if row["trusted"]]
    if not sure and status == "unsure":
        (row, *more) = rows
        best = f"; best guess: {row['offset_ms']:+d} ms" if not more else ""
        return Verdict(status, f"Not sure{best}")
    if status == "unsure":  # some are sure, and those are in sync
        status = "ok"
    if status == "changes":
        changing = [row for row in rows if changes(row)]
        longest = max(changing, key=lambda row: row["end_seconds"] - row["start_seconds"])
        return Verdict(status, f"The offset changes: {longest['over_time']}")
    offsets = [row["offset_frames"] for row in sure]
    if offsets and max(offsets) - min(offsets) > TOLERANCE:
        low, high = min(offsets) * MS, max(offsets) * MS
        return Verdict(status, f"Its faces differ: by {low:+d} to {high:+d} ms")
    # The sign and the words are of one track.
    alike = [row for row in sure or rows if track_status(row, tolerance) == status]
    return Verdict(status, _sure_words(max(alike or sure or rows, key=_clearness)))


def _clearness(row: Mapping[str, Any]) -> float:
    return row["clearness"] or 0.0


def video_view(
    video: Judged,
    tolerance: Tolerance | None,
    seconds: float = 0.0,
    more: Sequence[str] = (),
) -> VideoView:
    """What a page says of a video, but for its pictures.

    Args:
        seconds: its length, if that is known.
        more: lines to say besides, such as of its mend.
    """
    rows = video.rows
    ends = [row["end_seconds"] for row in rows]
    notes = [note for row in rows if row["notes"] for note in row["notes"].split("; ")]
    mend, words = _mend(rows)
    return VideoView(
        shown(video.video),
        max([seconds, *ends, 1.0]),
        video_verdict(rows, tolerance),
        [_track_view(row, tolerance) for row in rows],
        [shown(line) for line in video.left_out],
        [*dict.fromkeys(map(shown, notes)), *more],
        mend,
        words,
    )


def _track_view(row: Mapping[str, Any], tolerance: Tolerance | None) -> TrackView:
    details = []
    if row.get("over_time") and not changes(row) and row["over_time"] != "not sure":
        details.append(f"Over time: {row['over_time']}")
    if row.get("jumps"):
        details.append(f"Jumps at {row['jumps']}")
    if row.get("drift_ppm"):
        details.append(f"Drift: {row['drift_ms_per_minute']:+.1f} ms a minute")
    if said := _role(row):
        details.append(said)
    doubts = row["doubts"].split("; ") if row["doubts"] else []
    return TrackView(
        row,
        shown(f"Face {row['track']}" if row["track"] else "The whole picture"),
        f"{clock(row['start_seconds'])} to {clock(row['end_seconds'])}",
        track_verdict_words(row, tolerance),
        [shown(line) for line in details],
        [shown(line) for line in doubts],
        _figures(row),
        any(part["begin_offset_frames"] is not None for part in parts_of(row)),
    )


def _role(row: Mapping[str, Any]) -> str:
    """What a face does while others are on screen; "" where that is not known."""
    role, share = row.get("speaker"), row.get("speaking")
    if role == "not sure":
        return "Not sure whether it speaks"
    if role not in ("speaks", "listens") or not isinstance(share, int | float):
        return ""
    return role_words(role, share).capitalize()


def _figures(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    chance = row.get("probability")
    figures = [
        ("offset", f"{row['offset_frames']:+d} frames, {row['offset_ms']:+d} ms"),
        ("chance of being right", "not known" if chance is None else percent(chance)),
        ("LSE-C (confidence)", _number(row["lse_c"])),
        ("LSE-D (distance)", _number(row["lse_d"])),
        ("clearness", f"{_number(row['clearness'])} deviations"),
        ("speech", percent(row["speech"])),
        ("length", f"{row['end_seconds'] - row['start_seconds']:.1f} s"),
    ]
    for name, value in row.items():
        if name in _SAID or value is None or not isinstance(value, str | int | float):
            continue
        said = f"{value:.4g}" if isinstance(value, float) else str(value)
        figures.append((shown(name.replace("_", " ")), shown(said)))
    return figures


def _number(value: float | None) -> str:
    """A figure that JSON may lack: it knows no NaN."""
    return "not known" if value is None or not math.isfinite(value) else f"{value:.2f}"


def _mend(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, float]], str]:
    """By what the sound is to be delayed through the video, and in words; of one track."""
    if not rows:
        return [], ""
    moving = [row for row in rows if changes(row)]
    row = max(moving or rows, key=lambda row: (row["trusted"], row["clearness"] or 0.0))
    if not moving:
        delay = row["offset_frames"] * MS
        stretch = {"from": 0.0, "to": 0.0, "begin": delay, "end": delay}
        said = "in sync" if not delay else f"{abs(delay)} ms {'later' if delay > 0 else 'earlier'}"
        return [stretch], said if row["trusted"] else f"best guess: {said}"
    stretches = [
        {
            "from": part["begin_seconds"],
            "to": part["end_seconds"],
            "begin": part["begin_offset_frames"] * 1000 / FPS,
            "end": part["end_offset_frames"] * 1000 / FPS,
        }
        for part in parts_of(row)
        if part["sure"] and part["begin_offset_frames"] is not None
    ]
    return stretches, "as it changes"


def _sure_words(row: Mapping[str, Any]) -> str:
    """What an offset that can be trusted means; one frame is what measuring can be off by."""
    if 0 < abs(row["offset_frames"]) <= TOLERANCE:
        return f"In sync within a frame ({row['offset_ms']:+d} ms)"
    words: str = row["meaning"]
    return words[:1].upper() + words[1:]
