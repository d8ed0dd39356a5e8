"""How does the cost of loading grow?  python -m benchmarks.growth

Six questions, curves for each; every point is the median of interleaved rounds, each in a fresh
process (opening and memory) or with a fresh loader (rates):

    shards      seconds and memory to open 1 to 3,000 shards of 50 MB each (links to one shard): the
                first time, when the compact index is made, and from then on
    batch       samples/s over the batch size
    cores       samples/s over the cores that the process may use, beside libjpeg-turbo on as many
    frame       frames/s over the frame size and colour, beside libjpeg-turbo
    cache       samples/s over the share of the shards dropped from the page cache beforehand
                (posix_fadvise): 0 is warm, 100 cold
    windows     samples/s over the windows drawn from each clip an epoch
"""

import ctypes
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat
from rich.console import Console

from benchmarks import draw, turbo
from benchmarks.loaders.ours import open_loader
from benchmarks.markdown import Row
from benchmarks.options import AtLeastOne, AtLeastTwo, command_line, run
from benchmarks.processes import isolated, resident_mb, start_fast
from benchmarks.result import Result
from benchmarks.sources import synthetic_shards
from data_tools.atomic import write_json
from data_tools.clips import SPLITS
from data_tools.errors import UsageError
from data_tools.manifest import MANIFEST, NOTHING, SplitTotals, read_manifest
from data_tools.split_index import index_paths
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler

Point = tuple[float, float]
FRAMES = ((64, True), (111, True), (224, True), (224, False))


def linked_shards(shards: Path, folder: Path, number: int) -> Path:
    """A folder of `number` shards, all hard links to the first training shard of `shards`."""
    if not (folder / MANIFEST).exists():
        folder.mkdir(parents=True, exist_ok=True)
        manifest = read_manifest(shards)
        entry = next(e for e in manifest.shards if e.split == "train" and e.clips)
        entries = []
        for i in range(number):
            name = f"train-{i:06d}.tar"
            for suffix in (".tar", ".idx", ".json"):
                link = (folder / name).with_suffix(suffix)
                if not link.exists():
                    os.link((shards / entry.name).with_suffix(suffix), link)
            entries.append(replace(entry, name=name))
        total = SplitTotals(number * entry.clips, number * entry.frames, number * entry.bytes)
        splits = dict.fromkeys(SPLITS, NOTHING) | {"train": total}
        found = replace(manifest, shards=entries, splits=splits, clips_found=total.clips)
        write_json(folder / MANIFEST, found.as_dict())
    return folder


def first_open_cost(folder: Path) -> dict[str, float]:
    """Opening a dataset that has no compact index yet; one is made."""
    for path in index_paths(folder, "train"):
        path.unlink(missing_ok=True)
    start = time.perf_counter()
    Dataset(folder, "train")
    return {"first_open_s": time.perf_counter() - start}


def open_cost(folder: Path, batch_size: int) -> dict[str, float]:
    """Opening a dataset, drawing a batch, loading one from the disk: seconds, memory, frames.

    left_in_memory: share of a tar that stayed in the page cache though it was dropped.
    """
    before, busy, start = resident_mb(), time.process_time(), time.perf_counter()
    dataset = Dataset(folder, "train")
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    sampler = TrainSampler(dataset.windows, batch_size)
    start = time.perf_counter()
    sampler.batch(sampler.steps_per_epoch)  # the first of the second epoch
    drawn = time.perf_counter() - start
    memory = resident_mb() - before
    drop_cache(folder, 1.0)
    left = in_memory(dataset.shards[0].tar)
    cold_busy, start = time.process_time(), time.perf_counter()
    with open_loader(dataset, sampler) as loader:
        next(loader)
        cold, cold_busy = time.perf_counter() - start, time.process_time() - cold_busy
    return {
        "open_s": seconds,
        "open_cpu_s": busy,
        "memory_mb": memory,
        "first_batch_of_epoch_ms": 1e3 * drawn,
        "first_batch_cold_s": cold,
        "first_batch_cold_cpu_s": cold_busy,
        "left_in_memory": left,
        "frames": float(dataset.frames.sum()),
    }


