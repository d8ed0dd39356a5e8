"""What does a cache of decoded frames win?  python -m benchmarks.cache_rate

Windows of five frames a second, for three sizes of frames, each figure from a fresh process, one
after another, round after round, so that a noisy machine is noisy to all:

    libjpeg    libjpeg-turbo alone on all cores into warm memory, nothing else: no loader decodes
               more (windows out of its cache a loader may well give)
    decode     our loader, decoding, batches handed to torch
    cached     our loader with a full cache of decoded frames, each compared with its checksum once
    first      the same while it compares: the first reading of a run
    spdl       SPDL on our sampler and shards, libjpeg-turbo straight into the batch's rows
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from benchmarks import turbo
from benchmarks.loaders import LOADERS, open_by_name, ours_cached
from benchmarks.loaders.batches import Settings
from benchmarks.markdown import machine_line, table
from benchmarks.options import AtLeastOne, AtLeastTwo, check_even, command_line, run
from benchmarks.processes import isolated, start_fast
from benchmarks.result import report
from benchmarks.sources import RUN, Source, synthetic_source
from data_tools.mfcc import FPS

# name, side, gray
KINDS = (("224 RGB", 224, False), ("111 gray", 111, True), ("64 gray", 64, True))
LOADED = {"decode": "ours", "cached": "ours-cached", "spdl": "spdl-simplejpeg"}
_MEMORY_GB = (16, 32, 64, 128, 256, 512)
_DRAINED = 8  # batches that may have been ready before the clock started


def rate(name: str, source: Source, settings: Settings, seconds: float) -> dict[str, float]:
    """Windows/s of a loader: of its first epoch, and after that."""
    LOADERS[name].load()
    with open_by_name(name, source, settings) as loader, _endless(loader) as batches:
        start = time.perf_counter()
        for _ in range(source.steps):
            next(batches)
        first = source.steps * source.batch_size / (time.perf_counter() - start)
        for _ in range(_DRAINED):
            next(batches)
        taken, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            next(batches)
            taken += 1
        return {"rate": taken * source.batch_size / (time.perf_counter() - start), "first": first}


@contextmanager
def _endless(loader: Any) -> Iterator[Iterator[Any]]:
    yield (batch for _ in iter(int, 1) for batch in loader())


def libjpeg_rate(source: Source, settings: Settings, seconds: float) -> dict[str, float]:
    """Windows/s of libjpeg-turbo alone."""
    jpegs = [bytes(jpeg) for jpeg in source.dataset.jpegs(source.sampler.batch(0), RUN)]
    channels = source.frame_shape[2]
    return {"rate": source.batch_size * turbo.rate(jpegs, channels, settings.cores, seconds)}


def measure(sources: dict[str, Source], rounds: int, seconds: float, say: Console) -> list[Any]:
    """A row for each kind of frames; all of a round before the next one."""
    settings = Settings()
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in sources}
    left = dict(LOADED)
    if reason := LOADERS[left["spdl"]].missing():
        say.print(f"spdl is left out: {reason}", soft_wrap=True)
        del left["spdl"]
    for kind, source in sources.items():
        say.print(f"filling the cache of {kind}")
        isolated(ours_cached.fill, source, settings)
    for number in range(1, rounds + 1):
        for kind, source in sources.items():
            say.print(f"round {number} of {rounds}: {kind}")
            row = {}
            done, _ = isolated(libjpeg_rate, source, settings, seconds)
            row["libjpeg"] = done["rate"]
            for column, name in left.items():
                done, _ = isolated(rate, name, source, settings, seconds)
                row[column] = done["rate"]
                if column == "cached":
                    row["first"] = done["first"]
            found[kind].append(row)
    return [_summary(kind, sources[kind], rows) for kind, rows in found.items()]


def _summary(kind: str, source: Source, rows: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over rounds, and ratios taken round by round."""
    height, width, channels = source.frame_shape
    summary: dict[str, Any] = {"frames": kind, "frame_bytes": height * width * channels}
    for name in rows[0]:
        of = [row[name] for row in rows]
        column = "cached_first" if name == "first" else name
        summary[f"{column}_windows_s"] = round(median(of))
        summary[f"{column}_spread"] = [round(min(of)), round(max(of))]
    for name in ("decode", "cached"):
        for other in ("libjpeg", "spdl"):
            if other in rows[0]:
                ratios = [row[name] / row[other] for row in rows]
                summary[f"{name}_of_{other}"] = round(median(ratios), 3)
    return summary


def hours(frame_bytes: int, memory_gb: float) -> float:
    """Hours of video whose frames fit into so much memory."""
    return memory_gb * 1e9 / frame_bytes / FPS / 3600


def readme(result: dict[str, Any]) -> str:
    """The rates, and the hours of video that fit a memory."""
    header = ["frames", "libjpeg-turbo", "SPDL", "ours, decoding", "ours, cached", "first reading"]
    header += ["decoding / libjpeg-turbo", "cached / libjpeg-turbo"]
    rates = [
        [
            row["frames"],
            *(
                f"{row[f'{name}_windows_s']:,}" if f"{name}_windows_s" in row else "-"
                for name in ("libjpeg", "spdl", "decode", "cached", "cached_first")
            ),
            f"{row['decode_of_libjpeg']:.2f}",
            f"{row['cached_of_libjpeg']:.1f}",
        ]
        for row in result["rows"]
    ]
    fits = [
        [row["frames"], f"{row['frame_bytes'] / 1e3:,.0f} kB"]
        + [f"{hours(row['frame_bytes'], size):,.1f} h" for size in _MEMORY_GB]
        for row in result["rows"]
    ]
    return (
        table(header, rates)
        + f"\nWindows of five frames a second, batches of {result['batch_size']}, medians of "
        f"{result['repetitions']} rounds in turns. {machine_line(result)}\n\n"
        + table(["frames", "a frame", *(f"{size} GB" for size in _MEMORY_GB)], fits)
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = command_line("cache_rate", __doc__)
    parser.add_argument("--clips", type=AtLeastOne, default=64, help="synthetic clips")
    parser.add_argument("--batch-size", type=AtLeastTwo, default=64)
    parser.add_argument("--steps", type=AtLeastOne, default=60, help="of an epoch")
    parser.add_argument("--rounds", type=AtLeastOne, default=5)
    parser.add_argument("--seconds", type=AtLeastOne, default=3, help="of each measurement")
    quick = {"clips": 20, "batch_size": 8, "steps": 4, "rounds": 1, "seconds": 0.2}
    return run("cache_rate", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    check_even("--batch-size", args.batch_size)
    if args.quick:
        start_fast()
    kinds = KINDS if not args.quick else tuple((name, 32, gray) for name, _, gray in KINDS[::2])
    sources = {
        name: synthetic_source(args.cache, args.clips, side, gray, args.batch_size, args.steps)
        for name, side, gray in kinds
    }
    say = Console(width=None if sys.stdout.isatty() else 150)
    rows = measure(sources, args.rounds, args.seconds, say)
    figures = {"rows": rows, "batch_size": args.batch_size, "steps": args.steps}
    report("cache_rate", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
