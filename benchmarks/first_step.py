"""Does any first step of an epoch wait for data?  python -m benchmarks.first_step

The seed's shape: 20 epochs of 15 steps. The step is emulated by a sleep of 1.4 times what the
loader needs for a batch (measured first), as a GPU leaves the cores to the loader. The wait is what
the training loop sees: the time inside next(loader).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import at_least, exit_status, open_loader, report, synthetic_shards
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


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=Path, help="default: synthetic clips")
    parser.add_argument("--clips", type=int, default=64, help="synthetic clips (default 64)")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=15, help="steps an epoch")
    parser.add_argument("--headroom", type=float, default=1.4, help="step time / loader's time")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "syncnet-bench")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny: shows only that it works")
    args = parser.parse_args(argv)
    if args.quick:
        args.clips, args.size, args.batch_size, args.epochs, args.steps = 20, 32, 8, 2, 3

    def work() -> None:
        at_least(args, clips=1, size=1, batch_size=2, epochs=2, steps=2)
        if args.headroom <= 0:
            raise ValueError(f"--headroom must be above 0, not {args.headroom:g}")
        shards = args.shards or synthetic_shards(args.cache, args.clips, args.size)
        figures = measure(shards, args.batch_size, args.epochs, args.steps, args.headroom)
        report("first_step", figures, args.json, quick=args.quick)

    return exit_status("first_step", args.json, work)


if __name__ == "__main__":
    sys.exit(main())