def rate(
    shards: Path,
    batch_size: int,
    seconds: float,
    cores: int | None = None,
    windows_per_clip: int | None = None,
    dropped: float = 0.0,
    bounded: bool = False,
) -> dict[str, float]:
    """Samples/s of the loader, and of libjpeg-turbo decoding the same JPEGs on as many cores.

    Args:
        cores: pin the process to so many; default: all it has.
        dropped: share of each shard to drop from the page cache first.
        bounded: measure from the first batch on, before what was dropped has been read again.
    """
    if cores:
        with pinned(cores):
            return rate(shards, batch_size, seconds, None, windows_per_clip, dropped, bounded)
    dataset = Dataset(shards, "train")
    per_clip = windows_per_clip or -(-16 * batch_size // len(dataset))
    sampler = TrainSampler(dataset.windows, batch_size, windows_per_clip=per_clip)
    if dropped:
        drop_cache(shards, dropped)
    with open_loader(dataset, sampler) as loader:
        skipped = 0 if bounded else 6  # ready, inside DALI, under way
        for _ in range(skipped):
            next(loader)
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds and not (bounded and done >= 16):
            next(loader)
            done += 1
        found = done * batch_size / (time.perf_counter() - start)
    jpegs = [bytes(jpeg) for jpeg in dataset.jpegs(sampler.batch(0), 5)]
    channels = next(iter(dataset.frame_shapes))[2]
    ceiling = batch_size * turbo.rate(jpegs, channels, len(os.sched_getaffinity(0)), seconds)
    return {"samples_per_s": found, "libjpeg_turbo_samples_per_s": ceiling}


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Keep this process to its first so many cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def drop_cache(folder: Path, share: float) -> None:
    """Drop a share of each of a folder's files from the page cache, spread over the file in pieces.

    They must have reached the disk for that, hence the fsync.
    """
    piece = 1 << 20
    # of links to one file, one does
    for path in {path.stat().st_ino: path for path in folder.iterdir()}.values():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            for at in range(0, path.stat().st_size, piece):
                os.posix_fadvise(descriptor, at, int(share * piece), os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def in_memory(path: Path) -> float:
    """The share of a file's pages that are in the page cache: whether it was dropped indeed.

    Raises:
        OSError: the system does not tell.
    """
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    content = np.frombuffer(mapped, np.uint8)
    pages = np.zeros(-(-len(content) // mmap.PAGESIZE), np.uint8)
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    if mincore(content.ctypes.data, len(content), pages.ctypes.data):
        raise OSError(ctypes.get_errno(), f"mincore of {path}")
    return float((pages & 1).mean())


def in_turns(
    points: list[Any], once: Callable[[Any], dict[str, float]], rounds: int
) -> list[dict[str, float]]:
    """Medians of `once(point)` for every point, the rounds interleaved over the points."""
    runs: list[list[dict[str, float]]] = [[] for _ in points]
    for _ in range(rounds):
        for found, point in zip(runs, points, strict=True):
            found.append(once(point))
    return [
        {name: round(median(row[name] for row in rows), 4) for name in rows[0]} for rows in runs
    ]


def measure(
    cache: Path, rounds: int, seconds: float, clips: int, most_shards: int, say: Console
) -> dict[str, Any]:
    """All curves: name -> list of points, each with its "x" and what was measured there."""
    base = synthetic_shards(cache, clips, 224)
    found: dict[str, list[dict[str, Any]]] = {}

    def curve(name: str, points: list[Any], once: Callable[[Any], dict[str, float]]) -> None:
        say.print(f"{name}: {', '.join(map(str, points))}")
        results = in_turns(points, once, rounds)
        found[name] = [{"x": x, **row} for x, row in zip(points, results, strict=True)]

    numbers = [n for n in (1, 3, 10, 30, 100, 300, 1000, 3000) if n <= most_shards]
    links = {n: linked_shards(base, cache / f"linked-{clips}-{n}", n) for n in numbers}

    def opened(n: int) -> dict[str, float]:
        cost: dict[str, float] = isolated(first_open_cost, links[n])[0]
        cost.update(isolated(open_cost, links[n], min(64, clips // 4 * 2))[0])
        return cost

    curve("shards", numbers, opened)

    def fresh(*arguments: Any) -> dict[str, float]:
        result: dict[str, float] = isolated(rate, *arguments)[0]
        return result

    sizes = [16, 64, 256, 1024] if seconds >= 1 else [8, 16]
    batch = 64 if seconds >= 1 else 8
    curve("batch", sizes, lambda size: fresh(base, size, seconds))
    cores = sorted({1, 2, 4, 8, 16, len(os.sched_getaffinity(0))})
    cores = [n for n in cores if n <= len(os.sched_getaffinity(0))]
    curve("cores", cores, lambda n: fresh(base, batch, seconds, n))
    frames = {
        f"{size} {'gray' if gray else 'RGB'}": synthetic_shards(cache, clips, size, gray)
        for size, gray in FRAMES
    }
    curve("frame", list(frames), lambda name: fresh(frames[name], 2 * batch, seconds))
    shares = [0, 25, 50, 75, 100]
    curve("cache", shares, lambda s: fresh(base, batch, seconds, None, None, s / 100, True))
    windows = [2, 5, 10, 20, 60]
    few = min(batch, clips // 4 * 2)
    curve("windows", windows, lambda n: fresh(base, few, seconds, None, n))
    return found


def panels(curves: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What to draw."""

    def line(name: str, key: str, factor: float = 1.0) -> list[Point]:
        return [(point["x"], factor * point[key]) for point in curves[name]]

    def panel(title: str, x: str, y: str, log: str, lines: dict[str, list[Point]]) -> Any:
        return {"title": title, "xlabel": x, "ylabel": y, "log": log, "lines": lines}

    both = {"ours": "samples_per_s", "libjpeg-turbo": "libjpeg_turbo_samples_per_s"}
    rates = [
        ("batch", "rate over the batch", "samples a batch", "x"),
        ("cores", "rate over the cores", "cores", ""),
        ("windows", "rate over the windows", "windows of each clip an epoch", "x"),
    ]
    frames = [
        ("frame", "rate over the frame", "", "y"),
        ("cache", "rate over the cold part of the cache", "% dropped from the page cache", ""),
    ]
    drawn = [
        panel("opening shards", "shards", "s", "xy", {"open": line("shards", "open_s")}),
        panel("memory of the index", "shards", "MB", "xy", {"": line("shards", "memory_mb")}),
        panel(
            "drawing an epoch's first batch",
            "shards",
            "ms",
            "x",
            {"": line("shards", "first_batch_of_epoch_ms")},
        ),
    ]
    for name, title, x, log in rates:
        lines = {label: line(name, key) for label, key in both.items()}
        drawn.append(panel(title, x, "samples/s", log, lines))
    for name, title, x, log in frames:
        lines = {label: line(name, key, 5.0) for label, key in both.items()}
        drawn.append(panel(title, x, "frames/s", log, lines))
    return drawn


def readme_rows(result: dict[str, Any]) -> list[Row]:
    """Rows of the table of cost."""
    curves = result["curves"]
    rows = [
        [
            f"opening {point['x']:,} shard{'s' if point['x'] > 1 else ''} "
            f"({point['frames']:,.0f} frames)",
            f"{point['open_s']:.2f} s, {point['memory_mb']:,.0f} MB, first batch of an epoch drawn "
            f"in {point['first_batch_of_epoch_ms']:.1f} ms" + _once_and_cold(point),
        ]
        for point in curves["shards"]
        if point["x"] in (1, 100, 1000, 3000)
    ]
    rows += [
        [
            f"frames of {point['x']}",
            f"{5 * point['samples_per_s']:,.0f} frames/s, "
            f"{point['samples_per_s'] / point['libjpeg_turbo_samples_per_s']:.2f} of libjpeg-turbo",
        ]
        for point in curves["frame"]
    ]
    rows += [
        [f"{point['x']} % of the page cache dropped", f"{5 * point['samples_per_s']:,.0f} frames/s"]
        for point in curves["cache"]
    ]
    return rows


def _once_and_cold(point: dict[str, float]) -> str:
    # results before there was a compact index have neither
    if "first_open_s" not in point:
        return ""
    left = point.get("left_in_memory", 0.0)
    where = "a cold disk" if left < 0.1 else f"a disk of which {left:.0%} stayed in memory"
    return (
        f"; {point['first_open_s']:.2f} s the first time; first batch from {where} "
        f"{point['first_batch_cold_s']:.1f} s after opening"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 if the data cannot be made or read."""
    parser = command_line("growth", __doc__)
    parser.add_argument("--from", dest="past", type=Path, help="only draw this result again")
    parser.add_argument("--rounds", type=AtLeastOne, default=3)
    parser.add_argument("--seconds", type=PositiveFloat, default=2.0, help="of each rate")
    parser.add_argument("--clips", type=AtLeastTwo, default=64, help="synthetic clips")
    parser.add_argument("--shards", type=AtLeastOne, default=3000, help="most shards to open")
    quick = {"rounds": 1, "seconds": 0.1, "clips": 20, "shards": 10}
    return run("growth", parser, argv, _redraw_or_measure, quick)


def _redraw_or_measure(args: Namespace) -> None:
    if args.past:
        _redraw(args.past)
        return
    if args.quick:
        start_fast()
    console = Console(width=None if sys.stdout.isatty() else 120)
    curves = measure(args.cache, args.rounds, args.seconds, args.clips, args.shards, console)
    result = Result("growth", {"curves": curves}, "both", args.rounds, args.quick)
    written = result.write(args.json)
    picture = written.with_suffix(".png")
    draw.curves(panels(curves), picture)
    for name, points in curves.items():
        for point in points:
            figures = ", ".join(f"{key} {value:,g}" for key, value in point.items() if key != "x")
            console.print(f"{name} {point['x']}: {figures}", highlight=False)
    console.print(f"wrote {written} and {picture}", soft_wrap=True)


def _redraw(result: Path) -> None:
    try:
        drawn = panels(json.loads(result.read_text(encoding="utf-8"))["curves"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{result} is no result of growth") from None
    picture = result.with_suffix(".png")
    draw.curves(drawn, picture)
    print(f"wrote {picture}")


if __name__ == "__main__":
    sys.exit(main())
