"""Figures and their intervals, which come from the sources."""

from dataclasses import replace

import pytest

from embedded import RECORD, embeddings
from trainer.score.evaluation import (
    MOVES,
    ClipMeasurement,
    EvaluationOptions,
    measure_clip,
)
from trainer.score.intervals import ShiftRow, shift_test, summarise


def test_intervals_come_from_sources() -> None:
    """A hundred clips of two sources say no more of others than two clips do."""

    def clips(each: int) -> list[ClipMeasurement]:
        good = measure_clip(RECORD, *embeddings(0, 40, 0.1), EvaluationOptions(), 100)
        bad = measure_clip(RECORD, *embeddings(9, 40, 0.1), EvaluationOptions(), 100)
        bad = replace(bad, record=replace(RECORD, source="other"))
        return [good, bad] * each

    few, many = (summarise(clips(each), EvaluationOptions(resamples=300)) for each in (1, 50))
    assert few.accuracy == many.accuracy
    assert few.accuracy_zero_padded == many.accuracy_zero_padded
    assert few.accuracy["k15"].low == pytest.approx(0, abs=0.1)
    assert few.accuracy["k15"].high == 1
    for figure in (many.auc, many.eer, many.lse_c, many.lse_d):
        assert figure.low is not None and figure.value is not None and figure.high is not None
        assert figure.low <= figure.value + 0.01 and figure.value - 0.01 <= figure.high
    alone = summarise([clips(1)[0]], EvaluationOptions(resamples=20))
    assert alone.auc.low is None and alone.auc.value == 1.0


def test_a_clip_without_room_does_not_count_in_the_shift_test() -> None:
    still = measure_clip(RECORD, *embeddings(9, 60, 0.1), EvaluationOptions(), 100)
    rows = shift_test([replace(still, moved=tuple(9 + move for move in MOVES))])
    assert [row.clips for row in rows] == [1, 1, 1, 1, 1, 0]
    assert rows[0] == ShiftRow(-12, 1, -12.0, 1.0, 0.0, True)
    assert rows[-1] == ShiftRow(12, 0, None, None, None, False)
    plain = summarise([still], EvaluationOptions(resamples=5)).as_dict()
    assert "shift_test" not in plain and plain["accuracy"]["clip"]["value"] == 0.0
