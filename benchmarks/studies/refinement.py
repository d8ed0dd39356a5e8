"""Does refinement find what is off sync, and does it pay?  python -m benchmarks.studies.refinement

A fifth of the training clips are put off sync (`synth --offsync 0.2`: half shifted by 3 to 12
frames, half dubbed by another speaker). Train on all, reject as `trainer.refine` does, train again
from fresh weights on what is left: fewer clips, so fewer steps. Rejected clips are compared with
truth.csv; accuracy is measured on other heads, all in sync. Every seed has clips of its own.
"""

import csv
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

import numpy as np

from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    UNSEEN_SEED,
    Figures,
    Say,
    Sizes,
    Source,
    Trial,
    accuracy,
    heads,
    learn,
    settings,
)
from data_tools.errors import UsageError
from data_tools.keep import Row, read_keep
from data_tools.synth.clips import DUBBED, IN_SYNC, SHIFTED
from trainer.score.scoring import TOLERANCE
from trainer.score.verdicts import KEEP_FILE, VerdictOptions, score_and_judge

OFFSYNC = 0.2
TRIAL = Trial("infonce", "multiway")
KINDS = {IN_SYNC: "in sync", SHIFTED: "shifted", DUBBED: "dubbed"}
EDGES = np.linspace(-0.5, 1.0, 31)  # of the histogram of scores


def measure(sizes: Sizes, source: Source, say: Say) -> Figures:
    """Refine once for every seed.

    Returns:
        seeds: one entry each: `compare_with_truth`, threshold, accuracy before and after.
    """
    if source.shards:
        raise UsageError("--shards: what is off sync there is not known; see real_refine")
    cache = source.cache
    unseen = heads(cache, sizes.unseen, UNSEEN_SEED, "test") / "shards"
    found = []
    for seed in range(sizes.seeds):
        noisy = heads(cache, sizes.clips, seed, "train", OFFSYNC)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            entry = _refine(noisy, unseen, sizes, seed, Path(folder), say)
        found.append({"seed": seed} | entry)
        say(
            f"{seed + 1} of {sizes.seeds}: precision {_share(entry['precision'])}, recall "
            f"{_share(entry['recall'])}, K=5 {entry['before']['k5']:.1%} -> "
            f"{entry['after']['k5']:.1%}"
        )
    return {"seeds": found, "sizes": asdict(sizes), "offsync": OFFSYNC}


def _refine(noisy: Path, unseen: Path, sizes: Sizes, seed: int, folder: Path, say: Say) -> Figures:
    shards = noisy / "shards"
    first = settings(TRIAL, sizes, seed, shards, folder / "before")
    learn(first)
    before = folder / "before" / "best.pt"
    verdicts = score_and_judge(shards, before, folder, VerdictOptions(), say)
    manifest = folder / KEEP_FILE
    config = settings(TRIAL, sizes, seed, shards, folder / "after")
    learn(replace(config, data=replace(config.data, manifest=str(manifest))))

    with open(noisy / "clips" / "truth.csv", encoding="utf-8") as stream:
        truth = {row["clip"]: row for row in csv.DictReader(stream)}
    return compare_with_truth(read_keep(manifest), truth) | {
        "threshold": verdicts.threshold,
        "threshold_in_words": verdicts.threshold_in_words,
        "before": accuracy(before, unseen),
        "after": accuracy(folder / "after" / "best.pt", unseen),
    }


def compare_with_truth(rows: dict[str, Row], truth: dict[str, dict[str, str]]) -> Figures:
    """What was rejected against what is off sync.

    Args:
        rows: of keep.csv, by clip.
        truth: of truth.csv, by clip: kind, offset_frames.

    Returns:
        clips, rejected (by kind), precision, recall (None where nothing counts), located (of the
        rejected shifted clips those whose offset was found within a frame), scores (by kind, a
        histogram over EDGES).
    """
    kinds = {clip: truth[clip]["kind"] for clip in rows}
    rejected = [clip for clip, row in rows.items() if not row.used]
    off = [clip for clip, kind in kinds.items() if kind != IN_SYNC]
    right = [clip for clip in rejected if kinds[clip] != IN_SYNC]
    shifted = [clip for clip in rejected if kinds[clip] == SHIFTED]
    located = sum(
        abs((rows[clip].offset or 0) - int(truth[clip]["offset_frames"])) <= TOLERANCE
        for clip in shifted
    )
    scores: dict[str, list[int]] = {}
    for kind in KINDS:
        of_kind = [row.score or 0.0 for clip, row in rows.items() if kinds[clip] == kind]
        scores[kind] = np.histogram(np.clip(of_kind, EDGES[0], EDGES[-1]), EDGES)[0].tolist()
    return {
        "clips": dict(Counter(kinds.values())),
        "rejected": dict(Counter(kinds[clip] for clip in rejected)),
        "precision": len(right) / len(rejected) if rejected else None,
        "recall": len(right) / len(off) if off else None,
        "located": located / len(shifted) if shifted else None,
        "scores": scores,
    }


def panels(result: Figures) -> list[Figures]:
    """Scores by kind over all seeds, and accuracy before and after."""
    middles = ((EDGES[1:] + EDGES[:-1]) / 2).tolist()
    counts = {
        kind: np.sum([one["scores"][kind] for one in result["seeds"]], axis=0).tolist()
        for kind in KINDS
    }
    drawn = [
        {
            "title": "scores of the training clips, all seeds",
            "xlabel": "score",
            "ylabel": "clips",
            "log": "",
            "lines": {
                what: list(zip(middles, counts[kind], strict=True)) for kind, what in KINDS.items()
            },
        }
    ]
    for measure in ("k5", "k15"):
        drawn.append(
            {
                "title": f"unseen heads, K = {measure.removeprefix('k')}",
                "xlabel": "trained on",
                "ylabel": "% within a frame",
                "log": "",
                "lines": {
                    f"seed {one['seed']}": [
                        ("all clips", 100 * one["before"][measure]),
                        ("what was kept", 100 * one["after"][measure]),
                    ]
                    for one in result["seeds"]
                },
            }
        )
    return drawn


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def told(result: Figures) -> str:
    """The answer."""
    seeds, sizes = result["seeds"], result["sizes"]

    def each(key: str) -> str:
        return ", ".join(_share(one[key]) for one in seeds)

    def kinds(kind: str) -> str:
        rejected = sum(one["rejected"].get(kind, 0) for one in seeds)
        return f"{rejected} of {sum(one['clips'].get(kind, 0) for one in seeds)} {KINDS[kind]}"

    def gain(measure: str) -> str:
        pairs = [(one["before"][measure], one["after"][measure]) for one in seeds]
        each = ", ".join(f"{before:.1%} -> {after:.1%}" for before, after in pairs)
        return f"{each} (mean {100 * mean(after - before for before, after in pairs):+.1f} points)"

    return (
        f"**Does refinement find what is off sync?** {sizes['clips']} synthetic heads, "
        f"{result['offsync']:.0%} put off sync, {len(seeds)} seeds. Rejected: precision "
        f"{each('precision')}, recall {each('recall')}; {kinds(SHIFTED)}, {kinds(DUBBED)}, "
        f"{kinds(IN_SYNC)} clips. The offset of the rejected shifted clips was found within a "
        f"frame for {each('located')}. Accuracy on {sizes['unseen']} unseen heads in sync, before "
        f"-> after: K=5 {gain('k5')}; K=15 {gain('k15')}."
    )


STUDY = Study(
    "refinement", __doc__, Sizes(clips=300, epochs=8, seeds=3, looks=1), measure, panels, told
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
