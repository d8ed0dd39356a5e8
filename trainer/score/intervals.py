"""The figures of an evaluation with 95 % intervals, from resampled sources.

Clips of one source (a video, a speaker) are alike, so sources are drawn anew, not clips: a hundred
clips of two sources say no more of others than two clips do.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.score.evaluation import (
    CHANCE,
    CONTEXTS,
    MOVES,
    ClipMeasurement,
    EvaluationOptions,
    error_histogram,
)
from trainer.score.scoring import REACH, TOLERANCE, auc, eer
from trainer.score.speakers import speaker_finder

_BINS = 1024  # of the distances, for intervals of AUC and EER


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval; None where there is none (of one source no interval)."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Pairs:
    """How many pairs the AUC and the equal error rate are of."""

    genuine: int
    false: int


@dataclass(frozen=True)
class ShiftRow:
    """How the offset follows sound that is moved.

    Attributes:
        moved_early_frames: one of MOVES.
        clips: whose offset stays within the search; the shares are None if there is none.
        median_change: of the offset, frames.
        share_right, share_wrong_sign: clips whose offset moved so far, or the other way.
        follows: whether the median clip does, within a frame.
    """

    moved_early_frames: int
    clips: int
    median_change: float | None
    share_right: float | None
    share_wrong_sign: float | None
    follows: bool


@dataclass(frozen=True)
class Evaluation:
    """Every figure of a split. Names of contexts are "k5" to "k15"; "clip" is the whole clip.

    Attributes:
        clips, sources: how many.
        chance: accuracy of a network that guesses.
        accuracy: share of offsets within a frame, by context and of whole clips.
        accuracy_inside, accuracy_speech, accuracy_zero_padded: the same by context, of the starts
            that `trainer.score.evaluation` explains.
        starts: how many, by context.
        offset_histogram: counts of errors of -REACH..REACH frames, by context and of whole clips.
        lse_c, lse_d: confidence and distance, mean over the clips.
        pairs: of `auc` and `eer`.
        auc, eer: of telling genuine pairs from false ones.
        shift_test: one row per move; None if it was not asked for.
    """

    clips: int
    sources: int
    chance: float
    accuracy: dict[str, Figure]
    accuracy_inside: dict[str, Figure]
    accuracy_speech: dict[str, Figure]
    accuracy_zero_padded: dict[str, Figure]
    starts: dict[str, int]
    offset_histogram: dict[str, list[int]]
    lse_c: Figure
    lse_d: Figure
    pairs: Pairs
    auc: Figure
    eer: Figure
    shift_test: list[ShiftRow] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as evaluation.json has them."""
        values = asdict(self)
        if self.shift_test is None:
            del values["shift_test"]
        return values


def summarise(measured: list[ClipMeasurement], options: EvaluationOptions) -> Evaluation:
    """All figures of some clips, one at least."""
    sources = clip_sources(measured, options)
    ones = np.ones(len(measured))
    names = {f"k{context}": at for at, context in enumerate(CONTEXTS)}

    def of_part(part: str) -> dict[str, Figure]:
        return {
            name: sources.ratio(
                [clip.parts[part][at, 1] for clip in measured],
                [clip.parts[part][at, 0] for clip in measured],
            )
            for name, at in names.items()
        }

    starts = {name: [int(clip.starts[at]) for clip in measured] for name, at in names.items()}
    errors = np.array([clip.score.offset - clip.own for clip in measured])
    genuine = np.concatenate([clip.genuine for clip in measured])
    false = np.concatenate([clip.false for clip in measured])
    drawn_auc, drawn_eer = sources.pair_rates(measured)
    return Evaluation(
        clips=len(measured),
        sources=sources.count,
        chance=CHANCE,
        accuracy={
            name: sources.ratio([clip.right[at] for clip in measured], starts[name])
            for name, at in names.items()
        }
        | {"clip": sources.ratio(abs(errors) <= TOLERANCE, ones)},
        accuracy_inside=of_part("inside"),
        accuracy_speech=of_part("speech"),
        accuracy_zero_padded={
            name: sources.ratio([clip.right_padded[at] for clip in measured], starts[name])
            for name, at in names.items()
        },
        starts={name: sum(counts) for name, counts in starts.items()},
        offset_histogram={
            name: sum(clip.histogram[at] for clip in measured).tolist()
            for name, at in names.items()
        }
        | {"clip": error_histogram(errors).tolist()},
        lse_c=sources.ratio([clip.score.confidence for clip in measured], ones),
        lse_d=sources.ratio([clip.score.distance for clip in measured], ones),
        pairs=Pairs(len(genuine), len(false)),
        auc=sources.figure(auc(genuine, false), drawn_auc),
        eer=sources.figure(eer(genuine, false), drawn_eer),
        shift_test=shift_test(measured) if options.shift_test else None,
    )


