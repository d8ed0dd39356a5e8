"""Which ways to compute a step pay on a CPU?  python -m benchmarks.cpu_step

Each way alone against the step as published (3-D convolutions, memory laid out channel by channel,
float32, a loop over the weights in the optimizer), then all together, and the step as it is. In
turns in one run; beside each the share that it is of the floor: the step's multiplications at the
rate of this machine's best matrix product in float32.
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from jsonargparse import Namespace
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_suite.recipe import kernel_ms
from benchmarks.gpu_suite.steps import in_three_dimensions, in_two_dimensions
from benchmarks.markdown import machine_line, table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from benchmarks.step import batch_of
from trainer.config.settings import Config, Data, Loss, Model, Train
from trainer.data.batch import Batch
from trainer.model.device import Precision, has_bf16
from trainer.model.syncnet import PRESETS
from trainer.train.step import TrainStep
from trainer.train.timing import StepClock

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Recipe:
    """A training whose step is measured: settings, and runs of frames a batch."""

    config: Config
    batch_size: int
    run_frames: int = 5


def _config(model: Any, **data: Any) -> Config:
    multiway = data.get("pairing") == "multiway"
    train = Train(precision="fp32", schedule="constant", warmup_steps=0, average=0.0)
    return Config(
        Data(**data), Model(model), Loss("infonce" if multiway else "contrastive"), train=train
    )


RECIPES = {
    "the published network, 8 windows of 224 RGB": Recipe(_config("syncnet"), 8),
    "grid.yaml, 16 runs of 28 frames of 64 gray": Recipe(
        _config("medium", pairing="multiway", run_frames=28, min_shift=2), 16, 28
    ),
    "the demonstration, 128 windows of 64 gray": Recipe(_config("small"), 128),
}


@dataclass(frozen=True)
class Way:
    """How a step is computed; all off: as published."""

    channels_last: bool = False
    planes: bool = False
    fused: bool = False
    bf16: bool = False


PUBLISHED = Way()
WAYS = {
    "as published": PUBLISHED,
    "channels last": Way(channels_last=True),
    "2-D convolutions": Way(planes=True),
    "fused optimizer": Way(fused=True),
    "all three": Way(channels_last=True, planes=True, fused=True),
}
_BF16 = {
    "bfloat16": Way(bf16=True),
    "bfloat16, channels last, fused": Way(channels_last=True, fused=True, bf16=True),
    "all four": Way(channels_last=True, planes=True, fused=True, bf16=True),
}
AS_IT_IS = "as it is"


def ways() -> dict[str, Way | None]:
    """By name; those in bfloat16 where the processor multiplies it. None: nothing is changed."""
    return WAYS | (_BF16 if has_bf16(CPU) else {}) | {AS_IT_IS: None}


def batch(recipe: Recipe) -> Batch:
    """Random frames and sound; half of the pairs are genuine."""
    preset = PRESETS[recipe.config.model.name]
    count, frames = recipe.batch_size, recipe.run_frames
    shape = (count, frames, preset.size, preset.size, preset.channels)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    label = torch.arange(count) % 2 if frames == 5 else torch.ones(count, dtype=torch.int64)
    made = batch_of(pixels, torch.randn(count, 4 * frames, 13), label.numpy())
    return made if frames == 5 else replace(made, quiet_NA=np.zeros((count, frames - 4), np.bool_))


def step_of(recipe: Recipe, way: Way | None) -> TrainStep:
    """The trainer's own step, computed in a way; None: as it is."""
    precision: Precision = "auto" if way is None else "bf16" if way.bf16 else "fp32"
    train = replace(recipe.config.train, precision=precision)
    step = TrainStep(replace(recipe.config, train=train), CPU, total=1)
    if way is not None:
        compute(step, way)
    return step


