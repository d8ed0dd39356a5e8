"""What becomes of each training clip: keep.csv (`data_tools.keep`), and a picture of the scores.

Without re-alignment a clip is kept if no offset suits it: its score exceeds a threshold between two
groups of scores (`trainer.score.mixture`). With it, every clip that is kept is moved by its own
offset, a single frame included, if that offset is clear and lies where the set's offsets do
(`trainer.score.spread`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from data_tools import keep
from data_tools.atomic import remove_partials
from data_tools.errors import UserError
from data_tools.keep import Row, read_keep, write_keep
from trainer.score.clip_scores import ClipScore, score_clips
from trainer.score.mixture import Mixture, Threshold, find_threshold
from trainer.score.scoring import TOLERANCE, in_words
from trainer.score.spread import CLEAR, Spread, find_spread
from trainer.score.verdicts_picture import plot

KEEP_FILE, PICTURE = "keep.csv", "scores.png"


class RefineError(UserError):
    """A refinement that cannot go on; says why in one sentence."""


@dataclass(frozen=True)
class VerdictOptions:
    """How clips are judged.

    Attributes:
        threshold: reject scores below this, of no offset or, with --realign, of the clip's own
            (default: found between two groups of scores; 0.15 with --realign)
        reject_share: reject this share of the clips, 0..1, those with the lowest scores
        realign: move every clip that is kept by its own offset, a single frame included; offsets
            that lie apart from those of the set are rejected unless they are very clear
        device: of the scoring, "cpu" or "cuda[:n]"
        threads: of decoding while scoring; 0 is one per core
    """

    threshold: float | None = None
    reject_share: Annotated[float, Meta(ge=0, lt=1)] | None = None
    realign: bool = False
    device: str = "cpu"
    threads: Annotated[int, Meta(ge=0)] = 0


@dataclass(frozen=True)
class Changes:
    """What a network says otherwise than the one before it.

    Attributes:
        moved: clips kept by both, at another offset.
        taken_in: kept by this one alone.
        left_out: kept by the other alone.
    """

    moved: int
    taken_in: int
    left_out: int


@dataclass(frozen=True)
class Verdicts:
    """How the clips were judged.

    Attributes:
        threshold: the score below which a clip is rejected; None: there is none.
        threshold_in_words: and how it was found.
        mixture: the two groups of scores; None if none were fitted.
        verdicts: clips by verdict (`data_tools.keep.VERDICTS`).
        rejected: clips by reason.
        spread: how the set's offsets are spread.
        changes: against the labels of the round before; None in the first.
    """

    threshold: float | None
    threshold_in_words: str
    mixture: Mixture | None
    verdicts: dict[str, int]
    rejected: dict[str, int]
    spread: Spread
    changes: Changes | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as refine.json has them."""
        return asdict(self) | {"spread": self.spread.as_dict()}


def score_and_judge(
    shards: Path,
    weights: Path,
    folder: Path,
    options: VerdictOptions,
    say: Callable[[str], None],
    before: Path | None = None,
) -> Verdicts:
    """Score the training clips; write keep.csv, scores.jsonl and scores.png.

    Args:
        say: shows a line to the user.
        before: keep.csv of the round before, to count what changed.

    Raises:
        RefineError: nothing would be kept; and as `score_clips`.
    """
    remove_partials(folder, KEEP_FILE, PICTURE)  # of one that was killed
    scores = score_clips(shards, weights, folder, device=options.device, threads=options.threads)
    threshold, spread = find_rule(scores, options)
    rows = give_verdicts(scores, threshold.value, spread, options.realign)
    plot(scores, threshold, spread, options.realign, folder / PICTURE)
    say(f"{threshold.words}: {keep.in_words(rows.values())}")
    say(spread.in_words())
    rejected = reasons(rows.values())
    for reason, clips in rejected.items():
        say(f"rejected: {clips:,} {reason}")
    if not spread.tells:
        say(
            "warning: offsets are spread much as they are with another clip's sound, so this "
            "network can hardly tell: train longer before you reject by it"
        )
    say(f"wrote {folder / PICTURE}: histograms of the scores and of the offsets")
    if not any(row.used for row in rows.values()):
        raise RefineError(f"no clip would be kept, see {folder / PICTURE}; no {KEEP_FILE} written")
    write_keep(folder / KEEP_FILE, rows)
    say(
        f"wrote {folder / KEEP_FILE}: for `trainer.run --data.manifest` and "
        "`data_tools pack --manifest`"
    )
    counts = Counter(row.verdict for row in rows.values())
    return Verdicts(
        threshold.value if np.isfinite(threshold.value) else None,
        threshold.words,
        threshold.mixture,
        {verdict: counts[verdict] for verdict in keep.VERDICTS},
        rejected,
        spread,
        None if before is None else find_changes(read_keep(before), rows),
    )


