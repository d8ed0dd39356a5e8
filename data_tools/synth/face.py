"""Synthetic talking head: a random person, drawn frame by frame from a track of lip positions.

`render_face` turns lips (opening, spread, teeth per video frame, from `synth_voice`) into RGB
pictures of a head that sways, blinks and is unevenly lit. Nothing but the lips depends on the
speech. Used by `data_tools.synth.clips`; run `python -m data_tools synth --help`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from data_tools.mfcc import FPS

FloatArray = NDArray[np.float64]
ByteArray = NDArray[np.uint8]
Colour = tuple[float, float, float]

# Small pictures are drawn at twice their size and averaged down, which keeps sub-pixel lip motion.
_SUPERSAMPLE_BELOW = 128
_SHIFT = 4
_ARC = np.linspace(-1.0, 1.0, 17)
_CIRCLE = np.linspace(0.0, 2.0 * np.pi, 41)[:-1]
_OVAL = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)
_PIVOT = np.array([0.5, 0.55])

_SKINS = (
    (240, 206, 182),
    (226, 184, 152),
    (205, 158, 124),
    (178, 128, 96),
    (146, 100, 74),
    (122, 82, 60),
)
_HAIRS = ((28, 22, 20), (62, 40, 26), (108, 70, 38), (176, 136, 78), (150, 146, 142), (128, 52, 28))
_IRISES = ((70, 44, 24), (52, 92, 60), (66, 104, 150), (96, 90, 84))


@dataclass(frozen=True)
class Person:
    """Looks of one head; lengths are fractions of the picture's side, colours are RGB 0..255."""

    skin: Colour
    hair: Colour
    iris: Colour
    lip: Colour
    brow_drop: float
    brow_thickness: float
    face_width: float
    jaw: float
    chin_y: float
    fringe: float
    hair_width: float
    eye_y: float
    eye_gap: float
    eye_width: float
    eye_height: float
    nose_length: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    mouth_open: float
    upper_lip: float
    lower_lip: float
    beard: float


class _Canvas:
    """Draws shapes given in fractions of the side, moved with the head, onto one picture."""

    def __init__(self, side: int, line_type: int) -> None:
        self.side = side
        self.line_type = line_type
        self.image: ByteArray = np.zeros((side, side, 3), np.uint8)
        self._scale = side * float(1 << _SHIFT)
        self._turn = np.eye(2)
        self._move = np.zeros(2)

    def start(self, background: ByteArray, pose: FloatArray) -> None:
        """Clear to `background`; pose is (dx, dy, angle in radians, scale)."""
        np.copyto(self.image, background)
        dx, dy, angle, scale = (float(value) for value in pose)
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        self._turn = np.array([[cos, sin], [-sin, cos]]) * self._scale
        # Half a pixel back: cv2 puts integer coordinates at pixel centres.
        self._move = (_PIVOT + np.array([dx, dy])) * self._scale - (1 << _SHIFT) / 2.0

    def place(self, points: FloatArray) -> NDArray[np.int32]:
        """Fixed-point pixel coordinates of `points` (n, 2)."""
        return np.asarray(np.rint((points - _PIVOT) @ self._turn + self._move), np.int32)

    def convex(self, points: FloatArray, colour: Colour) -> None:
        cv2.fillConvexPoly(self.image, self.place(points), colour, self.line_type, _SHIFT)

    def polygon(self, points: FloatArray, colour: Colour) -> None:
        cv2.fillPoly(self.image, [self.place(points)], colour, self.line_type, _SHIFT)

    def line(self, points: FloatArray, colour: Colour, width: float) -> None:
        pixels = max(1, round(width * self.side))
        placed = [self.place(points)]
        cv2.polylines(self.image, placed, False, colour, pixels, self.line_type, _SHIFT)


