"""Which loader makes the training wait least?  python -m benchmarks.compare_loaders

The same frames and MFCC through every loader of `benchmarks.loaders`, each in a fresh process, one
after another, round after round (A B C, A B C, ...), so that a noisy machine is noisy to all.
Medians and the spread over rounds are kept. What each column means:

    first batch     from opening the loader to its first batch, libraries being imported already
    samples/s       free running, whole epochs with their boundaries, from the second epoch on
    first step      wait in an epoch's first step when every step computes for --step-ms
    utilisation     computing / all time of those epochs, first steps included
    memory          private and shared memory of its processes at most, mapped files not counted
    CPU             seconds on all cores for 1,000 samples

The step is a sleep of 1.4 times what ours needs for a batch: nearly all of the cores' decoding is
wanted, and a loader half as fast must wait. Ceilings: libjpeg-turbo decoding the same JPEGs on all
cores into memory that is used again, copying a batch, and replaying batches kept in memory.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.loaders import LOADERS, Settings, open_by_name, runnable
from benchmarks.measure import (
    Result,
    at_least,
    check_device,
    cpu_seconds,
    decode_all,
    exit_status,
    isolated,
    start_fast,
)
from benchmarks.sources import RUN, Source, own_source, synthetic_source
from benchmarks.step import synchronise

TURBO = "libjpeg-turbo"
COLUMNS = {
    "cold_start_s": "first batch",
    "first_step_wait_ms": "first step waits",
    "first_step_wait_p99_ms": "p99",
    "samples_per_s": "samples/s",
    "utilisation": "utilisation",
    "peak_memory_mb": "memory",
    "processes": "processes",
    "cpu_s_per_1000": "CPU",
}


def measure_one(
    name: str, source: Source, settings: Settings, epochs: int, step_ms: float
) -> dict[str, Any]:
    """One round of one loader: first batch, free rate, then waits before steps of `step_ms`."""
    device = torch.device(settings.device)
    samples = source.batch_size * source.steps
    start = time.perf_counter()
    with open_by_name(name, source, settings) as loader:
        batches = loader()
        next(batches)
        synchronise(device)
        cold = time.perf_counter() - start
        for _ in batches:
            pass
        cpu, start = cpu_seconds(), time.perf_counter()
        for _ in range(epochs):
            for _ in loader():
                pass
        synchronise(device)
        seconds = time.perf_counter() - start
        cpu = cpu_seconds() - cpu
        first, others = _waits(loader, source.steps, epochs, step_ms / 1e3)
    waited = sum(first) + sum(others)
    working = epochs * source.steps * step_ms
    return {
        "cold_start_s": cold,
        "samples_per_s": epochs * samples / seconds,
        "cpu_s_per_1000": 1e3 * cpu / (epochs * samples),
        "first_step_wait_ms": first[1:] or first,
        "other_step_wait_ms": others,
        "utilisation": working / (working + waited) if working else None,
    }


def _waits(loader: Any, steps: int, epochs: int, step_s: float) -> tuple[list[float], list[float]]:
    """Milliseconds that first and other steps wait; an epoch's ending counts to the next first."""
    first: list[float] = []
    others: list[float] = []
    batches = None
    for _ in range(epochs):
        for number in range(steps):
            start = time.perf_counter()
            if number == 0:
                if batches is not None:
                    next(batches, None)
                batches = loader()
            assert batches is not None
            next(batches)
            waited = 1e3 * (time.perf_counter() - start)
            (first if number == 0 else others).append(waited)
            time.sleep(step_s)
    return first, others


