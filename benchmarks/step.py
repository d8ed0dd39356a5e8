"""What follows the loader in a benchmark: a real training step, or one emulated by a sleep.

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
    """Sleeps, as a GPU that computes leaves the cores to the loader."""

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1e3

    def __call__(self, batch: Batch, step: int, clock: StepClock) -> torch.Tensor:
        """Sleep; marks it as "compute"."""
        time.sleep(self.seconds)
        clock.mark("compute")
        return torch.zeros(())


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
        time.sleep(step.seconds / 3)
        return
    step.model.eval()
    with torch.inference_mode():
        step.loss(*step.embed(batch), step.pairs(batch, 0))
    step.model.train()


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, if it is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
