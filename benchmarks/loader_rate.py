"""How close does the loader come to libjpeg-turbo alone?  python -m benchmarks.loader_rate

Ceiling: libjpeg-turbo decoding the same JPEGs to the same pixels on all cores into warm memory,
nothing else. Loader: whole batches from shards to torch, one process. Both alternate in one run and
the ratio is taken pair by pair, since machines are noisy. Memory is read over `--epochs` epochs.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import Namespace

from benchmarks import turbo
from benchmarks.loaders.ours import open_loader
from benchmarks.markdown import Row
from benchmarks.options import AtLeastOne, AtLeastTwo, add_data, command_line, run
from benchmarks.processes import resident_mb
from benchmarks.result import report
from benchmarks.sources import frame_shape, synthetic_shards
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler


def measure(shards: Path, batch_size: int, rounds: int, epochs: int) -> dict[str, Any]:
    """Rates in frames/s of both, their ratio, and the memory at the end of each tenth of epochs."""
    dataset = Dataset(shards, "train")
    sampler = TrainSampler(dataset.windows, batch_size, windows_per_clip=30)
    height, width, channels = frame_shape(dataset)
    frames = 5 * batch_size
    cores = len(os.sched_getaffinity(0))
    sample = [bytes(jpeg) for jpeg in dataset.jpegs(sampler.batch(0), 5)]
    loader_rates, ceiling_rates = [], []
    with (
        open_loader(dataset, sampler) as loader,
        turbo.decoding(sample, channels, cores) as decode,
    ):
        for number in range(rounds + 1):
            drained = 2 + 2 + 1  # ready, inside DALI, under way: decoded before the clock starts
            for _ in range(drained):
                next(loader)
            start = time.perf_counter()
            for _ in range(8):
                next(loader)
            batch_s = (time.perf_counter() - start) / 8
            time.sleep(batch_s * (drained + 1))  # it fills its queue, then rests
            start = time.perf_counter()
            for _ in range(4):
                decode()
            turbo_s = (time.perf_counter() - start) / 4
            if number:  # the first round warms up
                loader_rates.append(frames / batch_s)
                ceiling_rates.append(frames / turbo_s)
        memory = []
        for epoch in range(epochs):
            for _ in range(sampler.steps_per_epoch):
                next(loader)
            if (epoch + 1) % max(1, epochs // 10) == 0:
                memory.append(round(resident_mb(), 1))
    ratios = [a / b for a, b in zip(loader_rates, ceiling_rates, strict=True)]
    return {
        "frame": f"{width}x{height}x{channels}",
        "jpeg_bytes": round(sum(map(len, sample)) / len(sample)),
        "batch_size": batch_size,
        "rounds": rounds,
        "loader_frames_per_s": round(median(loader_rates)),
        "loader_samples_per_s": round(median(loader_rates) / 5),
        "libjpeg_turbo_frames_per_s": round(median(ceiling_rates)),
        "ratio": round(median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "epochs": epochs,
        "steps_per_epoch": sampler.steps_per_epoch,
        "memory_mb": memory,
    }


def readme_rows(result: dict[str, Any]) -> list[Row]:
    """Rows of the table of the loader."""
    return [
        [
            f"loader alone, {result['frame']} frames of {result['jpeg_bytes'] / 1000:.1f} kB",
            f"{result['loader_frames_per_s']:,} frames/s",
        ],
        [
            "libjpeg-turbo alone on all cores, same run",
            f"{result['libjpeg_turbo_frames_per_s']:,} frames/s",
        ],
        ["ratio (median of pairs)", f"{result['ratio']:.2f}"],
        [
            f"memory after {result['epochs']} epochs against after {result['epochs'] // 10}",
            f"{result['memory_mb'][-1] - result['memory_mb'][0]:+.0f} MB",
        ],
    ]


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = command_line("loader_rate", __doc__)
    add_data(parser)
    parser.add_argument("--batch-size", type=AtLeastTwo, default=256)
    parser.add_argument("--rounds", type=AtLeastOne, default=9)
    parser.add_argument("--epochs", type=AtLeastOne, default=100, help="for the memory")
    quick = {"clips": 20, "size": 32, "batch_size": 8, "rounds": 1, "epochs": 2}
    return run("loader_rate", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    shards = args.shards or synthetic_shards(args.cache, args.clips, args.size, args.gray)
    figures = measure(shards, args.batch_size, args.rounds, args.epochs)
    report("loader_rate", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
