"""Two groups of scores are told from one, and parted."""

import numpy as np
import pytest

from trainer.score.mixture import find_threshold, fit_mixture


def test_two_groups_are_found_and_parted() -> None:
    rng = np.random.default_rng(0)
    off, on = rng.normal(-0.1, 0.08, 40), rng.normal(0.35, 0.08, 160)
    mixture = fit_mixture(np.concatenate([off, on]))
    assert mixture is not None and mixture.separate
    assert mixture.means == pytest.approx((-0.1, 0.35), abs=0.03)
    assert mixture.shares[0] == pytest.approx(0.2, abs=0.03)
    assert off.max() < mixture.threshold < np.quantile(on, 0.02)


@pytest.mark.parametrize("kind", ["normal", "skewed", "nothing learnt", "all one", "few"])
def test_one_group_rejects_nothing(kind: str) -> None:
    rng = np.random.default_rng(1)
    scores = {
        "normal": rng.normal(0.45, 0.08, 300),
        "skewed": 0.6 - rng.gamma(2, 0.06, 300),
        "nothing learnt": np.append(rng.normal(0.0, 0.004, 200), rng.normal(0.02, 0.002, 99)),
        "all one": np.full(50, 0.4),
        "few": np.array([0.1, 0.5]),
    }[kind]
    threshold = find_threshold(scores)
    assert threshold.value == -np.inf and "nothing is rejected" in threshold.words


def test_thresholds_that_are_given() -> None:
    scores = np.arange(100.0)
    assert find_threshold(scores, fixed=0.3).value == 0.3
    assert (scores < find_threshold(scores, reject_share=0.2).value).sum() == 20
    assert (scores < find_threshold(scores, reject_share=0.0).value).sum() == 0
