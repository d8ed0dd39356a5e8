"""Does a batch of neighbours teach less?  python -m benchmarks.studies.windows_per_run

`--data.windows_per_run` 1, 2, 5 and 10, with independent and with paired windows, at one batch
size. At equal steps all learn from equally many windows, out of fewer decoded frames; at equal time
each of the others trains for as many epochs as its step is cheaper, its learning rate falling to
zero at its own end. The processor's time of a step is taken from the trainings of equal steps.
"""

import sys
from dataclasses import replace

from benchmarks.studies.study import Study, main
from benchmarks.studies.training import (
    Figures,
    Say,
    Sizes,
    Source,
    Trial,
    at_end,
    compare,
    extent,
    panel,
    spread,
)
from data_tools.mfcc import WINDOW_FRAMES
from trainer.data.sampler import Pairing

WINDOWS = (1, 2, 5, 10)
PAIRINGS: tuple[Pairing, ...] = ("independent", "paired")
PER_CLIP = 10  # windows of each clip an epoch: whole runs of each length
TRIALS = {
    f"{pairing}, {count}": Trial(pairing=pairing, windows_per_run=count, per_clip=PER_CLIP)
    for pairing in PAIRINGS
    for count in WINDOWS
}
TIMED = "equal time: "


def measure(sizes: Sizes, source: Source, say: Say) -> Figures:
    """Trainings of equal steps, then of equal time; their entries are named `TIMED` and the trial.

    Adds to what `compare` gives: epochs, of each trial for equal time.
    """
    frames = WINDOW_FRAMES * PER_CLIP  # of a batch that runs of each length make up
    sizes = replace(sizes, step_frames=-(-sizes.step_frames // frames) * frames)
    result = compare(TRIALS, sizes, source, say)
    result["epochs"] = dict.fromkeys(TRIALS, sizes.epochs)
    for pairing in PAIRINGS:
        single = _cost(result, f"{pairing}, 1")
        for count in WINDOWS[1:]:
            name = f"{pairing}, {count}"
            epochs = max(1, round(sizes.epochs * single / _cost(result, name)))
            longer = replace(sizes, epochs=epochs)
            timed = compare({TIMED + name: TRIALS[name]}, longer, source, say)
            result["trials"] |= timed["trials"]
            result["epochs"][name] = epochs
    return result


def panels(result: Figures) -> list[Figures]:
    """Accuracy over the windows of a run, at equal steps and at equal time."""
    return [
        panel(
            f"K = 5, equal {what}",
            "windows of a decoded run",
            {
                pairing: [
                    (count, 100 * at_end(result, _name(pairing, count, timed), "k5"))
                    for count in WINDOWS
                ]
                for pairing in PAIRINGS
            },
        )
        for what, timed in (("steps", False), ("time", True))
    ]


def told(result: Figures) -> str:
    """The answer."""
    found = []
    for pairing in PAIRINGS:
        alike = ", ".join(
            f"{count}: {spread(result, name)} in {_cost(result, name):.0f} s"
            for count in WINDOWS
            for name in [_name(pairing, count, False)]
        )
        timed = ", ".join(
            f"{count}: {spread(result, _name(pairing, count, True))} "
            f"({result['epochs'][f'{pairing}, {count}']} epochs)"
            for count in WINDOWS[1:]
        )
        found.append(f"{pairing} {alike}; in the time of single windows {timed}")
    return (
        f"**Does a batch of neighbours teach less?** The contrastive loss after {_extent(result)}, "
        f"K=5 by `data.windows_per_run`: {'. '.join(each[0].upper() + each[1:] for each in found)}."
    )


def _cost(result: Figures, trial: str) -> float:
    """The seconds of processor of one training: the fastest, as the first loads libraries."""
    return float(min(one["cpu_s"] for one in result["trials"][trial]))


def _extent(result: Figures) -> str:
    """As for other studies; but it is windows that all steps have as many of."""
    frames = result["sizes"]["step_frames"]
    return extent(result).replace(f"{frames} decoded frames", f"{frames // WINDOW_FRAMES} windows")


def _name(pairing: str, count: int, timed: bool) -> str:
    return (TIMED if timed and count > 1 else "") + f"{pairing}, {count}"


STUDY = Study(
    "windows_per_run",
    __doc__,
    Sizes(clips=240, epochs=8, seeds=2, step_frames=300),
    measure,
    panels,
    told,
)

if __name__ == "__main__":
    sys.exit(main(STUDY))
