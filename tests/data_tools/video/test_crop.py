"""Crops: the official region, the mouth, edges, and sub-pixel placing."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.video.crop import PAD, cut, region, sharpness


def test_face_region_is_the_official_one():
    x, y, side = region(np.array([100.0, 100.0, 180.0, 200.0]), "face")
    s, c = 50.0, 0.40  # half the longer side; context
    assert (x, side) == (140, 2 * s * (1 + c))
    assert y - side / 2 == pytest.approx(150 - s)
    assert y + side / 2 == pytest.approx(150 + s * (1 + 2 * c))


def test_mouth_region_lies_in_the_lower_face():
    x, y, side = region(np.array([0.0, 0.0, 80.0, 100.0]), "mouth")
    assert (x, y, side) == pytest.approx((40, 74, 55))


@pytest.mark.parametrize("side", [32, 64, 128, 200])
def test_cut_shows_the_square_that_was_asked_for(side):
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3)).copy()
    out = cut(ramp, (128.0, 128.0), side, 64)
    pixel = side / 64
    expected = 128 - side / 2 + (np.arange(64) + 0.5) * pixel - 0.5
    assert np.abs(out[32, :, 0] - expected).max() <= 1


def test_cut_places_to_a_fraction_of_a_pixel():
    ramp = np.broadcast_to((np.arange(100) * 2).astype(np.uint8)[None, :, None], (100, 100, 3))
    one, other = (cut(ramp.copy(), (x, 50.0), 32, 64).mean() for x in (50.0, 50.5))
    assert other - one == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("side", [40, 300])
@pytest.mark.parametrize("centre", [(0, 0), (99, 50), (-500, -500), (50, 99)])
def test_beyond_the_edge_is_padding(side, centre):
    out = cut(np.full((100, 100, 3), 200, np.uint8), centre, side, 64)
    assert out.shape == (64, 64, 3)
    corner = out[0, 0] if min(centre) <= 0 else out[-1, -1]
    assert (corner == PAD).all()


@pytest.mark.parametrize("size", [16, 64, 111])
def test_squares_inside_of_the_picture_hold_no_padding(size: int):
    white = np.full((1081, 1923, 3), 255, np.uint8)
    rng = np.random.default_rng(size)
    for side in rng.uniform(20, 1080, 60):  # up to six halvings
        x, y = rng.uniform(side / 2, (1923 - side / 2, 1081 - side / 2))
        assert cut(white, (x, y), side, size).min() == 255


def test_sharpness_falls_with_blur():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert sharpness(sharp) > 100 * sharpness(np.full((64, 64, 3), 9, np.uint8))
