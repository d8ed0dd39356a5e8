"""When an offset is to be trusted, and why not."""

import numpy as np
import pytest

from measured import track_result
from trainer.model.calibration import AnyCalibration, Calibration, LogisticCalibration
from trainer.score.options import Mode
from trainer.score.report import table
from trainer.score.scoring import Score
from trainer.score.trust import TrackResult, chance_right, doubts_about


def judged(
    depth: float, calibration: AnyCalibration | None = None, mode: Mode = "masked"
) -> TrackResult:
    """A track of noise with a minimum at +3 frames."""
    means = np.random.default_rng(0).normal(10, 0.1, 31)
    means[12] = 10 - depth
    score = Score(3, 1.0, float(means.min()), means, np.ones(50))
    probability = chance_right(score, calibration, mode)
    doubts = doubts_about(score, 0.9, probability, calibration)
    return TrackResult("a.mp4", "", 0.0, 2.0, 0.9, score, probability, doubts)


def test_a_calibration_says_how_likely_an_offset_is_right() -> None:
    calibration = Calibration((2.0, 6.0), (0.5, 0.9))
    clear, unclear = judged(1.0, calibration), judged(0.3, calibration)
    assert clear.probability == 0.9 and clear.trusted
    assert unclear.probability is not None and 0.5 <= unclear.probability < 0.8
    assert "%, below the 80 % needed" in str(unclear.doubts[0]) and not unclear.trusted
    # It was measured for the default way of scoring alone.
    for other in (judged(1.0), judged(1.0, calibration, "parity")):
        assert other.probability is None and other.trusted
    shown = [str(column.header) for column in table([clear, judged(1.0)]).columns]
    assert any("chance of being right" in header for header in shown)
    shown = [str(column.header) for column in table([track_result(0)]).columns]
    assert not any("chance of being right" in header for header in shown)
    # What is below the bound does not read as the bound.
    close = judged(1.0, Calibration((2.0,), (0.799,)))
    assert "79 %, below the 80 % needed" in str(close.doubts[0])
    (doubt,) = judged(0.2).doubts
    assert "deviations, below the 3 needed" in str(doubt)


def test_a_calibration_holds_for_its_search_alone() -> None:
    means = np.random.default_rng(0).normal(10, 0.1, 21)
    score = Score(3, 1.0, float(means.min()), means, np.ones(50))
    assert chance_right(score, Calibration((2.0,), (0.9,)), "masked") is None


def test_the_figures_of_a_track_are_no_part_of_the_reason() -> None:
    """One reason stands for every track that it concerns."""
    score = track_result(15).score
    short = Score(15, 1.0, score.distance, score.means_S, np.ones(5))
    doubts = doubts_about(short, 0.05, 0.42, Calibration((2.0,), (0.42,)))
    assert [str(doubt) for doubt in doubts] == [
        "too short (9 frames)",
        "hardly any speech (5 % of the sound)",
        "no clear minimum (chance of being right: 42 %, below the 80 % needed)",
        "the minimum lies at the edge of the search: try a larger --max-shift",
    ]
    assert [doubt.reason for doubt in doubts] == [
        "too short (fewer than 25 frames)",
        "hardly any speech (less than 10 % of the sound)",
        "no clear minimum (a chance of being right below the 80 % needed)",
        "the minimum lies at the edge of the search: try a larger --max-shift",
    ]


def test_a_calibration_says_what_is_needed() -> None:
    """A chance of 90 % is enough for one and not for the other; so is the length."""
    sure = (3.0, 0.0, 0.0, 0.0)  # a chance of 95.3 %, whatever the answer
    wants = {"mode": "masked", "coefficients": sure, "windows": (25, 250)}
    for needed, least, said in (
        (0.9, 50, []),
        (0.96, 50, ["no clear minimum (chance of being right: 95 %, below the 96 % needed)"]),
        (0.9, 60, ["too short (54 frames)"]),
    ):
        calibration = LogisticCalibration(**wants, needed=needed, least_windows=least)
        found = judged(1.0, calibration)
        assert [str(doubt) for doubt in found.doubts] == said
    assert judged(1.0, calibration, "centred").probability is None
    assert [doubt.reason for doubt in found.doubts] == ["too short (fewer than 64 frames)"]


@pytest.mark.parametrize(("offset", "reach", "doubted"), [
    (13, 15, False), (-14, 15, True), (15, 15, True), (0, 1, False), (1, 1, True), (0, 2, False),
])  # fmt: skip
def test_an_answer_at_the_edge_is_not_trusted(offset: int, reach: int, doubted: bool) -> None:
    means = np.full(2 * reach + 1, 10.0)
    means[reach - offset] = 1
    score = Score(offset, 9.0, 1.0, means, np.ones(99))
    said = [str(doubt) for doubt in doubts_about(score, 0.9, 0.99)]
    assert any("edge of the search" in words for words in said) == doubted
