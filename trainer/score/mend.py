"""Put the sound of a video in its place, by the tracks that can be trusted, and measure again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from data_tools.mfcc import FPS
from data_tools.names import first_line, shown
from data_tools.video.course import Course
from trainer.model.network import Network
from trainer.score import over_time
from trainer.score.course import SIDE_SECONDS, course_in_words, parts_of, plan_mend
from trainer.score.options import MeasureOptions
from trainer.score.report import as_json, print_tracks
from trainer.score.scoring import TOLERANCE, in_frames, in_words
from trainer.score.trust import TrackResult
from trainer.score.video import try_measuring


@dataclass(frozen=True)
class Mended:
    """What became of a mend.

    Attributes:
        moved_frames: by which the sound is later in the copy; 0: in sync within a frame, so nothing
            was written; None: it was put in its place piece by piece.
        lacking: what the copy lacks of the video, in words.
        tracks: of the copy, measured again.
        left_out: tracks of it that could not be measured and why, in words.
        against: why the copy was not kept, in one sentence; empty if it was.
        course: how early the sound was all along, where no one shift mends it.
        moments: seconds at which it was cut or padded.
        encoded: how it was encoded, in words; empty if it was copied.
    """

    moved_frames: int | None
    lacking: tuple[str, ...] = ()
    tracks: tuple[TrackResult, ...] = ()
    left_out: tuple[str, ...] = ()
    against: str = ""
    course: Course | None = None
    moments: tuple[float, ...] = ()
    encoded: tuple[str, ...] = ()

    @property
    def written(self) -> bool:
        """Whether there is a copy."""
        return self.moved_frames != 0 and not self.against


class _NotKept(Exception):
    """Ends the copying without a copy."""


def mend_video(
    path: Path,
    out: Path,
    tracks: list[TrackResult],
    network: Network,
    options: MeasureOptions = MeasureOptions(),
) -> Mended:
    """Write a copy of a video with its sound in place, measured again; kept only if that agrees.

    Where one shift mends it nothing is encoded anew; where its offset jumps or drifts its sound is.
    Where the sound is in place within a frame already nothing is written.

    Args:
        out: .mp4, .m4v, .mov, .mkv or .webm; an existing file is overwritten, the video never.
        tracks: what `trainer.score.video.measure` found.

    Raises:
        SyncError: nothing can be trusted, the tracks disagree, or a change of the offset is not
            certain enough.
        OSError: `out` cannot be written.
    """
    from data_tools.video.remux_copy import RemuxError

    plan = plan_mend(tracks)
    if plan == 0:
        return Mended(0)
    mended = Mended(None, course=plan) if isinstance(plan, Course) else Mended(plan)
    try:
        with _copied(path, out, mended) as (copy, mended):
            again, left_out = try_measuring(copy, network, options)
            again = [replace(track, video=str(out)) for track in again]
            mended = replace(mended, tracks=tuple(again), left_out=tuple(left_out))
            against = still_off(again) or (mended.course and not_seen_again(tracks, again))
            if against:
                raise _NotKept
    except _NotKept:
        return replace(mended, against=f"{against}; so {shown(out)} was not written")
    except RemuxError as error:
        return replace(mended, against=_by_its_name(first_line(error), path, tracks[0].video))
    return mended


def _by_its_name(words: str, path: Path, video: str) -> str:
    """Words about a video by the name that it was given: it may be a URL's temporary copy."""
    return words.replace(shown(path), shown(video), 1)


@contextmanager
def _copied(path: Path, out: Path, mended: Mended) -> Iterator[tuple[Path, Mended]]:
    """The copy under a temporary name, and what became of it so far."""
    from data_tools.video.remux import retimed, shifted

    if mended.course is None:
        assert mended.moved_frames is not None
        with shifted(path, out, Fraction(mended.moved_frames, FPS)) as (copy, lacking):
            yield copy, replace(mended, lacking=tuple(lacking))
        return
    with retimed(path, out, mended.course) as (copy, lacking, encoded):
        yield (
            copy,
            replace(
                mended,
                lacking=tuple(lacking),
                moments=encoded.moments,
                encoded=encoded.words,
            ),
        )


