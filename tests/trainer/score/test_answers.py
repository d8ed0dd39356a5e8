"""Parts of held-out clips to calibrate by: where they lie, what is right, what they weigh."""

from collections import Counter

import numpy as np
import pytest
import torch

from embedded import embeddings
from trainer.score.answers import MOVES, OWN, UNRELATED, HeldOut, _moves, ask


def clips(own: int | None, early: int) -> list[HeldOut]:
    return [
        HeldOut(f"s{seed % 2}", *embeddings(early, 66 + seed, 0.3, seed), own) for seed in range(4)
    ]


@pytest.mark.parametrize("mode", ["centred", "masked"])
@pytest.mark.parametrize(("own", "early"), [(0, 0), (-3, -3), (None, 5)])
def test_moved_sound_is_found_and_other_sound_never_right(
    mode: str, own: int | None, early: int
) -> None:
    answers = ask(clips(own, early), "centred" if mode == "centred" else "masked")
    about_own = [answer for answer in answers if answer.own]
    assert {answer.length for answer in answers} == {25, 38, 50, 60}
    assert np.mean([answer.right for answer in about_own]) > 0.95
    assert not any(answer.right for answer in answers if not answer.own)
    weights: Counter[int] = Counter()
    for answer in answers:
        weights[answer.length] += answer.weight
    assert weights == pytest.approx(dict.fromkeys((25, 38, 50, 60), 4.0))
    unrelated = sum(answer.weight for answer in answers if not answer.own)
    assert unrelated == pytest.approx(UNRELATED * 16)
    assert all(answer.evidence.windows == answer.length for answer in answers)


def test_a_wrong_truth_is_never_found() -> None:
    assert not any(answer.right for answer in ask(clips(4, 0), "centred"))


def test_moves_stay_within_the_clip_and_the_search() -> None:
    rng = np.random.default_rng(0)
    assert len(_moves(-1, 0, rng)) == 0 and set(_moves(0, 0, rng).tolist()) == {0}
    drawn = np.concatenate([_moves(100, 5, rng) for _ in range(100)])
    assert len(drawn) == 100 * OWN and drawn.min() == -MOVES and drawn.max() == 8
    assert len(_moves(0, 14, rng)) == 0  # the right answer would lie at the edge


def test_one_clip_alone_has_no_other_sound() -> None:
    answers = ask([HeldOut("a", *embeddings(0, 30, 0.3))], "centred")
    assert answers and all(answer.own for answer in answers)
    assert ask([HeldOut("a", torch.zeros(9, 8), torch.zeros(9, 8))], "centred") == []
