"""Whether a GPU or the CPU is to decode: measured, for it depends on both, on frames and step.

Decoding on the GPU takes it from the step: nvJPEG's kernels compute where the step does, so one
sample costs the time of both. Decoding on the CPU runs beside the step, and the slower of the two
sets the pace. On an H200 with 16 cores (benchmarks/results/gpu_suite.json, "recipe") the GPU
decodes 6,695 samples/s alone and the step takes 8,510: together 3,747 by this rule, 3,842 as
measured; the CPU decodes 5,186: 5,186 by this rule, 4,834 as measured.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from trainer.data.batch import Batch
from trainer.data.decoding import Decoder
from trainer.data.loader import Loader

Clock = Callable[[], float]
WARM_UP = 2  # batches, while a pipeline fills and the GPU wakes
BATCHES = 6  # measured of each, unless
SECONDS = 3.0  # are over before; two at least


@dataclass(frozen=True)
class Rates:
    """Samples a second of each decoder, and of the training's step, each with nothing beside."""

    gpu: float
    cpu: float
    step: float

    def together(self, decoder: Decoder) -> float:
        """Samples a second of a training whose frames that decoder decodes."""
        if decoder == "cpu":
            return min(self.cpu, self.step)
        return 1 / (1 / self.gpu + 1 / self.step)

    @property
    def faster(self) -> Decoder:
        """Which decoder to take; the GPU's where they are equal, as it leaves the cores alone."""
        return "cpu" if self.together("cpu") > self.together("gpu") else "gpu"

    def in_words(self) -> str:
        """One line for people."""
        name = {"gpu": "the GPU", "cpu": "the CPU"}[self.faster]
        return (
            f"frames are decoded on {name}: measured over the first batches, the GPU decodes "
            f"{self.gpu:,.0f} samples/s, the CPU {self.cpu:,.0f}, and a step takes "
            f"{self.step:,.0f}; that makes {self.together('gpu'):,.0f} on the GPU, which does "
            f"both, and {self.together('cpu'):,.0f} with the CPU beside it "
            "(data.decode_device auto)"
        )


def measure(
    open_loader: Callable[[Decoder], Loader],
    step: Callable[[Batch], None],
    clock: Clock = time.perf_counter,
) -> Rates:
    """Both decoders and the step on the same batches, one after another; some seconds.

    Args:
        open_loader: opens the loader of the training with the decoder given; closed here.
        step: trains on a batch and returns when the GPU has done it.
        clock: seconds.

    Raises:
        LoaderError: one of them cannot decode.
    """
    with open_loader("gpu") as loader:  # reads the files, which the measurement is not about
        for _ in range(WARM_UP + BATCHES):
            batch = next(loader)
    trained = _rate(lambda: _trained(step, batch), clock)
    rates = {}
    for decoder in ("gpu", "cpu"):
        with open_loader(decoder) as loader:
            rates[decoder] = _rate(lambda: next(loader), clock)
    return Rates(gpu=rates["gpu"], cpu=rates["cpu"], step=trained)


def _trained(step: Callable[[Batch], None], batch: Batch) -> Batch:
    step(batch)
    return batch


def _rate(next_batch: Callable[[], Batch], clock: Clock) -> float:
    """Samples a second of batches that are taken as soon as they are ready."""
    for _ in range(WARM_UP):
        next_batch()
    began, samples, seconds = clock(), 0, 0.0
    for taken in range(1, BATCHES + 1):
        samples += len(next_batch().segments)
        seconds = clock() - began
        if seconds > SECONDS and taken >= 2:
            break
    return samples / max(seconds, 1e-9)