def still_off(again: list[TrackResult]) -> str:
    """What a second measurement after the mend says against it; empty if nothing."""
    if not again:
        return "the copy could not be measured again"
    if changing := [track for track in again if track.score.path and track.score.path.changes]:
        return f"measured again, its offset still changes: {over_time.in_words(changing[0])}"
    offsets = [track.offset_frames for track in again if track.trusted]
    if not offsets:
        return "measured again, no offset can be trusted"
    worst = max(offsets, key=abs)
    if abs(worst) > TOLERANCE:
        return f"measured again, it is still off: {in_words(worst)}"
    return ""


def not_seen_again(tracks: list[TrackResult], again: list[TrackResult]) -> str:
    """Whether a part of a course lacks a track of the copy that can be trusted, in words."""
    for begin, end in parts_of(tracks):
        shared = (
            min(end, track.end_seconds) - max(begin, track.start_seconds)
            for track in again
            if track.trusted
        )
        if sum(max(0.0, seconds) for seconds in shared) < min(SIDE_SECONDS, (end - begin) / 2):
            where = f"from {over_time.clock(begin)} to {over_time.clock(end)}"
            return f"measured again, no offset can be trusted {where}"
    return ""


def print_mended(mended: Mended, out: Path, console: Console) -> None:
    """What was done, and what the copy is found to be; on standard error what it lacks."""
    moved = mended.moved_frames
    if moved == 0:
        console.print("--fix: in sync within a frame, nothing to mend, so nothing was written")
    if not (mended.tracks or mended.left_out):
        return
    done = "; ".join([done_in_words(mended), *mended.encoded])
    console.print(f"{shown(out)}: {done}; measured again:", soft_wrap=True)
    if mended.tracks:
        print_tracks(list(mended.tracks), console)
    for line in mended.lacking + mended.left_out:
        print(f"{shown(out.name)}: {line}", file=sys.stderr)


def done_in_words(mended: Mended) -> str:
    """What was done to the sound: "the sound is 200 ms later (+5 frames)"."""
    moved = mended.moved_frames
    if mended.course is not None:
        return course_in_words(mended.course, mended.moments, _length(mended))
    assert moved is not None
    how_far = f"{abs(moved) * 1000 // FPS} ms {'later' if moved > 0 else 'earlier'}"
    return f"the sound is {how_far} ({in_frames(moved)})"


def _length(mended: Mended) -> float:
    """Seconds from the first picture to the last of which something is known."""
    return max((track.end_seconds for track in mended.tracks), default=0.0)


def mended_as_json(mended: Mended) -> dict[str, Any]:
    """Plain values."""
    if mended.moved_frames == 0:
        return {"moved_frames": 0}
    return {
        "moved_frames": mended.moved_frames,
        "lacking": list(mended.lacking),
        "tracks": as_json(list(mended.tracks)),
        "written": mended.written,
        **_pieces(mended),
    }


def _pieces(mended: Mended) -> dict[str, Any]:
    """What was done piece by piece, as plain values; nothing where one shift did it."""
    course = mended.course
    if course is None or len(mended.moments) != len(course.lines) - 1 or not mended.encoded:
        return {}  # the copy could not be written, so nothing was cut
    bounds = [0.0, *mended.moments, _length(mended)]
    return {
        "pieces": [
            {
                "begin_seconds": round(begin, 3),
                "end_seconds": round(end, 3),
                "moved_begin_frames": round(line.at(begin) * FPS, 2),
                "moved_end_frames": round(line.at(end) * FPS, 2),
                "slower_ppm": round(line.growth * 1e6),
            }
            for line, begin, end in zip(course.lines, bounds[:-1], bounds[1:], strict=False)
        ],
        "encoded": list(mended.encoded),
        "words": done_in_words(mended),
    }
