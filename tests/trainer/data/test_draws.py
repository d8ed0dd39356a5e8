"""Hashes, the keyed permutation, and windows that go with each other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainer.data.draws import partner, shuffled, uniform

KEYS = st.integers(0, 2**64 - 1)


@given(length=st.integers(1, 3000), key=KEYS)
def test_shuffled_is_a_bijection(length: int, key: int) -> None:
    order = shuffled(np.arange(length), length, key)
    assert np.array_equal(np.sort(order), np.arange(length))


@given(length=st.integers(1, 3000), key=KEYS, data=st.data())
def test_shuffled_needs_no_other_position(length: int, key: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, length - 1))
    alone = shuffled(np.array([position]), length, key)
    assert alone[0] == shuffled(np.arange(length), length, key)[position]


def test_shuffled_depends_on_the_key_and_leaves_its_input_alone() -> None:
    position = np.arange(1000)
    assert not np.array_equal(shuffled(position, 1000, 1), shuffled(position, 1000, 2))
    assert np.array_equal(position, np.arange(1000))


def test_shuffled_sends_a_position_anywhere_alike() -> None:
    first = np.array([shuffled(np.array([0]), 10, key)[0] for key in range(2000)])
    assert stats.chisquare(np.bincount(first, minlength=10)).pvalue > 1e-3


def test_uniform_is_flat_and_its_streams_are_independent() -> None:
    sample = np.arange(20_000)
    a, b = uniform(0, 0, sample, 0), uniform(0, 0, sample, 1)
    assert a.min() >= 0 and a.max() < 1
    assert stats.kstest(a, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


@given(windows=st.integers(2, 60), least=st.integers(1, 30), reach=st.integers(0, 40))
def test_each_allowed_partner_is_drawn_for_an_equal_share_of_the_numbers(
    windows: int, least: int, reach: int
) -> None:
    most = least + reach
    nearest = min(least, windows - 1)  # a shorter clip gives the widest that it has
    for first in range(windows):
        allowed = [w for w in range(windows) if nearest <= abs(w - first) <= most]
        if not allowed:
            continue
        place = (np.arange(3 * len(allowed)) + 0.5) / (3 * len(allowed))
        found = partner(np.array([[windows]]), np.array([[first]]), least, most, place[None])
        assert sorted(found[0].tolist()) == sorted(3 * allowed)
    assert partner(np.array([9]), np.array([4]), 2, 3, np.array([1 - 2**-53])).tolist() == [7]
