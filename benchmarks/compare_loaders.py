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

The step takes 1.4 times what ours needs for a batch: nearly all of the cores' decoding is wanted,
and a loader half as fast must wait. On a CPU it sleeps; on a GPU a kernel spins so long, so that
whoever decodes there finds it as busy as a training, and the wait ends when the batch lies there.
Ceilings: libjpeg-turbo decoding the same JPEGs on all
cores into memory that is used again, copying a batch, and replaying batches kept in memory.
"""

import sys
import time
from statistics import median, quantiles
from typing import Any

import torch
from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat
from rich.console import Console
from rich.table import Table

from benchmarks import turbo
from benchmarks.loaders import CEILINGS, LOADERS, open_by_name, ours_cached, runnable
from benchmarks.loaders.batches import Settings
from benchmarks.markdown import Row, in_order, machine_line, table
from benchmarks.options import (
    AtLeastOne,
    AtLeastTwo,
    add_data,
    check_device,
    check_even,
    command_line,
    run,
)
from benchmarks.processes import cpu_seconds, isolated, start_fast
from benchmarks.result import Result
from benchmarks.sources import RUN, Source, own_source, synthetic_source
from benchmarks.step import EmulatedStep, arrive, synchronise

TURBO = "libjpeg-turbo"
CACHED = "ours-cached"
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
    LOADERS[name].load()
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
        step = EmulatedStep(step_ms, device)
        first, others = _waits(loader, source.steps, epochs, step)
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


def _waits(
    loader: Any, steps: int, epochs: int, step: EmulatedStep
) -> tuple[list[float], list[float]]:
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
            arrive(step.device)
            waited = 1e3 * (time.perf_counter() - start)
            (first if number == 0 else others).append(waited)
            step.spend(1.0)
            arrive(step.device)
    return first, others


def turbo_rate(source: Source, settings: Settings, seconds: float = 2.0) -> dict[str, Any]:
    """Samples/s of libjpeg-turbo alone on all cores."""
    sampler, cores = source.sampler, settings.cores
    jpegs = [bytes(jpeg) for jpeg in source.dataset.jpegs(sampler.batch(0), RUN)]
    with turbo.decoding(jpegs, source.frame_shape[2], cores) as decode:
        decode()
        turns, cpu, start = 0, cpu_seconds(), time.perf_counter()
        while time.perf_counter() - start < seconds:
            decode()
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
    _make_forms(names, source, settings)
    ours, _ = isolated(measure_one, "ours", source, settings, 1, 0.0)
    step_ms = headroom * 1e3 * source.batch_size / ours["samples_per_s"]
    found = _rounds(names, source, settings, rounds, epochs, step_ms, say)
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


def _rounds(
    names: list[str],
    source: Source,
    settings: Settings,
    rounds: int,
    epochs: int,
    step_ms: float,
    say: Console,
) -> dict[str, list[dict[str, Any]]]:
    """What every loader, and libjpeg-turbo, did in each round; one that fails is left out."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*names, TURBO)}
    for number in range(1, rounds + 1):
        for name in list(found):
            say.print(f"round {number} of {rounds}: {name}")
            if name == TURBO:
                row, _ = isolated(turbo_rate, source, settings)
            else:
                try:
                    row, peak = isolated(measure_one, name, source, settings, epochs, step_ms)
                except RuntimeError as error:
                    say.print(f"{name} failed and is left out: {error}", soft_wrap=True)
                    del found[name]
                    continue
                row |= peak
            found[name].append(row)
    return found


def _make_forms(names: list[str], source: Source, settings: Settings) -> None:
    """Everything on disk is made before any clock starts."""
    if any(name.startswith("torch") and name != "torch-shards" for name in names):
        source.files()
    if {"webdataset", "dali-reader"} & set(names):
        source.windows()
    if "litdata" in names:
        source.litdata()
    if CACHED in names:
        isolated(ours_cached.fill, source, settings)


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


