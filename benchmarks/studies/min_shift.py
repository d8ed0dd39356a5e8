"""How near may a false pair lie?  python -m benchmarks.studies.min_shift

A sound one frame off is nearly genuine: to call it false teaches precision, or confuses. For the
contrastive loss on independent pairs, and for multi-way matching (infonce on runs).
"""

import sys
from functools import partial

from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    Figures,
    Sizes,
    Trial,
    at_end,
    compare,
    extent,
    panel,
    spread,
)

SHIFTS = (1, 2, 4, 8)
RECIPES = {
    "contrastive": Trial("contrastive", "independent"),
    "infonce": Trial("infonce", "multiway"),
}
TRIALS = {
    f"{recipe}, {shift}": Trial(trial.loss, trial.pairing, min_shift=shift)
    for recipe, trial in RECIPES.items()
    for shift in SHIFTS
}


def panels(result: Figures) -> list[Figures]:
    """Accuracy over the smallest shift."""
    return [
        panel(
            f"K = {measure.removeprefix('k')}",
            "smallest shift of a false pair, frames",
            {
                recipe: [
                    (shift, 100 * at_end(result, f"{recipe}, {shift}", measure)) for shift in SHIFTS
                ]
                for recipe in RECIPES
            },
        )
        for measure in ("k5", "k15")
    ]


def told(result: Figures) -> str:
    """The answer."""
    lines = []
    for recipe in RECIPES:
        found = ", ".join(f"{shift}: {spread(result, f'{recipe}, {shift}')}" for shift in SHIFTS)
        best = max(SHIFTS, key=lambda shift: at_end(result, f"{recipe}, {shift}", "k5"))
        lines.append(f"{recipe} {found} (best: {best})")
    return (
        f"**How near may a false pair lie?** After {extent(result)}, K=5 by the smallest shift in "
        f"frames: {'; '.join(lines)}."
    )


STUDY = Study(
    "min_shift",
    __doc__,
    Sizes(clips=240, epochs=8, seeds=1),
    partial(compare, TRIALS),
    panels,
    told,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
