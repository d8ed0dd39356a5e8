"""Which course mends a video, and when none is safe."""

from dataclasses import replace

import numpy as np
import pytest

from measured import track_result
from trainer.score.course import Course, course_in_words, plan_mend
from trainer.score.offset_path import OffsetPath, Segment
from trainer.score.trust import Doubt, SyncError, TrackResult, doubts_about

NAN = float("nan")


def part(first: int, last: int, begin: float, end: float | None = None) -> Segment:
    return Segment(first, last, begin, begin if end is None else end, 9.0)


def following(*segments: Segment, ppm: float = 0.0, start: float = 0.0) -> TrackResult:
    """A track with a path."""
    track, last = track_result(0), segments[-1].last
    path = OffsetPath(segments, ppm, 20.0)
    score = replace(track.score, path=path, frames_K=np.ones(last))
    doubts = doubts_about(score, 0.9, None)
    end = start + (last + 4) / 25
    return replace(track, score=score, start_seconds=start, end_seconds=end, doubts=doubts)


def test_a_jump_becomes_two_lines_and_half_a_second_to_cut_in() -> None:
    track = following(part(0, 248, 3), part(248, 496, -2))
    course = plan_mend([track])
    assert isinstance(course, Course)
    assert [round(line.early * 25) for line in course.lines] == [3, -2]
    assert course.changes == ((pytest.approx(9.5), pytest.approx(10.5)),)
    assert course_in_words(course, (10.1,), 20.0) == (
        "the sound is 120 ms later (+3 frames) until 10.10 s, then 80 ms earlier (-2 frames)"
    )


def test_a_drift_becomes_a_line_and_jumps_with_it_too() -> None:
    (line,) = plan_mend([following(part(0, 1496, -1.0, 2.0), ppm=2000.0)]).lines  # type: ignore[union-attr]
    assert line.growth == 0.002 and line.at(0) == pytest.approx(-0.04)
    assert line.at(59.84) * 25 == pytest.approx(2.0, abs=0.02)
    both = following(part(0, 748, -1.0, 0.5), part(748, 1496, 6.5, 8.0), ppm=2000.0)
    course = plan_mend([both])
    assert isinstance(course, Course) and [line.growth for line in course.lines] == [0.002] * 2
    assert "resampled to be 2,000 ppm slower" in course_in_words(course, (30.0,), 60.0)
    assert plan_mend([following(part(0, 1496, -0.4, 0.4), ppm=530.0)]) == 0


def test_what_is_in_sync_within_a_frame_is_not_mended() -> None:
    assert plan_mend([track_result(1)]) == plan_mend([track_result(-1), track_result(1)]) == 0
    assert plan_mend([track_result(1, 5.0), track_result(2, 8.0)]) == 2
    course = plan_mend([following(part(0, 248, 1), part(248, 496, 5))])  # the whole needs it
    assert isinstance(course, Course)
    assert [round(line.early * 25) for line in course.lines] == [1, 5]


def test_shots_of_their_own_offsets_follow_one_another() -> None:
    one = replace(track_result(3), start_seconds=0.0, end_seconds=6.0)
    two = replace(track_result(-2), start_seconds=6.0, end_seconds=12.0)
    course = plan_mend([two, one])
    assert isinstance(course, Course) and course.changes == ((5.5, 6.5),)
    alike = replace(track_result(4), start_seconds=6.0, end_seconds=12.0)
    assert plan_mend([one, alike]) in (3, 4)


@pytest.mark.parametrize(
    ("tracks", "why"),
    [
        ([following(part(0, 70, 3), part(70, 496, -2))], "lasts for 2.9 s only"),
        (
            [following(part(0, 200, 3), part(200, 400, NAN), part(400, 800, -2))],
            "changes between 0:08 and 0:16, where nothing tells when",
        ),
        ([following(part(0, 1496, 9.0, 14.9), ppm=4000.0)], "edge of the search"),
        (
            [replace(following(part(0, 248, 3), part(248, 496, -2)), doubts=(Doubt("mute"),))],
            "no offset can be trusted",
        ),
        (
            [following(Segment(0, 248, 3, 3, 0.1), Segment(248, 496, -2, -2, 0.1), ppm=900.0)],
            "no offset can be trusted",
        ),
        (
            [
                following(part(0, 248, 3), part(248, 496, -2)),
                replace(track_result(0), end_seconds=9),
            ],
            "its tracks are off by 0 to 3 frames",
        ),
    ],
)
def test_what_is_not_safe_is_refused(tracks: list[TrackResult], why: str) -> None:
    with pytest.raises(SyncError, match=why):
        plan_mend(tracks)
