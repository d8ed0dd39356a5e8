"""What does a million clips cost, before the first is read?  python -m benchmarks.plan_scale

Four questions, a curve each over 1,000 to 1,000,000 clips, every point in a process of its own:

    plan        `prepare --plan`, whole: a tree of VoxCeleb2's shape (8 copies a folder of a tiny
                silent video, 4 KB of the disk each) is walked, named, put into splits and shards
    first_open  the first opening of so many clips of 200 frames, 96 a shard (links to one shard):
                the compact index is made
    open        opening them again, and drawing and mapping a batch
    keep        opening them with a keep.csv of as many rows

Seconds are of the clock, imports included for the plan; memory is the largest ever resident, mapped
files included.
"""

import contextlib
import csv
import io
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from jsonargparse import Namespace
from rich.console import Console

from benchmarks import draw
from benchmarks.growth import linked_shards
from benchmarks.markdown import machine_line, table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.processes import isolated, start_fast
from benchmarks.result import RESULTS, Result
from data_tools.atomic import atomic_path, write_json
from data_tools.cli import whole
from data_tools.clip_data import ClipData
from data_tools.clips import SPLITS
from data_tools.errors import UsageError, UserError
from data_tools.keep import COLUMNS, KEEP, read_keep
from data_tools.manifest import MANIFEST, NOTHING, Manifest, ShardEntry
from data_tools.shard_writer import clip_members, commit_shard, write_shard
from data_tools.split_index import TICK_NS, index_paths

PICTURE = Path(__file__).parents[1] / "docs" / "plan_scale.png"
CLIPS, FRAMES = 96, 200  # of a shard, and of a clip: VoxCeleb2's last 8 s
_BESIDE, _OF_A_SPEAKER = 8, 160  # videos of a recording, and of a speaker
AtLeastThousand = whole("AtLeastThousand", 1000)
_LIMITS = {"seconds": 60.0, "peak_mb": 2000.0}  # for a plan of a million


def tree(cache: Path, number: int) -> Path:
    """A tree of so many copies of one tiny video, laid out as VoxCeleb2; made once."""
    root, done = cache / f"tree-{number}", cache / f"tree-{number}.done"
    if done.exists():
        return root
    video = _tiny_video(cache).read_bytes()
    for i in range(number):
        recording = i // _BESIDE % (_OF_A_SPEAKER // _BESIDE)
        folder = f"{root}/dev/mp4/id{i // _OF_A_SPEAKER:05d}/{recording:011d}"
        if i % _BESIDE == 0:
            os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/{i % _BESIDE:05d}.mp4", "wb") as stream:
            stream.write(video)
    done.touch()
    return root


def _tiny_video(cache: Path) -> Path:
    from benchmarks.videos import write_video  # needs the extra [prepare]

    path = cache / "tiny.mp4"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pictures = (np.full((48, 48, 3), 40 + 3 * i, np.uint8) for i in range(30))
        write_video(path, pictures, np.zeros(30 * 640, np.int16), (48, 48))
    return path


