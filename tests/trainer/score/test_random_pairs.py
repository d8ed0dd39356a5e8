"""Genuine sound, or that of another time: which times are drawn, and what is compared."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded import embeddings
from trainer.model.losses import distance
from trainer.score.random_pairs import FRAMES, other_times, random_pairs


@given(st.integers(0, 40), st.integers(1, 15), st.integers(0, 9))
def test_another_time_lies_in_the_clip_and_away(last: int, min_shift: int, seed: int) -> None:
    genuine = np.arange(last + 1)
    drawn = other_times(genuine, last, min_shift, np.random.default_rng(seed))
    for start, other in zip(genuine, drawn, strict=True):
        far = [at for at in range(last + 1) if abs(at - start) >= min_shift]
        assert other in far if far else other == -1


def test_every_other_time_is_as_likely() -> None:
    rng = np.random.default_rng(0)
    drawn = other_times(np.full(20_000, 4), 9, 3, rng)
    counts = np.bincount(drawn, minlength=10)
    assert (counts[[2, 3, 4, 5, 6]] == 0).all()
    assert abs(counts[[0, 1, 7, 8, 9]] / 20_000 - 0.2).max() < 0.02


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(-6, 6), st.integers(0, 3))
def test_a_run_is_the_mean_of_its_windows(windows: int, own: int, seed: int) -> None:
    lips, sound = embeddings(own, windows, 1.0, seed)
    found = random_pairs(lips, sound, 3, 1000, own=own)
    for frames, pairs in zip(FRAMES, found, strict=True):
        width = frames - 4
        genuine = [
            float(distance(lips[at : at + width], sound[at - own : at - own + width]).mean())
            for at in range(max(0, windows - width + 1))
            if 0 <= at - own <= windows - width
            and (at - own >= 3 or windows - width - (at - own) >= 3)  # another time exists
        ]
        np.testing.assert_allclose(pairs[:, 0], genuine, rtol=1e-5)


def test_the_right_offset_counts_and_runs_are_spread() -> None:
    lips, sound = embeddings(4, 60, 0.1)
    mended = random_pairs(lips, sound, 3, 1000, own=4)
    as_it_is = random_pairs(lips, sound, 3, 1000)
    assert all((pairs[:, 0] < pairs[:, 1]).all() for pairs in mended)
    assert all((pairs[:, 0] < pairs[:, 1]).mean() < 0.7 for pairs in as_it_is)
    few = random_pairs(lips, sound, 3, 5, own=4)
    assert [len(pairs) for pairs in few] == [5] * len(FRAMES)
    assert (few[0][:, 0] == mended[0][[0, 14, 28, 41, 55], 0]).all()
    assert torch.is_tensor(lips)
