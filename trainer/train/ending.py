"""Ending a training that is of no use, on all processes together."""

import math
from typing import NoReturn

from trainer.train import checkpoint
from trainer.train.distributed import Elsewhere
from trainer.train.guard import NotLearning
from trainer.train.setup import Opened


def end(opened: Opened, words: str) -> NoReturn:
    """End the run; every process calls it, and the first says why.

    Raises:
        NotLearning: on the first process.
        Elsewhere: on the others.
    """
    raise NotLearning(words) if opened.processes.first else Elsewhere


def end_blown_up(opened: Opened, step: int, what: str) -> NoReturn:
    """End the run after `step` steps and say what remains of it; raises as `end`."""
    last = opened.folder / checkpoint.LAST
    left = f" {last} is as it was before." if last.exists() else ""
    end(opened, f"step {step}: {what}: it has blown up. {opened.guard.advice('nan')}{left}")


def check_loss(opened: Opened, step: int, loss: float) -> None:
    """End the run if the loss of a step, the mean over all processes, is no number.

    Raises:
        NotLearning, Elsewhere: as `end`.
    """
    if math.isfinite(loss) or opened.options.guard == "off":
        return
    # 16-bit floats overflow now and then; the scaler leaves out such a step.
    if opened.step.scaler.is_enabled() and opened.processes.together(
        lambda: checkpoint.finite(opened.step.state_dict())
    ):
        return
    end_blown_up(opened, step + 1, f"the loss is {loss}")
