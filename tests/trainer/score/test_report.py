"""What people read: one line per track, whatever the terminal; each reason once, below."""

import dataclasses
import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from measured import track_result
from trainer.score.report import COLUMNS, doubt_lines, note_lines, print_tracks, row, table
from trainer.score.trust import Doubt, TrackResult, doubts_about

LONG = "a very long name of a recording that nobody would ever type by hand, take 12, 日本語.mp4"


def hard_cases() -> list[TrackResult]:
    """Long names, far offsets, many doubts."""
    unclear = Doubt(
        "no clear minimum (chance of being right: 62 %, below the 80 % needed)",
        "no clear minimum (a chance of being right below the 80 % needed)",
    )
    unused = Doubt("only 80 % of the sound could be used: " + "1.00 s missing, " * 20)
    notes = ("the clock restarts at 3.0 s; what follows is read as one more shot",)
    several = doubts_about(track_result(15).score, 0.0, 0.05)
    cases = [
        (LONG, "part 1", -15, 0.621, (unclear, unused), notes),
        (LONG, "part 12", 15, 0.05, several, ()),
        ("talk.mp4", "000", 3, 0.97, (), ()),
        ("talk.mp4", "001", -12, 0.99, (), notes),
        ("noise.mp4", "000", 0, None, (unclear,), ()),
        ("\x1b[31m\n[bold]$x_{$ :smile:.mp4", "", 0, 0.8, (), ()),
    ]
    return [
        dataclasses.replace(
            track_result(offset),
            video=f"folder/{video}",
            track=name,
            start_seconds=3600.0,
            end_seconds=3725.5,
            probability=probability,
            doubts=doubts,
            notes=notes,
        )
        for video, name, offset, probability, doubts, notes in cases
    ]


def printed(tracks: list[TrackResult], width: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False, emoji=False)
    print_tracks(tracks, console)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 140, 160])
def test_a_track_is_one_line_that_fits(width: int) -> None:
    tracks = hard_cases()
    notes = note_lines(tracks)
    lines = [line for line in printed(tracks, width) if line not in notes]
    assert all(cell_len(line) <= width for line in lines)
    header, *rows = lines[: len(tracks) + 1]
    assert header.startswith("video") and "offset" in header and "meaning" in header
    for track, line in zip(tracks, rows, strict=True):
        assert f"{track.offset_frames:+d} frames, {track.offset_ms:+d} ms" in line
        assert ("not sure" in line) is not track.trusted
    assert lines[len(tracks) + 1].startswith("offset +: the audio is early")
    if width >= 100:
        assert "3600.0-3725.5" in rows[0] and ".mp4" in rows[0]


def test_not_sure_shows_the_best_guess_and_its_chance() -> None:
    lines = printed(hard_cases(), 100)
    assert "not sure (best guess -15, 62 %)" in lines[1]
    assert "not sure (best guess +15, 5 %)" in lines[2]
    assert "audio is early; delay it (97 %)" in lines[3]
    assert "audio is late; advance it (99 %)" in lines[4]
    assert "not sure (best guess +0)" in lines[5]
    assert "in sync (80 %)" in lines[6] and "\\x1b[3" in lines[6]


def test_each_reason_stands_once_with_its_tracks() -> None:
    tracks = hard_cases()
    said = doubt_lines(tracks)
    unclear = [line for line in said if "no clear minimum" in line]
    assert len(unclear) == 1 and unclear[0].startswith("not sure: no clear minimum")
    assert unclear[0].endswith(f"{LONG}; noise.mp4")
    (edge,) = [line for line in said if "edge of the search" in line]
    assert edge.endswith(f": {LONG} part 12")
    (unused,) = [line for line in said if "could be used" in line]
    assert unused.endswith(f": {LONG} part 1")
    assert doubt_lines(tracks[4:5]) == [f"not sure: {tracks[4].doubts[0].reason}"]
    both = [dataclasses.replace(tracks[4], track=name) for name in "01"]
    assert doubt_lines(both)[0].endswith(": every track")
    assert doubt_lines(tracks[2:4]) == []


def test_the_table_names_what_it_shows() -> None:
    shown = table([track_result(1)])
    headers = [str(column.header) for column in shown.columns]
    assert "LSE-C" in headers and "LSE-D" in headers
    assert list(shown.columns[3].cells) == ["+1 frame, +40 ms"]
    said = printed([track_result(1)], 100)
    assert "LSE-C: confidence" in said[2] and "LSE-D: distance" in said[2]


def test_notes_are_a_line_for_each_video_and_no_doubt() -> None:
    one, other = (
        dataclasses.replace(track_result(0), notes=("late", "chosen"), track=t) for t in "01"
    )
    assert note_lines([one, other]) == ["a.mp4: late", "a.mp4: chosen"]
    assert one.trusted and row(one)["notes"] == "late; chosen"
    assert COLUMNS[-9:-7] == ("doubts", "notes") and list(row(one)) == list(COLUMNS)
    doubt = "only 80 % of the sound could be used: 1.00 s of doubled sound"
    doubted = dataclasses.replace(track_result(0, doubts=(doubt,)), notes=("late",))
    assert row(doubted)["doubts"] == doubt
    assert doubted.notes == ("late",) and not doubted.trusted