def turbo_rate(source: Source, settings: Settings, seconds: float = 2.0) -> dict[str, Any]:
    """Samples/s of libjpeg-turbo alone on all cores."""
    sampler, cores = source.sampler, settings.cores
    jpegs = [bytes(jpeg) for jpeg in source.dataset.jpegs(sampler.batch(0), RUN)]
    parts = [decode_all(jpegs[core::cores], source.frame_shape[2]) for core in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda part: part(), parts))
        turns, cpu, start = 0, cpu_seconds(), time.perf_counter()
        while time.perf_counter() - start < seconds:
            list(pool.map(lambda part: part(), parts))
            turns += 1
        rate = turns * source.batch_size / (time.perf_counter() - start)
    cpu = cpu_seconds() - cpu
    return {"samples_per_s": rate, "cpu_s_per_1000": 1e3 * cpu / (turns * source.batch_size)}


def measure(
    names: list[str],
    source: Source,
    settings: Settings,
    rounds: int,
    epochs: int,
    headroom: float,
    say: Console,
) -> dict[str, Any]:
    """All loaders in turns; medians, spreads, and ratios taken round by round."""
    _make_forms(names, source)
    ours, _ = isolated(measure_one, "ours", source, settings, 1, 0.0)
    step_ms = headroom * 1e3 * source.batch_size / ours["samples_per_s"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*names, TURBO)}
    for number in range(1, rounds + 1):
        for name in list(found):
            say.print(f"round {number} of {rounds}: {name}")
            if name == TURBO:
                one, _ = isolated(turbo_rate, source, settings)
            else:
                try:
                    one, peak = isolated(measure_one, name, source, settings, epochs, step_ms)
                except RuntimeError as error:
                    say.print(f"{name} failed and is left out: {error}", soft_wrap=True)
                    del found[name]
                    continue
                one |= peak
            found[name].append(one)
    height, width, channels = source.frame_shape
    loaders = {name: _summary(rows) for name, rows in found.items() if name != TURBO}
    turbo = [row["samples_per_s"] for row in found[TURBO]]
    for name, summary in loaders.items():
        rates = [row["samples_per_s"] for row in found[name]]
        ratios = [rate / ceiling for rate, ceiling in zip(rates, turbo, strict=True)]
        summary["of_libjpeg_turbo"] = round(median(ratios), 3)
        summary["what"] = LOADERS[name].what
    return {
        "frame": f"{width}x{height}x{channels}",
        "batch_size": source.batch_size,
        "steps": source.steps,
        "epochs": epochs,
        "headroom": headroom,
        "step_ms": round(step_ms, 1),
        "workers_of_the_seed": settings.workers,
        "device": settings.device,
        "libjpeg_turbo_samples_per_s": round(median(turbo)),
        "loaders": loaders,
    }


def _make_forms(names: list[str], source: Source) -> None:
    """Everything on disk is made before any clock starts."""
    if any(name.startswith("torch") and name != "torch-shards" for name in names):
        source.files()
    if {"webdataset", "dali-reader"} & set(names):
        source.windows()
    if "litdata" in names:
        source.litdata()


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    first = [wait for row in rows for wait in row["first_step_wait_ms"]]
    others = [wait for row in rows for wait in row["other_step_wait_ms"]]
    rates = [row["samples_per_s"] for row in rows]

    def middle(name: str, digits: int) -> float:
        return round(median(row[name] for row in rows), digits)

    return {
        "cold_start_s": middle("cold_start_s", 3),
        "samples_per_s": round(median(rates)),
        "samples_per_s_min": round(min(rates)),
        "samples_per_s_max": round(max(rates)),
        "first_step_wait_ms": round(median(first), 3),
        "first_step_wait_p99_ms": round(_p99(first), 3),
        "other_step_wait_ms": round(median(others), 3),
        "other_step_wait_p99_ms": round(_p99(others), 3),
        "utilisation": middle("utilisation", 4),
        "peak_memory_mb": middle("peak_memory_mb", 0),
        "processes": round(middle("processes", 0)),
        "cpu_s_per_1000": middle("cpu_s_per_1000", 3),
    }


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


