"""Offset over time: constant, jumps, drift, and stretches where nothing can be told.

A track's windows say how well each shift fits, one row each. The path is the most likely course of
the offset through the rows, found by dynamic programming:

    z(k, j)     fit of window k at shift j, its row's mean taken away, in deviations of what does
                not fit; where it fits its mean is m, elsewhere nought
    gain(k, j)  m (z(k, j) - m / 4) / tau            in nats: how much likelier than nothing at all

Neighbouring windows share frames and words: `tau` of them say as much as one. A change of the
offset pays its price, the logarithm of how many changes could be thought of (every moment, every
shift) over the chance allowed for a false one; a stretch that fits nowhere gains nought and pays
half of it at either end. So a change is told where the rows on both sides speak for it, and only
there.

Drift is the same search along slanted lines: rows are moved by so many frames a window, for every
slope that there could be. A slope pays as well, for all that were tried; it is then fitted to a
part of a frame, with its error, and told only where it explains the rows better by that margin and
lies several errors from nought.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import FPS
from trainer.score.jump_moment import NOWHERE, refine

# Windows that say as much as one: on held-out speech the products of a shift are correlated over 2
# to 5 windows, and where they fit they scatter 1.4 times as far (python -m benchmarks.changes).
TAU = 6.0
FALSE_CHANCE = 0.002  # of a false change, by the price
LEAST_JUMP = 2  # frames; a step of one cannot be told from an offset between two frames
DRIFT_SECONDS = 20.0  # tracks shorter than that do not tell a drift
DRIFT_ERRORS = 5.0  # a slope must lie so many of its errors from nought,
DRIFT_FRAMES = 0.75  # and move the offset by so many frames from the first window to the last
SURE = 3.0  # deviations by which a stretch must stand out of chance, over its own length
SURE_SECONDS = 2.0  # shorter stretches are unsure

_BLOCK = 12  # windows added up before the search
_FIRST_MEAN = 1.0
_MEANS = 0.3, 3.0  # deviations: what fits is taken to have a mean of so many
_STEPS, _LEAP = 12, 0.3  # of a fit, frames of each
_TOGETHER = 2  # rows that depend on each other: a second
_NEAR = 3  # shifts that fit in part, beside the one that fits
_FINE = 8  # parts of a frame
_MOST_CELLS = 2_000_000  # of slanted fields in memory at once
_MOST_SLANT = 30.0  # frames from the first window to the last
_BESIDE = 1.0  # such a slant a fit begins with beside an upright line
_SLIGHT = -2.0, -1.0, 1.0, 2.0  # slants that the fit begins with as well


@dataclass(frozen=True)
class Segment:
    """A stretch of one offset, or of one line of a drift.

    Attributes:
        first, last: its windows, `last` not among them.
        begin_frames, end_frames: offset at its first and its last window, frames, positive: the
            audio is early. The same unless there is drift; nan where nothing can be told.
        strength: deviations by which it stands out of chance; nan where nothing can be told.
        begins: between which windows its offset takes over, in 19 cases of 20, from that of the
            stretch before it that has one; None: there is none, or it is the same.
    """

    first: int
    last: int
    begin_frames: float
    end_frames: float
    strength: float
    begins: tuple[int, int] | None = None

    @property
    def known(self) -> bool:
        """Whether it has an offset."""
        return not math.isnan(self.begin_frames)

    @property
    def sure(self) -> bool:
        """Whether it is long and clear enough to be believed."""
        long_enough = self.last - self.first >= SURE_SECONDS * FPS
        return self.known and long_enough and self.strength >= SURE


@dataclass(frozen=True)
class OffsetPath:
    """The course of a track's offset.

    Attributes:
        segments: that follow one another and cover the track's windows.
        drift_ppm: by how many millionths of the time that passes the offset grows; positive: the
            audio gets ever earlier. Nought where none was found, which is then known to
            within `drift_error_ppm`.
        drift_error_ppm: one standard error; nan where the track is too short to tell.
    """

    segments: tuple[Segment, ...]
    drift_ppm: float = 0.0
    drift_error_ppm: float = float("nan")

    @property
    def jumps(self) -> tuple[tuple[Segment, Segment], ...]:
        """Pairs of sure segments, one after the other, of which the second has another offset."""
        sure = [segment for segment in self.segments if segment.sure]
        return tuple(
            (one, two)
            for one, two in pairwise(sure)
            if abs(two.begin_frames - one.end_frames) >= LEAST_JUMP - 0.5
        )

    @property
    def changes(self) -> bool:
        """Whether the offset does not stay the same."""
        return self.drift_ppm != 0 or bool(self.jumps)


def follow_offset(fits_KS: NDArray[np.floating]) -> OffsetPath:
    """The path of the offset through a track.

    Args:
        fits_KS: (K, 2 reach + 1), K >= 1, how well window k fits the sound at each shift, -reach
            first; larger is better, on any scale; nan where there is no such sound.
    """
    rows_KS = _standard(fits_KS)
    price = _price(*rows_KS.shape)
    mean = _FIRST_MEAN
    # The mean where it fits is that of the path, which depends on it.
    shifts_T = _search(_added_up(rows_KS, mean).gains_TS, price)
    rows_KS, mean = _rescaled(rows_KS, np.repeat(shifts_T, _BLOCK)[: len(rows_KS)])
    gains = _added_up(rows_KS, mean)
    shifts_T = _search(gains.gains_TS, price)
    slope, error = 0.0, float("nan")
    if len(rows_KS) >= DRIFT_SECONDS * FPS:
        slope, error = _drift(gains, shifts_T, price)
    if slope:
        shifts_T = _search(gains.slanted(slope), price)
    segments = _segments(rows_KS, shifts_T, slope, mean)
    return OffsetPath(tuple(segments), -1e6 * slope if slope else 0.0, 1e6 * error)


@dataclass(frozen=True)
class _Gains:
    """Gains in nats, some windows added up.

    Attributes:
        gains_TS: (T, S), a row for every `_BLOCK` windows, the last for fewer.
        nothing: what a row gains at a shift that does not fit, on the average.
        centres_T: (T,) middle of each row's windows, from the middle of the track.
    """

    gains_TS: NDArray[np.float64]
    nothing: float
    centres_T: NDArray[np.float64]

    def at(self, shifts_TN: NDArray[np.float64]) -> NDArray[np.float64]:
        """(T, N) gains at shifts between the whole ones, by straight lines; beyond all: nothing."""
        rows, width = self.gains_TS.shape
        padded = np.pad(self.gains_TS, ((0, 0), (1, 2)), constant_values=self.nothing)
        inside = np.clip(shifts_TN, -1, width) + 1
        low = np.floor(inside).astype(int)
        part = inside - low
        at_row = np.arange(rows)[:, None]
        return np.asarray(padded[at_row, low] * (1 - part) + padded[at_row, low + 1] * part)

    def slanted(self, slope: float) -> NDArray[np.float64]:
        """(T, S) rows moved so that a line of so many shifts a window stands upright."""
        if slope == 0:
            return self.gains_TS
        return self.at(np.arange(self.gains_TS.shape[1]) + slope * self.centres_T[:, None])


def _standard(fits_KS: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows about nought, in deviations of all of them; nought where there is no sound."""
    rows_KS = np.where(np.isfinite(fits_KS), fits_KS, np.nan).astype(np.float32)
    known_K1 = np.isfinite(rows_KS).sum(1, keepdims=True)
    rows_KS -= np.nansum(rows_KS, 1, keepdims=True, dtype=np.float64) / np.maximum(known_K1, 1)
    np.nan_to_num(rows_KS, copy=False)
    rows_KS /= rows_KS.std(dtype=np.float64) or 1.0
    return rows_KS


