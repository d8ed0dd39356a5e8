"""HDR pictures as an ordinary screen shows them, for networks that have seen nothing else."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Transfer functions as FFmpeg numbers them (ITU-T H.273).
_PQ, _HLG = 16, 18
_WHITE, _PEAK = 203.0, 1000.0  # cd/m2: of diffuse white in HDR (ITU-R BT.2408), of what stays apart


def hdr_note(frame: Any) -> str:
    """What is done with an HDR picture, in words; empty for any other."""
    transfer = getattr(frame, "color_trc", None)  # PyAV 14 does not know it
    if transfer == _PQ:
        return "HDR pictures (PQ) are tone-mapped to 8 bit"
    if transfer == _HLG:
        return "HDR pictures (HLG) are read as ordinary ones, in 8 bit, as HLG is meant to be"
    return ""


def is_pq(frame: Any) -> bool:
    """Whether a picture's numbers stand for absolute light, which looks dull and gray as it is."""
    return getattr(frame, "color_trc", None) == _PQ


def tone_mapped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """8 bit RGB or gray of PQ as that of an ordinary screen, channel by channel; any shape.

    The wider primaries are left as they are, which makes colours a little paler.
    """
    return np.asarray(cv2.LUT(pixels, _curve()), np.uint8)


@lru_cache(maxsize=1)
def _curve() -> NDArray[np.uint8]:
    """(256,) the ordinary value for each of PQ (SMPTE ST 2084), by Reinhard's extended curve."""
    power = (np.arange(256) / 255) ** (32 / 2523)
    root = np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
    light = 10_000 * root ** (8192 / 1305) / _WHITE
    shown = light * (1 + light * (_WHITE / _PEAK) ** 2) / (1 + light)
    return np.rint(255 * np.clip(shown, 0, 1) ** (1 / 2.2)).astype(np.uint8)
