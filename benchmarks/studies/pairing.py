"""How much does a decoded frame teach?  python -m benchmarks.studies.pairing

The contrastive loss on independent windows (one sound each), paired ones (a genuine and a false
sound each) and runs whose windows are each other's false pairs (multiway), for equal numbers of
decoded frames. More pairs a frame cost more arithmetic: accuracy is shown over frames and over the
processor's time, of which decoding is the smaller part for the small model and most for others.
"""

import sys
from functools import partial

import numpy as np

from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    Figures,
    Sizes,
    Trial,
    at_end,
    compare,
    cost,
    extent,
    mean_curve,
    panel,
    spread,
)

TRIALS = {
    "independent": Trial(pairing="independent"),
    "paired": Trial(pairing="paired"),
    "multiway": Trial(pairing="multiway"),
}


def _seconds(one: Figures, point: Figures) -> float:
    """The processor's time up to a point of a training."""
    return float(one["cpu_s"] * point["step"] / one["curve"][-1]["step"])


def panels(result: Figures) -> list[Figures]:
    """Accuracy over decoded frames and over the processor's time."""
    frames = result["sizes"]["step_frames"]
    axes = (
        ("decoded frames, thousands", lambda _, point: point["step"] * frames / 1000),
        ("processor, s", _seconds),
    )
    return [
        panel("K = 5", label, {name: mean_curve(result, name, "k5", x) for name in TRIALS})
        for label, x in axes
    ]


def told(result: Figures) -> str:
    """The answer."""
    curve = mean_curve(result, "multiway", "k5", _seconds)
    seconds, right = np.array(curve).T
    reached = float(np.interp(cost(result, "paired"), seconds, right))
    found = "; ".join(
        f"{name} {spread(result, name)} / {at_end(result, name, 'k15'):.1%} in "
        f"{cost(result, name):.0f} s"
        for name in TRIALS
    )
    return (
        f"**What does a decoded frame teach?** The contrastive loss after {extent(result)}, "
        f"K=5 / K=15 and the processor's time: {found}. In the time that the paired training took, "
        f"the multiway one, whose learning rate had yet to fall, had come to {reached:.1f}%."
    )


STUDY = Study(
    "pairing", __doc__, Sizes(clips=240, epochs=8, seeds=2), partial(compare, TRIALS), panels, told
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
