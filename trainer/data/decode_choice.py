"""Whether a GPU or the CPU decodes faster: measured, for it depends on both, and on the frames."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from trainer.data.loader import Loader
from trainer.data.pipeline import Decoder

Clock = Callable[[], float]
WARM_UP = 2  # batches, while a pipeline fills and the GPU wakes
BATCHES = 8  # measured of each, unless
SECONDS = 5.0  # are over before; two at least


@dataclass(frozen=True)
class Rates:
    """Samples a second that each decoder made while nothing else ran."""

    gpu: float
    cpu: float

    @property
    def faster(self) -> Decoder:
        """Which decoder to take; the GPU's where they are equal, as it leaves the cores alone."""
        return "cpu" if self.cpu > self.gpu else "gpu"

    def in_words(self) -> str:
        """One line for people."""
        name = {"gpu": "the GPU", "cpu": "the CPU"}[self.faster]
        return (
            f"frames are decoded on {name}: measured over the first batches, the GPU "
            f"decodes {self.gpu:,.0f} samples/s, the CPU {self.cpu:,.0f} (data.decode_device auto)"
        )


def measure(open_loader: Callable[[Decoder], Loader], clock: Clock = time.perf_counter) -> Rates:
    """Both decoders on the same batches, one after another; some seconds.

    Args:
        open_loader: opens the loader of the training with the decoder given; closed here.
        clock: seconds.

    Raises:
        LoaderError: one of them cannot decode.
    """
    _rate(open_loader, "gpu", clock)  # reads the files, which the measurement is not about
    return Rates(
        gpu=_rate(open_loader, "gpu", clock),
        cpu=_rate(open_loader, "cpu", clock),
    )


def _rate(open_loader: Callable[[Decoder], Loader], decoder: Decoder, clock: Clock) -> float:
    """Samples a second of a loader whose batches are taken as soon as they are ready."""
    with open_loader(decoder) as loader:
        for _ in range(WARM_UP):
            next(loader)
        began, samples, seconds = clock(), 0, 0.0
        for taken in range(1, BATCHES + 1):
            samples += len(next(loader).segments)
            seconds = clock() - began
            if seconds > SECONDS and taken >= 2:
                break
        return samples / max(seconds, 1e-9)
