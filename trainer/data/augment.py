"""Augmentation: pictures turned, moved and dimmed on the device, sound changed in its features.

A sample's augmentation depends only on its key, not on who loads it or when: a resumed run and
another number of processes see the very same pictures. All frames of a sample are changed alike, so
that the movement of the lips stays what it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.errors import UsageError
from trainer.data.draws import Ints, uniform
from trainer.data.vocal_tract import warp_matrices

Floats = NDArray[np.float32]

_NO_JPEG = 100
_MOST_WARP = 0.3


@dataclass(frozen=True)
class Augment:
    """How strongly samples are varied; 0 (or false) switches a kind off.

    Attributes:
        flip: Mirror half of the segments.
        shift: Move the picture by up to this share of its side.
        zoom: Enlarge or shrink it by up to this share.
        turn: Turn it by up to so many degrees.
        stretch: Change its width against its height by up to this share: wider mouths, longer
            faces. Costs nothing beside shift, zoom or turn.
        shear: Slant it by up to this share of its side, as a head that looks aside.
        brightness: Add up to this share of white, or take it away.
        contrast: Stretch or flatten around middle gray by up to this share.
        jpeg: Compress anew down to this quality (1..99).
        gain: Make the sound louder or softer by up to so many dB (exact in the features).
        timbre: Deviation of a constant added to each cepstrum, as by another microphone or room.
        noise: Deviation of noise added to every feature.
        vocal_tract: Move the formants along the frequency axis by up to this share (0.1: by a
            factor of 0.9 to 1.1), as another speaker's vocal tract would, within the features.
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    turn: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    jpeg: int = 0
    gain: float = 0.0
    timbre: float = 0.0
    noise: float = 0.0
    vocal_tract: float = 0.0

    @property
    def pictures(self) -> tuple[str, ...]:
        """What `trainer.data.pipeline` varies frames by; empty if no picture is changed."""
        moved = self.flip or self.shift or self.zoom or self.turn or self.stretch or self.shear
        wanted = {
            "matrix": moved,
            "brightness": self.brightness or self.contrast,
            "contrast": self.brightness or self.contrast,
            "quality": self.jpeg,
        }
        return tuple(name for name, on in wanted.items() if on)

    @property
    def sound(self) -> bool:
        """Whether any kind that changes the sound is on."""
        return bool(self.gain or self.timbre or self.noise or self.vocal_tract)


def check(augment: Augment) -> None:
    """Refuse values that make no sense.

    Raises:
        UsageError: names the setting.
    """
    for name in ("shift", "zoom", "stretch", "shear", "brightness", "contrast"):
        if not 0 <= getattr(augment, name) < 1:
            raise UsageError(f"augment.{name} must lie in 0..1, not {getattr(augment, name)}")
    for name in ("turn", "gain", "timbre", "noise"):
        if not 0 <= getattr(augment, name) < 1000:
            raise UsageError(f"augment.{name} must not be negative, not {getattr(augment, name)}")
    if not 0 <= augment.vocal_tract <= _MOST_WARP:
        raise UsageError(
            f"augment.vocal_tract must lie in 0..{_MOST_WARP}, not {augment.vocal_tract}: "
            "no two vocal tracts differ by more"
        )
    if not 0 <= augment.jpeg < _NO_JPEG:
        raise UsageError(f"augment.jpeg must be a quality of 1..99, or 0, not {augment.jpeg}")


def picture_arguments(
    augment: Augment, key: Ints, sample_frames: int, size: int
) -> dict[str, NDArray[Any]]:
    """What varies the frames of N segments, one row per frame, by the names of `Augment.pictures`.

    matrix: (N R, 2, 3) float32 from output to input pixels; brightness, contrast: (N R,) float32;
    quality: (N R,) int32, of JPEG.
    """
    draws = _draws(key)
    angle = np.deg2rad(augment.turn * next(draws))
    scale = np.exp(np.log1p(augment.zoom) * next(draws))
    across, down = (augment.shift * size * next(draws) for _ in range(2))
    mirror = np.where((next(draws) < 0) & augment.flip, -1.0, 1.0)
    matrix = np.empty((len(key), 2, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = mirror * scale * np.cos(angle), -scale * np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = mirror * scale * np.sin(angle), scale * np.cos(angle)
    if augment.stretch or augment.shear:
        matrix[:, :, :2] = matrix[:, :, :2] @ _stretched(augment, key)
    middle = size / 2
    matrix[:, 0, 2] = middle + across - middle * (matrix[:, 0, 0] + matrix[:, 0, 1])
    matrix[:, 1, 2] = middle + down - middle * (matrix[:, 1, 0] + matrix[:, 1, 1])
    brightness = augment.brightness * next(draws)
    contrast = np.exp(np.log1p(augment.contrast) * next(draws))
    quality = np.full(len(key), _NO_JPEG, np.int32)
    if augment.jpeg:
        worst = (next(draws) + 1) / 2
        quality = (augment.jpeg + worst * (_NO_JPEG - augment.jpeg)).astype(np.int32)
    rows = {
        "matrix": matrix.astype(np.float32),
        "brightness": brightness.astype(np.float32),
        "contrast": contrast.astype(np.float32),
        "quality": quality,
    }
    return {name: np.repeat(rows[name], sample_frames, axis=0) for name in augment.pictures}


def change_sound(augment: Augment, key: Ints, sound_NFC: Floats) -> None:
    """Vary N sounds in place, each by its key."""
    draws = _draws(key, first=100)
    gain = augment.gain * next(draws)
    # The first cepstrum is the logarithm of the energy, and a gain reaches no other.
    sound_NFC[:, :, 0] += (gain * np.log(10) / 10).astype(np.float32)[:, None]
    if augment.vocal_tract:  # before what a room and a microphone add
        factor = 1 + augment.vocal_tract * next(draws)
        sound_NFC[:] = sound_NFC @ warp_matrices(factor).transpose(0, 2, 1)
    if not (augment.timbre or augment.noise):
        return
    for row, one in enumerate(key.astype(np.uint64).tolist()):
        drawn = np.random.Generator(np.random.Philox(key=one))
        if augment.timbre:
            sound_NFC[row, :, 1:] += augment.timbre * drawn.standard_normal(
                sound_NFC.shape[2] - 1, dtype=np.float32
            )
        if augment.noise:
            sound_NFC[row] += augment.noise * drawn.standard_normal(
                sound_NFC.shape[1:], dtype=np.float32
            )


def _stretched(augment: Augment, key: Ints) -> NDArray[np.float64]:
    """(N, 2, 2) of stretch and shear, which keep the area; drawn apart, so that others stay."""
    draws = _draws(key, first=50)
    wide = np.exp(np.log1p(augment.stretch) / 2 * next(draws))
    matrix = np.zeros((len(key), 2, 2))
    matrix[:, 0, 0], matrix[:, 1, 1] = wide, 1 / wide
    matrix[:, 0, 1] = augment.shear * next(draws)
    return matrix


def _draws(key: Ints, first: int = 0) -> Iterator[NDArray[np.float64]]:
    """Independent uniform numbers in [-1, 1), (N,) each."""
    stream = first
    while True:
        yield 2 * uniform(0, 0, key, stream) - 1
        stream += 1