def shown(figures: dict[str, Any]) -> Table:
    """For the terminal."""
    columns = Table(
        "loader",
        *(f"{title}" for title in COLUMNS.values()),
        title=f"{figures['frame']}, batches of {figures['batch_size']}, steps of "
        f"{figures['step_ms']} ms; libjpeg-turbo {figures['libjpeg_turbo_samples_per_s']:,} "
        "samples/s",
    )
    for name, row in figures["loaders"].items():
        columns.add_row(
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
    return columns


def readme(result: dict[str, Any]) -> str:
    """Every loader on the same frames, and what follows for ours."""
    loaders = _compared(result)
    header = ["loader", "first step waits", "p99", "samples/s", "utilisation", "first batch"]
    header += ["memory", "processes", "CPU for 1,000"]
    what = "".join(f"- **{name}**: {LOADERS[name].what}\n" for name in loaders)
    return (
        table(header, [_readme_row(name, row) for name, row in loaders.items()])
        + f"\n{result['frame']} frames, batches of {result['batch_size']}, steps of "
        f"{result['step_ms']:.0f} ms ({result['headroom']:g} times what ours took for a batch in a "
        "trial before the rounds), "
        f"medians of {result['repetitions']} interleaved rounds. {_claims(result)} "
        f"Copying batches in memory gives {result['loaders']['copy']['samples_per_s']:,} "
        f"samples/s. {machine_line(result)}\n\n"
        "<details><summary>What each loader is and how it was set</summary>\n\n"
        f"{what}\n</details>\n"
    )


def _compared(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The loaders' rows in the order of the registry, without the ceilings."""
    rows = in_order(result["loaders"], LOADERS)
    return {name: row for name, row in rows if name not in CEILINGS}


def _readme_row(name: str, row: dict[str, Any]) -> Row:
    return [
        f"**{name}**" if name == "ours" else name,
        f"{row['first_step_wait_ms']:,.1f} ms",
        f"{row['first_step_wait_p99_ms']:,.1f} ms",
        f"{row['samples_per_s']:,}",
        f"{row['utilisation']:.1%}",
        f"{row['cold_start_s']:.2f} s",
        f"{row['peak_memory_mb']:,.0f} MB",
        f"{row['processes']}",
        f"{row['cpu_s_per_1000']:.2f} s",
    ]


def _claims(result: dict[str, Any]) -> str:
    """Ours against libjpeg-turbo and the torch loaders; who is faster or level."""
    loaders = _compared(result)
    ours, cached = loaders["ours"], loaders.pop(CACHED, None)

    def fastest(names: list[str]) -> tuple[str, float]:
        name = max(names, key=lambda name: loaders[name]["samples_per_s"])
        return name, ours["samples_per_s"] / loaders[name]["samples_per_s"]

    torches = [name for name in loaders if name.startswith("torch-")]
    best, times = fastest(torches)
    best_on_files, times_on_files = fastest([name for name in torches if name != "torch-shards"])
    below = loaders["torch-persistent"]["first_step_wait_ms"] / ours["first_step_wait_ms"]
    text = (
        f"Ours: {ours['of_libjpeg_turbo']:.2f} of libjpeg-turbo alone on all cores "
        f"({result['libjpeg_turbo_samples_per_s']:,} samples/s), {times:.1f} times the fastest "
        f"torch DataLoader ({best}) and {times_on_files:.1f} times the fastest one on files "
        f"({best_on_files}), first step {_round_down(below):,} times below torch-persistent."
    )
    first, ratio = fastest(list(loaders))
    if first != "ours":
        text += f" Free running, {first} is faster: ours reaches {ratio:.2f} of it."
    level = [
        name
        for name, row in loaders.items()
        if name != "ours" and row["samples_per_s_max"] >= ours["samples_per_s_min"]
    ]
    if level:
        text += (
            " Level with ours, by the spread of the rounds (rate, often the other columns too): "
            f"{', '.join(level)}."
        )
    if cached is not None:
        text += (
            f" With a full cache of decoded frames (`{CACHED}`) ours gives "
            f"{cached['samples_per_s'] / ours['samples_per_s']:.1f} times as many."
        )
    return text


def _round_down(ratio: float) -> int:
    """To one digit: of waits that take microseconds no more is known."""
    digit = 10 ** (len(str(int(ratio))) - 1)
    return int(ratio) // digit * digit


def readme_short(result: dict[str, Any]) -> str:
    """The README's five loaders; of torch the seed's and the fastest."""
    loaders = result["loaders"]
    torch_names = [name for name in loaders if name.startswith("torch-")]
    best = max(torch_names, key=lambda name: loaders[name]["samples_per_s"])
    names = {
        "torch-seed": "torch DataLoader as the seed had it",
        best: f"torch DataLoader, fastest of {len(torch_names)} set-ups (`{best}`)",
        "webdataset": "webdataset",
        "spdl-simplejpeg": "SPDL, tuned (`spdl-simplejpeg`)",
        "ours": "**this project**",
        CACHED: "**this project**, frames decoded before (`--data.cache`)",
    }
    rows = [
        [
            what,
            f"{loaders[name]['first_step_wait_ms']:,.1f} ms",
            f"{loaders[name]['samples_per_s']:,}",
            f"{loaders[name]['utilisation']:.1%}",
        ]
        for name, what in names.items()
        if name in loaders
    ]
    machine = result["machine"]
    return (
        table(["loader", "first step of an epoch waits", "samples/s", "utilisation"], rows)
        + f"\n{result['frame']} frames, batches of {result['batch_size']}, steps of "
        f"{result['step_ms']:.0f} ms, medians of {result['repetitions']} rounds in turns; "
        f"{machine['cores']} cores of {machine['processor']}, {machine['gpu'] or 'no GPU'}.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = command_line("compare_loaders", __doc__)
    parser.add_argument("--loader", nargs="+", help=f"default: all of {', '.join(LOADERS)}")
    parser.add_argument("--rounds", type=AtLeastOne, default=5)
    parser.add_argument("--epochs", type=AtLeastOne, default=4, help="of each part of a round")
    parser.add_argument("--steps", type=AtLeastOne, default=15, help="of an epoch")
    parser.add_argument("--batch-size", type=AtLeastTwo, default=64)
    parser.add_argument(
        "--headroom", type=PositiveFloat, default=1.4, help="step time / ours's batch time"
    )
    parser.add_argument("--workers", type=AtLeastOne, default=16, help="of loaders as the seed's")
    parser.add_argument("--device", default="cpu", help="cpu or cuda: where batches are wanted")
    add_data(parser)
    quick = {"rounds": 1, "epochs": 2, "steps": 2, "batch_size": 8}
    quick |= {"clips": 20, "size": 32, "workers": 3}
    return run("compare_loaders", parser, argv, _compare, quick)


def _compare(args: Namespace) -> None:
    check_even("--batch-size", args.batch_size)
    check_device(args.device)
    if args.quick:
        start_fast()
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
    console.print(shown(figures))
    result = Result("compare_loaders", figures, repetitions=args.rounds, quick=args.quick)
    console.print(f"wrote {result.write(args.json)}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
