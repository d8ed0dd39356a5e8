"""What does an order by blocks cost?  python -m benchmarks.studies.order

`--data.order blocks` shuffles samples within blocks of a few shards, so that a disk need not hold
them all: here an eighth and a fortieth of the set at a time, against all of it. At equal steps,
paired windows. Four nodes each go through a quarter of the set, so a batch shows clips of four
places.
"""

import sys
from functools import partial

from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    NODES,
    Figures,
    Sizes,
    Trial,
    compare,
    extent,
    over_steps,
    spread,
)

ALL = "all at once"
TRIALS = {
    ALL: Trial(pairing="paired"),
    "an eighth": Trial(pairing="paired", block_share=1 / 8),
    "a fortieth": Trial(pairing="paired", block_share=1 / 40),
}


def told(result: Figures) -> str:
    """The answer."""
    found = ", ".join(
        f"{name} {spread(result, name)} / {spread(result, name, 'k15')}" for name in TRIALS
    )
    return (
        f"**What does an order by blocks cost?** Paired windows after {extent(result)}, K=5 / K=15 "
        f"by the share of the set that is shuffled together, in {NODES} places: {found}."
    )


STUDY = Study(
    "order", __doc__, Sizes(clips=240, epochs=8, seeds=3), partial(compare, TRIALS, shard_mb=1),
    over_steps, told,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(STUDY))
