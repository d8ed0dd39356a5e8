"""Centred inner products: their curve, in pieces and at once, and what chance gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedded import embeddings, moving
from trainer.score import centred
from trainer.score.centred import centred_products, score_centred, score_centred_in_pieces
from trainer.score.scoring import score


def plain_curve(lips: torch.Tensor, sound: torch.Tensor, reach: int) -> NDArray[np.float64]:
    """As the formulas read."""
    left, right = moving(lips), moving(sound)
    count = len(left)
    products = left @ right.T
    means = np.array(
        [np.diagonal(products, shift).mean() if abs(shift) < count else np.nan
         for shift in range(-reach, reach + 1)]
    )  # fmt: skip
    share = np.array([(count - abs(shift)) / count for shift in range(-reach, reach + 1)])
    return np.asarray(np.where(share > 0, (means - np.nanmean(means)) * share, -np.inf))


@settings(deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 20),
    st.lists(st.integers(1, 15), max_size=6),
    st.lists(st.integers(1, 15), max_size=6),
)
def test_the_curve_is_that_of_the_formulas_in_pieces_of_any_size(
    count: int, reach: int, lip_cuts: list[int], sound_cuts: list[int]
) -> None:
    # far from nought, as the embeddings of a network are
    lips, sound = 30 + torch.randn(2, count, 4, generator=torch.Generator().manual_seed(count))

    def pieces(whole: torch.Tensor, cuts: list[int]) -> list[torch.Tensor]:
        at = [int(cut) for cut in np.cumsum(cuts) if cut < count]
        return list(torch.tensor_split(whole, at))

    found = score_centred_in_pieces(pieces(lips, lip_cuts), pieces(sound, sound_cuts), reach, count)
    expected = plain_curve(lips, sound, reach)
    np.testing.assert_allclose(found.curve_S, expected, atol=1e-9)
    assert found.offset == reach - expected.argmax()
    np.testing.assert_array_equal(found.means_S, score(lips, sound, reach).means_S)


@settings(deadline=None, max_examples=31)
@given(st.integers(-15, 15))
def test_the_offset_has_the_right_sign_whatever_the_corners(early: int) -> None:
    lips, sound = embeddings(early, 80, 0.5)
    found = score_centred(lips + 100, sound - 50, 15)
    assert found.offset == early and found.clearness > 3 and found.null_z > 3
    inside = ~np.isnan(found.frames_K)
    assert inside.sum() == 80 - abs(early)
    distances = score(lips, sound, 15)
    plain = score_centred(lips, sound, 15)
    assert (plain.confidence, plain.distance) == (distances.confidence, distances.distance)


def test_a_head_that_turns_hides_nothing() -> None:
    """The lips move slowly from corner to corner, and the sound the other way."""
    lips, sound = embeddings(4, 200, 0.2)
    turn = torch.linspace(0, 20, 200)[:, None]
    products = centred_products(lips + turn, sound - turn, 15)
    assert score_centred(lips + turn, sound - turn, 15).offset == 4
    right = 15 - products[15:185].argmax(1) == 4
    assert right.mean() > 0.7


@pytest.mark.parametrize("short", [0, 1])
def test_a_stream_that_ends_early_is_refused(short: int) -> None:
    streams = [[part] for part in embeddings(0, 60, 0.5)]
    streams[short] = [streams[short][0][:50]]
    with pytest.raises(ValueError, match="50 of 60 windows came"):
        score_centred_in_pieces(*streams, 15, 60)


def test_shifts_of_few_windows_do_not_win() -> None:
    """The one window at the edge fits by chance; distances would not even count it."""
    lips, sound = torch.zeros(2, 16, 2)
    lips[0] = sound[15] = torch.tensor([2.0, 0.0])
    lips[4:12:2] = sound[4:12:2] = torch.tensor([0.0, 1.5])
    found = score_centred(lips, sound, 15)
    left, right = lips - lips.mean(0), sound - sound.mean(0)
    assert left[0] @ right[15] > (left * right).sum(1).mean()  # as means alone would have it
    assert found.offset == 0


@pytest.mark.parametrize(("windows", "near"), [(30, 8), (70, 16)])
def test_chance_is_told_by_circular_lags(windows: int, near: int) -> None:
    lips, sound = embeddings(3, windows, 0.5)
    left, right = moving(lips), moving(sound)
    lags = range(near, windows - near + 1)
    chance = np.array([(left * np.roll(right, -lag, 0)).sum(1).mean() for lag in lags])
    product = np.diagonal(left @ right.T, -3).mean()
    found = score_centred(lips, sound, 15)
    assert found.null_z == pytest.approx((product - chance.mean()) / chance.std())


def test_chance_of_a_long_track_is_that_of_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shrinks with the length; where a block ends makes no difference."""
    lips, sound = embeddings(3, 1200, 4.0)
    whole = score_centred(lips, sound, 15)
    monkeypatch.setattr(centred, "NULL_BLOCK", 299)
    blocks = score_centred(lips, sound, 15)
    assert blocks.null_z == pytest.approx(whole.null_z, rel=0.15)
    short = score_centred(lips[:299], sound[:299], 15)
    assert blocks.null_z > 1.5 * short.null_z
    cut = [len(part) for part in torch.tensor_split(lips, 7)]
    pieces = score_centred_in_pieces(lips.split(cut), sound.split(100), 15, 1200)
    assert pieces.null_z == pytest.approx(blocks.null_z, rel=1e-6)


def test_a_track_of_a_few_windows_has_a_curve_but_no_chance() -> None:
    found = score_centred(*embeddings(0, 12, 0.1), 15)
    assert np.isfinite(found.curve_S).sum() == 23 and np.isnan(found.null_z)
    with pytest.raises(ValueError, match="5 frames"):
        score_centred(torch.zeros(0, 4), torch.zeros(9, 4), 15)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 20))
def test_products_window_by_window_make_up_the_curve(count: int, reach: int) -> None:
    lips, sound = 30 + torch.randn(2, count, 4, generator=torch.Generator().manual_seed(count))
    products = centred_products(lips, sound, reach)
    assert products.shape == (count, 2 * reach + 1)
    number = np.maximum(count - abs(np.arange(-reach, reach + 1)), 0)
    means = np.where(number > 0, products.sum(0) / np.maximum(number, 1), np.nan)
    share = number / count
    curve = np.where(share > 0, (means - np.nanmean(means)) * share, -np.inf)
    np.testing.assert_allclose(curve, plain_curve(lips, sound, reach), atol=1e-9)
