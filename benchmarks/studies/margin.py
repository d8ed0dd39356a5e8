"""Which margin does the contrastive loss need?  python -m benchmarks.studies.margin

The margin sets the scale of the embeddings; the official value, 20, belongs to 1,024 dimensions
and millions of pairs. Independent pairs, the small model (128 dimensions, its default is 10).
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

MARGINS = (1.0, 5.0, 10.0, 20.0, 40.0)
TRIALS = {f"{margin:g}": Trial(margin=margin) for margin in MARGINS}


def panels(result: Figures) -> list[Figures]:
    """Accuracy over the margin."""
    lines = {
        f"K = {measure.removeprefix('k')}": [
            (float(name), 100 * at_end(result, name, measure)) for name in TRIALS
        ]
        for measure in ("k5", "k15")
    }
    return [panel("contrastive loss", "margin", lines, log="x")]


def told(result: Figures) -> str:
    """The answer."""
    best = max(TRIALS, key=lambda name: at_end(result, name, "k5"))
    found = ", ".join(f"{name}: {spread(result, name)}" for name in TRIALS)
    return (
        f"**Which margin?** The contrastive loss after {extent(result)}, K=5 by margin: {found}. "
        f"Best here: {best}."
    )


STUDY = Study(
    "margin", __doc__, Sizes(clips=240, epochs=16, seeds=1), partial(compare, TRIALS), panels, told
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
