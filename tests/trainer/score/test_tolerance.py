"""Which offsets are in tolerance: figures, signs, verdicts."""

from argparse import ArgumentTypeError

import pytest

from measured import track_result
from trainer.score.report import row
from trainer.score.scoring import in_words
from trainer.score.tolerance import (
    TOLERANCES,
    Counts,
    Judged,
    Tolerance,
    read_tolerance,
    track_verdict,
    video_verdict,
    worst_offset,
)


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        ("ebu-r37", 40, 60),
        ("bt1359", 90, 185),
        ("bt1359-detectable", 45, 125),
        ("netflix", 40, 40),
        ("2", 80, 80),
        ("1.5", 60, 60),
        ("0", 0, 0),
    ],
)
def test_early_and_late_have_limits_of_their_own(name: str, early: int, late: int) -> None:
    tolerance = read_tolerance(name)
    assert tolerance.holds(early) and not tolerance.holds(early + 1)
    assert tolerance.holds(-late) and not tolerance.holds(-late - 1)
    assert read_tolerance(tolerance) is tolerance  # jsonargparse asks twice


@pytest.mark.parametrize("words", ["", "ebu", "-1", "1e9", "nan", "1,5"])
def test_what_is_no_tolerance_is_refused(words: str) -> None:
    with pytest.raises(ArgumentTypeError, match="ebu-r37, bt1359"):
        read_tolerance(words)


def test_a_tolerance_means_by_early_what_an_offset_does() -> None:
    """Three frames early (heard before it is seen) are out of BT.1359, three late within."""
    assert "120 ms early" in in_words(3)
    tolerance = TOLERANCES["bt1359"]
    assert track_verdict(row(track_result(3)), tolerance) == "out of tolerance"
    assert track_verdict(row(track_result(-3)), tolerance) == "in tolerance"
    assert track_verdict(row(track_result(-5)), tolerance) == "out of tolerance"
    assert str(tolerance) == "bt1359: audio at most 90 ms early, 185 ms late"


def test_a_jump_or_drift_counts_where_it_is_sure() -> None:
    def jumps(to: float, sure: bool) -> dict[str, object]:
        ends = ("begin_offset_frames", "end_offset_frames")
        parts = [
            dict.fromkeys(ends, 0.0) | {"sure": True},
            dict.fromkeys(ends, to) | {"sure": sure},
        ]
        return row(track_result(0)) | {"segments": parts}

    tolerance = TOLERANCES["ebu-r37"]
    assert track_verdict(jumps(5.0, sure=True), tolerance) == "out of tolerance"
    assert track_verdict(jumps(-1.6, sure=True), tolerance) == "out of tolerance"
    assert track_verdict(jumps(-1.5, sure=True), tolerance) == "in tolerance"
    assert track_verdict(jumps(5.0, sure=False), tolerance) == "in tolerance"
    assert track_verdict(jumps(5.0, sure=True) | {"trusted": False}, tolerance) != "not sure"
    unknown = {"begin_offset_frames": None, "end_offset_frames": None, "sure": True}
    assert track_verdict(jumps(0, True) | {"segments": [unknown]}, tolerance) == "in tolerance"
    assert worst_offset(Judged("v", [jumps(-5.0, True)], []), tolerance) == -200


def test_every_named_tolerance_cites_its_source() -> None:
    for name, tolerance in TOLERANCES.items():
        assert tolerance.name == name and len(tolerance.source) > 40
        assert tolerance.early_ms <= tolerance.late_ms  # late sound is known from life


def video(name: str, *offsets: int, unsure: tuple[int, ...] = ()) -> Judged:
    rows = [row(track_result(offset)) for offset in offsets]
    rows += [row(track_result(offset, doubts=("too short",))) for offset in unsure]
    return Judged(name, rows, [])


def test_a_video_is_out_if_one_trusted_track_is() -> None:
    one = Tolerance("1 frame", 40, 40)
    assert video_verdict(video("a", 0, 5), one) == "out of tolerance"
    assert video_verdict(video("a", 0, unsure=(9,)), one) == "in tolerance"
    assert video_verdict(video("a", unsure=(9,)), one) == "not sure"
    assert video_verdict(video("a"), one) == "no offset"
    counts = Counts(one)
    for name in "abcde":
        counts.add(video(f"{name}.mp4", 2, -7, unsure=(15,)))
    for other in (video("f", 0), video("g", unsure=(1,)), video("h")):
        counts.add(other)
    said = str(counts)
    assert "\n" not in said
    assert said == (
        "verdict (1 frame: audio at most 40 ms early, 40 ms late): 1 in tolerance, 5 out of "
        "tolerance (a.mp4 -280 ms, b.mp4 -280 ms, c.mp4 -280 ms, 2 more), 1 not sure, 1 no offset"
    )
