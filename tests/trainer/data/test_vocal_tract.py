"""The warp of the frequency axis, against features that are computed with warped filters."""

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import python_speech_features as psf
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.fft import dct, idct
from scipy.io import wavfile

from data_tools.mfcc import SAMPLE_RATE, mfcc
from trainer.data.vocal_tract import warp_matrices, warped

Sound = NDArray[np.int16]


def one(factor: float) -> NDArray[np.float64]:
    return np.array([factor])


def with_warped_filters(sound: Sound, factor: float) -> NDArray[np.float64]:
    """MFCC whose 26 triangles have been moved along the axis; (T, 13)."""
    frames = psf.sigproc.framesig(psf.sigproc.preemphasis(sound, 0.97), 400, 160)
    power = psf.sigproc.powspec(frames, 512)
    mels = np.linspace(0, psf.base.hz2mel(8000), 28)
    edges = warped(psf.base.mel2hz(mels), one(factor))[0]
    bins = np.arange(257) * SAMPLE_RATE / 512
    filters = [
        np.interp(bins, edges[i : i + 3], [0, 1, 0], left=0, right=0) / (edges[i + 2] - edges[i])
        for i in range(26)
    ]
    bands = np.log(np.maximum(power @ np.array(filters).T, np.finfo(float).eps))
    return np.asarray(psf.lifter(dct(bands, type=2, norm="ortho", axis=1)[:, :13], 22))


def correlations(sound: Sound, factor: float) -> NDArray[np.float64]:
    """Of 12 cepstra after warped filters: with those by the matrix, with unmoved ones; (2, 12)."""
    plain = mfcc(sound)
    loud = plain[:, 0] > plain[:, 0].max() - 8
    by_matrix = (plain @ warp_matrices(one(factor))[0].T)[loud, 1:]
    by_filters = with_warped_filters(sound, factor)[loud, 1:]
    unmoved = with_warped_filters(sound, 1.0)[loud, 1:]
    found = [np.corrcoef(by_matrix[:, n], by_filters[:, n])[0, 1] for n in range(12)]
    kept = [np.corrcoef(unmoved[:, n], by_filters[:, n])[0, 1] for n in range(12)]
    return np.array([found, kept])


@pytest.mark.parametrize("factor", [0.85, 0.93, 1.08, 1.15])
def test_the_matrix_does_what_warped_filters_do_to_real_speech(
    real_clips: Path, factor: float
) -> None:
    with tarfile.open(real_clips / "grid_mouths" / "clips.tar") as tar:
        name = min(name for name in tar.getnames() if name.endswith("audio.wav"))
        stream = tar.extractfile(name)
        assert stream is not None
        _, sound = wavfile.read(BytesIO(stream.read()))
    found, unmoved = correlations(sound, factor)
    assert found[:11].min() > 0.9 and found[:11].mean() > 0.97
    assert unmoved[:11].mean() < found[:11].mean() - 0.02


def test_the_matrix_does_what_warped_filters_do_to_synthetic_speech(clips_folder: Path) -> None:
    _, sound = wavfile.read(next(clips_folder.rglob("audio.wav")))
    found, unmoved = correlations(sound, 1.12)
    assert found[:8].min() > 0.9
    assert unmoved[:8].mean() < found[:8].mean() - 0.02


def test_no_warp_changes_nothing() -> None:
    np.testing.assert_allclose(warp_matrices(one(1.0))[0], np.eye(13), atol=1e-6)


@given(st.floats(0.7, 1.3))
def test_the_axis_keeps_its_ends_and_its_order(factor: float) -> None:
    hertz = np.linspace(0, 8000, 200)
    moved = warped(hertz, one(factor))[0]
    assert moved[0] == 0 and moved[-1] == pytest.approx(8000)
    assert (np.diff(moved) > 0).all()
    assert warped(np.array([1000.0]), one(factor))[0, 0] == pytest.approx(1000 * factor)


@given(st.floats(1.12, 1.3))
def test_the_energy_stays_and_a_longer_tract_has_lower_formants(factor: float) -> None:
    """A log spectrum with one peak: its place in bands, before and after."""
    bands = np.exp(-0.5 * ((np.arange(26) - 14) / 3) ** 2)
    lifter = psf.lifter(np.ones((1, 13)), 22)[0]
    cepstra = dct(bands, norm="ortho")[:13] * lifter
    cepstra[0] = 40
    moved = warp_matrices(one(factor))[0] @ cepstra
    assert moved[0] == pytest.approx(40)
    moved[0] = cepstra[0] = 0
    before, after = (
        idct(np.pad(each / lifter, (0, 13)), norm="ortho").argmax() for each in (cepstra, moved)
    )
    assert before == 14 and after < before


@given(st.lists(st.floats(0.7, 1.3), min_size=2, max_size=5))
def test_a_matrix_depends_on_its_own_factor_alone(factors: list[float]) -> None:
    together = warp_matrices(np.array(factors))
    for factor, matrix in zip(factors, together, strict=True):
        np.testing.assert_allclose(matrix, warp_matrices(one(factor))[0], atol=1e-6)
