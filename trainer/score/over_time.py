"""A track's offset over time, in words and plain values, on the video's own clock."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_tools.mfcc import FPS, WINDOW_FRAMES
from trainer.score.offset_path import OffsetPath
from trainer.score.trust import TrackResult

# Between sentences nobody speaks: shorter stretches without an answer are not worth a word.
TELL_SECONDS = 5.0
COLUMNS = ("over_time", "jumps", "drift_ppm", "drift_ms_per_minute")

_MS = 1000 // FPS  # of a frame


@dataclass(frozen=True)
class Stretch:
    """A part of a track.

    Attributes:
        begin_seconds, end_seconds: where it lies in the video.
        begin_frames, end_frames: its offset at either end, positive: the audio is early. They
            differ where it drifts, and are None where nothing can be told.
        sure: whether to believe that.
    """

    begin_seconds: float
    end_seconds: float
    begin_frames: float | None
    end_frames: float | None
    sure: bool


def stretches(track: TrackResult) -> list[Stretch]:
    """The parts of a track, which follow one another; none where its path was not asked for."""
    path = track.score.path
    if path is None:
        return []
    if not path.changes:
        # The whole track is believed or not by more than its own windows: by its calibration.
        # A short stretch of another offset is none of it, nor enough to be believed for itself.
        believed = {
            segment: segment.known
            and track.trusted
            and (segment.sure or abs(segment.begin_frames - track.score.offset) <= 1)
            for segment in path.segments
        }
    else:
        believed = {segment: segment.sure and track.followed for segment in path.segments}
    return [
        Stretch(
            _moment(track, segment.first, first=True),
            _moment(track, segment.last, first=False),
            segment.begin_frames if segment.known else None,
            segment.end_frames if segment.known else None,
            believed[segment],
        )
        for segment in path.segments
    ]


def _moment(track: TrackResult, window: int, first: bool) -> float:
    """When a bound of a segment is, seconds; the ends of a track are those of its pictures."""
    if window == 0 or (not first and window == track.windows):
        return track.start_seconds if window == 0 else track.end_seconds
    return track.start_seconds + (window + WINDOW_FRAMES // 2) / FPS


@dataclass(frozen=True)
class Jump:
    """A change of the offset: when, seconds of the video, from what and to what, frames."""

    seconds: float
    from_frames: float
    to_frames: float


def jumps(track: TrackResult) -> list[Jump]:
    """Where a track's offset jumps; where nothing can be told around it, in the middle of that."""
    path = track.score.path
    return [
        Jump(
            (_moment(track, one.last, first=False) + _moment(track, two.first, first=True)) / 2,
            one.end_frames,
            two.begin_frames,
        )
        for one, two in (path.jumps if path else ())
    ]


def in_words(track: TrackResult) -> str:
    """As a person needs it: "in sync from 0:00 to 1:12, then audio is 200 ms late"."""
    parts = _told(stretches(track))
    if not any(part.sure for part in parts):
        return "not sure"
    path = track.score.path
    assert path is not None
    if path.drift_ppm and not path.jumps:
        begin, end = _together([part for part in parts if part.begin_frames is not None])
        words = f"{_state(begin.begin_frames)} at {clock(begin.begin_seconds)}, "
        words += f"{_state(end.end_frames)} at {clock(end.end_seconds)}"
    else:
        said = []
        for number, part in enumerate(parts):
            state = "not sure" if not part.sure else _lines(part)
            span = f"from {clock(part.begin_seconds)} to {clock(part.end_seconds)}"
            said.append(state if number and number == len(parts) - 1 else f"{state} {span}")
        words = ", then ".join(said) if len(said) > 1 else _lines(parts[0])
    return words + _drift(path)


def changes_or_gaps(track: TrackResult) -> bool:
    """Whether its path is worth a line: it changes, or a trusted track is unsure for a while."""
    path = track.score.path
    if path is None:
        return False
    gaps = len(_told(stretches(track))) > 1
    return path.changes or (track.trusted and gaps)


