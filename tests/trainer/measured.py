"""Tracks as they are measured, made up."""

import numpy as np

from trainer.score.scoring import Score
from trainer.score.trust import Doubt, TrackResult


def track_result(offset: int, clearness: float = 9.0, doubts: tuple[str, ...] = ()) -> TrackResult:
    """A track with a deep minimum at an offset."""
    means = 10 + np.sin(np.arange(31.0)) / 10
    means[15 - offset] = 10 - clearness / 10
    score = Score(offset, 1.0, float(means.min()), means, np.ones(50))
    return TrackResult("a.mp4", "000", 0.0, 2.0, 0.9, score, None, tuple(map(Doubt, doubts)))
