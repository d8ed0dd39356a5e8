"""Figures as papers give them on LRS2, beside those that are published, and StableSyncNet's.

The papers ask: of 31 offsets, -15 to +15 frames, is the one that fits best from K frames of context
within one frame of the truth? StableSyncNet asks less: of two sounds, is this the genuine one? Its
question is put here of runs of K and of 16 frames (`trainer.score.random_pairs`), twice:

    threshold   is the distance below a threshold? The share that is answered right, genuine and
                false pairs weighing alike. The threshold is that which does best on the clips of
                all other sources, so no clip is judged by a threshold that was chosen on itself.
    nearer      is the genuine sound nearer than the false one? No threshold is needed.

Every figure that is not of this evaluation is of another set.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from trainer.score.evaluation import CONTEXTS, ClipMeasurement, EvaluationOptions
from trainer.score.intervals import Evaluation, Figure, Sources, clip_sources
from trainer.score.random_pairs import FRAMES

_BINS = 1024  # of the distances, among which the threshold is chosen


@dataclass(frozen=True)
class Published:
    """A row of a paper.

    Attributes:
        network: as it is called there.
        percent: within one frame over +-15, at K = 5, 7, 9, 11, 13, 15.
        paper: where the network and the figures are from.
    """

    network: str
    percent: tuple[float, ...]
    paper: str


PUBLISHED_SET = "LRS2, test split"
PUBLISHED = (
    Published(
        "SyncNet",
        (75.8, 82.3, 87.6, 91.8, 94.5, 96.1),
        "Chung and Zisserman, ACCV workshops 2016; figures: Chung, Chung and Kang, ICASSP 2019",
    ),
    Published(
        "Perfect Match",
        (88.1, 93.8, 96.4, 97.9, 98.7, 99.1),
        "Chung, Chung and Kang, ICASSP 2019",
    ),
    Published(
        "VocaLiST",
        (92.8, 96.7, 98.4, 99.3, 99.6, 99.8),
        "Kadandale, Montesinos and Haro, Interspeech 2022",
    ),
)
SETS_DIFFER = (
    f"The sets differ: the published rows are of {PUBLISHED_SET}, the others of the clips measured "
    "here. Easier or harder clips move the figures by more than networks differ; only figures of "
    "the same clips can be compared."
)


@dataclass(frozen=True)
class RandomPairs:
    """How often genuine sound is told from that of another time, of runs of so many frames.

    Attributes:
        pairs: of a genuine and a false distance each.
        threshold, nearer: share that is right, see the module.
    """

    pairs: int
    threshold: Figure
    nearer: Figure


@dataclass(frozen=True)
class Protocol:
    """What `--protocol lrs2` adds to an `Evaluation`.

    Attributes:
        name: of the protocol.
        random_pairs: by frames, "n5" to "n16".
    """

    name: str
    random_pairs: dict[str, RandomPairs]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as evaluation.json has them, the published rows among them."""
        rows = [asdict(row) | {"set": PUBLISHED_SET} for row in PUBLISHED]
        return asdict(self) | {"published": rows, "published_frames": CONTEXTS, "note": SETS_DIFFER}


def summarise_protocol(measured: list[ClipMeasurement], options: EvaluationOptions) -> Protocol:
    """The random pairs of some clips, one at least, all with `ClipMeasurement.random`."""
    sources = clip_sources(measured, options)
    found = {}
    for at, frames in enumerate(FRAMES):
        pairs = [clip.random[at] for clip in measured]
        counts = np.array([len(each) for each in pairs])
        # A draw counts half, as in the AUC.
        nearer = [
            (each[:, 0] < each[:, 1]).sum() + (each[:, 0] == each[:, 1]).sum() / 2 for each in pairs
        ]
        found[f"n{frames}"] = RandomPairs(
            int(counts.sum()),
            by_threshold(pairs, sources),
            sources.ratio(nearer, counts),
        )
    assert options.protocol is not None
    return Protocol(options.protocol, found)


def by_threshold(pairs: list[NDArray[np.float32]], sources: Sources) -> Figure:
    """Share of distances that a threshold chosen on the other sources puts on the right side.

    Without pairs of another source there is none.

    Args:
        pairs: of each clip (N, 2) distances, genuine and false.
        sources: whose the clips are.
    """
    top = max((float(each.max()) for each in pairs if len(each)), default=1.0)
    edges = np.linspace(0, max(top, 1e-9), _BINS + 1)
    near_SB = np.zeros((sources.count, _BINS))
    far_SB = np.zeros((sources.count, _BINS))
    for source, each in zip(sources.owner_C, pairs, strict=True):
        near_SB[source] += np.histogram(each[:, 0], edges)[0]
        far_SB[source] += np.histogram(each[:, 1], edges)[0]
    # Every pair has one of each kind, so accepting genuine ones weighs as refusing false ones.
    gained_SB = (near_SB - far_SB).cumsum(1)
    others_SB = gained_SB.sum(0) - gained_SB
    # Where several are as good, as between kinds that do not overlap, the one in their middle.
    first_S, last_S = others_SB.argmax(1), _BINS - 1 - others_SB[:, ::-1].argmax(1)
    threshold_S = edges[1 + (first_S + last_S) // 2]
    known_S = near_SB.sum() > near_SB.sum(1)
    right, of = np.zeros((2, len(pairs)))
    for clip, (source, each) in enumerate(zip(sources.owner_C, pairs, strict=True)):
        if known_S[source]:
            below = each <= threshold_S[source]
            right[clip], of[clip] = below[:, 0].sum() + (~below[:, 1]).sum(), below.size
    return sources.ratio(right, of)


def protocol_table(evaluation: Evaluation, name: str) -> Table:
    """For the terminal: published rows, then those of the network `name`; shares in percent."""
    shown = Table("within +-1 of +-15, %", "set", *(f"K={k}" for k in CONTEXTS))

    def cells(figures: dict[str, Figure]) -> list[str]:
        return [_percent(figures[f"k{context}"]) for context in CONTEXTS]

    for row in PUBLISHED:
        shown.add_row(row.network, PUBLISHED_SET, *(f"{value:.1f}" for value in row.percent))
    here = f"{evaluation.clips:,} clips of {evaluation.sources:,} sources"
    shown.add_section()
    shown.add_row(name, here, *cells(evaluation.accuracy))
    shown.add_row("every shift inside the clip", "of these", *cells(evaluation.accuracy_inside))
    shown.add_row("and where there is speech", "of these", *cells(evaluation.accuracy_speech))
    shown.add_row("chance", "", *[f"{100 * evaluation.chance:.1f}"] * len(CONTEXTS))
    return shown


def random_table(protocol: Protocol) -> Table:
    """For the terminal: genuine or another time's sound, by frames."""
    shown = Table("genuine or another time, %", *(f"{n} frames" for n in FRAMES))
    found = [protocol.random_pairs[f"n{frames}"] for frames in FRAMES]
    shown.add_row("one distance, a threshold", *(_percent(each.threshold) for each in found))
    shown.add_row("two distances, the nearer", *(_percent(each.nearer) for each in found))
    shown.add_row("chance", *["50.0"] * len(FRAMES))
    shown.add_row("pairs", *(f"{each.pairs:,}" for each in found))
    return shown


def _percent(figure: Figure) -> str:
    if figure.value is None:
        return "none"
    if figure.low is None or figure.high is None:
        return f"{100 * figure.value:.1f}"
    return f"{100 * figure.value:.1f}\n({100 * figure.low:.0f}-{100 * figure.high:.0f})"
