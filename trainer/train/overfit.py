"""The self-check of --overfit: what can't be learnt by heart, days of training won't teach."""

import time
from collections import deque
from dataclasses import asdict, dataclass

from trainer.train.ending import check_loss, end
from trainer.train.setup import Opened
from trainer.train.stop import StopRequest
from trainer.train.timing import StepClock

# A batch that has not been learnt by heart after so many steps will not be.
_STEPS = 400
_LEARNT = 0.02  # of the first loss
_IN_ORDER = 0.9999  # share of genuine pairs nearer than false ones
_PRINT_SECONDS = 5.0


@dataclass(frozen=True)
class Learnt:
    """What `overfit` found.

    Attributes:
        finished: the batches were learnt; false if it was stopped before.
        first_loss, last_loss: means over the batches.
        steps: done.
    """

    finished: bool
    first_loss: float
    last_loss: float
    steps: int

    def as_dict(self) -> dict[str, float | bool | int]:
        """For a summary."""
        return asdict(self)


def overfit(opened: Opened, stop: StopRequest) -> Learnt:
    """Learn a few batches, which the loader repeats, by heart.

    Raises:
        NotLearning: they were not learnt, or the loss is no number any more.
    """
    count, clock = opened.options.overfit, StepClock(opened.device)
    recent: deque[float] = deque(maxlen=count)
    first, printed = 0.0, time.monotonic()
    for step in range(_STEPS):
        clock.begin()
        value = float(opened.step.take(opened.loader, step, clock))
        # not every loss has zero for its floor, but all pairs in order is as good in the end
        ordered = step >= _STEPS // 2 and opened.guard.order_now() > _IN_ORDER
        # the same on all processes, so that all leave at one step
        value, in_order, asked = opened.processes.mean([value, ordered, bool(stop)])
        check_loss(opened, step, value)
        recent.append(value)
        first = sum(recent) if step < count else first
        learnt = sum(recent) < _LEARNT * first or in_order == 1
        done = step >= 2 * count and learnt
        if done or asked:
            break
        if time.monotonic() - printed > _PRINT_SECONDS or step + 1 == count:
            opened.console.print(f"step {step + 1}: loss {sum(recent) / len(recent):.4f}")
            printed = time.monotonic()
    first, last = first / count, sum(recent) / len(recent)
    course = f"loss {first:.4f} -> {last:.4f} in {step + 1} steps over {count} batch(es)"
    if not done and not asked:
        end(
            opened,
            f"--overfit: {course}: not learnt by heart, which takes {_LEARNT:.0%} of the first "
            f"loss, or each genuine pair nearer than any false one. {opened.guard.advice()}",
        )
    outcome = "stopped" if asked else "learnt by heart, fine"
    opened.console.print(f"--overfit: {course}: {outcome}")
    return Learnt(bool(done), first, last, step + 1)