def draw_person(rng: np.random.Generator) -> Person:
    """Draw the looks of one random person."""
    skin = _shade(_pick(rng, _SKINS), float(rng.uniform(0.92, 1.08)))
    red = rng.uniform(0.25, 0.6)
    lip_base = (0.72 * skin[0] + 18.0, 0.50 * skin[1], 0.52 * skin[2])
    lip = _mix(_shade(skin, 0.82), lip_base, float(red) + 0.35)
    return Person(
        skin=skin,
        hair=_shade(_pick(rng, _HAIRS), float(rng.uniform(0.8, 1.2))),
        iris=_pick(rng, _IRISES),
        lip=lip,
        brow_drop=float(rng.uniform(0.075, 0.10)),
        brow_thickness=float(rng.uniform(0.016, 0.032)),
        face_width=float(rng.uniform(0.37, 0.43)),
        jaw=float(rng.uniform(0.72, 0.92)),
        chin_y=float(rng.uniform(0.93, 0.98)),
        fringe=float(rng.uniform(0.04, 0.17)),
        hair_width=float(rng.uniform(0.02, 0.08)),
        eye_y=float(rng.uniform(0.36, 0.40)),
        eye_gap=float(rng.uniform(0.165, 0.20)),
        eye_width=float(rng.uniform(0.065, 0.085)),
        eye_height=float(rng.uniform(0.024, 0.038)),
        nose_length=float(rng.uniform(0.15, 0.19)),
        nose_width=float(rng.uniform(0.05, 0.075)),
        mouth_y=float(rng.uniform(0.69, 0.715)),
        mouth_width=float(rng.uniform(0.32, 0.37)),
        mouth_open=float(rng.uniform(0.145, 0.175)),
        upper_lip=float(rng.uniform(0.022, 0.036)),
        lower_lip=float(rng.uniform(0.030, 0.048)),
        beard=float(rng.uniform(0.1, 0.35)) if rng.random() < 0.25 else 0.0,
    )


def render_face(rng: np.random.Generator, lips: FloatArray, size: int) -> ByteArray:
    """Draw a random person whose lips follow `lips`.

    lips: (frames, 3), opening 0..1, spread -1..1, teeth 0..1 per video frame.
    Returns RGB uint8 (frames, size, size, 3).
    """
    frames = lips.shape[0]
    person = draw_person(rng)
    poses = _poses(rng, frames)
    lids = _blinks(rng, frames)
    gaze = _wander(rng, frames, 0.012, 12.0)
    gains = 1.0 + _wander(rng, frames, 0.08, 20.0)
    factor = 2 if size < _SUPERSAMPLE_BELOW else 1
    side = size * factor
    canvas = _Canvas(side, cv2.LINE_8 if factor == 2 else cv2.LINE_AA)
    background = _background(rng, side)
    light = _light(rng, size)
    margin = 32
    grain_level = float(rng.uniform(1.0, 4.0))
    grain = rng.standard_normal((size + margin, size + margin, 3), np.float32) * grain_level
    grain_bank = np.rint(grain).astype(np.int16)
    corners = rng.integers(0, margin, (frames, 2))

    out = np.empty((frames, size, size, 3), np.uint8)
    for index in range(frames):
        canvas.start(background, poses[index])
        _draw_head(canvas, person, float(lips[index, 0]))
        _draw_eyes(canvas, person, float(lids[index]), float(gaze[index]))
        _draw_mouth(canvas, person, lips[index])
        sharp = canvas.image
        if factor == 2:
            sharp = np.asarray(
                cv2.resize(sharp, (size, size), interpolation=cv2.INTER_AREA), np.uint8
            )
        lit = cv2.multiply(sharp, light, scale=float(gains[index]) / 200.0)
        row, column = corners[index]
        speckle = grain_bank[row : row + size, column : column + size]
        cv2.add(lit, speckle, out[index], dtype=cv2.CV_8U)
    return out


def mouth_box(size: int) -> tuple[int, int, int, int]:
    """Where the mouth stays whatever the head does: (top, bottom, left, right) in pixels."""
    return round(0.60 * size), round(0.92 * size), round(0.26 * size), round(0.74 * size)


