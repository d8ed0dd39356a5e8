"""What is to be done to a video's sound, by its tracks: one shift, or a course of several.

Only what is safe: a jump is mended where at least `SIDE_SECONDS` on either side of it tell where
they belong, and at most `GAP_SECONDS` between them tell nothing. Where that does not hold, nothing
is mended, and the reason is said.
"""

import itertools
from dataclasses import dataclass, replace

from data_tools.mfcc import FPS
from data_tools.video.course import Course, Line
from trainer.score.offset_path import LEAST_JUMP
from trainer.score.over_time import clock, stretches
from trainer.score.scoring import TOLERANCE, in_frames
from trainer.score.trust import SyncError, TrackResult

SIDE_SECONDS = 4.0
GAP_SECONDS = 5.0
_UNSURE = 0.5  # seconds to either side within which the moment of a jump is known
_SAME = 0.5  # frames: the offset of one stretch and the next, if that is no jump
_OVERLAP = 1.0  # seconds that two tracks share before they are seen at once
_IN_SYNC = 0.5  # frames


@dataclass(frozen=True)
class _Part:
    """A while of one line, seconds from the first picture on."""

    begin: float
    end: float
    line: Line

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def plan_mend(tracks: list[TrackResult]) -> int | Course:
    """What mends a video: frames by which all of its sound is to be later, or a course.

    0 where it is in sync within a frame all along: so much is the error of the measurement, and a
    copy could be worse.

    Raises:
        SyncError: nothing can be trusted, tracks disagree, or a change is not certain enough; says
            why.
    """
    if not any(track.followed for track in tracks):
        offsets = [track.offset_frames for track in tracks if track.trusted]
        if offsets and max(map(abs, offsets)) <= TOLERANCE:
            return 0
        if not offsets or max(offsets) - min(offsets) <= TOLERANCE:
            return offset_to_mend(tracks)
    parts = _checked(tracks)
    lines = tuple(part.line for part in parts)
    if len(lines) == 1 and lines[0].growth == 0:
        moved = round(lines[0].early * FPS)
        return 0 if abs(moved) <= TOLERANCE else moved
    (only, *more) = parts
    ends = (only.line.at(only.begin), only.line.at(only.end))
    if not more and max(map(abs, ends)) * FPS <= _IN_SYNC:
        return 0
    changes = tuple(
        (
            max(one.end - _UNSURE, one.begin + SIDE_SECONDS / 2),
            min(max(two.begin, one.end) + _UNSURE, two.end - SIDE_SECONDS / 2),
        )
        for one, two in itertools.pairwise(parts)
    )
    return Course(lines, changes)


def parts_of(tracks: list[TrackResult]) -> list[tuple[float, float]]:
    """Between which seconds the offset of a video follows one line each, as `plan_mend` takes it.

    Raises:
        SyncError: as `plan_mend`.
    """
    return [(part.begin, part.end) for part in _checked(tracks)]


def _checked(tracks: list[TrackResult]) -> list[_Part]:
    parts = _joined(sorted(_parts(tracks), key=lambda part: part.begin))
    if not parts:  # a path that changes, no part of which is sure
        raise SyncError("no offset can be trusted, so nothing was written")
    if len(parts) > 1:
        _check_sides(parts)
    return parts


def offset_to_mend(tracks: list[TrackResult]) -> int:
    """Frames by which the sound of a video is to be moved, by its tracks that can be trusted.

    Raises:
        SyncError: there is none, or they disagree by more than a frame.
    """
    if not tracks:
        raise SyncError("nothing was measured, so nothing was written")
    trusted = [track.score for track in tracks if track.trusted]
    if not trusted:
        raise SyncError("no offset can be trusted, so nothing was written")
    offsets = [score.offset for score in trusted]
    if max(offsets) - min(offsets) > TOLERANCE:
        raise _disagree(min(offsets), max(offsets))
    return max(trusted, key=lambda score: score.clearness).offset


def _disagree(least: float, most: float) -> SyncError:
    return SyncError(
        f"its tracks are off by {least:.0f} to {most:.0f} frames, which no one shift "
        "mends, so nothing was written; cut the video first"
    )


def _parts(tracks: list[TrackResult]) -> list[_Part]:
    """What can be believed of every track.

    Raises:
        SyncError: an offset lies at the edge of the search.
    """
    parts = []
    for track in tracks:
        if track.trusted:
            line = Line(track.offset_frames / FPS)
            parts.append(_Part(track.start_seconds, track.end_seconds, line))
        elif track.followed:
            parts += _followed(track)
    return parts


