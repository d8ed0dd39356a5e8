"""The path of an offset: constant, jumps, drift, and stretches that tell nothing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_tools.mfcc import FPS
from trainer.score.offset_path import LEAST_JUMP, follow_offset

REACH = 15


def fits(offsets_K: NDArray[np.float64], mean: float = 3.0, seed: int = 0) -> NDArray[np.float64]:
    """(K, 31) rows as speech gives them: a peak two frames wide, noise that lasts for windows.

    Args:
        offsets_K: the offset of each window, frames; nan: nothing fits.
    """
    rng = np.random.default_rng(seed)
    count, shifts = len(offsets_K), 2 * REACH + 1
    white = rng.normal(size=(count + 4, shifts))
    noise = sum(white[lag : lag + count] for lag in range(5)) / np.sqrt(5)
    apart = np.arange(shifts) - REACH + np.nan_to_num(offsets_K, nan=99.0)[:, None]
    return np.asarray(noise + mean * np.exp(-((apart / 1.5) ** 2)))


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    st.integers(1, 900), st.integers(-14, 14), st.integers(0, 99),
    st.floats(1e-3, 1e3), st.floats(-1e3, 1e3),
)  # fmt: skip
def test_a_constant_offset_is_one_segment_whatever_the_scale(
    count: int, offset: int, seed: int, scale: float, level: float
) -> None:
    path = follow_offset(scale * fits(np.full(count, float(offset)), seed=seed) + level)
    bounds = [segment.first for segment in path.segments] + [path.segments[-1].last]
    assert bounds[0] == 0 and bounds[-1] == count and all(a < b for a, b in pairwise(bounds))
    assert not path.changes
    if count >= 100:
        (segment,) = path.segments
        assert (segment.begin_frames, segment.end_frames, segment.sure) == (offset, offset, True)
    if count < 2 * FPS:
        assert not any(segment.sure for segment in path.segments)
    assert np.isfinite(path.drift_error_ppm) == (count >= 500)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    st.integers(100, 400), st.integers(100, 400), st.integers(-7, 7), st.integers(3, 7),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_a_jump_is_found_within_half_a_second(
    before: int, behind: int, offset: int, size: int, up: bool, seed: int
) -> None:
    other = offset + (size if up else -size)
    offsets = np.r_[np.full(before, float(offset)), np.full(behind, float(other))]
    path = follow_offset(fits(offsets, seed=seed))
    ((one, two),) = path.jumps
    assert (one.end_frames, two.begin_frames) == (offset, other)
    assert abs(one.last - before) <= FPS / 2 and abs(two.first - before) <= FPS / 2
    assert path.drift_ppm == 0 and two.begins is not None
    assert two.begins[0] <= two.first <= two.begins[1]
    assert two.begins[0] - 5 <= before <= two.begins[1] + 5 <= two.begins[0] + 2 * FPS
    backwards = follow_offset(fits(offsets, seed=seed)[::-1])
    ((one, two),) = backwards.jumps
    assert (one.end_frames, two.begin_frames) == (other, offset)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.sampled_from([-4000, -1000, 1000, 2000]), st.integers(-8, 8), st.integers(0, 99))
def test_a_drift_is_found_with_its_sign_and_its_rate(ppm: int, half: int, seed: int) -> None:
    count, offset = 75 * FPS, half / 2  # between two shifts as well
    line = offset + ppm * 1e-6 * (np.arange(count) - count / 2)
    path = follow_offset(fits(line, seed=seed))
    # The error is some 60 ppm: in one of twenty a tenth of 1,000 does not hold.
    assert path.drift_ppm == pytest.approx(ppm, rel=0.1 if abs(ppm) > 1000 else 0.2)
    assert abs(path.drift_ppm - ppm) < 5 * path.drift_error_ppm
    assert not path.jumps
    assert path.segments[0].begin_frames == pytest.approx(line[0], abs=0.6)
    assert path.segments[-1].end_frames == pytest.approx(line[-1], abs=0.6)


def test_a_jump_where_nobody_speaks_lies_anywhere_in_the_silence() -> None:
    for seed, silent in enumerate((25, 50, 75)):
        for at in (300, 300 + silent // 2, 300 + silent):
            offsets = np.r_[np.full(at, 1.0), np.full(600 + silent - at, 6.0)]
            rows = fits(offsets, seed=seed)
            rows[300 : 300 + silent] = fits(np.full(silent, np.nan), seed=seed + 50)
            ((one, two),) = follow_offset(rows).jumps
            first, last = two.begins or (one.last, two.first)
            assert 300 - FPS <= first <= at + 5 and at - 5 <= last <= 300 + silent + FPS
            assert last - first >= silent / 2


def test_a_drift_that_jumps_is_both() -> None:
    count = 80 * FPS
    line = 3000e-6 * (np.arange(count) - count / 2) + np.where(np.arange(count) < 900, 0, 6)
    path = follow_offset(fits(line, seed=3))
    assert path.drift_ppm == pytest.approx(3000, rel=0.1)
    ((one, two),) = path.jumps
    assert two.begin_frames - one.end_frames == pytest.approx(6, abs=0.7)
    assert abs(one.last - 900) <= FPS / 2


def test_a_stretch_that_fits_nowhere_is_said_to_be_so_and_no_change() -> None:
    offsets = np.r_[np.full(300, 2.0), np.full(400, np.nan), np.full(300, 2.0)]
    path = follow_offset(fits(offsets))
    assert [segment.known for segment in path.segments] == [True, False, True]
    assert not path.changes
    assert path.segments[1].first == pytest.approx(300, abs=2 * FPS)
    assert path.segments[1].last == pytest.approx(700, abs=2 * FPS)


def test_what_fits_nowhere_changes_nowhere() -> None:
    paths = [follow_offset(fits(np.full(520, np.nan), seed=seed)) for seed in range(8)]
    assert not any(path.changes for path in paths)
    assert not any(segment.sure for path in paths for segment in path.segments)


def test_a_step_of_one_frame_is_no_jump() -> None:
    assert LEAST_JUMP == 2
    offsets = np.r_[np.full(400, 0.0), np.full(400, 1.0)]
    assert not follow_offset(fits(offsets)).jumps


@pytest.mark.parametrize("reach", [1, 2, 15])
@pytest.mark.parametrize("rows", [np.zeros, lambda shape: np.full(shape, np.nan)])
def test_rows_that_say_nothing_give_no_answer(reach: int, rows: object) -> None:
    for count in (1, 13, 700):
        path = follow_offset(rows((count, 2 * reach + 1)))  # type: ignore[operator]
        assert not path.changes and not any(segment.sure for segment in path.segments)
