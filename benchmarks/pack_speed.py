"""How fast does pack write, against copying the same bytes?  python -m benchmarks.pack_speed

Floor: reading every file that pack reads and writing the bytes to one file, with fsync, in one
process. Pack: every frame decoded to check it, bytes kept as they are, MFCC computed, tar, index,
statistics and fsync; with one process and with one a core. A shard is the work of one process, so
shards are made small enough that each process has several. All alternate in one run; ratios are
taken round by round. The page cache is warm for all of them.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import Namespace

from benchmarks.markdown import Row
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from benchmarks.sources import synthetic_shards
from data_tools.packing import pack
from data_tools.plan import PackOptions


def plain_copy(files: list[Path], out: Path) -> float:
    """Seconds to read `files` and write their bytes to `out`, fsync included."""
    start = time.perf_counter()
    with open(out, "wb") as stream:
        for path in files:
            stream.write(path.read_bytes())
        stream.flush()
        os.fsync(stream.fileno())
    return time.perf_counter() - start


def measure(clips: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """MB/s of the copy and of packing, and their ratios; MB are those of the files read.

    `folder`: what is written lies below it for a while.
    """
    files = sorted(path for path in clips.rglob("*") if path.suffix in (".jpg", ".wav"))
    size = sum(path.stat().st_size for path in files) / 1e6
    cores = len(os.sched_getaffinity(0))
    copies: list[float] = []
    packs: dict[int, list[float]] = {n: [] for n in {1, cores}}
    options = PackOptions(shard_mb=max(1, round(size / (4 * cores))))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        out = Path(name)
        for number in range(rounds + 1):
            copied = plain_copy(files, out / "copy")
            if number:  # the first round warms the page cache
                copies.append(copied)
            for workers, times in packs.items():
                start = time.perf_counter()
                manifest = pack(clips, out / "shards", options, workers)
                if number:
                    times.append(time.perf_counter() - start)
                shutil.rmtree(out / "shards")
    ratios = {
        workers: [c / p for c, p in zip(copies, times, strict=True)]
        for workers, times in packs.items()
    }
    return {
        "files": len(files),
        "megabytes": round(size, 1),
        "shards": len(manifest.shards),
        "rounds": rounds,
        "copy_mb_per_s": round(size / median(copies), 1),
        "pack_mb_per_s": {n: round(size / median(times), 1) for n, times in packs.items()},
        "of_copy": {n: round(median(values), 3) for n, values in ratios.items()},
        "of_copy_min": {n: round(min(values), 3) for n, values in ratios.items()},
        "of_copy_max": {n: round(max(values), 3) for n, values in ratios.items()},
        "processes": cores,
    }


def readme_rows(result: dict[str, Any]) -> list[Row]:
    """Rows of the table of cost."""
    rows = []
    for workers, rate in result["pack_mb_per_s"].items():
        processes = "1 process" if workers == "1" else f"{workers} processes"
        share = result["of_copy"][workers]
        rows.append(
            [
                f"packing {result['megabytes']:,.0f} MB with {processes}",
                f"{rate:,.0f} MB/s, {share:.2f} of a plain copy of the same bytes",
            ]
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 if the clips cannot be packed."""
    parser = command_line("pack_speed", __doc__)
    parser.add_argument("--clips-dir", type=Path, help="your clips (default: synthetic heads)")
    parser.add_argument("--clips", type=AtLeastOne, default=64, help="synthetic clips")
    parser.add_argument("--size", type=AtLeastOne, default=224, help="of synthetic frames")
    parser.add_argument("--rounds", type=AtLeastOne, default=5)
    return run("pack_speed", parser, argv, _measure, {"clips": 20, "size": 32, "rounds": 1})


def _measure(args: Namespace) -> None:
    clips = args.clips_dir
    if clips is None:
        clips = synthetic_shards(args.cache, args.clips, args.size).parent / "clips"
    figures = measure(clips, args.cache, args.rounds)
    report("pack_speed", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