def compute(step: TrainStep, way: Way) -> None:
    """Have a step computed in a way, but for its precision, which its settings say."""
    if not way.channels_last:
        for stream in (step.model.netcnnlip, step.model.netcnnaud):
            stream.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    lips = in_two_dimensions if way.planes else in_three_dimensions
    step.model.lips = partial(lips, step.model)  # type: ignore[method-assign]
    for group in step.optimizer.param_groups:
        group["fused"] = way.fused
        group["foreach"] = False


def multiplications(recipe: Recipe, data: Batch) -> int:
    """FLOP of a step of the network, forward and backward, as torch counts them."""
    step = step_of(recipe, PUBLISHED)
    with FlopCounterMode(display=False) as counter:
        step(data, 0, StepClock(CPU))
    return int(counter.get_total_flops())


def product_rate(size: int) -> float:
    """FLOP/s of a float32 product of square matrices."""
    a, b = (torch.randn(size, size) for _ in range(2))
    return 2 * size**3 / kernel_ms(lambda: a @ b, CPU, 5) * 1e3


def measure(rounds: int, quick: bool) -> list[dict[str, Any]]:
    """A row for each recipe and way; all ways of a round before the next."""
    rows = []
    for name, recipe in RECIPES.items():
        chosen = replace(recipe, batch_size=2) if quick else recipe
        data = batch(chosen)
        steps = {way: step_of(chosen, how) for way, how in ways().items()}
        times: dict[str, list[float]] = {way: [] for way in steps}
        peak = []
        for number in range(rounds + 1):
            peak.append(product_rate(256 if quick else 2048))
            for way, step in steps.items():
                work = partial(step, data, number, StepClock(CPU))
                milliseconds = kernel_ms(work, CPU, 1 if quick else 3, warm=0)
                if number:  # the first round warms up
                    times[way].append(milliseconds)
        flop, top = multiplications(chosen, data), median(peak[1:])
        published = median(times["as published"])
        for way in steps:
            spent = times[way]
            rows.append(
                {
                    "recipe": name,
                    "way": way,
                    "step_ms": round(median(spent), 2),
                    "spread_ms": [round(min(spent), 2), round(max(spent), 2)],
                    "times_published": round(published / median(spent), 3),
                    "floor_ms": round(flop / top * 1e3, 2),
                    "of_floor": round(flop / top * 1e3 / median(spent), 3),
                    "gflop": round(flop / 1e9, 2),
                    "product_gflop_per_s": round(top / 1e9, 1),
                }
            )
            print(f"{name}: {way}: {rows[-1]['step_ms']} ms", flush=True)
    return rows


def readme(result: dict[str, Any]) -> str:
    """A row for each recipe and way."""
    rows = [
        [
            row["recipe"],
            row["way"],
            f"{row['step_ms']:,.0f} ms ({row['spread_ms'][0]:,.0f} to {row['spread_ms'][1]:,.0f})",
            f"{row['times_published']:.2f} x",
            f"{row['of_floor']:.0%}",
        ]
        for row in result["rows"]
    ]
    heads = ["training", "computed", "a step", "of the published rate", "of the floor's rate"]
    rates = sorted({row["product_gflop_per_s"] for row in result["rows"]})
    bf16 = "" if result["bf16"] else " This processor does not multiply bfloat16 by itself."
    return (
        table(heads, rows)
        + f"\nMedians of {result['repetitions']} rounds in turns (fastest to slowest). The floor "
        f"is a matrix product of float32 at {rates[0]:,.0f} to {rates[-1]:,.0f} GFLOP/s.{bf16} "
        f"{machine_line(result)}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage."""
    parser = command_line("cpu_step", __doc__, cache=False)
    parser.add_argument("--rounds", type=AtLeastOne, default=5, help="of all ways, in turns")
    return run("cpu_step", parser, argv, _measure, {"rounds": 1})


def _measure(args: Namespace) -> None:
    figures = {"rows": measure(args.rounds, args.quick), "bf16": has_bf16(CPU)}
    report("cpu_step", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
