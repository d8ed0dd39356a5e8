"""What follows the loader in a benchmark: a real training step, or one of a known length.

Either takes a batch, the step's number and a clock to mark its phases on, and returns the loss.
"""

import time
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.config.settings import Config, Model, Train
from trainer.data.batch import Batch
from trainer.data.sampler import Segments
from trainer.train.step import TrainStep
from trainer.train.timing import StepClock


class EmulatedStep:
    """Takes a known time, and leaves the cores to the loader as a GPU that computes does.

    On a GPU a kernel spins for that time, so that a loader that decodes there finds it as busy as a
    training would; on a CPU the process sleeps.
    """

    def __init__(self, milliseconds: float, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.seconds = milliseconds / 1e3
        self._cycles = 0
        if self.device.type == "cuda":
            self._cycles = round(milliseconds * cycles_per_ms(self.device))

    def __call__(self, batch: Batch, step: int, clock: StepClock) -> torch.Tensor:
        """Spend the time; marks it as "compute"."""
        self.spend(1.0)
        clock.mark("compute")
        return torch.zeros(())

    def spend(self, share: float) -> None:
        """Spend a share of a step's time; on a GPU the time is spent when the kernel has run."""
        if self.device.type == "cuda":
            torch.cuda._sleep(round(share * self._cycles))
        else:
            time.sleep(share * self.seconds)


def cycles_per_ms(device: torch.device) -> float:
    """How many cycles `torch.cuda._sleep` spins in a millisecond: at the clock that it has now."""
    cycles = 100_000_000
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(device):
        torch.cuda._sleep(cycles)  # brings the clock up
        before.record()
        torch.cuda._sleep(cycles)
        after.record()
        after.synchronize()
    return cycles / before.elapsed_time(after)


def training_step(model: str, device: torch.device) -> TrainStep:
    """The step of a training with constant learning rate and all other settings as they come."""
    train = Train(lr=1e-4, schedule="constant", warmup_steps=0)
    return TrainStep(Config(model=Model(model), train=train), device, total=1)  # type: ignore[arg-type]


def batch_of(
    frames_NRHWC: torch.Tensor, mfcc_NFC: torch.Tensor, label_N: NDArray[np.int64]
) -> Batch:
    """A batch of any loader; which clips its samples are of is not known."""
    zero_N = np.zeros_like(label_N)
    segments = Segments(zero_N, zero_N, zero_N, zero_N, label_N)
    return Batch(0, segments, frames_NRHWC, mfcc_NFC, np.zeros((len(label_N), 0), np.bool_))


def replay(step: TrainStep, batch: Batch, steps: int) -> float:
    """Median milliseconds of a step on the same batch.

    On a GPU between CUDA events: nothing waits for a step but the last, as in a training.
    """
    clock = StepClock(step.device)
    marks: list[torch.cuda.Event] = []
    times = []
    for number in range(steps + 3):
        start = time.perf_counter()
        clock.begin()
        step(batch, number, clock)
        clock.end()
        times.append(1e3 * (time.perf_counter() - start))
        if step.device.type == "cuda":
            marks.append(torch.cuda.Event(enable_timing=True))
            marks[-1].record()
    synchronise(step.device)
    if marks:
        times = [0.0, *(a.elapsed_time(b) for a, b in pairwise(marks))]
    return median(times[3:])


def validate(step: EmulatedStep | TrainStep, batch: Batch) -> None:
    """Forward and loss of a batch, as in validation; emulated by a third of a step."""
    if isinstance(step, EmulatedStep):
        step.spend(1 / 3)
        arrive(step.device)
        return
    step.model.eval()
    with torch.inference_mode():
        step.loss(*step.embed(batch), step.pairs(batch, 0))
    step.model.train()


def arrive(device: torch.device) -> None:
    """Wait for the GPU, if it is one, to come to here: not for what others do, a decoder say."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, if it is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
