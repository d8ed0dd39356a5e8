"""Which loss learns fastest?  python -m benchmarks.studies.loss

Contrastive, multi-way (infonce), bce and bins, all on the same runs of frames, at equal steps and
equal decoded frames; and the seed's recipe, contrastive on independent pairs, for as many frames.
Accuracy: offsets within a frame, over +-15, from 5 and from 15 frames of heads never seen.
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
    cost,
    extent,
    over_steps,
    spread,
)

SEED = "contrastive, independent"
TRIALS = {name: Trial(name, "multiway") for name in ("infonce", "contrastive", "bce", "bins")}
TRIALS[SEED] = Trial()
_CHANCE_AUC = 0.55


def told(result: Figures) -> str:
    """The answer."""
    order = sorted(TRIALS, key=lambda name: -at_end(result, name, "k5"))
    found = "; ".join(
        f"{name} {spread(result, name)} / {at_end(result, name, 'k15'):.1%}" for name in order
    )
    lead = 100 * (at_end(result, "infonce", "k5") - at_end(result, "contrastive", "k5"))
    bins = at_end(result, "bins", "auc")
    return (
        f"**Which loss?** After {extent(result)}, offsets within a frame from K=5 / K=15 frames: "
        f"{found}. On the same runs multi-way is {abs(lead):.1f} points "
        f"{'above' if lead > 0 else 'below'} contrastive at K=5. (Runs cost more arithmetic than "
        f"windows: {cost(result, 'infonce'):.0f} s of processor, {cost(result, SEED):.0f} s "
        "for independent pairs.) The two bins "
        + (
            f"do learn here (AUC {bins:.3f})."
            if bins > _CHANCE_AUC
            else f"do not leave chance in these steps (AUC {bins:.3f}); the seed gave them up too."
        )
    )


STUDY = Study(
    "loss", __doc__, Sizes(clips=240, epochs=8, seeds=2), partial(compare, TRIALS), over_steps, told
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
