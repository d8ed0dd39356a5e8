"""How often offsets are right, by how clear their minimum is, measured on held-out clips."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from data_tools.errors import UserError
from data_tools.progress import progress
from trainer.data.dataset import Dataset
from trainer.model.syncnet import SyncNet
from trainer.model.weights import Calibration
from trainer.score.clip_distances import Embedded, embed_clips
from trainer.score.scoring import REACH, TOLERANCE, score

LENGTHS = (25, 38, 50, 75, 125, 250)  # windows
UNRELATED = 0.2  # share of videos to whose lips no sound belongs
_POINTS = 12  # of the curve at most
_FEWEST = 60  # answers that a calibration can rest on


class CalibrationError(UserError):
    """There is too little to calibrate with; says why in one sentence."""


def answers(
    model: SyncNet, dataset: Dataset
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Clearness of each answer, whether it is right, whether its sound is the clip's: (N,) each.

    Unrelated sound is that of the next clip, its halves exchanged: a corpus whose sentences all
    begin and end alike would else give every clip's sound a clear minimum.

    Args:
        model: folded.
    """
    clips: list[Embedded] = []
    with progress("embedding", len(dataset), "clips") as advance:
        for clip in embed_clips(dataset, model):
            advance(1)
            if isinstance(clip, Embedded):
                clips.append(clip)
    answered = []
    for number, held_out in enumerate(clips):
        other = clips[(number + 1) % len(clips)].sound_KD
        unrelated = other.roll(len(other) // 2, 0)
        for length in LENGTHS:
            for first in range(0, len(held_out.lips_KD) - length + 1, length):
                part = slice(first, first + length)
                for sound, own in ((held_out.sound_KD, True), (unrelated, False)):
                    if len(sound) >= first + length:
                        answer = score(held_out.lips_KD[part], sound[part], REACH)
                        hit = own and abs(answer.offset) <= TOLERANCE
                        answered.append((answer.clearness, hit, own))
    clearness, right, own_sound = np.array(answered, np.float64).reshape(-1, 3).T
    return clearness, right > 0, own_sound > 0


def calibrate(
    clearness: NDArray[np.float64], right: NDArray[np.bool_], own: NDArray[np.bool_]
) -> Calibration:
    """The share of right answers as a rising curve of a few points, from those of `answers`.

    Answers weigh so that a share UNRELATED of them is about unrelated sound. Shares are those of
    Laplace's rule, (right + 1) / (answers + 2), so that none is ever certain.

    Raises:
        CalibrationError: too few answers.
    """
    if len(clearness) < _FEWEST:
        raise CalibrationError(
            f"{len(clearness)} answers are too few to calibrate with: {_FEWEST} are needed; give "
            "more or longer held-out clips"
        )
    weight = np.where(own, (1 - UNRELATED) / max(own.mean(), 1e-9), 0.0)
    weight[~own] = UNRELATED / max((~own).mean(), 1e-9)
    order = np.argsort(clearness, kind="stable")
    parts = np.array_split(order, min(_POINTS, len(order) // 5))
    at = np.array([clearness[part].mean() for part in parts])
    total = np.array([weight[part].sum() for part in parts])
    hits = np.array([weight[part][right[part]].sum() for part in parts])
    rising = isotonic_regression((hits + 1) / (total + 2), weights=total).x
    distinct = np.concatenate([[True], np.diff(at) > 1e-9])
    return Calibration(
        tuple(np.round(at[distinct], 4).tolist()), tuple(np.round(rising[distinct], 4).tolist())
    )