def find_rule(scores: Sequence[ClipScore], options: VerdictOptions) -> tuple[Threshold, Spread]:
    """The threshold by which clips are judged, and the spread of their offsets beyond it."""
    judged = [score for score in scores if score.judged]
    if not options.realign:
        values = np.array([score.score for score in judged])
        threshold = find_threshold(values, options.threshold, options.reject_share)
        return threshold, find_spread(scores)
    if options.threshold is None and options.reject_share is None:
        threshold = Threshold(CLEAR, f"threshold {CLEAR:g} of a clip's own offset")
    else:
        values = np.array([score.best_score for score in judged])
        threshold = find_threshold(values, options.threshold, options.reject_share)
    return threshold, find_spread(scores, threshold.value)


def give_verdicts(
    scores: Iterable[ClipScore], threshold: float, spread: Spread, realign: bool
) -> dict[str, Row]:
    """A row of keep.csv for each clip, by its key.

    Args:
        threshold: of the score of no offset; re-aligning, the spread decides alone.
        spread: of these clips' offsets.
    """
    judge = _in_place if realign else _as_it_is
    rows = {}
    for score in scores:
        if score.fault:
            rows[score.clip] = Row(keep.UNREADABLE, reason=score.fault)
        else:
            rows[score.clip] = judge(score, threshold, spread)
    return rows


def _as_it_is(score: ClipScore, threshold: float, spread: Spread) -> Row:
    """Kept if no offset suits it. A clip of under a second is kept: most clips are in sync."""
    if not score.judged:
        return Row(keep.KEEP, reason=f"too short to be judged ({score.windows} windows), so kept")
    if score.score >= threshold:
        return Row(keep.KEEP, score.score, score.offset)
    if abs(score.offset) > TOLERANCE and spread.believes(score.offset, score.best_score):
        return Row(keep.SHIFTED, score.score, score.offset, in_words(score.offset))
    reason = "no offset fits clearly better than others"
    return Row(keep.NO_MINIMUM, score.score, score.offset, reason)


def _in_place(score: ClipScore, threshold: float, spread: Spread) -> Row:
    """Kept, at its own offset, if that is to be believed."""
    if not score.judged:
        return Row(keep.NO_MINIMUM, reason="too short to find its offset (under a second)")
    offset, clear = score.offset, score.best_score
    if spread.believes(offset, clear):
        if offset == 0:
            return Row(keep.KEEP, clear, offset)
        return Row(keep.REALIGN, clear, offset, in_words(offset))
    verdict = keep.FAR if spread.is_far(offset, clear) else keep.NO_MINIMUM
    return Row(verdict, clear, offset, spread.rejection(offset, clear))


def reasons(rows: Iterable[Row]) -> dict[str, int]:
    """How many clips are not used for which reason, the most frequent first."""
    counts = Counter(
        "shifted; --realign would use them" if row.verdict == keep.SHIFTED else row.reason
        for row in rows
        if not row.used
    )
    return dict(counts.most_common())


def find_changes(before: dict[str, Row], rows: dict[str, Row]) -> Changes:
    """What two networks say otherwise of the same clips."""
    then = {clip: row.audio_shift for clip, row in before.items() if row.used}
    now = {clip: row.audio_shift for clip, row in rows.items() if row.used}
    both = then.keys() & now.keys()
    return Changes(
        sum(then[clip] != now[clip] for clip in both), len(now) - len(both), len(then) - len(both)
    )