def columns(track: TrackResult) -> dict[str, Any]:
    """Plain values, by the names in COLUMNS; None where they are unknown."""
    path = track.score.path
    if path is None:
        return dict.fromkeys(COLUMNS)
    tells = np.isfinite(path.drift_error_ppm)
    return {
        "over_time": in_words(track),
        "jumps": "; ".join(
            f"{jump.seconds:.1f} s: {jump.from_frames:+.0f} to {jump.to_frames:+.0f} frames"
            for jump in jumps(track)
        ),
        "drift_ppm": round(path.drift_ppm) if tells else None,
        "drift_ms_per_minute": round(_per_minute(path), 1) if tells else None,
    }


def as_json(track: TrackResult) -> dict[str, Any]:
    """The parts of a track and what a drift is known to, as plain values."""
    path = track.score.path
    if path is None:
        return {"segments": None, "drift_error_ppm": None}
    error = path.drift_error_ppm
    return {
        "segments": [
            {
                "begin_seconds": round(part.begin_seconds, 2),
                "end_seconds": round(part.end_seconds, 2),
                "begin_offset_frames": _rounded(part.begin_frames),
                "end_offset_frames": _rounded(part.end_frames),
                "sure": part.sure,
            }
            for part in stretches(track)
        ],
        "drift_error_ppm": round(error) if np.isfinite(error) else None,
    }


def clock(seconds: float) -> str:
    """A moment as "1:12", or "1:02:03" from an hour on."""
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _rounded(frames: float | None) -> float | None:
    return None if frames is None else round(frames, 2)


def _per_minute(path: OffsetPath) -> float:
    """Milliseconds that the offset grows by in a minute."""
    return path.drift_ppm * 60 / 1000


def _drift(path: OffsetPath) -> str:
    if not path.drift_ppm:
        return ""
    return f" (drift: {path.drift_ppm:+,.0f} ppm, {_per_minute(path):+.0f} ms a minute)"


def _told(parts: list[Stretch]) -> list[Stretch]:
    """Parts as they are worth telling: short gaps fall to what is before them, and neighbours that
    say the same are one."""
    told: list[Stretch] = []
    for part in parts:
        short = not part.sure and part.end_seconds - part.begin_seconds < TELL_SECONDS
        if told and (short or _alike(told[-1], part)):
            last = told[-1]
            ends = last.end_frames if short else part.end_frames
            told[-1] = Stretch(
                last.begin_seconds, part.end_seconds, last.begin_frames, ends, last.sure
            )
        else:
            told.append(part)
    if len(told) > 1 and not told[0].sure:
        first, second = told[:2]
        if first.end_seconds - first.begin_seconds < TELL_SECONDS:
            told[:2] = [
                Stretch(
                    first.begin_seconds,
                    second.end_seconds,
                    second.begin_frames,
                    second.end_frames,
                    second.sure,
                )
            ]
    return told


def _alike(one: Stretch, two: Stretch) -> bool:
    """Whether two neighbours say the same."""
    if not (one.sure and two.sure):
        return one.sure == two.sure
    assert one.end_frames is not None and two.begin_frames is not None
    return abs(one.end_frames - two.begin_frames) < 1


def _together(parts: list[Stretch]) -> tuple[Stretch, Stretch]:
    sure = [part for part in parts if part.sure]
    return sure[0], sure[-1]


def _lines(part: Stretch) -> str:
    """The offset of one part."""
    begin, end = _state(part.begin_frames), _state(part.end_frames)
    return begin if begin == end else f"{begin} and then {end}"


def _state(frames: float | None) -> str:
    if frames is None:
        return "not sure"
    ms = round(frames * _MS / 10) * 10
    if ms == 0:
        return "in sync"
    return f"audio is {abs(ms)} ms {'early' if ms > 0 else 'late'}"
