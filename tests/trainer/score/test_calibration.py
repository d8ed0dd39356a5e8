"""Calibration: it finds what made answers right, speaker by speaker, and says what to trust."""

import math

import numpy as np
import pytest

from trainer.model.calibration import Evidence
from trainer.score.answers import Answer
from trainer.score.calibration import LEAST, NEEDED, CalibrationError, calibrate
from trainer.score.calibration_report import lines


def answers(count: int = 4000, bad: str = "", seed: int = 0) -> list[Answer]:
    """Right with p = sigmoid(-4 + 3 ln clearness + 1.5 ln null_z); one speaker may be all wrong."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        clear, null_z = rng.uniform(1, 8), rng.uniform(0.5, 6)
        length = int(rng.choice([25, 60, 125]))
        logit = -4 + 3 * math.log(clear) + 1.5 * math.log(null_z)
        speaker = f"s{number % 8}"
        right = rng.uniform() < 1 / (1 + math.exp(-logit)) and speaker != bad
        evidence = Evidence(clear, null_z, length)
        made.append(Answer(evidence, length, False, bool(right), True, speaker, 0.1))
    return made


def test_what_made_answers_right_is_found() -> None:
    found, rows = calibrate(answers(), "centred")
    one, clear, length, null_z = found.coefficients
    assert clear == pytest.approx(3, abs=0.4) and null_z == pytest.approx(1.5, abs=0.3)
    assert one == pytest.approx(-4, abs=0.5) and abs(length) < 0.2
    assert found.speakers == 8 and found.windows == (25, 125)
    for each in found.reliability:
        assert each.right == pytest.approx(each.stated, abs=0.1)
    assert [row.length for row in rows] == [25, 60, 125]
    text = "\n".join(lines(found, rows))
    assert "8 speakers" in text and "ln_clearness" in text and f"{found.needed:.0%}" in text


def test_other_ways_of_scoring_know_nothing_of_chance() -> None:
    found, _ = calibrate(answers(), "masked")
    assert found.mode == "masked" and found.coefficients[3:] == (0,)


def test_a_speaker_is_judged_by_the_others() -> None:
    """Of whom all answers are wrong, the others promise much: the table must show it."""
    fair, _ = calibrate(answers(), "centred")
    found, _ = calibrate(answers(bad="s3"), "centred")
    assert found.reliability[-1].right < found.reliability[-1].stated - 0.08
    assert fair.reliability[-1].right > fair.reliability[-1].stated - 0.03


def test_what_is_needed_follows_from_what_went_wrong() -> None:
    sure = [
        Answer(Evidence(5.0 if right else 1.5, 4.0, length), length, False, right, True,
               f"s{number % 5}", 0.1)
        for number in range(800)
        for length, right in ((25, True), (60, number % 2 == 0))
    ]  # fmt: skip
    found, rows = calibrate(sure, "centred")
    assert (found.needed, found.least_windows) == (NEEDED[0], LEAST[0])
    assert [round(row.trusted, 2) for row in rows] == [1.0, 0.5]
    # At 25 windows one in twenty of the clear ones turns out wrong.
    short = [
        Answer(each.evidence, each.length, False, each.right and number % 40 != 0, True,
               each.speaker, each.weight)
        for number, each in enumerate(sure)
    ]  # fmt: skip
    found, rows = calibrate(short, "centred")
    assert found.least_windows > 25 and rows[0].trusted == 0
    assert not any("warning" in line for line in lines(found, rows))
    # Nothing is good enough: the strictest is taken, and said to be not enough.
    found, rows = calibrate(answers(bad="s3"), "centred")
    assert "warning: up to" in list(lines(found, rows))[-1]
    assert (found.needed, found.least_windows) == (NEEDED[-1], LEAST[-1])


def test_too_little_is_refused() -> None:
    with pytest.raises(CalibrationError, match="10 answers are too few"):
        calibrate(answers(10), "centred")
    with pytest.raises(CalibrationError, match="no answers are right"):
        calibrate([answer for answer in answers() if not answer.right], "centred")
    with pytest.raises(CalibrationError, match="all answers are right"):
        calibrate([answer for answer in answers() if answer.right], "centred")
    with pytest.raises(CalibrationError, match="0 answers"):
        calibrate([], "centred")


def test_no_answer_is_trusted_below_the_least_chance() -> None:
    free, _ = calibrate(answers(), "centred")
    strict, rows = calibrate(answers(), "centred", least_chance=0.995)
    assert strict.needed == 0.995 > free.needed
    assert strict.coefficients == free.coefficients
    assert sum(row.trusted for row in rows) < len(rows)
