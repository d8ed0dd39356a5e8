"""Calibration: rising, never certain, and refused where it rests on too little."""

import numpy as np
import pytest

from trainer.score.calibration import UNRELATED, CalibrationError, calibrate


def test_the_curve_rises_with_the_share_of_right_answers() -> None:
    rng = np.random.default_rng(0)
    clearness = rng.uniform(1, 8, 3000)
    chance = (clearness - 1) / 7
    own = np.ones(3000, np.bool_)
    found = calibrate(clearness, rng.uniform(size=3000) < chance, own)
    assert (np.diff(found.clearness) > 0).all() and (np.diff(found.share_right) >= 0).all()
    for at in (2.5, 4.5, 6.5):
        assert found.probability(at) == pytest.approx((at - 1) / 7, abs=0.1)
    assert found.share_right[0] > 0 and found.share_right[-1] < 1


def test_ever_right_answers_are_not_called_certain() -> None:
    every = np.ones(120, np.bool_)
    found = calibrate(np.linspace(1, 9, 120), every, every)
    assert max(found.share_right) < 0.95


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(CalibrationError, match="too few"):
        calibrate(np.ones(10), np.ones(10, np.bool_), np.ones(10, np.bool_))


def test_unrelated_sound_weighs_as_often_as_it_is_met() -> None:
    own = np.arange(2000) % 2 == 0  # half of the answers, but a fifth of the weight
    found = calibrate(np.random.default_rng(0).uniform(1, 2, 2000), own, own)
    assert found.probability(1.5) == pytest.approx(1 - UNRELATED, abs=0.05)
