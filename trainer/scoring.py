"""From embeddings to offsets: distances over shifts, accuracy, AUC.

Sign: shift j means that the picture of frame i is compared with the sound of frame i + j. If the
sound is early by k frames, the matching sound lies at i - k, so offset = -shift: **positive = the
audio leads**, as in the official code (offset = vshift - argmin).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.losses import distance

TOLERANCE = 1  # frames; the literature counts an offset within one frame as right


def shift_distances(lips_NKD: torch.Tensor, sound_NLD: torch.Tensor) -> torch.Tensor:
    """(N, K, S) float32 distances of window k to the sound at every shift; L = K + S - 1.

    Column j compares with sound k + j, that is shift j - (S - 1) / 2 where the sound begins
    (S - 1) / 2 frames before the picture.
    """
    count = lips_NKD.shape[1]
    shifts = sound_NLD.shape[1] - count + 1
    neighbours = sound_NLD.unfold(1, shifts, 1).transpose(2, 3)  # (N, K, S, D)
    return distance(lips_NKD[:, :, None], neighbours)


def valid_shifts(
    audio_start: NDArray[np.int64], audio_windows: NDArray[np.int64], windows: int, shifts: int
) -> NDArray[np.bool_]:
    """(N, K, S): whether the sound of window k at shift j lies inside its clip.

    `audio_start`: (N,) first frame of the sound, maybe negative; `audio_windows`: (N,) windows in
    the clip that the sound is from.
    """
    at = audio_start[:, None, None] + np.arange(windows)[:, None] + np.arange(shifts)
    inside: NDArray[np.bool_] = (at >= 0) & (at < audio_windows[:, None, None])
    return inside


def mean_over_windows(
    distances_NKS: NDArray[np.float32], valid_NKS: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(N, S) mean distance over the valid windows of each shift; infinite where there is none."""
    total = np.where(valid_NKS, distances_NKS, 0.0).sum(1)
    count = valid_NKS.sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf)


def offsets(means_NS: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) offset in frames of the smallest mean distance; positive: the audio is early."""
    reach = means_NS.shape[1] // 2
    return reach - means_NS.argmin(1)


def accuracy(means_NS: NDArray[np.float64], truth: int = 0) -> float:
    """Share of offsets within +-1 frame of the truth; nan without any."""
    if len(means_NS) == 0:
        return float("nan")
    return float((np.abs(offsets(means_NS) - truth) <= TOLERANCE).mean())


def auc(genuine: NDArray[np.float32], false: NDArray[np.float32]) -> float:
    """Probability that a genuine pair is closer than a false one (ties count half)."""
    if len(genuine) == 0 or len(false) == 0:
        return float("nan")
    ordered = np.sort(false)
    below = np.searchsorted(ordered, genuine, side="left")
    upto = np.searchsorted(ordered, genuine, side="right")
    return float(1 - (below + upto).mean() / 2 / len(false))
