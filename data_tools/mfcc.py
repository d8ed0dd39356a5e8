"""SyncNet's audio features and the arithmetic between video frames and MFCC columns.

One frame at 25 fps lasts 40 ms, one MFCC column 10 ms: a frame spans exactly four columns, and the
window of frames i..i+4 is paired with columns 4i..4i+19 (Chung & Zisserman 2016).
"""

from functools import cache
from typing import cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # 640
CEPSTRA = 13
COLUMNS_PER_FRAME = 4
WINDOW_FRAMES = 5
WINDOW_COLUMNS = WINDOW_FRAMES * COLUMNS_PER_FRAME  # 20

_WINDOW = 400, 160  # samples: 25 ms every 10 ms
_FFT = 512
_FILTERS = 26


def mfcc(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """MFCC as SyncNet's published weights expect them: (T, 13) float32, 100 columns per second.

    `audio`: (n,) int16 at 16 kHz, n >= 1; T = 1 + ceil((n - 400) / 160), at least 1. Magnitudes
    must be those of int16: floats in [-1, 1] would move the first cepstrum (log energy) by 20.8.

    Raises:
        TypeError: the audio is not a one-dimensional int16 array.
    """
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise TypeError(f"audio must be one-dimensional int16, not {audio.dtype} {audio.shape}")
    # who trains reads features, and needs none of what these import
    from python_speech_features import base, sigproc
    from scipy.fftpack import dct

    # python_speech_features.mfcc to the bit, but for its filters, which it makes anew every time,
    # and its windows, which it gathers sample by sample.
    signal = sigproc.preemphasis(audio, 0.97)
    power = sigproc.powspec(_windows(signal), _FFT)
    energy, bands = power.sum(axis=1), power @ _filters().T
    smallest = np.finfo(float).eps  # silence has a logarithm, too
    logs = np.log(np.where(bands == 0, smallest, bands))
    cepstra = base.lifter(dct(logs, type=2, axis=1, norm="ortho")[:, :CEPSTRA])
    cepstra[:, 0] = np.log(np.where(energy == 0, smallest, energy))
    return cast(NDArray[np.float32], cepstra.astype(np.float32))


def _windows(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (T, 400) windows of `signal`, (n,), as `sigproc.framesig` cuts them; views."""
    length, step = _WINDOW
    count = column_count(len(signal))
    padded = np.zeros((count - 1) * step + length)
    padded[: len(signal)] = signal
    return sliding_window_view(padded, length)[::step]


@cache
def _filters() -> NDArray[np.float64]:
    """Mel filters, (26, 257)."""
    from python_speech_features import base

    return np.asarray(base.get_filterbanks(_FILTERS, _FFT, SAMPLE_RATE))


def column_count(samples: int) -> int:
    """How many MFCC columns `samples` audio samples give (25 ms windows, 10 ms hop, padded)."""
    return 1 + max(0, -(-(samples - 400) // 160))


def window_count(frames: int, columns: int) -> int:
    """How many 5-frame windows have both their frames and their 20 MFCC columns (0 if none)."""
    by_audio = (columns - WINDOW_COLUMNS) // COLUMNS_PER_FRAME + 1
    return max(0, min(frames - WINDOW_FRAMES + 1, by_audio))


def window_counts(frames: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `window_count`, of many clips at once: (clips,) int64 each."""
    by_audio = (columns - WINDOW_COLUMNS) // COLUMNS_PER_FRAME + 1
    return np.maximum(0, np.minimum(frames - WINDOW_FRAMES + 1, by_audio))


def stitch_bins(bins: NDArray[np.floating]) -> NDArray[np.float32]:
    """The (T, 13) features behind a seed-layout `audio.npy` of overlapping windows.

    `bins`: (n, 1, 13, 20), bin i holding columns 4i..4i+19; T = 4 (n - 1) + 20.

    Raises:
        ValueError: another shape, or neighbouring bins that disagree where they overlap.
    """
    if bins.ndim != 4 or bins.shape[1:] != (1, CEPSTRA, WINDOW_COLUMNS) or len(bins) == 0:
        raise ValueError(f"shape {bins.shape} is not (bins, 1, 13, 20)")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        columns = bins[:, 0].transpose(0, 2, 1).astype(np.float32)  # (n, 20, 13)
    if not np.array_equal(columns[:-1, COLUMNS_PER_FRAME:], columns[1:, :-COLUMNS_PER_FRAME]):
        raise ValueError("neighbouring bins disagree: bin i must hold columns 4i..4i+19")
    head = columns[:-1, :COLUMNS_PER_FRAME].reshape(-1, CEPSTRA)
    return np.concatenate([head, columns[-1]])
