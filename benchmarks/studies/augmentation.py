"""What does each kind of augmentation win?  python -m benchmarks.studies.augmentation --shards DIR

Multi-way matching as in `grid.yaml`, with everything that is switched on there, without one
kind after another, with none; and with re-compressed pictures, false pairs of two quiet sounds and
a curriculum of shifts. Meant for real speech: synthetic heads have no other light and microphones.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    Figures,
    Sizes,
    Trial,
    at_end,
    compare,
    extent,
    over_steps,
    spread,
)
from trainer.config.command import parse
from trainer.data.augment import Augment

CONFIG = Path(__file__).parents[2] / "trainer" / "configs" / "grid.yaml"
FULL = parse(["--config", str(CONFIG)])[0].augment
ALL = Trial("infonce", "multiway", min_shift=2, augment=FULL)
SIZES = Sizes(clips=240, epochs=32, seeds=1)
BASE = "all of it"
TRIALS = {
    BASE: ALL,
    "none": replace(ALL, augment=Augment()),
    "no flips": replace(ALL, augment=replace(FULL, flip=False)),
    "no moves": replace(ALL, augment=replace(FULL, shift=0.0, zoom=0.0, turn=0.0)),
    "no light": replace(ALL, augment=replace(FULL, brightness=0.0, contrast=0.0)),
    "no sound": replace(ALL, augment=replace(FULL, gain=0.0, timbre=0.0, noise=0.0)),
    "and JPEG": replace(ALL, augment=replace(FULL, jpeg=30)),
    "and quiet false pairs": replace(ALL, skip_quiet=False),
    "and a curriculum": replace(ALL, curriculum=SIZES.epochs // 4),
}


def told(result: Figures) -> str:
    """The answer."""
    base = at_end(result, BASE, "k5")
    found = ", ".join(
        f"{name} {100 * (at_end(result, name, 'k5') - base):+.1f}"
        for name in TRIALS
        if name != BASE
    )
    cost = at_end(result, "none", "k5") - base
    verdict = "it costs more than it wins" if cost > 0 else "it wins more than it costs"
    return (
        f"**What does augmentation win?** Multi-way after {extent(result)}, K=5 / K=15: "
        f"{spread(result, BASE)} / {at_end(result, BASE, 'k15'):.1%} with all that "
        f"`grid.yaml` switches on; points of K=5 against that: {found}. At this length "
        f"{verdict}."
    )


STUDY = Study("augmentation", __doc__, SIZES, partial(compare, TRIALS), over_steps, told)

if __name__ == "__main__":
    sys.exit(main(STUDY))
