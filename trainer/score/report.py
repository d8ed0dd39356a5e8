"""What was measured, for people and programs: the terminal, CSV, JSON, a picture of the curves."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from data_tools.figure import save_figure
from data_tools.mfcc import FPS
from data_tools.names import shown
from trainer.score import over_time, speaking
from trainer.score.scoring import in_frames
from trainer.score.trust import TrackResult, percent

COLUMNS = (
    *("video", "track", "start_seconds", "end_seconds", "offset_frames", "offset_ms", "meaning"),
    *("confidence", "lse_d", "lse_c", "clearness", "probability", "windows", "speech", "trusted"),
    *("doubts", "notes"),
    *over_time.COLUMNS,
    *speaking.COLUMNS,
)

_GAP = 2  # blanks between the columns of the table
_NAME = 20  # characters that a name keeps before other columns are spared for it
_SPARED = ("LSE-D", "LSE-C", "seconds")  # columns that a narrow terminal goes without, in order
_MARK = "..."  # for what was left out of a name


def print_tracks(tracks: list[TrackResult], console: Console) -> None:
    """One line per track, as wide as the console at most; below, why some are not to be trusted,
    and what happened to the videos."""
    drawn = table(tracks, console.width)
    console.print(drawn)
    legend = "offset +: the audio is early"
    if any(column.header == "LSE-C" for column in drawn.columns):
        legend += "; LSE-C: confidence"
    if any(column.header == "LSE-D" for column in drawn.columns):
        legend += "; LSE-D: distance at the offset"
    console.print(legend, style="dim")
    for line in doubt_lines(tracks):
        console.print(line)
    for line in [*path_lines(tracks), *speaker_lines(tracks), *note_lines(tracks)]:
        console.print(line, soft_wrap=True)


def table(tracks: list[TrackResult], width: int | None = None) -> Table:
    """One row per track, in one line each.

    Args:
        width: of the terminal, characters: long names are cut in the middle, and where that is not
            enough, the columns of `_SPARED` are left out. No limit if None.
    """
    chances = any(track.probability is not None for track in tracks)
    cells = {
        "track": [track.track for track in tracks],
        "seconds": [f"{track.start_seconds:.1f}-{track.end_seconds:.1f}" for track in tracks],
        "offset": [f"{in_frames(t.offset_frames)}, {t.offset_ms:+d} ms" for t in tracks],
        "meaning (chance of being right)" if chances else "meaning": [_meaning(t) for t in tracks],
        "LSE-C": [f"{track.confidence:.2f}" for track in tracks],
        "LSE-D": [f"{track.score.distance:.2f}" for track in tracks],
    }
    names = [shown(Path(track.video).name) for track in tracks]
    if width is not None:
        longest = max(map(cell_len, ["video", *names]))
        for spared in _SPARED:
            if _room(cells, width) < min(longest, _NAME):
                del cells[spared]
        names = [_shortened(name, max(_room(cells, width), len(_MARK))) for name in names]
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for header in ("video", *cells):
        drawn.add_column(header, no_wrap=True)
    for row_cells in zip(names, *cells.values(), strict=True):
        drawn.add_row(*row_cells)
    return drawn


def _room(cells: dict[str, list[str]], width: int) -> int:
    """Characters that the other columns leave to the names of videos."""
    return width - sum(_GAP + max(map(cell_len, [head, *own])) for head, own in cells.items())


def _shortened(name: str, room: int) -> str:
    """A name with its middle left out, so that it takes no more than `room` characters."""
    if cell_len(name) <= room:
        return name
    head = tail = ""
    for index in range(len(name)):
        longer = (name[: len(head) + 1], tail) if index % 2 == 0 else (head, name[-len(tail) - 1 :])
        if cell_len("".join(longer)) + len(_MARK) > room:
            break
        head, tail = longer
    return f"{head}{_MARK}{tail}"


def _meaning(track: TrackResult) -> str:
    """What to do about a track, or the best guess, with its chance of being right."""
    chance = "" if track.probability is None else percent(track.probability)
    if not track.trusted:
        guess = f"best guess {track.offset_frames:+d}"
        return f"not sure ({guess}, {chance})" if chance else f"not sure ({guess})"
    if track.offset_frames == 0:
        words = "in sync"
    elif track.offset_frames > 0:
        words = "audio is early; delay it"
    else:
        words = "audio is late; advance it"
    return f"{words} ({chance})" if chance else words


def doubt_lines(tracks: list[TrackResult]) -> list[str]:
    """Each reason not to trust an offset once, with the tracks that it concerns."""
    concerned: dict[str, list[TrackResult]] = {}
    for track in tracks:
        for doubt in track.doubts:
            concerned.setdefault(doubt.reason, []).append(track)
    lines = []
    for reason, doubted in concerned.items():
        where = "" if len(tracks) == 1 else f": {_where(doubted, tracks)}"
        lines.append(f"not sure: {shown(reason)}{where}")
    return lines


def _where(doubted: list[TrackResult], tracks: list[TrackResult]) -> str:
    """Tracks in words, by their videos: "a.mp4; b.mp4 000, 003"."""
    if len(doubted) == len(tracks):
        return "every track"
    words = []
    for video, own in groupby(doubted, lambda track: track.video):
        names = [track.track for track in own]
        everything = len(names) == sum(track.video == video for track in tracks)
        name = shown(Path(video).name)
        words.append(name if everything else f"{name} {', '.join(names)}")
    return "; ".join(words)


def path_lines(tracks: list[TrackResult]) -> list[str]:
    """The offset over time of tracks where it changes, or where a while of them tells nothing."""
    return [
        f"{f'{shown(Path(track.video).name)} {track.track}'.strip()}: {over_time.in_words(track)}"
        for track in tracks
        if over_time.changes_or_gaps(track)
    ]


def speaker_lines(tracks: list[TrackResult]) -> list[str]:
    """Who speaks in each video that has several faces on screen at once."""
    lines = []
    for video, own in groupby(tracks, lambda track: track.video):
        if words := speaking.in_words(own):
            lines.append(f"{shown(Path(video).name)}: who speaks: {words}")
    return lines


def note_lines(tracks: list[TrackResult]) -> list[str]:
    """What happened to each video that its user should know, one line each."""
    lines = [f"{shown(Path(track.video).name)}: {note}" for track in tracks for note in track.notes]
    return list(dict.fromkeys(lines))  # its tracks all say the same


def row(track: TrackResult) -> dict[str, Any]:
    """Plain values, for CSV and JSON, by the names in COLUMNS."""
    score = track.score
    return {
        "video": track.video,
        "track": track.track,
        "start_seconds": round(track.start_seconds, 3),
        "end_seconds": round(track.end_seconds, 3),
        "offset_frames": track.offset_frames,
        "offset_ms": track.offset_ms,
        "meaning": track.meaning,
        "confidence": round(score.confidence, 4),
        "lse_d": round(score.distance, 4),
        "lse_c": round(score.confidence, 4),
        "clearness": round(score.clearness, 2),
        "probability": None if track.probability is None else round(track.probability, 3),
        "windows": track.windows,
        "speech": round(track.speech, 3),
        "trusted": track.trusted,
        "doubts": "; ".join(map(str, track.doubts)),
        "notes": "; ".join(track.notes),
        **over_time.columns(track),
        **speaking.columns(track),
    }


def as_json(tracks: list[TrackResult]) -> list[dict[str, Any]]:
    """Every track with its curves, as plain values."""
    return [
        row(track)
        | {
            "mean_distance_by_shift": {
                str(shift - track.score.reach): None if not np.isfinite(value) else float(value)
                for shift, value in enumerate(track.score.means_S)
            },
            "fit_by_shift": None
            if track.score.fit_S is None
            else {
                str(shift - track.score.reach): None if not np.isfinite(value) else float(value)
                for shift, value in enumerate(track.score.fit_S)
            },
            "frame_confidence": [
                None if np.isnan(value) else round(float(value), 4)
                for value in track.score.frames_K
            ],
            "face": None
            if track.face is None
            else {"seconds": round(track.face.seconds, 2), "box": list(track.face.box)},
        }
        | over_time.as_json(track)
        for track in tracks
    ]


def plot(tracks: list[TrackResult], path: Path) -> None:
    """Distance over shift, confidence and offset over time: a line of pictures a track, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 2.8 * len(tracks)), layout="constrained")
    grid = figure.subplots(len(tracks), 3, squeeze=False)
    for (left, right, course), track in zip(grid, tracks, strict=True):
        score = track.score
        # drawn over the offset, whose sign is opposite to the shift's
        offsets = score.reach - np.arange(2 * score.reach + 1)
        centred = score.fit_S is not None
        left.plot(offsets, score.curve_S if centred else score.means_S, "o-", ms=3)
        left.axvline(score.offset, color="#c8452f", lw=1)
        name = f"{shown(Path(track.video).name)} {track.track}".strip()
        said = filter(None, (track.meaning, speaking.role_in_words(track)))
        left.set_title(f"{name}: {', '.join(said)}", parse_math=False)
        left.set(
            xlabel="offset, frames (positive: audio early)",
            ylabel="fit (centred products)" if centred else "mean distance",
        )
        times = track.start_seconds + (np.arange(track.windows) + 2) / FPS
        right.plot(times, score.frames_K, lw=1)
        right.axhline(0, color="#888", lw=0.8)
        right.set(title="confidence over time", xlabel="seconds", ylabel="confidence")
        _draw_path(course, track)
        for axes in (left, right, course):
            axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=100)


def _draw_path(axes: Any, track: TrackResult) -> None:
    """The offset over time: sure stretches drawn through, unsure ones dashed."""
    for part in over_time.stretches(track):
        if part.begin_frames is not None:
            axes.plot(
                (part.begin_seconds, part.end_seconds),
                (part.begin_frames, part.end_frames),
                "-" if part.sure else "--",
                color="#c8452f" if part.sure else "#888",
                lw=2,
            )
    reach = track.score.reach
    axes.set(
        title="offset over time (dashed: not sure)",
        xlabel="seconds",
        ylabel="offset, frames (positive: audio early)",
        xlim=(track.start_seconds, track.end_seconds),
        ylim=(-reach - 0.5, reach + 0.5),
    )
