"""Where the offsets of a set of clips lie, and how many of them are no more than chance.

Clips of one set are off by alike amounts: one camera, one way of cutting. A clip's own offset is
therefore believed where many others lie, more than chance puts there, and beyond only where it is
clearer than chance ever is. Chance is what the same clips give with other clips' sound: it favours
small offsets, and passes two of three clips of a second.

    N(o)  clips whose offset with another clip's sound is o, smoothed: the two sides are alike
    far   the half of N where the set has the fewest clips beside it; from then on all that lies
          beyond the range so found, until that stays as it is
    w     clips in `far` as they are / with another's sound: the share of answers that are chance
    o is plausible if the clips at o - 1 .. o + 1 are more than 2 E + 3 sqrt(E), E those that w N
    explains there: right more often than not, and no accident of few clips
    the range is the run of plausible offsets around the densest
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import FPS
from trainer.score.clip_scores import ClipScore
from trainer.score.scoring import REACH, in_frames

CLEAR = 0.15  # score of a clip's own offset; below, a second peak is nearly as high
_SURE = 0.99  # of the clips with another's sound are less clear than what needs no neighbours
_SMOOTH = 2.0  # frames, deviation of the filter over what chance gives
_ROUNDS, _MARGIN = 5, 2  # of finding the range; frames beside it that may be of the set still
_HARDLY = 0.8  # share of chance among the clear answers, from which on a network cannot tell


@dataclass(frozen=True)
class Spread:
    """How the clear offsets of a set are spread.

    Attributes:
        least: score that a clear one exceeds.
        counts: (31,) clear clips by offset, -15 first.
        by_chance: (31,) how many of them chance explains.
        low, high: the offsets where the set lies, both included.
        sure: score beyond which an offset is believed elsewhere, too.
    """

    least: float
    counts: tuple[int, ...]
    by_chance: tuple[float, ...]
    low: int
    high: int
    sure: float

    def believes(self, offset: int, score: float) -> bool:
        """Whether a clip that says so is more likely right than wrong."""
        if score <= self.least or abs(offset) >= REACH:
            return False
        return self.low <= offset <= self.high or score > self.sure

    def is_far(self, offset: int, score: float) -> bool:
        """Whether a clip is clear, but not where the set lies, and not clear enough for that."""
        return score > self.least and abs(offset) < REACH and not self.believes(offset, score)

    @property
    def clear(self) -> int:
        """How many clips are clear."""
        return sum(self.counts)

    @property
    def wrong(self) -> float:
        """Expected share of wrong offsets among the clear ones in the range, 0..1."""
        part = slice(self.low + REACH, self.high + REACH + 1)
        within = sum(self.counts[part])
        return min(1.0, sum(self.by_chance[part]) / within) if within else 0.0

    @property
    def tells(self) -> bool:
        """Whether the network knows more of these clips than chance does."""
        return self.clear == 0 or sum(self.by_chance) < _HARDLY * self.clear

    def in_words(self) -> str:
        """A line for people: offsets with their shares, the range in frames and milliseconds."""
        if not self.clear:
            return "no offset is clear"
        shares = ", ".join(
            f"{offset:+d} ({self.counts[offset + REACH] / self.clear:.0%})"
            for offset in range(self.low, self.high + 1)
        )
        ms = 1000 // FPS
        return (
            f"offsets: {self.clear:,} are clear; this set lies at {shares} frames, which is "
            f"{self.low * ms:+d} to {self.high * ms:+d} ms (positive: audio early); about "
            f"{self.wrong:.0%} of these are chance"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as refine.json has them: clips by offset in frames and in ms."""
        shares = {
            f"{offset:+d}": {
                "ms": offset * 1000 // FPS,
                "clips": count,
                "share": round(count / max(1, self.clear), 4),
            }
            for offset, count in zip(range(-REACH, REACH + 1), self.counts, strict=True)
            if count
        }
        return {
            "clear": self.clear,
            "clear_beyond": round(self.least, 4),
            "offsets": shares,
            "low": self.low,
            "high": self.high,
            "sure_beyond": round(self.sure, 4),
            "expected_wrong": round(self.wrong, 4),
        }

    def rejection(self, offset: int, score: float) -> str:
        """Why a clip is not believed, alike for all clips of one kind."""
        if score <= self.least:
            return "no offset fits clearly better than others"
        if abs(offset) >= REACH:
            return f"the best offset lies at the edge of the search ({REACH} frames)"
        return (
            f"its offset is not where this set lies ({in_frames(self.low)} to "
            f"{in_frames(self.high)}), and no clearer than by chance"
        )


