"""Put the sound of a video in its place, by the tracks that can be trusted, and measure again."""

import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from data_tools.mfcc import FPS
from data_tools.names import first_line, shown
from trainer.model.network import Network
from trainer.score.options import MeasureOptions
from trainer.score.report import as_json, print_tracks
from trainer.score.scoring import TOLERANCE, in_frames, in_words
from trainer.score.trust import SyncError, TrackResult
from trainer.score.video import try_measuring


@dataclass(frozen=True)
class Mended:
    """What became of a mend.

    Attributes:
        moved_frames: by which the sound is later in the copy; 0: in sync, so nothing was written.
        lacking: what the copy lacks of the video, in words.
        tracks: of the copy, measured again.
        left_out: tracks of it that could not be measured and why, in words.
        against: why the copy was not kept, in one sentence; empty if it was.
    """

    moved_frames: int
    lacking: tuple[str, ...] = ()
    tracks: tuple[TrackResult, ...] = ()
    left_out: tuple[str, ...] = ()
    against: str = ""

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

    Nothing is encoded anew. Where the sound is in place already nothing is written.

    Args:
        out: .mp4, .m4v, .mov, .mkv or .webm; an existing file is overwritten, the video never.
        tracks: what `trainer.score.video.measure` found.

    Raises:
        SyncError: nothing can be trusted, or the tracks disagree.
        OSError: `out` cannot be written.
    """
    from data_tools.video.remux import shifted
    from data_tools.video.remux_copy import RemuxError

    moved = offset_to_mend(tracks)
    if moved == 0:
        return Mended(0)
    again: list[TrackResult] = []
    left_out: list[str] = []
    lacking: list[str] = []
    against = ""
    try:
        with shifted(path, out, Fraction(moved, FPS)) as (copy, lacking):
            again, left_out = try_measuring(copy, network, options)
            again = [replace(track, video=str(out)) for track in again]
            if against := still_off(again):
                raise _NotKept
    except _NotKept:
        against = f"{against}; so {shown(out)} was not written"
    except RemuxError as error:
        against = first_line(error)
    return Mended(moved, tuple(lacking), tuple(again), tuple(left_out), against)


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
        raise SyncError(
            f"its tracks are off by {min(offsets)} to {max(offsets)} frames, which no one shift "
            "mends, so nothing was written; cut the video first"
        )
    return max(trusted, key=lambda score: score.clearness).offset


def still_off(again: list[TrackResult]) -> str:
    """What a second measurement after the mend says against it; empty if nothing."""
    if not again:
        return "the copy could not be measured again"
    offsets = [track.offset_frames for track in again if track.trusted]
    if not offsets:
        return "measured again, no offset can be trusted"
    worst = max(offsets, key=abs)
    if abs(worst) > TOLERANCE:
        return f"measured again, it is still off: {in_words(worst)}"
    return ""


def print_mended(mended: Mended, out: Path, console: Console) -> None:
    """What was done, and what the copy is found to be; on standard error what it lacks."""
    moved = mended.moved_frames
    if moved == 0:
        console.print("--fix: in sync, nothing to mend, so nothing was written")
    if not (mended.tracks or mended.left_out):
        return
    how_far = f"{abs(moved) * 1000 // FPS} ms {'later' if moved > 0 else 'earlier'}"
    console.print(
        f"{shown(out)}: the sound is {how_far} ({in_frames(moved)}); measured again:",
        soft_wrap=True,
    )
    if mended.tracks:
        print_tracks(list(mended.tracks), console)
    for line in mended.lacking + mended.left_out:
        print(f"{shown(out.name)}: {line}", file=sys.stderr)


def mended_as_json(mended: Mended) -> dict[str, Any]:
    """Plain values."""
    if mended.moved_frames == 0:
        return {"moved_frames": 0}
    return {
        "moved_frames": mended.moved_frames,
        "lacking": list(mended.lacking),
        "tracks": as_json(list(mended.tracks)),
        "written": mended.written,
    }
