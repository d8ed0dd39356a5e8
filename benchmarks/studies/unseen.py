"""What helps strangers?  python -m benchmarks.studies.unseen --shards DIR --unseen STRANGERS...

The medium network, multi-way, at equal steps: the augmentation of `grid.yaml`, none, and the former
with one change at a time: another vocal tract length, stretched or slanted mouths, sounds of the
batch's other clips as false ones, two weights of them. Meant for real speech of speakers who are
not among those trained on; synthetic heads are all of one kind.
"""

import sys
from dataclasses import replace
from functools import partial

from benchmarks.studies.augmentation import ALL, FULL
from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    Figures,
    Sizes,
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
}


def told(result: Figures) -> str:
    """The answer."""
    base = {measure: at_end(result, BASE, measure) for measure in ("k5", "k15")}
    found = ", ".join(
        f"{name} {100 * (at_end(result, name, 'k5') - base['k5']):+.1f} / "
        f"{100 * (at_end(result, name, 'k15') - base['k15']):+.1f}"
        for name in TRIALS
        if name != BASE
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
    partial(compare, TRIALS),
    over_steps,
    told,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
