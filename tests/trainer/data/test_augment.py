"""Augmentation: what each kind does to real batches, and that only a sample's key decides it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.augment import Augment, change_sound, check, picture_arguments
from trainer.data.batch import Batch, Shape
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader
from trainer.data.sampler import Segments
from trainer.data.vocal_tract import warp_matrices

KEYS = np.array([3, 141, 59265], np.int64)


@pytest.fixture(scope="module")
def dataset(shards_folder: Path) -> Dataset:
    return Dataset(shards_folder, "train")


def batch(dataset: Dataset, keys: Any = KEYS, size: int = 64, **kinds: Any) -> Batch:
    """The same three runs, varied by their keys."""
    clip = np.arange(len(keys))
    segments = Segments(clip, clip + 3, clip, clip + 3, np.ones_like(clip), key=np.asarray(keys))
    shape = Shape(len(keys), 6, 6, size, 3, Augment(**kinds) if kinds else None)
    with Loader(dataset, lambda step, quarantine: segments, shape, threads=1) as loader:
        return next(loader)


def test_a_flip_mirrors_about_half_of_the_runs(dataset: Dataset) -> None:
    keys = np.arange(1, 9) * 7919
    clip = np.arange(8) % 3
    plain = batch(dataset, keys[:3]).frames_NRHWC
    segments = Segments(clip, clip + 3, clip, clip + 3, np.ones_like(clip), key=keys)
    shape = Shape(8, 6, 6, 64, 3, Augment(flip=True))
    with Loader(dataset, lambda step, quarantine: segments, shape, threads=1) as loader:
        found = next(loader).frames_NRHWC
    mirrored = 0
    for row in range(8):
        same = torch.equal(found[row], plain[row % 3])
        flipped = torch.equal(found[row], plain[row % 3].flip(2))
        assert same != flipped
        mirrored += flipped
    assert 1 <= mirrored <= 7


@pytest.mark.parametrize(
    "kinds",
    [
        {"shift": 0.1},
        {"zoom": 0.2},
        {"turn": 10.0},
        {"stretch": 0.3},
        {"shear": 0.2},
        {"brightness": 0.2},
        {"contrast": 0.4},
        {"jpeg": 20},
    ],
)
def test_each_kind_changes_pictures_alike_over_a_run_and_keeps_the_sound(
    dataset: Dataset, kinds: dict[str, Any]
) -> None:
    plain, varied = batch(dataset), batch(dataset, **kinds)
    assert torch.equal(plain.mfcc_NFC, varied.mfcc_NFC)
    assert varied.frames_NRHWC.dtype == torch.uint8
    change = (plain.frames_NRHWC.float() - varied.frames_NRHWC.float()).abs().mean((2, 3, 4))
    assert (change > 0.2).any(1).any()
    # every frame of a run suffers about as much as the others
    assert (change.std(1) <= 0.5 * change.mean(1) + 0.1).all()
    again = batch(dataset, **kinds)
    assert torch.equal(again.frames_NRHWC, varied.frames_NRHWC)
    # a run's neighbours do not matter
    alone = batch(dataset, KEYS[:1], **kinds)
    assert torch.equal(alone.frames_NRHWC[0], varied.frames_NRHWC[0])


def test_brightness_and_shift_do_what_they_say(dataset: Dataset) -> None:
    plain = batch(dataset).frames_NRHWC.float()
    brightness = picture_arguments(Augment(brightness=0.1), KEYS, 6, 64)["brightness"]
    bright = batch(dataset, brightness=0.1).frames_NRHWC.float()
    inside = (plain > 60) & (plain < 195)
    for row in range(3):
        moved = (bright[row] - plain[row])[inside[row]].mean()
        assert moved == pytest.approx(255 * brightness[6 * row], abs=1)
    matrix = picture_arguments(Augment(shift=0.25), KEYS, 6, 64)["matrix"]
    assert np.abs(matrix[:, :, 2]).max() <= 16 and np.abs(matrix[:, :, 2]).max() > 1
    assert np.allclose(matrix[:, :, :2], np.eye(2))


@given(st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_stretch_and_shear_keep_the_area_and_every_other_draw(stretch: float, shear: float) -> None:
    kinds = {"flip": True, "zoom": 0.2, "turn": 9.0, "shift": 0.1, "jpeg": 40, "contrast": 0.3}
    plain = picture_arguments(Augment(**kinds), KEYS, 1, 64)
    varied = picture_arguments(Augment(**kinds, stretch=stretch, shear=shear), KEYS, 1, 64)
    for name in ("brightness", "contrast", "quality"):
        np.testing.assert_array_equal(plain[name], varied[name])
    areas = [np.linalg.det(each["matrix"][:, :, :2]) for each in (plain, varied)]
    np.testing.assert_allclose(*areas, rtol=1e-4)
    change = np.linalg.inv(plain["matrix"][:, :, :2]) @ varied["matrix"][:, :, :2]
    wide, slant = change[:, 0, 0] ** 2, change[:, 0, 1]
    assert (np.abs(np.log(wide)) <= np.log1p(stretch) + 1e-4).all()
    assert (np.abs(slant) <= shear + 1e-4).all()
    np.testing.assert_allclose(change[:, 1, 0], 0, atol=1e-5)
    # the middle of the picture stays where it was
    middle = np.array([32, 32, 1])
    np.testing.assert_allclose(plain["matrix"] @ middle, varied["matrix"] @ middle, atol=1e-4)


def test_gray_frames_of_another_size_are_varied_too(dataset: Dataset) -> None:
    clip = np.arange(3)
    segments = Segments(clip, clip, clip, clip, np.ones_like(clip), key=KEYS)
    kinds = Augment(flip=True, shift=0.1, brightness=0.2, contrast=0.2, jpeg=30)
    shape = Shape(3, 5, 5, 48, 1, kinds)
    with Loader(dataset, lambda step, quarantine: segments, shape, threads=1) as loader:
        assert next(loader).frames_NRHWC.shape == (3, 5, 48, 48, 1)


@given(st.floats(0.5, 12.0))
def test_gain_is_what_louder_sound_gives(gain: float) -> None:
    sound = np.zeros((3, 20, 13), np.float32)
    change_sound(Augment(gain=gain), KEYS, sound)
    assert (sound[:, :, 1:] == 0).all()
    assert np.abs(sound[:, :, 0]).max() <= gain / 10 * np.log(10) + 1e-5
    assert len(np.unique(sound[:, :, 0])) == 3


def test_timbre_is_constant_over_a_run_and_noise_is_not(dataset: Dataset) -> None:
    plain = batch(dataset).mfcc_NFC
    timbre = batch(dataset, timbre=2.0).mfcc_NFC - plain
    torch.testing.assert_close(timbre, timbre[:, :1].expand_as(timbre), rtol=1e-4, atol=1e-4)
    assert (timbre[:, :, 0].abs() < 1e-4).all() and timbre[:, :, 1:].std() > 0.5
    noise = batch(dataset, noise=0.5).mfcc_NFC - plain
    assert noise.std() == pytest.approx(0.5, rel=0.1)


def test_another_vocal_tract_is_one_matrix_a_run(dataset: Dataset) -> None:
    plain = batch(dataset).mfcc_NFC.numpy()
    sound = plain.copy()
    change_sound(Augment(vocal_tract=0.15), KEYS, sound)
    np.testing.assert_array_equal(sound, batch(dataset, vocal_tract=0.15).mfcc_NFC)
    np.testing.assert_allclose(sound[:, :, 0], plain[:, :, 0], rtol=1e-6)
    factors = np.linspace(0.85, 1.15, 3001)
    for row in range(3):
        moved = plain[row] @ warp_matrices(factors).transpose(0, 2, 1)
        assert np.abs(moved - sound[row]).max((1, 2)).min() < 0.05
        assert np.abs(plain[row] - sound[row]).max() > 0.1
        alone = plain[row : row + 1].copy()
        change_sound(Augment(vocal_tract=0.15), KEYS[row : row + 1], alone)
        np.testing.assert_allclose(alone[0], sound[row], rtol=1e-5, atol=1e-5)
    # what else is drawn stays what it was
    louder, both = (
        batch(dataset, gain=6.0, **more).mfcc_NFC for more in ({}, {"vocal_tract": 0.1})
    )
    torch.testing.assert_close(louder[:, :, 0], both[:, :, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ({"shift": 1.5}, "augment.shift must lie in 0..1"),
        ({"noise": -1.0}, "augment.noise must not be negative"),
        ({"gain": float("nan")}, "augment.gain"),
        ({"stretch": -0.1}, "augment.stretch must lie in 0..1"),
        ({"vocal_tract": 0.5}, "no two vocal tracts differ by more"),
        ({"jpeg": 100}, "quality of 1..99"),
    ],
)
def test_wrong_values_are_refused(kinds: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(Augment(**kinds))
