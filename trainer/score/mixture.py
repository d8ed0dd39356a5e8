"""Two groups of scores, in sync and off, and the threshold between them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_LEARNT = 0.03  # score of a usual clip below which a network has not learnt to tell


@dataclass(frozen=True)
class Mixture:
    """Two normal distributions fitted to scores, the lower one first.

    Attributes:
        means, deviations, shares: (2,) each.
        separate: whether they are two groups and not one whose shape is not quite normal.
        threshold: between them, where a score is as likely of the one as of the other.
    """

    means: tuple[float, float]
    deviations: tuple[float, float]
    shares: tuple[float, float]
    separate: bool
    threshold: float


@dataclass(frozen=True)
class Threshold:
    """The score below which a clip is not in sync, and how it was found, in words."""

    value: float
    words: str
    mixture: Mixture | None = None


def find_threshold(
    scores: NDArray[np.float64], fixed: float | None = None, reject_share: float | None = None
) -> Threshold:
    """By a fixed value, by the share to reject, or from two groups of scores."""
    if fixed is not None:
        return Threshold(fixed, f"threshold {fixed:g} as given")
    if reject_share is not None:
        value = float(np.quantile(scores, reject_share)) if len(scores) else -np.inf
        return Threshold(
            value, f"threshold {value:.3f}: the lowest {reject_share:.0%} are rejected"
        )
    mixture = fit_mixture(scores)
    if mixture is None or not mixture.separate:
        return Threshold(
            -np.inf,
            "no threshold: the scores form one group, so nothing stands out and nothing is "
            "rejected (few are off sync, or the network has not learnt enough to tell)",
            mixture,
        )
    (low, high), (share, _) = mixture.means, mixture.shares
    return Threshold(
        mixture.threshold,
        f"threshold {mixture.threshold:.3f} between two groups: {share:.0%} around {low:.2f}, the "
        f"others around {high:.2f}",
        mixture,
    )


def fit_mixture(scores: NDArray[np.float64]) -> Mixture | None:
    """Fit two normal distributions by expectation maximisation; None for fewer than ten scores.

    They count as two groups if together they explain the scores better than one does (by BIC), lie
    apart (Ashman's D > 2), the lower one does not lie clearly above 0, as clips in sync do, and
    the upper one shows a network that has learnt something.
    """
    if len(scores) < 10 or np.ptp(scores) == 0:
        return None
    scores = np.sort(scores)
    floor = 0.02 * float(scores.std())
    best: tuple[float, Any] | None = None
    for share in (0.05, 0.2, 0.5):
        cut = max(1, round(share * len(scores)))
        means = np.array([scores[:cut].mean(), scores[cut:].mean()])
        spread = np.full(2, scores.std() / 2)
        shares = np.array([share, 1 - share])
        for _ in range(300):
            density = shares * normal_density(scores[:, None], means, spread)
            weight = density / np.maximum(density.sum(1, keepdims=True), 1e-300)
            total = np.maximum(weight.sum(0), 1e-9)
            means = (weight * scores[:, None]).sum(0) / total
            spread = np.sqrt((weight * (scores[:, None] - means) ** 2).sum(0) / total) + floor
            shares = total / total.sum()
        density = (shares * normal_density(scores[:, None], means, spread)).sum(1)
        likelihood = float(np.log(np.maximum(density, 1e-300)).sum())
        if best is None or likelihood > best[0]:
            best = likelihood, (means, spread, shares)
    assert best is not None
    likelihood, (means, spread, shares) = best
    order = np.argsort(means)
    means, spread, shares = means[order], spread[order], shares[order]
    single = float(np.log(normal_density(scores, scores.mean(), scores.std())).sum())
    better = likelihood - single > 1.5 * np.log(len(scores))  # three parameters more
    apart = (means[1] - means[0]) > np.sqrt(2 * (spread**2).sum())
    between = np.linspace(means[0], means[1], 1000)
    density = shares * normal_density(between[:, None], means, spread)
    threshold = float(between[int(np.argmax(density[:, 1] >= density[:, 0]))])
    return Mixture(
        (float(means[0]), float(means[1])),
        (float(spread[0]), float(spread[1])),
        (float(shares[0]), float(shares[1])),
        bool(better and apart and means[0] < means[1] / 4 and means[1] >= MIN_LEARNT),
        threshold,
    )


def normal_density(x: Any, mean: Any, deviation: Any) -> Any:
    """Of the normal distribution at `x`; numbers or arrays that broadcast."""
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