def _followed(track: TrackResult) -> list[_Part]:
    path = track.score.path
    assert path is not None
    growth = path.drift_ppm / 1e6
    parts: list[_Part] = []
    for one in stretches(track):
        if not one.sure or one.begin_frames is None or one.end_frames is None:
            continue
        if max(abs(one.begin_frames), abs(one.end_frames)) > track.score.reach - 0.5:
            raise SyncError(
                f"at {clock(one.begin_seconds)} its offset lies at the edge of the search, so "
                "nothing was written; try a larger --max-shift"
            )
        line = Line(one.begin_frames / FPS - growth * one.begin_seconds, growth)
        part = _Part(one.begin_seconds, one.end_seconds, line)
        if parts and _apart(parts[-1], part) < LEAST_JUMP - _SAME:
            parts[-1] = _longer(parts[-1], part)
        else:
            parts.append(part)
    return parts


def _joined(parts: list[_Part]) -> list[_Part]:
    """Parts that follow one another, neighbours that agree within a frame joined.

    Raises:
        SyncError: two at once disagree.
    """
    joined: list[_Part] = []
    for part in parts:
        if joined and _apart(joined[-1], part) <= TOLERANCE:
            joined[-1] = _longer(joined[-1], part)
        elif joined and part.begin < joined[-1].end - _OVERLAP:
            offsets = sorted(one.line.at(part.begin) * FPS for one in (joined[-1], part))
            raise _disagree(offsets[0], offsets[1])
        else:
            joined.append(part)
    return joined


def _apart(one: _Part, two: _Part) -> float:
    """Frames between the lines of two parts, of which the second begins later, at most."""
    begin, end = two.begin, max(one.end, two.end)
    apart = (abs(one.line.at(at) - two.line.at(at)) for at in (begin, end))
    return max(apart) * FPS


def _longer(one: _Part, two: _Part) -> _Part:
    """Both, with the line of the longer."""
    longer = max(one, two, key=lambda part: part.seconds)
    return replace(longer, begin=one.begin, end=max(one.end, two.end))


def _check_sides(parts: list[_Part]) -> None:
    """Whether jumps may be mended.

    Raises:
        SyncError: one may not.
    """
    for part in parts:
        if part.seconds < SIDE_SECONDS:
            raise SyncError(
                f"its offset changes, but from {clock(part.begin)} to {clock(part.end)} it lasts "
                f"for {part.seconds:.1f} s only, fewer than the {SIDE_SECONDS:g} s needed to move "
                "sound safely, so nothing was written"
            )
    for one, two in itertools.pairwise(parts):
        if two.begin - one.end > GAP_SECONDS:
            raise SyncError(
                f"its offset changes between {clock(one.end)} and {clock(two.begin)}, where "
                "nothing tells when, so nothing was written; cut the video there first"
            )


def course_in_words(course: Course, moments: tuple[float, ...], seconds: float) -> str:
    """What a course does: "the sound is 200 ms later (+5 frames) until 0:10, then as it was".

    Args:
        moments: seconds at which each line gives way to the next.
        seconds: length of the video.
    """
    words = []
    bounds = (0.0, *moments, seconds)
    for number, line in enumerate(course.lines):
        until = f" until {bounds[number + 1]:.2f} s" if number < len(moments) else ""
        words.append(_line_in_words(line, bounds[number], bounds[number + 1]) + until)
    return "the sound is " + ", then ".join(words)


def _line_in_words(line: Line, begin: float, end: float) -> str:
    if not line.growth:
        return _moved(line.early)
    ppm = line.growth * 1e6
    return (
        f"{_moved(line.at(begin), digits=1)} at first and {_moved(line.at(end), digits=1)} at last "
        f"(resampled to be {abs(ppm):,.0f} ppm {'slower' if ppm > 0 else 'faster'})"
    )


def _moved(seconds: float, digits: int = 0) -> str:
    frames, ms = seconds * FPS, round(seconds * 1000)
    if ms == 0:
        return "as it was"
    so_many = f"{frames:+.{digits}f} frames" if digits else in_frames(round(frames))
    return f"{abs(ms)} ms {'later' if ms > 0 else 'earlier'} ({so_many})"
