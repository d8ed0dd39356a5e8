"""Calibrations as files hold them: both versions, and what is neither."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.records import RecordError
from trainer.model.calibration import (
    Calibration,
    Evidence,
    LogisticCalibration,
    Reliability,
    decode_calibration,
)

KNOWN = LogisticCalibration(
    mode="centred",
    coefficients=(-3.67, 2.92, -0.10, 1.31),
    windows=(25, 250),
    needed=0.95,
    least_windows=60,
    speakers=46,
    reliability=(Reliability(0.5, 0.48, 300),),
)


def test_what_is_written_is_read() -> None:
    for calibration in (KNOWN, Calibration((1.0, 4.0), (0.2, 0.95))):
        assert decode_calibration(json.dumps(calibration.as_dict())) == calibration


def test_the_chance_is_that_of_the_formula() -> None:
    found = KNOWN.chance(Evidence(4.0, 5.0, 100))
    logit = -3.67 + 2.92 * math.log(4) - 0.10 * math.log(2) + 1.31 * math.log(5)
    assert found == pytest.approx(1 / (1 + math.exp(-logit)))
    old = Calibration((2.0, 6.0), (0.5, 0.9))
    assert old.chance(Evidence(4.0, math.nan, 9)) == pytest.approx(0.7)


@settings(deadline=None)
@given(st.floats(-5, 50), st.floats(-5, 50) | st.just(math.nan), st.integers(1, 10**6))
def test_a_chance_is_one_of_every_answer(clear: float, null_z: float, windows: int) -> None:
    chance = KNOWN.chance(Evidence(clear, null_z, windows))
    assert 0 <= chance <= 1
    assert KNOWN.chance(Evidence(clear + 1, null_z, windows)) >= chance
    longer = KNOWN.chance(Evidence(clear, null_z, max(windows, 250)))
    assert longer == KNOWN.chance(Evidence(clear, null_z, 10**7))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 3}, "version 3"),
        ({"mode": "parity"}, "parity"),
        ({"coefficients": [1, 2, 3]}, "4 finite coefficients"),
        ({"coefficients": [1, 2, 3, math.nan]}, "4 finite coefficients"),
        ({"windows": [250, 25]}, "more than its most"),
        ({"needed": 1.5}, "needed"),
        ({"least_windows": 0}, "least_windows"),
        ({"reliability": [[1, 2]]}, "reliability"),
        ({"reliability": [{"stated": 0.5, "right": 0.5, "answers": 1}] * 101}, "more than 100"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(RecordError, match=said):
        decode_calibration(json.dumps(KNOWN.as_dict() | change))
