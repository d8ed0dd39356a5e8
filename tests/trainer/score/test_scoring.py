"""Distances over shifts, masks, offsets with the right sign, accuracy and AUC."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_tools.errors import UserError
from trainer.score.scoring import (
    accuracy,
    auc,
    distances_in_pieces,
    eer,
    in_frames,
    in_words,
    mean_over_windows,
    offsets,
    score,
    score_distances_official,
    shift_distances,
    track_distances,
    valid_shifts,
)


def embeddings(early: int, windows: int = 11, reach: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    """Lips of `windows` windows and the sound around them, the sound early by `early` frames."""
    rng = np.random.default_rng(0)
    content = torch.from_numpy(rng.normal(size=(200, 8)).astype(np.float32))
    at = 100
    lips = content[at : at + windows]
    # sound that is early by k says at time i what belongs to time i + k
    begin = at - reach + early
    return lips[None], content[begin : begin + windows + 2 * reach][None]


@given(st.integers(-15, 15))
def test_offset_is_positive_when_the_audio_is_early(early: int) -> None:
    distances = shift_distances(*embeddings(early)).numpy()
    means = mean_over_windows(distances, np.ones_like(distances, dtype=bool))
    assert offsets(means).tolist() == [early]


def test_shift_distances_are_plain_distances() -> None:
    lips, sound = torch.randn(2, 3, 4), torch.randn(2, 3 + 4, 4)
    result = shift_distances(lips, sound)
    assert result.shape == (2, 3, 5)
    for n in range(2):
        for k in range(3):
            for j in range(5):
                expected = torch.linalg.vector_norm(lips[n, k] - sound[n, k + j])
                assert result[n, k, j].item() == pytest.approx(expected.item(), rel=1e-5)


def test_shifts_outside_the_clip_are_masked() -> None:
    valid = valid_shifts(np.array([-2, 8]), np.array([10, 10]), windows=2, shifts=5)
    # audio windows asked for: -2..2 and -1..3, then 8..12 and 9..13, of 0..9
    assert valid[0].astype(int).tolist() == [[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert valid[1].astype(int).tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_a_masked_shift_never_wins() -> None:
    distances = np.array([[[0.0, 5.0, 1.0]]], dtype=np.float32)
    valid = np.array([[[False, True, True]]])
    means = mean_over_windows(distances, valid)
    assert np.isinf(means[0, 0]) and offsets(means).tolist() == [-1]


def test_accuracy_counts_offsets_within_one_frame() -> None:
    means = np.ones((4, 31))
    for row, shift in enumerate((0, 1, -1, 2)):
        means[row, 15 + shift] = 0
    assert accuracy(means) == 0.75
    assert np.isnan(accuracy(np.empty((0, 31))))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auc_is_the_share_of_ordered_pairs(genuine: list[int], false: list[int]) -> None:
    pairs = [1.0 if g < f else 0.5 if g == f else 0.0 for g in genuine for f in false]
    result = auc(np.array(genuine, np.float32), np.array(false, np.float32))
    assert result == pytest.approx(sum(pairs) / len(pairs))


def track(early: int, windows: int = 60, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """A whole track of lips and sound, window i of both from frame i, the sound early."""
    rng = np.random.default_rng(3)
    content = torch.from_numpy(rng.normal(size=(windows + 100, size)).astype(np.float32))
    return content[50 : 50 + windows], content[50 + early : 50 + early + windows]


@given(st.integers(-15, 15))
def test_a_track_is_scored_with_the_right_sign(early: int) -> None:
    found = score(*track(early), reach=15)
    assert found.offset == early and found.distance == pytest.approx(0, abs=1e-4)
    assert found.clearness > 3 and found.confidence > 1
    inside = ~np.isnan(found.frames_K)
    assert inside.sum() == 60 - abs(early) and (found.frames_K[inside] > 0).all()


def test_a_flat_curve_is_not_clear() -> None:
    rng = np.random.default_rng(0)
    lips, sound = (torch.from_numpy(rng.normal(size=(80, 16)).astype(np.float32)) for _ in "ab")
    assert score(lips, sound, 15).clearness < 4
    with pytest.raises(ValueError, match="5 frames"):
        score(lips[:0], sound[:0], 15)


@pytest.mark.parametrize("windows", [1, 3, 8, 9, 40])
def test_the_official_score_of_a_frame_is_the_median_of_nine(windows: int) -> None:
    distances = np.random.default_rng(windows).random((windows, 31), np.float32)
    found = score_distances_official(distances)
    single = np.median(found.means_S) - distances[:, 15 - found.offset].astype(np.float64)
    around = np.pad(single, 4)  # zeros beyond the ends
    assert found.frames_K.tolist() == [sorted(around[at : at + 9])[4] for at in range(windows)]


def test_a_short_track_is_not_judged_by_a_window_or_two() -> None:
    found = score(*track(0, windows=12), reach=15)
    assert np.isfinite(found.means_S).sum() == 17 and found.offset == 0


@pytest.mark.parametrize(
    ("offset", "frames", "words"),
    [
        (0, "+0 frames", "in sync"),
        (1, "+1 frame", "audio is 40 ms early; delay it by 40 ms"),
        (3, "+3 frames", "audio is 120 ms early; delay it by 120 ms"),
        (-1, "-1 frame", "audio is 40 ms late; advance it by 40 ms"),
        (-2, "-2 frames", "audio is 80 ms late; advance it by 80 ms"),
    ],
)
def test_offsets_in_words(offset: int, frames: str, words: str) -> None:
    assert in_frames(offset) == frames and in_words(offset) == words


@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.lists(st.integers(1, 15), max_size=6),
    st.lists(st.integers(1, 15), max_size=6),
)
def test_distances_of_pieces_are_those_of_the_whole(
    count: int, reach: int, lip_cuts: list[int], sound_cuts: list[int]
) -> None:
    lips, sound = torch.randn(2, count, 4, generator=torch.Generator().manual_seed(count))
    padded = torch.nn.functional.pad(sound, (0, 0, reach, reach))
    plain = [(lips - padded[j : j + count] + 1e-6).norm(dim=1) for j in range(2 * reach + 1)]

    def pieces(whole: torch.Tensor, cuts: list[int]) -> list[torch.Tensor]:
        at = [int(cut) for cut in np.cumsum(cuts) if cut < count]
        return list(torch.tensor_split(whole, at))

    found = distances_in_pieces(pieces(lips, lip_cuts), pieces(sound, sound_cuts), reach, count)
    np.testing.assert_allclose(found, torch.stack(plain, 1).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found, track_distances(lips, sound, reach))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
)
def test_eer_is_where_both_error_rates_meet(genuine: list[int], false: list[int]) -> None:
    g, f = np.array(genuine, np.float32), np.array(false, np.float32)
    rates = [(1.0, 0.0)] + [((g > t).mean(), (f <= t).mean()) for t in range(10)]
    found = eer(g, f)
    # the curve from (1, 0) to (0, 1) crosses the diagonal there
    below = max(min(r, a) for r, a in rates)
    above = min(max(r, a) for r, a in rates)
    assert below - 1e-6 <= found <= above + 1e-6


def test_eer_of_known_pairs() -> None:
    near, far = np.array([1, 2, 3], np.float32), np.array([4, 5, 6], np.float32)
    assert eer(near, far) == 0 and eer(far, near) == 1
    assert eer(near, near) == pytest.approx(0.5)
    quarter = np.array([1, 2, 3, 8], np.float32), np.array([2.5, 7, 8, 9], np.float32)
    assert eer(*quarter) == pytest.approx(0.25)
    assert np.isnan(eer(near, np.array([], np.float32)))


def test_embeddings_that_are_no_numbers_are_refused_in_words() -> None:
    lips = torch.full((20, 4), 3e38)  # finite, and their distances are not
    with pytest.raises(UserError, match="no finite numbers: its weights are damaged"):
        track_distances(lips, -lips, 15)
