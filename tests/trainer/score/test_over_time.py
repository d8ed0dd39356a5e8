"""Offsets over time in words and plain values."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from measured import track_result
from trainer.score.offset_path import OffsetPath, Segment
from trainer.score.over_time import as_json, changes_or_gaps, clock, columns, in_words, jumps
from trainer.score.report import path_lines, plot, row
from trainer.score.tolerance import sure_offsets
from trainer.score.trust import Doubt, TrackResult, doubts_about

NAN = float("nan")


def following(path: OffsetPath | None, start: float = 0.0) -> TrackResult:
    """A track with a path, a hundred seconds long at most."""
    track = track_result(0)
    last = path.segments[-1].last if path else 50
    score = dataclasses.replace(track.score, path=path, frames_K=np.ones(last))
    end = start + (last + 4) / 25
    doubts = doubts_about(score, 0.9, None)
    return dataclasses.replace(
        track, score=score, start_seconds=start, end_seconds=end, doubts=doubts
    )


def part(first: int, last: int, begin: float, end: float | None = None) -> Segment:
    return Segment(first, last, begin, begin if end is None else end, 9.0)


def test_a_jump_in_words_and_columns() -> None:
    track = following(OffsetPath((part(0, 1798, 0), part(1798, 2496, -5)), 0.0, 40.0))
    assert in_words(track) == "in sync from 0:00 to 1:12, then audio is 200 ms late"
    assert path_lines([track]) == [
        "a.mp4 000: in sync from 0:00 to 1:12, then audio is 200 ms late"
    ]
    assert [str(doubt) for doubt in track.doubts] == [
        "the offset changes over time, so that no one number holds"
    ]
    found = columns(track)
    assert found["jumps"] == "72.0 s: +0 to -5 frames"
    assert (found["drift_ppm"], found["drift_ms_per_minute"]) == (0, 0.0)
    assert row(track) | found == row(track)
    segments = as_json(track)["segments"]
    assert [one["end_seconds"] for one in segments] == [72.0, 100.0]
    assert [one["begin_offset_frames"] for one in segments] == [0, -5]


def test_a_jump_in_silence_is_said_to_lie_between_two_moments() -> None:
    late = dataclasses.replace(part(998, 1500, -5), begins=(973, 1023))
    track = following(OffsetPath((part(0, 998, 0), late)))
    words = "in sync from 0:00 to 0:40, then audio is 200 ms late"
    assert in_words(track) == f"{words} (it changes somewhere between 39.0 and 41.0 s)"
    assert columns(track)["jumps"] == "40.0 s (between 39.0 and 41.0 s): +0 to -5 frames"
    segments = as_json(track)["segments"]
    assert [one["begin_between_seconds"] for one in segments] == [None, [39.0, 41.0]]
    known = dataclasses.replace(late, begins=(986, 1011))
    assert in_words(following(OffsetPath((part(0, 998, 0), known)))) == words
    # where nothing is known between, that is the range; it is said once
    gap = OffsetPath((part(0, 900, 0), part(900, 1000, NAN), part(1000, 1500, -5)))
    assert "(it changes somewhere between 36.1 and 40.1 s)" in in_words(following(gap))
    long = OffsetPath((part(0, 800, 0), part(800, 1000, NAN), part(1000, 1500, -5)))
    assert "not sure from 0:32 to 0:40" in in_words(following(long))
    assert "somewhere" not in in_words(following(long))
    assert "(between 32.1 and 40.1 s)" in columns(following(long))["jumps"]


def test_moments_are_those_of_the_video_not_of_the_track() -> None:
    track = following(OffsetPath((part(0, 250, 3), part(250, 500, 0))), start=60.0)
    (jump,) = jumps(track)
    assert jump.seconds == pytest.approx(70.08)
    assert in_words(track) == "audio is 120 ms early from 1:00 to 1:10, then in sync"


def test_a_drift_in_words() -> None:
    track = following(OffsetPath((part(0, 1496, 1.0, -0.5),), -1000.0, 50.0))
    assert in_words(track) == (
        "audio is 40 ms early at 0:00, audio is 20 ms late at 1:00 "
        "(drift: -1,000 ppm, -60 ms a minute)"
    )
    assert columns(track)["drift_ms_per_minute"] == -60.0
    assert as_json(track)["drift_error_ppm"] == 50


def test_gaps_are_told_if_they_are_long() -> None:
    short = OffsetPath((part(0, 500, 1), part(500, 560, NAN), part(560, 1000, 1)))
    assert in_words(following(short)) == "audio is 40 ms early"
    assert not changes_or_gaps(following(short))
    long = OffsetPath((part(0, 500, 1), part(500, 750, NAN), part(750, 1246, 1)))
    assert in_words(following(long)) == (
        "audio is 40 ms early from 0:00 to 0:20, then not sure from 0:20 to 0:30, "
        "then audio is 40 ms early"
    )
    assert changes_or_gaps(following(long))
    assert path_lines([following(long), following(short)]) != []


def test_a_short_stretch_of_another_offset_is_not_believed() -> None:
    end = Segment(700, 740, 8.0, 8.0, 9.0)
    track = following(OffsetPath((part(0, 700, 0), end)))
    assert not track.score.path.jumps and track.trusted  # type: ignore[union-attr]
    assert [one["sure"] for one in as_json(track)["segments"]] == [True, False]
    assert "early" not in in_words(track)


def test_what_is_not_trusted_is_not_told() -> None:
    weak = Segment(0, 300, 4.0, 4.0, 1.0)
    track = dataclasses.replace(
        following(OffsetPath((weak,))), doubts=track_result(0, 0, ("x",)).doubts
    )
    assert in_words(track) == "not sure" and not changes_or_gaps(track)
    without = following(None)
    assert columns(without) == dict.fromkeys(columns(track))
    assert as_json(without)["segments"] is None and path_lines([without]) == []


def test_a_path_is_not_believed_where_something_speaks_against_it() -> None:
    """As --fix does not follow it, so does --strict."""
    track = following(OffsetPath((part(0, 250, 3), part(250, 500, 0))))
    assert [one["sure"] for one in as_json(track)["segments"]] == [True, True]
    heard = dataclasses.replace(track, doubts=(*track.doubts, Doubt("another face speaks")))
    assert [one["sure"] for one in as_json(heard)["segments"]] == [False, False]
    assert in_words(heard) == "not sure" and sure_offsets(row(heard) | as_json(heard)) == []


def test_a_short_track_tells_no_drift() -> None:
    track = following(OffsetPath((part(0, 100, 0),)))
    assert columns(track)["drift_ppm"] is None and as_json(track)["drift_error_ppm"] is None


def test_moments_as_people_write_them() -> None:
    assert [clock(s) for s in (0, 59.6, 72, 3723)] == ["0:00", "1:00", "1:12", "1:02:03"]


def test_the_picture_has_the_path(tmp_path: Path) -> None:
    track = following(OffsetPath((part(0, 250, 3), part(250, 300, NAN), part(300, 500, 0))))
    plot([track, following(None)], tmp_path / "path.png")
    assert (tmp_path / "path.png").stat().st_size > 10_000