def shards(cache: Path, clips: int) -> Path:
    """A folder of at least so many clips, all shards links to one; made once."""
    base = cache / "base"
    if not (base / MANIFEST).exists():
        base.mkdir(parents=True, exist_ok=True)
        _write_base(base)
    number = -(-clips // CLIPS)
    return linked_shards(base, cache / f"linked-{CLIPS}x{FRAMES}-{number}", number)


def _write_base(base: Path) -> None:
    """One shard of small gray pictures and noise for sound."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (16, 16), np.uint8)
    jpeg = bytes(cv2.imencode(".jpg", picture)[1])
    made = []
    for number in range(CLIPS):
        mfcc = rng.normal(size=(4 * FRAMES, 13)).astype(np.float32)
        data = ClipData([jpeg] * FRAMES, 16, 16, 1, mfcc, None)
        name = f"clip_{number:05d}"
        made.append(clip_members(name, name, name, "train", data, False))
    tar = base / "train-000000.tar"
    records = write_shard(tar, made)
    commit_shard(tar, "train", records, [])
    entry = ShardEntry(tar.name, "train", CLIPS, CLIPS * FRAMES, tar.stat().st_size)
    manifest = Manifest(CLIPS, [entry], dict.fromkeys(SPLITS, NOTHING), [])
    write_json(base / MANIFEST, manifest.as_dict())


def keep_list(cache: Path, rows: int) -> Path:
    """A keep.csv of so many rows, those of the shards' clips first; made once."""
    path = cache / f"keep-{rows}.csv"
    if not path.exists():
        with atomic_path(path) as partial, open(partial, "w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            for number in range(rows):
                writer.writerow([f"clip_{number:05d}", "0.912345", "0", KEEP, ""])
    return path


def peak_mb() -> float:
    """The most that this process ever held, MB: its own memory and the mapped files it touched."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def plan_cost(videos: Path, out: Path) -> dict[str, float]:
    """`prepare --plan` of a tree: seconds, CPU seconds and memory."""
    start = time.perf_counter()
    from data_tools.commands import prepare

    words = ["--layout", "voxceleb2", "--crop", "whole", "--min-frames", "5", "--plan"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = prepare.main([str(videos), "--shards", str(out), *words])
    if status:
        raise UserError(f"prepare --plan ended with {status}")
    return {"seconds": time.perf_counter() - start, **_cost()}


def open_cost(folder: Path, batch: int, first: bool) -> dict[str, float]:
    """Opening the shards, and a batch of them: seconds and memory.

    first: without the compact index, which is made.
    """
    from trainer.data.dataset import Dataset
    from trainer.data.sampler import TrainSampler

    places = index_paths(folder, "train")
    for path in places if first else ():
        path.unlink(missing_ok=True)
    start = time.perf_counter()
    dataset = Dataset(folder, "train")
    found = {"seconds": time.perf_counter() - start, "clips": float(len(dataset))}
    if not first:
        start = time.perf_counter()
        dataset.jpegs(TrainSampler(dataset.windows, batch).batch(0), 5)
        found["first_batch_s"] = time.perf_counter() - start
    index = sum(path.stat().st_size for path in places if path.exists())
    return found | {"frames": float(dataset.frames.sum()), "index_bytes": float(index), **_cost()}


def keep_cost(folder: Path, keep: Path) -> dict[str, float]:
    """Opening the shards with a keep.csv: seconds and memory."""
    from trainer.data.dataset import Dataset

    start = time.perf_counter()
    rows = read_keep(keep)
    dataset = Dataset(folder, "train", {clip: row.audio_shift for clip, row in rows.items()})
    return {"seconds": time.perf_counter() - start, "used": float(dataset.used.sum()), **_cost()}


def _cost() -> dict[str, float]:
    return {"cpu_s": time.process_time(), "peak_mb": peak_mb()}


def measure(cache: Path, most: int, rounds: int, say: Console) -> dict[str, Any]:
    """All curves: name -> list of points, each with its "x" and what was measured there."""
    numbers = [10**power for power in range(3, 9) if 10**power <= most]
    found: dict[str, list[dict[str, Any]]] = {}

    def point(name: str, x: int, once: Callable[..., dict[str, float]], *words: Any) -> None:
        rows = [isolated(once, *words)[0] for _ in range(rounds)]
        middle = {key: round(median(row[key] for row in rows), 3) for key in rows[0]}
        found.setdefault(name, []).append({"x": x, **middle})
        figures = ", ".join(f"{key} {value:,g}" for key, value in middle.items())
        say.print(f"{name} {x:,}: {figures}", highlight=False, soft_wrap=True)

    folders = {number: shards(cache, number) for number in numbers}
    time.sleep(TICK_NS / 1e9)  # of files that were written just now no index is kept
    for number in numbers:
        point("plan", number, plan_cost, tree(cache, number), cache / "never-made")
    for number in numbers:
        folder = folders[number]
        for name, first in (("first_open", True), ("open", False)):
            point(name, number, open_cost, folder, 64, first)
        point("keep", number, keep_cost, folder, keep_list(cache, number))
    return {"curves": found, "shards": -(-numbers[-1] // CLIPS), "limits": _LIMITS}


def panels(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What to draw: seconds and memory over the clips."""
    names = {
        "plan": "prepare --plan",
        "first_open": "first opening",
        "open": "opening again",
        "keep": "with a keep.csv",
    }
    drawn = []
    for title, key, unit in (("time", "seconds", "s"), ("memory", "peak_mb", "MB")):
        lines = {
            label: [(point["x"], point[key]) for point in result["curves"][name]]
            for name, label in names.items()
        }
        x, y = "clips", unit
        drawn.append({"title": title, "xlabel": x, "ylabel": y, "log": "xy", "lines": lines})
    return drawn


def readme(result: dict[str, Any]) -> str:
    """The table of what so many clips cost."""
    curves = result["curves"]
    rows = []
    for plan, first, again, keep in zip(
        *(curves[name] for name in ("plan", "first_open", "open", "keep")), strict=True
    ):
        rows.append(
            [
                f"{plan['x']:,}",
                *(_told(point) for point in (plan, first, again)),
                f"{again['index_bytes'] / 1e6:,.1f} MB",
                _told(keep),
            ]
        )
    heads = ["clips", "`prepare --plan`", "opened first", "again", "index", "with a `keep.csv`"]
    frames = curves["open"][-1]["frames"]
    most = result["limits"]
    words = f"The largest has {result['shards']:,} shards and {frames:,.0f} frames. A million are "
    words += f"to be planned in {most['seconds']:g} s and {most['peak_mb'] / 1000:g} GB."
    return f"{table(heads, rows)}\n{words} {machine_line(result)}\n"


def _told(point: dict[str, float]) -> str:
    seconds = point["seconds"]
    return f"{seconds:,.{0 if seconds >= 10 else 2}f} s, {point['peak_mb']:,.0f} MB"


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 if the data cannot be made or read."""
    parser = command_line("plan_scale", __doc__)
    parser.add_argument(
        "--clips", type=whole("AtLeastThousand", 1000), default=10**6, help="at most"
    )
    parser.add_argument("--rounds", type=AtLeastOne, default=1, help="of each point")
    parser.add_argument("--from", dest="past", type=Path, help="only draw this result again")
    return run("plan_scale", parser, argv, _redraw_or_measure, {"clips": 1000})


def _redraw_or_measure(args: Namespace) -> None:
    if args.past:
        _redraw(args.past)
        return
    if args.quick:
        start_fast()
    console = Console(width=None if sys.stdout.isatty() else 120)
    figures = measure(args.cache / "plan-scale", args.clips, args.rounds, console)
    result = Result("plan_scale", figures, repetitions=args.rounds, quick=args.quick)
    written = result.write(args.json)
    picture = _picture(written)
    draw.curves(panels(figures), picture)
    console.print(f"wrote {written} and {picture}", soft_wrap=True)


def _redraw(result: Path) -> None:
    try:
        drawn = panels(json.loads(result.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{result} is no result of plan_scale") from None
    picture = _picture(result)
    draw.curves(drawn, picture)
    print(f"wrote {picture}")


def _picture(result: Path) -> Path:
    """The page's picture for the committed result, else one beside the result."""
    committed = result.resolve().parent == RESULTS.resolve()
    return PICTURE if committed else result.with_suffix(".png")


if __name__ == "__main__":
    sys.exit(main())