def table(figures: dict[str, Any]) -> Table:
    """For the terminal."""
    shown = Table(
        "loader",
        *(f"{title}" for title in COLUMNS.values()),
        title=f"{figures['frame']}, batches of {figures['batch_size']}, steps of "
        f"{figures['step_ms']} ms; libjpeg-turbo {figures['libjpeg_turbo_samples_per_s']:,} "
        "samples/s",
    )
    for name, row in figures["loaders"].items():
        shown.add_row(
            name,
            f"{row['cold_start_s']:.2f} s",
            f"{row['first_step_wait_ms']:,.2f} ms",
            f"{row['first_step_wait_p99_ms']:,.1f} ms",
            f"{row['samples_per_s']:,}",
            f"{row['utilisation']:.1%}",
            f"{row['peak_memory_mb']:,.0f} MB",
            f"{row['processes']}",
            f"{row['cpu_s_per_1000']:.2f} s",
        )
    return shown


def short_table(result: dict[str, Any]) -> tuple[list[str], list[list[str]], str]:
    """Header, five rows and a note for the README: the torch row is the fastest of them all."""
    found = result["loaders"]
    torch_names = [name for name in found if name.startswith("torch-")]
    best = max(torch_names, key=lambda name: found[name]["samples_per_s"])
    names = {
        "torch-seed": "torch DataLoader, a batch per worker",
        best: f"torch DataLoader, fastest of {len(torch_names)} set-ups (`{best}`)",
        "webdataset": "webdataset",
        "spdl-simplejpeg": "SPDL, tuned (`spdl-simplejpeg`)",
        "ours": "**this project**",
    }
    rows = [
        [
            what,
            f"{found[name]['first_step_wait_ms']:,.1f} ms",
            f"{found[name]['samples_per_s']:,}",
            f"{found[name]['utilisation']:.1%}",
        ]
        for name, what in names.items()
    ]
    machine = result["machine"]
    note = (
        f"{result['frame']} frames, batches of {result['batch_size']}, steps of "
        f"{result['step_ms']:.0f} ms, medians of {result['repetitions']} rounds in turns; "
        f"{machine['cores']} cores of {machine['processor']}, {machine['gpu'] or 'no GPU'}."
    )
    header = ["loader", "first step of an epoch waits", "samples/s", "utilisation"]
    return header, rows, note


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loader", nargs="+", help=f"default: all of {', '.join(LOADERS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="of each part of a round")
    parser.add_argument("--steps", type=int, default=15, help="of an epoch")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--headroom", type=float, default=1.4, help="step time / ours's batch time")
    parser.add_argument("--workers", type=int, default=16, help="of the loaders as the seed's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda: where batches are wanted")
    parser.add_argument("--shards", type=Path, help="default: synthetic heads")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "syncnet-bench")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny: shows only that it works")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.epochs, args.steps, args.batch_size = 1, 2, 2, 8
        args.clips, args.size, args.workers = 20, 32, 3
        start_fast()
    return exit_status("compare_loaders", args.json, lambda: _compare(args))


def _compare(args: argparse.Namespace) -> None:
    at_least(args, rounds=1, epochs=1, steps=1, clips=1, size=1, workers=1, batch_size=2)
    if args.batch_size % 2:
        raise ValueError(f"--batch-size must be even (half are genuine pairs): {args.batch_size}")
    if args.headroom <= 0:
        raise ValueError(f"--headroom must be above 0, not {args.headroom:g}")
    check_device(args.device)
    console = Console(width=None if sys.stdout.isatty() else 150)
    names = runnable(args.loader or LOADERS, console)
    if args.shards:
        source = own_source(args.shards, args.cache, args.batch_size, args.steps)
    else:
        source = synthetic_source(
            args.cache, args.clips, args.size, args.gray, args.batch_size, args.steps
        )
    settings = Settings(args.workers, device=args.device)
    figures = measure(names, source, settings, args.rounds, args.epochs, args.headroom, console)
    console.print(table(figures))
    result = Result("compare_loaders", figures, repetitions=args.rounds, quick=args.quick)
    console.print(f"wrote {result.write(args.json)}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
