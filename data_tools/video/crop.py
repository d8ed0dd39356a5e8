"""Cut the face or the mouth out of a picture, given the face's box."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

PAD = 110  # gray value beyond the picture's edge, as in the official pipeline
# pixels: the official model's input, the paper's; of a whole picture VoxCeleb's
SIZES = {"face": 224, "mouth": 111, "whole": 224}
CROPS = tuple(SIZES)

_CONTEXT = 0.40  # of the official pipeline
# Measured against the mouth corners that YuNet finds in 32 real videos: the middle of the mouth
# lies 0.74 (deviation 0.03) down the box. A side of 0.55 reaches from the nose to the chin: with
# 0.7 a network of 64 pixels sees a fifth less of the mouth.
_MOUTH_DOWN, _MOUTH_SIDE = 0.74, 0.55


def region(box: NDArray[np.float64], crop: str) -> tuple[float, float, float]:
    """Centre (x, y) and side of the square to cut, in pixels, for a box (left, top, right, bottom).

    "face" is that of the official pipeline: with s half the longer side, from s above the centre to
    1.8 s below it. "mouth" is nose to chin.
    """
    left, top, right, bottom = (float(value) for value in box)
    x, height = (left + right) / 2, bottom - top
    if crop == "mouth":
        return x, top + _MOUTH_DOWN * height, _MOUTH_SIDE * height
    half = max(height, right - left) / 2
    return x, (top + bottom) / 2 + half * _CONTEXT, 2 * half * (1 + _CONTEXT)


def cut(
    picture: NDArray[np.uint8], centre: tuple[float, float], side: float, size: int
) -> NDArray[np.uint8]:
    """The square around `centre` of an (H, W, 3) or (H, W) picture; PAD beyond its edge.

    (size, size, 3) or (size, size) uint8.
    """
    x, y = centre
    while size / side <= 0.5:
        # Halving exactly is several times as fast as averaging over areas of any size.
        # As many pixels more as are lost of the margin by all halvings that follow.
        inside, left, top = _around(picture, (x, y), side, 4 * math.ceil(side / size) + 4)
        if inside.size == 0:
            break
        odd_height, odd_width = inside.shape[0] % 2, inside.shape[1] % 2
        if odd_height or odd_width:  # it ends with the picture, whose last pixels would be lost
            how = cv2.BORDER_REPLICATE
            inside = np.asarray(cv2.copyMakeBorder(inside, 0, odd_height, 0, odd_width, how))
        half = inside.shape[1] // 2, inside.shape[0] // 2
        picture = np.asarray(cv2.resize(inside, half, interpolation=cv2.INTER_AREA))
        x, y, side = (x - left) / 2, (y - top) / 2, side / 2
    inside, left, top = _around(picture, (x, y), side, 3)
    if inside.size == 0:
        return np.full((size, size, *picture.shape[2:]), PAD, np.uint8)
    colour = picture.ndim == 3 and picture.shape[2] == 3
    if colour:  # OpenCV takes half the time with four values a pixel, for the same bytes
        inside = np.asarray(cv2.cvtColor(inside, cv2.COLOR_RGB2RGBA))
    # Linear interpolation is enough for what scale is left, and places the crop to a fraction of a
    # pixel: rounding would shake small faces.
    scale = size / side
    offset = [(size - 1) / 2 - scale * (value - 0.5) for value in (x - left, y - top)]
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    pixels = cv2.warpAffine(inside, matrix, (size, size), borderValue=(PAD, PAD, PAD, PAD))
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB) if colour else pixels, np.uint8)


def _around(
    picture: NDArray[np.uint8], centre: tuple[float, float], side: float, margin: int
) -> tuple[NDArray[np.uint8], int, int]:
    """The part of a picture that holds a square and a margin, and its left and top.

    It begins and ends at even numbers, or with the picture. Nothing, of a square outside of it.
    """
    reach = side / 2 + margin
    left, top = (max(0, math.floor((value - reach) / 2) * 2) for value in centre)
    right, bottom = (max(0, math.ceil((value + reach) / 2) * 2) for value in centre)
    return picture[top:bottom, left:right], left, top


def sharpness(picture: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the gray picture: the usual measure; blurred is below 20."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.shape[2] == 3 else picture
    # Of bytes it is a whole number below 2**15.
    deviation = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S))[1]
    return float(deviation[0, 0] ** 2)
