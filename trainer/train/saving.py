"""Saves a run: its state in a checkpoint, as long as its weights are numbers."""

from typing import Any

from trainer.config.crops import crop_of
from trainer.train import checkpoint
from trainer.train.ending import end_blown_up
from trainer.train.same_clips import state_of
from trainer.train.setup import Opened


def barred(opened: Opened) -> dict[str, int]:
    """The clips in quarantine on any process, by name, each with the first step without it.

    Every process must call it. While a run goes on, a clip is left out where its fault was met:
    the others go on with its whole frames, until they resume from a checkpoint that names it.
    """
    everywhere: dict[str, int] = {}
    for each in opened.processes.gather(dict(opened.loader.quarantine)):
        for clip, since in each.items():
            name = opened.dataset.name(clip)
            everywhere[name] = min(since, everywhere.get(name, since))
    return everywhere


class Saver:
    """Writes the checkpoints of a run; every process calls it, the first writes."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._crop = crop_of(opened.config.data.folders)
        self._clips = state_of(opened.dataset)
        self._told = False  # that the weights are no numbers

    def save(self, step: int, best_accuracy: float, best: bool = False) -> None:
        """Save the state in which `step` is the next to do.

        Weights that are no numbers are not saved: a checkpoint of them would be of no use, and
        those that are there are.

        Args:
            best_accuracy: the largest K=5 accuracy so far.
            best: whether these are the weights that reached it.

        Raises:
            NotLearning: the weights are no numbers, which ends the run unless the guard is off.
            OSError: the checkpoint cannot be written.
        """
        opened = self._opened
        quarantine = barred(opened)

        def write() -> bool:
            state = self._state(step, best_accuracy, quarantine)
            if not checkpoint.finite(state):
                return False
            there = (opened.folder / checkpoint.LAST).exists()
            try:
                checkpoint.save(opened.folder, state, opened.config.run.keep, best)
            except OSError as error:
                words = f"step {step}: {error}"
                if there:
                    words += f"; those of before are whole: --resume {opened.folder} goes on from "
                    words += "there"
                raise OSError(words) from None
            return True

        if opened.processes.together(write) or self._told:
            return
        if opened.options.guard != "off":
            end_blown_up(opened, step, "the weights are no longer finite")
        self._told = True
        opened.console.print(
            f"[bold red]step {step}[/]: the weights are no longer finite, so they are not saved "
            "(the guard is off: the run goes on)",
            soft_wrap=True,
        )

    def _state(self, step: int, best: float, quarantine: dict[str, int]) -> dict[str, Any]:
        """What a checkpoint holds."""
        state = {
            **self._opened.step.state_dict(),
            "step": step,
            "best": best,
            "seconds": self._opened.seconds(),
            "quarantine": quarantine,
            "clips": self._clips,
            "config": self._opened.config.as_dict(),
        }
        # Only where it is known: other checkpoints are what they have always been.
        return state if self._crop is None else state | {"crop": self._crop}
