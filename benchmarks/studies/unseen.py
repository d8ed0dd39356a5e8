"""What helps strangers?  python -m benchmarks.studies.unseen --shards DIR --unseen STRANGERS...

The medium network, multi-way, at equal steps over as many clips: the augmentation of `grid.yaml`,
none, and the former with one change at a time: another vocal tract length, stretched or slanted
mouths, sounds of the batch's other clips as false ones, two weights of them, a quarter of the clips
synthetic heads, and with `--more SHARDS` half of them of other speakers. Meant for real speech of
speakers who are not among those trained on; synthetic heads are all of one kind. Wild clips that
are measured on are seldom in sync: `--unseen-offsets` says by how much they are off.
"""

import sys
from dataclasses import replace

from benchmarks.studies.augmentation import ALL, FULL
from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    Figures,
    Say,
    Sizes,
    Source,
    at_end,
    compare,
    extent,
    over_steps,
    spread,
)
from trainer.data.augment import Augment

BASE = "as grid.yaml"
_MEDIUM = replace(ALL, model="medium")
TRIALS = {
    BASE: _MEDIUM,
    "none": replace(_MEDIUM, augment=Augment()),
    "vocal tract": replace(_MEDIUM, augment=replace(FULL, vocal_tract=0.1)),
    "stretch": replace(_MEDIUM, augment=replace(FULL, stretch=0.15, shear=0.1)),
    "others 0.1": replace(_MEDIUM, others=0.1),
    "others 1": replace(_MEDIUM, others=1.0),
    "heads": replace(_MEDIUM, heads=0.25),
}
MORE = {"more speakers": replace(_MEDIUM, more=0.5)}


def measure(sizes: Sizes, source: Source, say: Say) -> Figures:
    """All trials; MORE where there are other speakers to train on."""
    return compare(TRIALS | MORE if source.more else TRIALS, sizes, source, say)


def told(result: Figures) -> str:
    """The answer."""
    base = {measure: at_end(result, BASE, measure) for measure in ("k5", "k15")}
    found = ", ".join(
        f"{name} {100 * (at_end(result, name, 'k5') - base['k5']):+.1f} / "
        f"{100 * (at_end(result, name, 'k15') - base['k15']):+.1f}"
        for name in TRIALS | MORE
        if name != BASE and name in result["trials"]
    )
    return (
        f"**What helps strangers?** Multi-way after {extent(result)}, K=5 / K=15: "
        f"{spread(result, BASE)} / {base['k15']:.1%} with the augmentation of `grid.yaml`; points "
        f"against that: {found}."
    )


STUDY = Study(
    "unseen",
    __doc__,
    Sizes(clips=2000, epochs=8, seeds=1),
    measure,
    over_steps,
    told,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
