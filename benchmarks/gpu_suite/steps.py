"""Ways to compute the step: cudnn.benchmark, 3-D or 2-D convolutions, memory format, compiling.

On a GPU the network computes its lip stream in two dimensions (`trainer.model.flat`). Here it is
also made to do it in three, which is what the published code does.
"""

import time
from dataclasses import astuple, dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn

from benchmarks.gpu_suite.lab import Lab
from benchmarks.gpu_suite.recipe import kernel_ms
from benchmarks.step import training_step
from trainer.data.batch import Batch
from trainer.model.flat import flat_lips
from trainer.model.syncnet import SyncNet
from trainer.train.timing import StepClock


@dataclass(frozen=True)
class Way:
    """One way to compute the step."""

    benchmark: bool
    planes: bool
    channels_last: bool
    compiled: bool

    def __str__(self) -> str:
        benchmark, planes, last, compiled = astuple(self)
        return ", ".join(
            [
                "conv2d" if planes else "conv3d",
                "channels_last" if last else "contiguous",
                "cudnn.benchmark" if benchmark else "cudnn's guess",
                "compiled" if compiled else "eager",
            ]
        )


AS_IT_IS = Way(benchmark=True, planes=True, channels_last=True, compiled=False)
PUBLISHED = Way(benchmark=False, planes=False, channels_last=False, compiled=False)


def _deep_lips(
    layers: nn.Sequential, frames_BTHWC: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """What `flat_lips` gives, by 3-D convolutions."""
    x: torch.Tensor = layers(frames_BTHWC.permute(0, 4, 1, 2, 3).to(dtype))
    return x.flatten(2).transpose(1, 2)


def _lips(features: Any, model: SyncNet, frames_BTHWC: torch.Tensor) -> torch.Tensor:
    """`SyncNet.lips` with the features that are given, on any device."""
    kind = frames_BTHWC.device.type
    enabled = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if enabled else torch.float32
    x = features(model.netcnnlip, frames_BTHWC, dtype)
    embedding: torch.Tensor = model.netfclip(x.flatten(0, 1))
    return embedding.view(*x.shape[:2], -1)


in_three_dimensions, in_two_dimensions = partial(_lips, _deep_lips), partial(_lips, flat_lips)


def steps(lab: Lab) -> None:
    """Milliseconds of a step, by way; what is not reached in time is named."""
    batch, size = _batch(lab)
    lab.note("batch_size", size)
    eager = [Way(a, b, c, False) for a, b, c in product((False, True), repeat=3)]
    eager.sort(key=lambda way: (way not in (AS_IT_IS, PUBLISHED), not way.channels_last))
    found: dict[str, Any] = {}
    for way in eager:
        found[str(way)] = _measured(lab, way, batch, reserve=1.0 if lab.quick else 32.0)
        lab.note("ways", found)
    timed = [way for way in eager if "step_ms" in found[str(way)]]
    timed.sort(key=lambda way: found[str(way)]["step_ms"])
    best: list[Way] = []
    for way in timed:  # the best of each kind of convolution
        if way.planes not in [each.planes for each in best]:
            best.append(way)
    for way in best[:1] if lab.quick else best:
        compiled = Way(way.benchmark, way.planes, way.channels_last, compiled=True)
        found[str(compiled)] = _measured(lab, compiled, batch, reserve=2.0)
        lab.note("ways", found)
    lab.note("as_it_is", str(AS_IT_IS))
    lab.note("as_published", str(PUBLISHED))
    ranked = sorted(
        (name for name in found if "step_ms" in found[name]),
        key=lambda name: found[name]["step_ms"],
    )
    lab.note("fastest", ranked[0] if ranked else None)


def _batch(lab: Lab) -> tuple[Batch, int]:
    """A batch of the recipe's size, or of half that where the memory does not hold its step."""
    size = lab.setting.batch_size
    if not lab.cuda:
        return lab.batch(size), size
    try:
        batch = lab.batch(size)
        step = training_step(lab.setting.model, lab.device)
        step(batch, 0, StepClock(lab.device))
        torch.cuda.synchronize(lab.device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        size //= 2
        lab.note("smaller_because", "the step at the recipe's batch size does not fit the memory")
        batch = lab.batch(size)
    return batch, size


def _measured(lab: Lab, way: Way, batch: Batch, reserve: float) -> dict[str, Any]:
    """Its figures, or why there are none.

    Args:
        reserve: seconds that are to be left for others.
    """
    if lab.left() < reserve + (15 if way.compiled and lab.cuda else 0):
        return {"skipped": "no time was left"}
    try:
        return _time(lab, way, batch)
    except Exception as error:  # torch's compiler raises many kinds
        if lab.cuda:
            torch.cuda.empty_cache()
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _time(lab: Lab, way: Way, batch: Batch) -> dict[str, Any]:
    torch.backends.cudnn.benchmark = way.benchmark
    step = training_step(lab.setting.model, lab.device)
    if not way.channels_last:
        for stream in (step.model.netcnnlip, step.model.netcnnaud):
            stream.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        frames = batch.frames_NRHWC.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)
        batch = Batch(0, batch.segments, frames, batch.mfcc_NFC, batch.quiet_NA)
    lips = in_two_dimensions if way.planes else in_three_dimensions
    step.model.lips = partial(lips, step.model)  # type: ignore[method-assign]
    if way.compiled:
        # small and quick on a CPU, where only the path is tried
        step.model.compile(backend="inductor" if lab.cuda else "aot_eager")
    clock, number = StepClock(lab.device), iter(range(10**6))

    def work() -> None:
        clock.begin()
        step(batch, next(number), clock)
        clock.end()

    if lab.cuda:
        torch.cuda.reset_peak_memory_stats(lab.device)
    began = time.monotonic()
    work()
    if lab.cuda:
        torch.cuda.synchronize(lab.device)
    first = time.monotonic() - began
    milliseconds = kernel_ms(work, lab.device, 2 if lab.quick else 10, warm=1 if lab.quick else 2)
    found = {"step_ms": round(milliseconds, 2), "first_step_s": round(first, 2)}
    if lab.cuda:
        found["peak_gb"] = round(torch.cuda.max_memory_allocated(lab.device) / 1e9, 2)
    return found
