"""Does any first step of an epoch wait for data?  python -m benchmarks.first_step

The seed's shape: 20 epochs of 15 steps. The step is emulated by a sleep of 1.4 times what the
loader needs for a batch (measured first), as a GPU leaves the cores to the loader. The wait is what
the training loop sees: the time inside next(loader).
"""

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat

from benchmarks.loaders.ours import open_loader
from benchmarks.markdown import Row
from benchmarks.options import AtLeastTwo, add_data, command_line, run
from benchmarks.result import report
from benchmarks.sources import synthetic_shards
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler


def measure(
    shards: Path, batch_size: int, epochs: int, steps: int, headroom: float
) -> dict[str, Any]:
    """Waits in ms of first and other steps from the second epoch on, and the utilisation."""
    dataset = Dataset(shards, "train")
    per_clip = -(-steps * batch_size // len(dataset))
    sampler = TrainSampler(dataset.windows, batch_size, windows_per_clip=per_clip)
    with open_loader(dataset, sampler) as loader:
        for _ in range(8):
            next(loader)
        start = time.perf_counter()
        for _ in range(20):
            next(loader)
        batch_s = (time.perf_counter() - start) / 20
    step_s = headroom * batch_s
    first: list[float] = []
    others: list[float] = []
    with open_loader(dataset, sampler) as loader:
        for epoch in range(epochs):
            for step in range(steps):
                start = time.perf_counter()
                next(loader)
                wait = 1e3 * (time.perf_counter() - start)
                time.sleep(step_s)
                if epoch > 0:
                    (first if step == 0 else others).append(wait)
    waited = sum(first) + sum(others)
    working = 1e3 * step_s * (len(first) + len(others))
    return {
        "batch_size": batch_size,
        "epochs": epochs,
        "steps_per_epoch": steps,
        "loader_batch_ms": round(1e3 * batch_s, 2),
        "step_ms": round(1e3 * step_s, 2),
        "first_step_wait_ms": round(median(first), 3),
        "first_step_wait_ms_max": round(max(first), 3),
        "other_step_wait_ms": round(median(others), 3),
        "other_step_wait_ms_max": round(max(others), 3),
        "utilisation": round(working / (working + waited), 4),
    }


def readme_rows(result: dict[str, Any]) -> list[Row]:
    """Rows of the table of the loader."""
    return [
        [
            f"wait in the first step of an epoch (median, epochs 2-{result['epochs']})",
            f"{result['first_step_wait_ms']:.2f} ms",
        ],
        ["wait in the other steps (median)", f"{result['other_step_wait_ms']:.2f} ms"],
        [
            f"utilisation, first steps included, {result['step_ms']:.0f} ms steps of "
            f"{result['batch_size']} samples",
            f"{result['utilisation']:.1%}",
        ],
    ]


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = command_line("first_step", __doc__)
    add_data(parser, gray=False)
    parser.add_argument("--batch-size", type=AtLeastTwo, default=128)
    parser.add_argument("--epochs", type=AtLeastTwo, default=20)
    parser.add_argument("--steps", type=AtLeastTwo, default=15, help="of an epoch")
    parser.add_argument(
        "--headroom", type=PositiveFloat, default=1.4, help="step time / loader's time"
    )
    quick = {"clips": 20, "size": 32, "batch_size": 8, "epochs": 2, "steps": 3}
    return run("first_step", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    shards = args.shards or synthetic_shards(args.cache, args.clips, args.size)
    figures = measure(shards, args.batch_size, args.epochs, args.steps, args.headroom)
    report("first_step", figures, args.json, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
