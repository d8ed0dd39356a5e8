"""MFCC against an independent implementation, and the arithmetic of columns and windows."""

from __future__ import annotations

import numpy as np
import pytest
import python_speech_features
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_tools.mfcc import (
    CEPSTRA,
    COLUMNS_PER_FRAME,
    SAMPLE_RATE,
    WINDOW_COLUMNS,
    WINDOW_FRAMES,
    column_count,
    mfcc,
    stitch_bins,
    window_count,
)

Features = NDArray[np.float32]


def mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def mel_filters() -> NDArray[np.float64]:
    """26 triangles, equally spaced in mel between 0 and 8 kHz, over the 257 bins of a 512 FFT."""
    corners = 700 * (10 ** (np.linspace(mel(0), mel(8000), 28) / 2595) - 1)
    bins = np.floor(513 * corners / 16000)
    filters = np.zeros((26, 257))
    for row, (left, middle, right) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        for k in range(257):
            if left <= k < middle:
                filters[row, k] = (k - left) / (middle - left)
            elif middle <= k < right:
                filters[row, k] = (right - k) / (right - middle)
    return filters


def reference_mfcc(audio: NDArray[np.int16]) -> NDArray[np.float64]:
    """The published recipe in plain numpy, sharing nothing with the code under test."""
    signal = audio.astype(np.float64)
    signal = np.concatenate([signal[:1], signal[1:] - 0.97 * signal[:-1]])
    count = 1 + int(np.ceil(max(0, len(signal) - 400) / 160))
    padded = np.pad(signal, (0, (count - 1) * 160 + 400 - len(signal)))
    frames = np.stack([padded[i * 160 : i * 160 + 400] for i in range(count)])
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    energies = np.log(power @ mel_filters().T)
    k, n = np.arange(13)[:, None], np.arange(26)[None, :]
    dct = np.sqrt(2 / 26) * np.cos(np.pi * k * (2 * n + 1) / 52)
    dct[0] /= np.sqrt(2)
    cepstra = energies @ dct.T * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
    cepstra[:, 0] = np.log(power.sum(axis=1))
    return cepstra


def noise(samples: int, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-9000, 9000, samples, dtype=np.int16)


def tone(samples: int) -> NDArray[np.int16]:
    time = np.arange(samples) / 16000
    return (12000 * np.sin(2 * np.pi * 440 * time) + 50 * np.cos(2 * np.pi * 3000 * time)).astype(
        np.int16
    )


@pytest.mark.parametrize("audio", [noise(16000), noise(16001), noise(401), noise(100), tone(8000)])
def test_mfcc_agrees_with_an_independent_implementation(audio: NDArray[np.int16]) -> None:
    features = mfcc(audio)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, reference_mfcc(audio), atol=1e-3)


def test_digital_silence_gives_finite_features() -> None:
    assert np.isfinite(mfcc(np.zeros(1600, np.int16))).all()


@pytest.mark.parametrize("wrong", [np.zeros(800, np.float32), np.zeros((800, 1), np.int16)])
def test_other_than_mono_int16_is_refused(wrong: NDArray[np.int16]) -> None:
    with pytest.raises(TypeError, match="one-dimensional int16"):
        mfcc(wrong)


def test_575616_samples_give_3597_columns() -> None:
    assert column_count(575_616) == 3597


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8000))
def test_column_count_is_the_length_of_the_mfcc(samples: int) -> None:
    assert mfcc(np.ones(samples, np.int16)).shape == (column_count(samples), CEPSTRA)


@given(st.integers(0, 200), st.integers(0, 800))
def test_window_count_counts_windows_with_all_frames_and_columns(frames: int, columns: int) -> None:
    complete = [
        i
        for i in range(frames)
        if i + WINDOW_FRAMES <= frames and COLUMNS_PER_FRAME * i + WINDOW_COLUMNS <= columns
    ]
    assert window_count(frames, columns) == len(complete)


def cut_into_bins(features: Features, bins: int) -> Features:
    """The seed's audio.npy: bin i holds columns 4i..4i+19."""
    return np.stack([features[4 * i : 4 * i + 20].T[None] for i in range(bins)])


@pytest.mark.parametrize("bins", [1, 2, 25])
def test_stitch_bins_undoes_the_cutting_into_windows(bins: int) -> None:
    features = np.random.default_rng(0).normal(size=(4 * (bins - 1) + 20, 13)).astype(np.float32)
    np.testing.assert_array_equal(stitch_bins(cut_into_bins(features, bins)), features)


def test_stitch_bins_refuses_neighbours_that_disagree() -> None:
    bins = cut_into_bins(np.zeros((24, 13), np.float32), 2)
    bins[1, 0, 3, 0] = 1
    with pytest.raises(ValueError, match="disagree"):
        stitch_bins(bins)


@pytest.mark.parametrize("shape", [(0, 1, 13, 20), (3, 13, 20), (3, 1, 20, 13), (3, 1, 13, 5)])
def test_stitch_bins_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is not"):
        stitch_bins(np.zeros(shape, np.float32))


@pytest.mark.parametrize("samples", [1, 399, 401, 19_200])
@pytest.mark.parametrize("loudest", [0, 3, 30_000])
def test_mfcc_is_that_of_the_library_to_the_bit(samples: int, loudest: int) -> None:
    rng = np.random.default_rng(samples)
    audio = rng.integers(-loudest, loudest + 1, samples).astype(np.int16)
    reference = python_speech_features.mfcc(audio, SAMPLE_RATE).astype(np.float32)
    assert np.array_equal(mfcc(audio), reference)
