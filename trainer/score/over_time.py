"""A track's offset over time, in words and plain values, on the video's own clock."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_tools.mfcc import FPS, WINDOW_FRAMES
from trainer.score.offset_path import OffsetPath
from trainer.score.trust import TrackResult

# Between sentences nobody speaks: shorter stretches without an answer are not worth a word.
TELL_SECONDS = 5.0
TELL_BETWEEN = 1.0  # seconds: a jump is said to be at a moment if it is known to half of that
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
        begin_between: between which seconds its offset takes over from another one, in 19 cases of
            20; None: none was before it.
    """

    begin_seconds: float
    end_seconds: float
    begin_frames: float | None
    end_frames: float | None
    sure: bool
    begin_between: tuple[float, float] | None = None


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
            _between(track, segment.begins),
        )
        for segment in path.segments
    ]


def _moment(track: TrackResult, window: int, first: bool) -> float:
    """When a bound of a segment is, seconds; the ends of a track are those of its pictures."""
    if window == 0 or (not first and window == track.windows):
        return track.start_seconds if window == 0 else track.end_seconds
    return track.start_seconds + (window + WINDOW_FRAMES // 2) / FPS


def _between(track: TrackResult, windows: tuple[int, int] | None) -> tuple[float, float] | None:
    if windows is None:
        return None
    earliest, latest = (_moment(track, window, first=True) for window in windows)
    return earliest, latest


@dataclass(frozen=True)
class Jump:
    """A change of the offset.

    Attributes:
        seconds: of the video, when it most likely is.
        from_frames, to_frames: the offset before it and behind it.
        between: seconds between which it surely is. Where nobody speaks, silence has no offset.
    """

    seconds: float
    from_frames: float
    to_frames: float
    between: tuple[float, float]

    @property
    def told_between(self) -> str:
        """Those, in words, where they are further apart than the moment of a jump is known to."""
        earliest, latest = self.between
        if latest - earliest <= TELL_BETWEEN:
            return ""
        return f"between {earliest:.1f} and {latest:.1f} s"


def jumps(track: TrackResult) -> list[Jump]:
    """Where a track's offset jumps; where nothing can be told around it, in the middle of that."""
    path = track.score.path
    found: list[Jump] = []
    if path is None:
        return found
    for one, two in path.jumps:
        end, begin = _moment(track, one.last, first=False), _moment(track, two.first, first=True)
        # unsure ones between them have moments of their own
        alone = not any(part.known and one.last <= part.first < two.first for part in path.segments)
        seconds = (end + begin) / 2
        earliest, latest = (alone and _between(track, two.begins)) or (end, begin)
        between = min(earliest, seconds), max(latest, seconds)
        found.append(Jump(seconds, one.end_frames, two.begin_frames, between))
    return found


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
        unclear = [
            jump.told_between
            for jump in jumps(track)
            if jump.told_between and not any(_holds(part, jump) for part in parts if not part.sure)
        ]
        if unclear:
            words += f" (it changes somewhere {', and '.join(unclear)})"
    return words + _drift(path)


def _holds(part: Stretch, jump: Jump) -> bool:
    return part.begin_seconds < jump.seconds < part.end_seconds


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
            f"{jump.seconds:.1f} s{f' ({jump.told_between})' if jump.told_between else ''}: "
            f"{jump.from_frames:+.0f} to {jump.to_frames:+.0f} frames"
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
                "begin_between_seconds": part.begin_between
                and [round(seconds, 2) for seconds in part.begin_between],
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
