"""Exact shares of samples: they sum up, never fall, and stay at the weights for ever."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.shares import taken, whole_shares

SHARES = st.lists(st.integers(1, 10**6), min_size=1, max_size=6)


def test_decimals_are_taken_as_they_are_written() -> None:
    assert whole_shares((0.5, 1.5)) == (1, 3)
    assert whole_shares((0.1, 0.2, 0.7)) == (1, 2, 7)
    assert whole_shares((1e-3, 1.0)) == (1, 1000)
    assert whole_shares((639, 1901)) == (639, 1901)
    assert whole_shares((4.0,)) == (1,)


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=5))
def test_whole_shares_are_in_the_very_ratio_of_the_weights(weights: list[float]) -> None:
    shares = whole_shares(weights)
    exact = [Fraction(repr(weight)) for weight in weights]
    assert all(
        share * exact[0] == shares[0] * one for share, one in zip(shares, exact, strict=True)
    )


def test_the_counts_of_three_sets_one_sample_at_a_time() -> None:
    counts = [taken(n, (2, 3, 5)) for n in range(11)]
    assert counts == [
        [0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 2], [0, 1, 3], [1, 1, 3],
        [1, 1, 4], [1, 2, 4], [1, 2, 5], [1, 3, 5], [2, 3, 5],
    ]  # fmt: skip


@given(SHARES, st.integers(0, 10**15), st.integers(1, 5000))
def test_counts_sum_up_and_never_fall(shares: list[int], samples: int, more: int) -> None:
    for before, after in pairwise(taken(samples + n, shares) for n in (0, 1, more + 1)):
        assert all(one <= other for one, other in zip(before, after, strict=True))
    assert sum(taken(samples, shares)) == samples


@given(SHARES, st.integers(0, 10**15))
def test_no_count_strays_from_its_share(shares: list[int], samples: int) -> None:
    total = sum(shares)
    off = [
        abs(count - Fraction(samples * share, total))
        for count, share in zip(taken(samples, shares), shares, strict=True)
    ]
    assert max(off) < len(shares)
    if len(shares) <= 2:
        assert max(off) < 1


@given(SHARES, st.integers(0, 10**9))
def test_whole_rounds_are_exact(shares: list[int], rounds: int) -> None:
    assert taken(rounds * sum(shares), shares) == [rounds * share for share in shares]


def test_the_largest_remainder_would_take_a_sample_back() -> None:
    """Why it is not used: the classical paradox (25 and 26 seats), which ours has not."""
    people = (1, 67, 204) + (1,) * 8

    def hamilton(seats: int) -> np.ndarray:
        quota = np.array(people) * seats / sum(people)
        counts = np.floor(quota).astype(int)
        order = np.argsort(-(quota - counts), kind="stable")
        counts[order[: seats - counts.sum()]] += 1
        return counts

    falls = [n for n in range(300) if (hamilton(n + 1) < hamilton(n)).any()]
    assert falls
    for n in falls:
        assert (np.array(taken(n + 1, people)) >= np.array(taken(n, people))).all()