def find_spread(scores: Sequence[ClipScore], least: float = CLEAR) -> Spread:
    """How the offsets of the judged clips are spread.

    Without chance scores (a set of one clip) all that is clear is believed.

    Args:
        least: score of its own offset that a clear clip exceeds.
    """
    judged = [score for score in scores if score.judged]
    counts = _histogram([one.offset for one in judged if one.best_score > least])
    others = [
        (one.chance_offset, one.chance_score)
        for one in judged
        if one.chance_offset is not None and one.chance_score is not None
    ]
    chance = _histogram([offset for offset, score in others if score > least])
    from scipy.ndimage import gaussian_filter1d  # a third of a second to import, for sets alone

    chance = gaussian_filter1d((chance + chance[::-1]) / 2, _SMOOTH, mode="nearest")
    low, high, by_chance = _range(counts, chance)
    sure = float(np.quantile([score for _, score in others], _SURE)) if others else least
    return Spread(
        least,
        tuple(counts.astype(int).tolist()),
        tuple(by_chance.tolist()),
        low - REACH,
        high - REACH,
        max(sure, least),
    )


def _histogram(offsets: Sequence[int]) -> NDArray[np.float64]:
    """(31,) how many of the offsets are -15, -14 ..."""
    at = np.asarray(offsets, np.int64) + REACH
    return np.bincount(at, minlength=2 * REACH + 1).astype(np.float64)


def _with_neighbours(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(31,) the sum of each value and those on either side."""
    return np.convolve(values, np.ones(3), mode="same")


def _range(
    counts: NDArray[np.float64], chance: NDArray[np.float64]
) -> tuple[int, int, NDArray[np.float64]]:
    """Where the set lies, as places in the arrays, and (31,) what chance explains.

    Args:
        counts, chance: (31,) clear clips as they are, and with another clip's sound.
    """
    near = _with_neighbours(counts)
    dense = int(near.argmax()) if counts.any() else REACH
    # A little too low a share to begin with: too wide a range mends itself, too narrow a one would
    # leave a part of the set to be taken for chance.
    order = np.argsort(near / np.maximum(_with_neighbours(chance), 1e-9), kind="stable")
    far = np.zeros(len(chance), np.bool_)
    far[order[np.cumsum(chance[order]) <= chance.sum() / 2]] = True
    for _ in range(_ROUNDS):
        by_chance = _share_of_chance(counts, chance, far) * chance
        expected = _with_neighbours(by_chance)
        plausible = near > 2 * expected + 3 * np.sqrt(expected)
        low = high = dense
        while low > 0 and plausible[low - 1]:
            low -= 1
        while high < 2 * REACH and plausible[high + 1]:
            high += 1
        beyond = np.ones(len(chance), np.bool_)
        beyond[max(0, low - _MARGIN) : high + _MARGIN + 1] = False
        if (beyond == far).all() or chance[beyond].sum() < chance.sum() / 10:
            break
        far = beyond
    return low, high, by_chance


def _share_of_chance(
    counts: NDArray[np.float64], chance: NDArray[np.float64], far: NDArray[np.bool_]
) -> float:
    """w: answers far from where the set lies, of those that chance puts there."""
    expected = float(chance[far].sum())
    return min(1.0, float(counts[far].sum()) / expected) if expected > 0 else 0.0