def _price(windows: int, shifts: int) -> float:
    """Of a change, nats: of every moment and shift at which one could be, over the chance."""
    return math.log(max(windows / TAU, 1) * shifts / FALSE_CHANCE)


def _rescaled(
    rows_KS: NDArray[np.float32], shifts_K: NDArray[np.int64]
) -> tuple[NDArray[np.float32], float]:
    """The rows in deviations of what does not fit by a path, and the mean of what does."""
    known = shifts_K >= 0
    at_K1 = shifts_K[known, None]
    fitting = rows_KS[known, shifts_K[known]].astype(np.float64)
    # Of all but those near the path; they are few, and so are taken away from the sums over all.
    beside = at_K1 + np.arange(-_NEAR, _NEAR + 1)
    inside = (beside >= 0) & (beside < rows_KS.shape[1])
    near_KN = np.where(inside, np.take_along_axis(rows_KS[known], beside * inside, 1), 0.0)
    squares = np.einsum("ks,ks->", rows_KS, rows_KS, dtype=np.float64) - (near_KN**2).sum()
    mean = (rows_KS.sum(dtype=np.float64) - near_KN.sum()) / max(rows_KS.size - inside.sum(), 1)
    scale = math.sqrt(max(squares / max(rows_KS.size - inside.sum(), 1) - mean**2, 0.0)) or 1.0
    fits = float(fitting.mean()) / scale if len(fitting) else 1.0
    return rows_KS / np.float32(scale), float(np.clip(fits, *_MEANS))


