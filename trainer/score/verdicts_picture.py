"""A picture of how clips were judged: histograms of their scores and of their offsets, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_tools.figure import save_figure
from data_tools.mfcc import FPS
from trainer.score.clip_scores import ClipScore
from trainer.score.mixture import Threshold, normal_density
from trainer.score.scoring import REACH
from trainer.score.spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS, _LIMIT, _RANGE = "#9db8d2", "#c8452f", "#e8efe2"


def plot(
    scores: Sequence[ClipScore], threshold: Threshold, spread: Spread, realign: bool, path: Path
) -> None:
    """Draw the scores that the threshold parts, and where the clear offsets lie.

    Args:
        realign: the scores are those of each clip's own offset, not of none.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6.4), layout="constrained")
    above, below = figure.subplots(2)
    _plot_scores(above, scores, threshold, realign)
    _plot_offsets(below, spread)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _plot_scores(
    axes: "Axes", scores: Sequence[ClipScore], threshold: Threshold, realign: bool
) -> None:
    """With the fitted groups, or what chance gives, and the threshold."""
    judged = [one for one in scores if one.judged]
    values = np.array([one.best_score if realign else one.score for one in judged])
    if len(values):
        _, edges, _ = axes.hist(values, bins=60, color=_BARS)
        chance = [one.chance_score for one in judged if one.chance_score is not None]
        if realign and chance:
            axes.hist(
                chance, bins=edges.tolist(), histtype="step", color="#555555",
                label="with another clip's sound",
            )  # fmt: skip
            axes.legend(frameon=False, fontsize=8)
        if threshold.mixture is not None:
            x = np.linspace(edges[0], edges[-1], 400)
            mixture = threshold.mixture
            scale = len(values) * (edges[1] - edges[0])
            for mean, deviation, share in zip(
                mixture.means, mixture.deviations, mixture.shares, strict=True
            ):
                axes.plot(x, scale * share * normal_density(x, mean, deviation), lw=1.5)
        if np.isfinite(threshold.value):
            axes.axvline(threshold.value, color=_LIMIT, lw=1.2)
    what, whole = ("its own offset", "peak") if realign else ("no offset", "distance")
    axes.set(
        xlabel=f"score: how much better {what} fits than any other (share of the {whole})",
        ylabel="clips",
    )
    axes.set_title(threshold.words, fontsize=8)


def _plot_offsets(axes: "Axes", spread: Spread) -> None:
    """Clear clips by offset, what chance explains of them, and the range where the set lies."""
    offsets = np.arange(-REACH, REACH + 1)
    axes.axvspan(spread.low - 0.5, spread.high + 0.5, color=_RANGE)
    axes.bar(offsets, spread.counts, color=_BARS)
    axes.plot(offsets, spread.by_chance, color="#555555", lw=1.2, label="of these by chance")
    axes.set(
        xlabel=f"offset in frames of {1000 // FPS} ms; positive: the audio is early",
        ylabel="clear clips",
        xticks=offsets[::3],
    )
    axes.legend(frameon=False, fontsize=8)