def _draw_head(canvas: _Canvas, person: Person, opening: float) -> None:
    skin = person.skin
    drop = 0.30 * opening * person.mouth_open
    canvas.polygon(
        np.array([[0.30, 0.80], [0.70, 0.80], [0.74, 1.25], [0.26, 1.25]]), _shade(skin, 0.68)
    )
    hair_radius = person.face_width + person.hair_width
    canvas.convex(_OVAL * (hair_radius, 0.50) + (0.5, 0.42), person.hair)
    for side in (-1.0, 1.0):
        ear = _OVAL * (0.045, 0.085) + (0.5 + side * (person.face_width + 0.005), 0.47)
        canvas.convex(ear, _shade(skin, 0.80))
    middle = 0.45
    for inset, shade in ((1.0, 0.84), (0.93, 0.95), (0.80, 1.0)):
        face = _OVAL.copy()
        low = face[:, 1] > 0
        # A squarer jaw keeps its width further down.
        power = 2.0 / person.jaw
        face[low, 0] = np.sign(face[low, 0]) * (1.0 - face[low, 1] ** power) ** (1.0 / power)
        face[:, 0] *= person.face_width * inset
        face[low, 1] *= (person.chin_y + drop - middle) * (0.5 + 0.5 * inset)
        face[~low, 1] *= 0.42 * inset
        canvas.convex(face + np.array([0.5, middle]), _shade(skin, shade))
    if person.beard:
        beard = _mix(skin, person.hair, person.beard)
        jaw = np.concatenate(
            [
                np.stack([0.5 + _ARC * 0.27, 0.60 + 0.02 * _ARC**2], axis=1),
                np.stack(
                    [
                        0.5 - _ARC * 0.27,
                        0.60 + (person.chin_y + drop - 0.62) * np.sqrt(1 - 0.8 * _ARC**2),
                    ],
                    axis=1,
                ),
            ]
        )
        canvas.polygon(jaw, beard)
    fringe = np.concatenate(
        [
            np.stack(
                [
                    0.5 + _ARC * (hair_radius - 0.01),
                    person.fringe + 0.05 + 0.22 * np.abs(_ARC) ** 3,
                ],
                axis=1,
            ),
            np.stack([0.5 - _ARC * hair_radius, -0.10 + 0.3 * _ARC**4], axis=1),
        ]
    )
    canvas.polygon(fringe, person.hair)
    tip = person.eye_y + person.nose_length
    half = person.nose_width
    bridge = np.array(
        [[0.5, person.eye_y], [0.5 + 0.55 * half, tip - 0.03], [0.5 + 0.15 * half, tip]]
    )
    canvas.polygon(bridge, _shade(skin, 0.90))
    nostrils = np.stack([0.5 + _ARC * half, tip + 0.014 * np.cos(_ARC * np.pi)], axis=1)
    canvas.line(nostrils, _shade(skin, 0.62), 0.012)


def _draw_eyes(canvas: _Canvas, person: Person, lid: float, gaze: float) -> None:
    width = person.eye_width
    height = person.eye_height * (1.0 - 0.92 * lid)
    for side in (-1.0, 1.0):
        x = 0.5 + side * person.eye_gap
        canvas.convex(
            _OVAL * (1.25 * width, 1.7 * person.eye_height) + (x, person.eye_y),
            _shade(person.skin, 0.86),
        )
        white = _OVAL * (width, height) + (x, person.eye_y)
        canvas.convex(white, (228.0, 226.0, 222.0) if lid < 0.6 else _shade(person.skin, 0.7))
        if lid < 0.6:
            iris = min(0.030, 0.95 * height)
            centre = (x + gaze, person.eye_y)
            canvas.convex(_OVAL * (0.030, iris) + centre, person.iris)
            canvas.convex(_OVAL * (0.013, min(0.013, iris)) + centre, (16.0, 14.0, 14.0))
        lash = np.stack([x + _ARC * width, person.eye_y - height * np.sqrt(1.0 - _ARC**2)], axis=1)
        canvas.line(lash, _shade(person.skin, 0.35), 0.010)
        brow_y = person.eye_y - person.brow_drop
        brow = np.stack([x + _ARC * 1.25 * width, brow_y + 0.016 * _ARC**2], axis=1)
        canvas.line(brow, _shade(person.hair, 0.9), person.brow_thickness)


def _draw_mouth(canvas: _Canvas, person: Person, lips: FloatArray) -> None:
    opening, spread, teeth = (float(value) for value in lips)
    rounding = max(0.0, -spread)
    half = 0.5 * person.mouth_width * (1.0 + 0.14 * max(0.0, spread) - 0.34 * rounding)
    gap = opening * person.mouth_open
    profile = 1.0 - _ARC**2
    # A rounded mouth is an O; a spread one is an almond.
    bow = profile ** (0.75 - 0.25 * rounding)
    centre = person.mouth_y
    top = centre - 0.28 * gap * bow
    bottom = centre + 0.72 * gap * bow
    fullness = 1.0 + 0.25 * rounding - 0.15 * max(0.0, spread)
    cupid = 1.0 - 0.22 * np.exp(-((_ARC / 0.18) ** 2))
    rim = np.sqrt(profile)
    outer_top = top - person.upper_lip * fullness * rim * cupid
    outer_bottom = bottom + person.lower_lip * fullness * rim
    x = 0.5 + _ARC * half
    inner_x = 0.5 + _ARC * half * 0.90

    shadow = np.stack(
        [0.5 + _ARC * half * 0.6, outer_bottom.max() + 0.018 - 0.01 * _ARC**2], axis=1
    )
    canvas.line(shadow, _shade(person.skin, 0.80), 0.014)
    canvas.polygon(
        _band(x, outer_top, centre + 0.0 * x + 0.5 * gap * bow), _shade(person.lip, 0.88)
    )
    canvas.polygon(_band(x, centre + 0.3 * gap * bow, outer_bottom), person.lip)
    canvas.line(np.stack([x, 0.5 * (top + bottom)], axis=1), _shade(person.lip, 0.42), 0.009)
    if gap < 0.004:
        return
    canvas.polygon(_band(inner_x, top, bottom), (38.0, 12.0, 14.0))
    tongue = slice(4, 13)
    if opening > 0.3:
        dome = 0.42 * gap * np.sqrt(np.maximum(0.0, 1.0 - (_ARC[tongue] / 0.56) ** 2))
        canvas.polygon(
            _band(inner_x[tongue], bottom[tongue] - dome, bottom[tongue]), (150.0, 66.0, 68.0)
        )
    row = slice(3, 14)
    enamel = (208.0, 202.0, 188.0)
    edge = min(0.022, 0.28 * gap) + 0.5 * teeth * gap
    bite = np.minimum(bottom[row], top[row] + edge * bow[row])
    canvas.polygon(_band(inner_x[row], top[row], bite), enamel)
    if teeth > 0.3:
        lower = np.maximum(bite + 0.15 * gap, bottom[row] - 0.02 * bow[row])
        canvas.polygon(_band(inner_x[row], np.minimum(lower, bottom[row]), bottom[row]), enamel)


