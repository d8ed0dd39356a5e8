"""How soon does the demonstration know lips?  python -m benchmarks.demo_time

The training of `python -m trainer.run` on synthetic heads, until K=15 on the validation set comes
to 95 %: its step computed as published or as it is, a batch made of single windows or of runs of
four neighbours. In turns; a round's trainings share their seed, rounds do not. The time is that of
the steps, waits included; validations are left out.
"""

import io
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from benchmarks.cpu_step import PUBLISHED, compute
from benchmarks.markdown import machine_line, table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from trainer.config.settings import DEMO_TRAIN, Config, Data, Options, Run, Train
from trainer.train.setup import Opened, open_run
from trainer.train.timing import StepClock

GOAL = 0.95
NEVER = "not within its epochs"


@dataclass(frozen=True)
class Demo:
    """A way to train the demonstration.

    Attributes:
        windows_per_run: neighbours that a batch takes of each run.
        published: whether the step is computed as published, else as it is.
    """

    windows_per_run: int
    published: bool = False


DEMOS = {
    "single windows, step as published": Demo(1, published=True),
    "single windows": Demo(1),
    "runs of 4 windows": Demo(4),
}


def settings(demo: Demo, seed: int, folder: Path) -> Config:
    """Of `trainer.run` without data, but for what the way says."""
    epochs, batch_size = DEMO_TRAIN["train.epochs"], DEMO_TRAIN["train.batch_size"]
    return Config(
        Data(
            windows_per_run=demo.windows_per_run,
            windows_per_clip=4 if demo.windows_per_run > 1 else Data().windows_per_clip,
        ),
        train=Train(batch_size=batch_size, epochs=epochs, seed=seed, device="cpu"),
        run=Run(dir=str(folder)),
    )


def train(opened: Opened, most: int) -> tuple[float | None, list[float]]:
    """Seconds of training until the goal is reached, None if it is not; K=15 after each epoch.

    Args:
        most: epochs.
    """
    clock, spent, found = StepClock(opened.device), 0.0, []
    assert opened.validation is not None
    per_epoch = opened.sampler.steps_per_epoch
    for epoch in range(most):
        began = time.perf_counter()
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            clock.begin()
            opened.step.take(opened.loader, step, clock)
        spent += time.perf_counter() - began
        scores = opened.validation.run(
            opened.step.inference_model, opened.step.loss, opened.step.autocast, clock
        )
        found.append(scores["accuracy_k15"])
        if found[-1] >= GOAL:
            return spent, found
    return None, found


def measure(rounds: int, quick: bool) -> list[dict[str, Any]]:
    """A row for each way; all ways of a round before the next."""
    demos = dict(list(DEMOS.items())[:1]) if quick else DEMOS
    seconds: dict[str, list[float | None]] = {name: [] for name in demos}
    epochs: dict[str, list[int]] = {name: [] for name in demos}
    for seed in range(rounds):
        for name, demo in demos.items():
            with tempfile.TemporaryDirectory(prefix="demo-time-") as folder:
                config = settings(demo, seed, Path(folder) / "run")
                if quick:
                    config = replace(config, data=replace(config.data, val_clips=1, val_runs=1))
                quiet = Console(file=io.StringIO())
                with open_run(config, Options(demo=True), quiet) as opened:
                    if demo.published:
                        compute(opened.step, PUBLISHED)
                    spent, found = train(opened, 1 if quick else config.train.epochs)
            seconds[name].append(None if spent is None else round(spent, 2))
            epochs[name].append(len(found))
            told = NEVER if spent is None else f"{spent:.1f} s"
            print(f"seed {seed}: {name}: {told}, {len(found)} epochs", flush=True)
    return [{"way": name, "seconds": seconds[name], "epochs": epochs[name]} for name in demos]


def readme(result: dict[str, Any]) -> str:
    """A row for each way, beside the first one of the same rounds."""
    rows, first = [], result["rows"][0]["seconds"]
    for row in result["rows"]:
        pairs = [(a, b) for a, b in zip(first, row["seconds"], strict=True) if a and b]
        ratio = f"{median(a / b for a, b in pairs):.2f} x" if pairs else ""
        told = ", ".join("never" if each is None else f"{each:.0f} s" for each in row["seconds"])
        epochs = ", ".join(str(each) for each in row["epochs"])
        rows.append([row["way"], told, epochs, ratio])
    heads = ["a batch, and its step", "training until K=15 is 95 %", "epochs", "sooner"]
    return table(heads, rows) + (
        f"\nOne figure a seed; sooner: the median of the ratios to the first row. "
        f"{machine_line(result)}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage."""
    parser = command_line("demo_time", __doc__, cache=False)
    parser.add_argument("--rounds", type=AtLeastOne, default=3, help="of all ways, a seed each")
    return run("demo_time", parser, argv, _measure, {"rounds": 1})


def _measure(args: Namespace) -> None:
    rows = measure(args.rounds, args.quick)
    report("demo_time", {"rows": rows}, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
