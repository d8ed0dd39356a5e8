"""What becomes of each training clip: keep.csv (`data_tools.keep`), and a picture of the scores."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_tools import keep
from data_tools.errors import UserError
from data_tools.figure import save_figure
from data_tools.keep import Row, write_keep
from trainer.score.clip_scores import ClipScore, score_clips
from trainer.score.mixture import (
    MIN_LEARNT,
    Mixture,
    Threshold,
    find_threshold,
    normal_density,
)
from trainer.score.scoring import REACH, TOLERANCE, in_words

KEEP_FILE, PICTURE = "keep.csv", "scores.png"


class RefineError(UserError):
    """A refinement that cannot go on; says why in one sentence."""


@dataclass(frozen=True)
class VerdictOptions:
    """How clips are judged. Without a threshold and a share, two groups of scores are parted.

    Attributes:
        threshold: reject scores below this (default: found)
        reject_share: reject this share of the clips, 0..1
        realign: use clips that are merely shifted, put in place
        device: of the scoring, "cpu" or "cuda[:n]"
        threads: of decoding while scoring; 0 is one per core
    """

    threshold: float | None = None
    reject_share: Annotated[float, Meta(ge=0, lt=1)] | None = None
    realign: bool = False
    device: str = "cpu"
    threads: Annotated[int, Meta(ge=0)] = 0


@dataclass(frozen=True)
class Verdicts:
    """How the clips were judged.

    Attributes:
        threshold: the score below which a clip is not in sync; None: there is none.
        threshold_in_words: and how it was found.
        mixture: the two groups of scores; None if none were fitted.
        verdicts: clips by verdict (`data_tools.keep.VERDICTS`).
    """

    threshold: float | None
    threshold_in_words: str
    mixture: Mixture | None
    verdicts: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as refine.json has them."""
        return asdict(self)


def score_and_judge(
    shards: Path, weights: Path, folder: Path, options: VerdictOptions, say: Callable[[str], None]
) -> Verdicts:
    """Score the training clips; write keep.csv, scores.jsonl and scores.png.

    Args:
        say: shows a line to the user.

    Raises:
        RefineError: nothing would be kept; and as `score_clips`.
    """
    scores = score_clips(shards, weights, folder, device=options.device, threads=options.threads)
    values = np.array([score.score for score in scores if score.judged])
    threshold = find_threshold(values, options.threshold, options.reject_share)
    rows = give_verdicts(scores, threshold.value, options.realign)
    plot(scores, threshold, folder / PICTURE)
    say(f"{threshold.words}: {keep.in_words(rows.values())}")
    if len(values) and np.median(values) < MIN_LEARNT:
        say(
            f"warning: half of the clips score below {MIN_LEARNT:g}, so this network can hardly "
            "tell: train longer before you reject by it"
        )
    say(f"wrote {folder / PICTURE}: histogram of the scores")
    if not any(row.used for row in rows.values()):
        raise RefineError(f"no clip would be kept, see {folder / PICTURE}; no {KEEP_FILE} written")
    write_keep(folder / KEEP_FILE, rows)
    say(
        f"wrote {folder / KEEP_FILE}: for `trainer.run --data.manifest` and "
        "`data_tools pack --manifest`"
    )
    return Verdicts(
        threshold.value if np.isfinite(threshold.value) else None,
        threshold.words,
        threshold.mixture,
        {
            verdict: sum(row.verdict == verdict for row in rows.values())
            for verdict in keep.VERDICTS
        },
    )


def give_verdicts(scores: Iterable[ClipScore], threshold: float, realign: bool) -> dict[str, Row]:
    """A row of keep.csv for each clip, by its key.

    A clip of under a second is kept: it cannot be judged, and most clips are in sync. The best of
    31 offsets always leads by something, so a clip counts as merely shifted only if it leads by
    half of what is usual among the clips kept.
    """
    scores = list(scores)
    kept = [score.score for score in scores if score.judged and score.score >= threshold]
    clear = max(threshold, float(np.median(kept)) / 2) if kept else np.inf
    rows = {}
    for score in scores:
        if score.fault:
            row = Row(keep.UNREADABLE, reason=score.fault)
        elif not score.judged:
            reason = f"too short to be judged ({score.windows} windows), so kept"
            row = Row(keep.KEEP, reason=reason)
        elif score.score >= threshold:
            row = Row(keep.KEEP, score.score, score.offset)
        elif score.best_score >= clear and TOLERANCE < abs(score.offset) < REACH:
            verdict = keep.REALIGN if realign else keep.SHIFTED
            row = Row(verdict, score.score, score.offset, in_words(score.offset))
        else:
            reason = f"no offset within {REACH} frames fits the lips clearly better than others"
            row = Row(keep.NO_MINIMUM, score.score, score.offset, reason)
        rows[score.clip] = row
    return rows


def plot(scores: list[ClipScore], threshold: Threshold, path: Path) -> None:
    """Histogram of the scores with the fitted groups and the threshold, as PNG."""
    from matplotlib.figure import Figure

    values = np.array([score.score for score in scores if score.judged])
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    if len(values):
        _, edges, _ = axes.hist(values, bins=60, color="#9db8d2")
        if threshold.mixture is not None:
            x = np.linspace(edges[0], edges[-1], 400)
            mixture = threshold.mixture
            scale = len(values) * (edges[1] - edges[0])
            for mean, deviation, share in zip(
                mixture.means, mixture.deviations, mixture.shares, strict=True
            ):
                axes.plot(x, scale * share * normal_density(x, mean, deviation), lw=1.5)
        if np.isfinite(threshold.value):
            axes.axvline(threshold.value, color="#c8452f", lw=1.2)
    axes.set(
        xlabel="score: how much better no offset fits than any other (share of the distance)",
        ylabel="clips",
    )
    axes.set_title(threshold.words, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
