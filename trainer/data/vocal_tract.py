"""Another vocal tract length, as a linear map of the stored features.

A tract that is longer or shorter moves the formants along the frequency axis (vocal tract length
perturbation, Jaitly and Hinton 2013). The stored features are cepstra, in which such a warp is a
product with a matrix (Pitz and Ney 2005; Panchapagesan and Alwan 2009): the cosines of which the
log mel bands are made are read at the warped places, and transformed back.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import CEPSTRA, SAMPLE_RATE

# What `python_speech_features.mfcc` does by default.
_BANDS = 26
_LIFTER = 22
_EDGE = 4800.0  # Hz; formants lie below, and above it the axis is bent back to its end


def warped(hertz: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequencies after a warp of the axis: linear up to the formants' end, then to the same end.

    Jaitly and Hinton 2013, with 4,800 Hz as the end of the formants; increasing for factors of
    0.5 to 1.6, which `trainer.data.augment.check` sees to.

    Args:
        hertz: (M,) within 0..8000.
        factor: (N,) by which frequencies below the edge are multiplied.

    Returns:
        (N, M) Hz within 0..8000.
    """
    end = SAMPLE_RATE / 2
    factor = factor[:, None]
    above = _EDGE * np.minimum(factor, 1)  # where the straight part leads
    below = above / factor  # and where it ends
    bent = end - (end - above) / (end - below) * (end - hertz)
    return np.where(hertz <= below, hertz * factor, bent)


def warp_matrices(factor: NDArray[np.float64]) -> NDArray[np.float32]:
    """What another length of the vocal tract does to the cepstra of one column.

    The first cepstrum, the logarithm of the energy, stays; the level of the log mel bands, whose
    place it has taken, is as unknown before as after and reaches no other cepstrum.

    Args:
        factor: (N,) of the warp; above one a band is filled from higher frequencies, so that the
            formants fall: a longer tract.

    Returns:
        (N, 13, 13) float32; `features @ matrix.T` are the features of the warped sound.
    """
    order = np.arange(CEPSTRA)
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)
    highest = _mel(np.array(SAMPLE_RATE / 2))
    centres = _hertz(highest * np.arange(1, _BANDS + 1) / (_BANDS + 1))
    places = _mel(warped(centres, factor)) / highest * (_BANDS + 1) - 1  # (N, 26), in bands
    # the transform is orthonormal: its inverse is the same cosines
    matrices = _cosines(np.arange(_BANDS)).T @ _cosines(places)
    matrices *= lifter[:, None] / lifter
    matrices[:, 0] = matrices[:, :, 0] = 0
    matrices[:, 0, 0] = 1
    return matrices.astype(np.float32)


def _cosines(places: NDArray[Any]) -> NDArray[np.float64]:
    """(..., 13) values of the cosines at places on the axis of bands, as the cepstra weigh them."""
    order = np.arange(CEPSTRA)
    scale = np.sqrt(np.where(order == 0, 1, 2) / _BANDS)
    return np.asarray(scale * np.cos(np.pi * order * (2 * places[..., None] + 1) / (2 * _BANDS)))


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))