def clip_sources(measured: list[ClipMeasurement], options: EvaluationOptions) -> "Sources":
    """Whose clips these are: source videos, or speakers where `options.speakers` tells them."""
    speaker_of = speaker_finder(options.speakers)
    names = [speaker_of(clip.record.source) for clip in measured]
    return Sources.of(names, options.resamples, options.seed)


@dataclass(frozen=True)
class Sources:
    """The sources (or speakers) of some clips, and how often each is drawn.

    Attributes:
        owner_C: (clips,) number of each clip's source.
        weights_RS: (resamples, sources) how often each source was drawn.
    """

    owner_C: NDArray[np.int64]
    weights_RS: NDArray[np.int64]

    @classmethod
    def of(cls, names_C: Sequence[str], resamples: int, seed: int) -> "Sources":
        """Those of clips whose sources have these names."""
        names = sorted(set(names_C))
        number = {name: at for at, name in enumerate(names)}
        count = len(names)
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(count, np.full(count, 1 / count), resamples)
        return cls(np.array([number[name] for name in names_C]), weights)

    @property
    def count(self) -> int:
        return self.weights_RS.shape[1]

    def ratio(self, parts_C: ArrayLike, wholes_C: ArrayLike) -> Figure:
        """The sum of the parts over that of the wholes; each has one number per clip."""
        above = np.bincount(self.owner_C, parts_C, self.count)
        below = np.bincount(self.owner_C, wholes_C, self.count)
        with np.errstate(invalid="ignore"):
            drawn = (self.weights_RS @ above) / (self.weights_RS @ below)
        return self.figure(above.sum() / below.sum() if below.sum() else np.nan, drawn)

    def figure(self, value: float, drawn: NDArray[np.float64]) -> Figure:
        """A value with the interval of what each resample gave; nan where there is none."""
        known = drawn[np.isfinite(drawn)]
        low = high = None
        if self.count > 1 and len(known):  # one source says nothing of others
            low, high = (float(edge) for edge in np.percentile(known, [2.5, 97.5]))
        return Figure(float(value) if np.isfinite(value) else None, low, high)

    def pair_rates(
        self, measured: list[ClipMeasurement]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """AUC and EER of each resample, from histograms of the distances of each source."""
        everything = [clip.genuine for clip in measured] + [clip.false for clip in measured]
        top = max((float(part.max()) for part in everything if len(part)), default=1.0)
        edges = (0, max(top, 1e-9))
        genuine_SB = np.zeros((self.count, _BINS), np.float32)
        false_SB = np.zeros((self.count, _BINS), np.float32)
        for source, clip in zip(self.owner_C, measured, strict=True):
            genuine_SB[source] += np.histogram(clip.genuine, _BINS, edges)[0]
            false_SB[source] += np.histogram(clip.false, _BINS, edges)[0]
        aucs, eers = [], []
        for drawn in self.weights_RS.astype(np.float32):
            near, far = drawn @ genuine_SB, drawn @ false_SB
            if near.sum() == 0 or far.sum() == 0:
                continue
            near, far = near / near.sum(), far / far.sum()
            farther = 1 - far.cumsum()
            aucs.append(float((near * (farther + far / 2)).sum()))
            refused, accepted = 1 - near.cumsum(), far.cumsum()
            at = int(np.argmax(accepted >= refused))
            eers.append(float((accepted[at] + refused[at]) / 2))
        return np.array(aucs), np.array(eers)


def shift_test(measured: list[ClipMeasurement]) -> list[ShiftRow]:
    """For each of MOVES how the offset moved.

    Clips whose offset would leave the search are not counted.
    """
    rows = []
    before = np.array([clip.score.offset for clip in measured])
    for at, move in enumerate(MOVES):
        inside = abs(before + move) <= REACH
        change = np.array([clip.moved[at] for clip in measured])[inside] - before[inside]
        if len(change) == 0:
            rows.append(ShiftRow(move, 0, None, None, None, False))
            continue
        rows.append(
            ShiftRow(
                move,
                len(change),
                float(np.median(change)),
                float((abs(change - move) <= TOLERANCE).mean()),
                float((abs(change + move) <= TOLERANCE).mean()),
                bool(abs(np.median(change) - move) <= TOLERANCE),
            )
        )
    return rows