def _added_up(rows_KS: NDArray[np.float32], mean: float) -> _Gains:
    starts = np.arange(0, len(rows_KS), _BLOCK)
    ends = np.minimum(starts + _BLOCK, len(rows_KS))
    sums_TS = np.add.reduceat(rows_KS, starts, axis=0, dtype=np.float64)
    return _Gains(
        mean * (sums_TS - (ends - starts)[:, None] * mean / 4) / TAU,
        -_BLOCK * mean * mean / 4 / TAU,
        (starts + ends - len(rows_KS)) / 2,
    )


def _others(best_S: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each shift the best of those that are a jump away; axis -1 are the shifts."""
    out = np.full_like(best_S, -np.inf)
    out[..., LEAST_JUMP:] = np.maximum.accumulate(best_S, -1)[..., :-LEAST_JUMP]
    above = np.maximum.accumulate(best_S[..., ::-1], -1)[..., ::-1]
    out[..., :-LEAST_JUMP] = np.maximum(out[..., :-LEAST_JUMP], above[..., LEAST_JUMP:])
    return out


def _scores(gains_TBS: NDArray[np.float64], price: float) -> NDArray[np.float64]:
    """(B,) what the best path gains in each of B fields."""
    best_BS, lost_BS = gains_TBS[0], np.zeros_like(gains_TBS[0])
    for gains_BS in gains_TBS[1:]:
        best_BS, lost_BS = _onward(gains_BS, best_BS, lost_BS, price)
    return np.asarray(np.maximum(best_BS, lost_BS).max(1))


def _onward(
    gains_S: NDArray[np.float64],
    best_S: NDArray[np.float64],
    lost_S: NDArray[np.float64],
    price: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One row further: what the best paths gain that fit at each shift, and that fit nowhere since
    they last fitted there."""
    kept_S = np.maximum(best_S, lost_S - price / 2)
    return (
        gains_S + np.maximum(kept_S, _others(np.maximum(best_S, lost_S)) - price),
        np.maximum(lost_S, best_S - price / 2),
    )


def _search(gains_TS: NDArray[np.float64], price: float) -> NDArray[np.int64]:
    """(T,) shift of the best path in each row, or NOWHERE."""
    steps = [(gains_TS[0], np.zeros(gains_TS.shape[1]))]
    for gains_S in gains_TS[1:]:
        steps.append(_onward(gains_S, *steps[-1], price))
    best_S, lost_S = steps[-1]
    fits = bool(best_S.max() > lost_S.max())
    at = int((best_S if fits else lost_S).argmax())
    shifts = [at if fits else NOWHERE]
    for best_S, lost_S in steps[-2::-1]:
        if not fits:
            fits = best_S[at] - price / 2 > lost_S[at]
        else:
            either_S = np.maximum(best_S, lost_S)
            others_S = np.where(abs(np.arange(len(best_S)) - at) >= LEAST_JUMP, either_S, -np.inf)
            if others_S.max() - price > max(best_S[at], lost_S[at] - price / 2):
                at = int(others_S.argmax())
                fits = best_S[at] >= lost_S[at]
            else:
                fits = best_S[at] >= lost_S[at] - price / 2
        shifts.append(at if fits else NOWHERE)
    return np.array(shifts[::-1], np.int64)


def _drift(gains: _Gains, shifts_T: NDArray[np.int64], price: float) -> tuple[float, float]:
    """Shifts a window, nought unless they are told, and the standard error.

    Args:
        shifts_T: the best path without drift.
    """
    windows = 2 * (gains.centres_T[-1] + 1)
    most = min(_MOST_SLANT, gains.gains_TS.shape[1] - 1)
    slopes_B = np.arange(-most, most + 1) / windows
    at_once = max(1, _MOST_CELLS // gains.gains_TS.size)
    parts = [slopes_B[first : first + at_once] for first in range(0, len(slopes_B), at_once)]
    scores_B = np.concatenate(
        [_scores(np.stack([gains.slanted(one) for one in part], 1), price) for part in parts]
    )
    upright = _fit(gains, shifts_T, 0.0, price)
    # Lines between whole shifts and slopes look worse to the search than they are, by up to the
    # price of telling them: the fit, which goes between them, also begins beside an upright line.
    start = float(slopes_B[scores_B.argmax()])
    fits = [_fit(gains, shifts_T, sign * _BESIDE / windows, price) for sign in (-1, 1)]
    for slope in {start, *(slant / windows for slant in _SLIGHT)} - {0.0}:
        fits += [_fit(gains, path_T, slope, price) for path_T in _paths(gains, slope, price)]
    slanted = max(fits, key=lambda line: line.gain)
    # The path along the very slope may be a simpler one.
    fits = [
        _fit(gains, path_T, slanted.slope, price) for path_T in _paths(gains, slanted.slope, price)
    ]
    slanted = max(slanted, *fits, key=lambda line: line.gain)
    told = (
        slanted.gain - upright.gain > price
        and abs(slanted.slope) > DRIFT_ERRORS * slanted.error
        and abs(slanted.slope) * windows >= DRIFT_FRAMES
    )
    return (slanted.slope, slanted.error) if told else (0.0, upright.error)


def _paths(gains: _Gains, slope: float, price: float) -> list[NDArray[np.int64]]:
    """The best path with a slope, and the best one that is a single line, where that differs."""
    field_TS = gains.slanted(slope)
    shifts_T = _search(field_TS, price)
    known_T = shifts_T >= 0
    if len(np.unique(shifts_T[known_T])) < 2:
        return [shifts_T]
    single = int(field_TS[known_T].sum(0).argmax())
    return [shifts_T, np.where(known_T, single, NOWHERE)]


@dataclass(frozen=True)
class _Line:
    """Lines of one slope through a track: shifts a window, its standard error, what they gain."""

    slope: float
    error: float
    gain: float


def _fit(gains: _Gains, shifts_T: NDArray[np.int64], slope: float, price: float) -> _Line:
    """The best slope near another one, the path between two jumps with a line of its own.

    Args:
        shifts_T: the best path with that slope.
        slope: nought is kept, and the lines' heights alone are fitted.
    """
    fixed = slope == 0
    known_T = shifts_T >= 0
    if not known_T.any():
        return _Line(0.0, math.inf, 0.0)
    own_T = shifts_T[known_T]
    # The search may take a step of one shift, by way of nowhere, where a line lies between two.
    piece_T = np.cumsum(np.abs(np.diff(own_T, prepend=own_T[0])) >= LEAST_JUMP)
    centres_T = gains.centres_T[known_T]
    height_T = (np.bincount(piece_T, own_T) / np.bincount(piece_T))[piece_T]
    near = np.arange(-_NEAR - 2, _NEAR + 3)
    rows = _Gains(gains.gains_TS[known_T], gains.nothing, centres_T)
    base_T = np.round(height_T + slope * centres_T)
    from scipy.interpolate import CubicSpline  # slow to import, for long tracks alone

    spline = CubicSpline(near, rows.at(base_T[:, None] + near), axis=1)
    beside_T = centres_T - (np.bincount(piece_T, centres_T) / np.bincount(piece_T))[piece_T]
    reach = max(float(np.abs(beside_T).max()), 1.0)
    beside_T /= reach  # so that a step of the slope counts frames, as one of a height does
    for _ in range(_STEPS):
        _, rise_T, bend_T = _along(spline, height_T + slope * centres_T - base_T)
        steps = _step(np.bincount(piece_T, rise_T), np.bincount(piece_T, bend_T))
        height_T = height_T + steps[piece_T]
        if not fixed:
            turn = float(_step(rise_T @ beside_T, bend_T @ beside_T**2)) / reach
            slope += turn
            height_T = height_T - turn * (centres_T - beside_T * reach)
    value_T, rise_T, bend_T = _along(spline, height_T + slope * centres_T - base_T)
    # Neighbouring rows are not independent: a few are added up before they are squared.
    pulls = np.add.reduceat(rise_T * beside_T, np.arange(0, len(rise_T), _TOGETHER))
    stiff = -float(bend_T @ beside_T**2)
    error = math.sqrt(float(pulls @ pulls)) / stiff / reach if stiff > 0 else math.inf
    return _Line(slope, error, float(value_T.sum()) - price * int(piece_T.max()))


def _along(spline: Any, at_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, T) value, first and second derivative of curve t of a `CubicSpline` at its own place."""
    knots = spline.x
    at_T = np.clip(at_T, knots[0], knots[-1])
    left = np.minimum((at_T - knots[0]).astype(int), len(knots) - 2)
    x = at_T - knots[left]
    c3, c2, c1, c0 = spline.c[:, left, np.arange(len(at_T))]
    return np.array(
        [((c3 * x + c2) * x + c1) * x + c0, (3 * c3 * x + 2 * c2) * x + c1, 6 * c3 * x + 2 * c2]
    )


def _step(rise: Any, bend: Any) -> NDArray[np.float64]:
    """Of Newton's method towards a maximum, a part of a frame at most."""
    towards = np.where(bend < 0, rise / np.minimum(-np.abs(bend), -1e-12) * -1, np.sign(rise))
    return np.clip(towards, -_LEAP, _LEAP)


def _segments(
    rows_KS: NDArray[np.float32], shifts_T: NDArray[np.int64], slope: float, mean: float
) -> list[Segment]:
    """The stretches of a path, their bounds found window by window."""
    count, shifts = rows_KS.shape
    middle_K = np.arange(count) + 0.5 - count / 2
    fits_KS: NDArray[np.floating] = rows_KS
    if slope:
        fits_KS = _Gains(rows_KS.astype(np.float64), 0.0, middle_K).slanted(slope)
    starts = np.concatenate([[0], 1 + np.flatnonzero(np.diff(shifts_T))])
    bounds = [*(int(start) * _BLOCK for start in starts), count]
    at = [int(shifts_T[start]) for start in starts]
    ranges = refine(bounds, at, fits_KS, mean / TAU, _BLOCK)
    segments = []
    for shift, first, last, begins in zip(at, bounds[:-1], bounds[1:], ranges, strict=True):
        nan = float("nan")
        begin = end = strength = nan
        if shift != NOWHERE:
            own_S = fits_KS[first:last].sum(0, dtype=np.float64)
            strength = float(own_S[shift]) / math.sqrt((last - first) * TAU)
            height = shifts // 2 - shift - (_between(own_S, shift) if slope else 0.0)
            begin = height - slope * float(middle_K[first])
            end = height - slope * float(middle_K[last - 1])
        segments.append(Segment(first, last, begin, end, strength, begins))
    return segments


def _between(curve_S: NDArray[np.float64], at: int) -> float:
    """How far beside `at` a parabola through the curve has its peak, half a shift at most."""
    if not 0 < at < len(curve_S) - 1:
        return 0.0
    left, middle, right = (float(value) for value in curve_S[at - 1 : at + 2])
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip((left - right) / 2 / bend, -0.5, 0.5))
