"""How close does the loader come to libjpeg-turbo alone?  python -m benchmarks.loader_rate

Ceiling: libjpeg-turbo decoding the same JPEGs to the same pixels on all cores into warm memory,
nothing else. Loader: whole batches from shards to torch, one process. Both alternate in one run and
the ratio is taken pair by pair, since machines are noisy. Memory is read over `--epochs` epochs.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import (
    at_least,
    decode_all,
    exit_status,
    frame_shape,
    open_loader,
    report,
    synthetic_shards,
)
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler


def resident_mb() -> float:
    """Memory of this process without the pages of mapped files, MB."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(shards: Path, batch_size: int, rounds: int, epochs: int) -> dict[str, Any]:
    """Rates in frames/s of both, their ratio, and the memory at the end of each tenth of epochs."""
    dataset = Dataset(shards, "train")
    sampler = TrainSampler(dataset.windows, batch_size, windows_per_clip=30)
    height, width, channels = frame_shape(dataset)
    frames = 5 * batch_size
    cores = len(os.sched_getaffinity(0))
    sample = [bytes(jpeg) for jpeg in dataset.jpegs(sampler.batch(0), 5)]
    parts = [decode_all(sample[core::cores], channels) for core in range(cores)]
    loader_rates, ceiling_rates = [], []
    with (
        open_loader(dataset, sampler) as loader,
        ThreadPoolExecutor(cores) as pool,
    ):
        for number in range(rounds + 1):
            drained = 2 + 2 + 1  # ready, inside DALI, under way: decoded before the clock starts
            for _ in range(drained):
                next(loader)
            start = time.perf_counter()
            for _ in range(8):
                next(loader)
            loader_rate = 8 * frames / (time.perf_counter() - start)
            time.sleep(
                8 * frames / loader_rate / 8 * (drained + 1)
            )  # it fills its queue, then rests
            start = time.perf_counter()
            for _ in range(4):
                list(pool.map(lambda part: part(), parts))
            ceiling = 4 * frames / (time.perf_counter() - start)
            if number:  # the first round warms up
                loader_rates.append(loader_rate)
                ceiling_rates.append(ceiling)
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


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=Path, help="default: synthetic clips")
    parser.add_argument("--clips", type=int, default=64, help="synthetic clips (default 64)")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=100, help="for the memory (default 100)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "syncnet-bench")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny: shows only that it works")
    args = parser.parse_args(argv)
    if args.quick:
        args.clips, args.size, args.batch_size, args.rounds, args.epochs = 20, 32, 8, 1, 2

    def work() -> None:
        at_least(args, clips=1, size=1, batch_size=2, rounds=1, epochs=1)
        shards = args.shards or synthetic_shards(args.cache, args.clips, args.size, args.gray)
        figures = measure(shards, args.batch_size, args.rounds, args.epochs)
        report("loader_rate", figures, args.json, args.rounds, quick=args.quick)

    return exit_status("loader_rate", args.json, work)


if __name__ == "__main__":
    sys.exit(main())