def _band(x: FloatArray, top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Closed outline (2n, 2) between two curves over the same `x`."""
    return np.stack([np.concatenate([x, x[::-1]]), np.concatenate([top, bottom[::-1]])], axis=1)


def _poses(rng: np.random.Generator, frames: int) -> FloatArray:
    """Head poses (frames, 4): dx, dy as fractions of the side, angle in radians, scale."""
    poses = np.zeros((frames, 4))
    base = rng.uniform(-1.0, 1.0, 4) * (0.02, 0.015, 0.05, 0.03)
    time = np.arange(frames) / FPS
    for column, reach in enumerate((0.022, 0.016, 0.05, 0.025)):
        for share in (0.65, 0.35):
            rate, phase = rng.uniform(0.12, 0.7), rng.uniform(0.0, 2.0 * np.pi)
            poses[:, column] += share * reach * np.sin(2.0 * np.pi * rate * time + phase)
    jitter = gaussian_filter1d(rng.standard_normal((frames, 4)), 1.0, axis=0)
    poses += base + jitter * (0.0025, 0.0025, 0.006, 0.003)
    poses[:, 3] += 1.0
    return poses


def _blinks(rng: np.random.Generator, frames: int) -> FloatArray:
    """How far shut the eyes are per frame, 0..1."""
    time = np.arange(frames) / FPS
    shut = np.zeros(frames)
    at = float(rng.uniform(0.0, 3.5))
    while at < frames / FPS:
        shut = np.maximum(shut, np.exp(-(((time - at) / 0.06) ** 2)))
        at += float(rng.uniform(0.8, 4.0))
    return shut


def _wander(rng: np.random.Generator, frames: int, reach: float, sigma: float) -> FloatArray:
    """Slow random drift of about `reach`, smoothed over `sigma` frames; (frames,)."""
    pad = int(4 * sigma)
    noise = gaussian_filter1d(rng.standard_normal(frames + 2 * pad), sigma)[pad : pad + frames]
    return np.asarray(np.clip(noise * np.sqrt(2.0 * sigma * np.sqrt(np.pi)), -2, 2) * reach / 2.0)


def _background(rng: np.random.Generator, side: int) -> ByteArray:
    """Blurred coloured texture, uint8 (side, side, 3)."""
    cells = int(rng.integers(2, 9))
    base = rng.uniform(50.0, 200.0) + rng.uniform(-30.0, 30.0, 3)
    texture = base + rng.normal(0.0, rng.uniform(3.0, 30.0), (cells, cells, 1))
    texture = texture + rng.normal(0.0, rng.uniform(1.0, 10.0), (cells, cells, 3))
    small = np.clip(texture, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def _light(rng: np.random.Generator, size: int) -> ByteArray:
    """Uneven light and skin mottle as a multiplier (200 = one), uint8 (size, size, 3)."""
    axis = np.linspace(-1.0, 1.0, size)
    angle, depth = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, 0.22)
    slope = depth * (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None])
    mottle = cv2.resize(
        rng.normal(0.0, 0.02, (12, 12)), (size, size), interpolation=cv2.INTER_CUBIC
    )
    warmth = rng.uniform(-0.06, 0.06) * np.array([1.0, 0.0, -1.0])
    field = (rng.uniform(0.8, 1.1) + slope + mottle)[:, :, None] + warmth
    return np.asarray(np.clip(field * 200.0, 0, 255), np.uint8)


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue
