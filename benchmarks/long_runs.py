"""Does anything grow as long as it runs?  python -m benchmarks.long_runs

Three runs, each a process of its own that is watched from outside: the loader alone, a training
with its validations and checkpoints, and `syncnet --out` over many short videos. Memory, open files
and threads are those of the whole tree of processes. Each is fitted over the steps (or videos)
after a warm-up by Theil and Sen's slope, which a single peak does not move; what grows by less
than its bound from there to the end is flat. Exit status 1 if anything is not.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jsonargparse import Namespace

from benchmarks.markdown import machine_line, table
from benchmarks.options import AtLeastOne, AtLeastTwo, command_line, run
from benchmarks.processes import process_tree
from benchmarks.result import report
from benchmarks.sources import synthetic_shards
from data_tools.errors import UserError
from data_tools.mfcc import FPS
from data_tools.workers import process_count

_PAUSE = 0.1  # seconds between two looks
_WARM = 0.2  # share of a run that may grow: libraries load, buffers fill
_LEAST = 10  # looks that a slope is fitted to
_MOST = 500  # looks of a run that are fitted, and points that are kept of it
_KEPT = 40
_HEAD = 96  # pixels of the videos
_TOLD = 10  # steps of the loader a line

# What may grow over a whole run after its warm-up. Allocators do not give back all they were given,
# so memory that is not lost moves by some MB; a file or thread too many is one too many.
BOUNDS: Final = {"memory_mb": 16.0, "resident_mb": 16.0, "files": 1.0, "threads": 1.0}

_LOADER = """
import sys
from pathlib import Path
from benchmarks.long_runs import load
load(Path(sys.argv[1]), int(sys.argv[2]))
"""
_TRAINING = """
import sys
from trainer.run import main
sys.exit(main(sys.argv[1:]))
"""
_BATCH = """
import sys
from trainer.sync import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Watched:
    """A run to watch.

    Attributes:
        name: of the run.
        code: what its process executes.
        arguments: of it.
        unit: what is counted, in the plural.
        total: how many.
        progress: file that gets a line with `mark` for every `per_line` of them.
    """

    name: str
    code: str
    arguments: tuple[str, ...]
    unit: str
    total: int
    progress: Path
    per_line: int = 1
    mark: str = ""


Look = dict[str, float]


def load(shards: Path, steps: int) -> None:
    """Take so many batches from the training loader; prints a line for every ten."""
    from benchmarks.loaders.ours import open_loader
    from trainer.data.dataset import Dataset
    from trainer.data.sampler import TrainSampler

    dataset = Dataset(shards, "train")
    with open_loader(dataset, TrainSampler(dataset.windows, 16), threads=1) as loader:
        for step in range(1, steps + 1):
            next(loader)
            if step % _TOLD == 0:
                print(step, flush=True)


def runs(
    cache: Path, folder: Path, loader: int, training: int, videos: int, seconds: float, workers: int
) -> list[Watched]:
    """The three runs.

    Args:
        cache: where shards and videos are made once.
        folder: for what they write.
        loader, training: steps.
        videos: how many, each of so many `seconds`.
        workers: processes that measure them.
    """
    shards = str(synthetic_shards(cache, 20, 64, gray=True))
    train = folder / "run"
    # all that a long training does again and again is to come often
    often = ["--train.val_every", "5", "--data.val_clips", "2", "--run.save_steps", "50"]
    return [
        Watched(
            "loader", _LOADER, (shards, str(loader)), "steps", loader, folder / "loader.out", _TOLD
        ),
        Watched(
            "training",
            _TRAINING,
            (
                "--data.shards", shards, "--run.dir", str(train), "--model.name", "small",
                "--train.device", "cpu", "--train.batch_size", "8", "--train.steps", str(training),
                "--data.threads", "1", "--log", "prometheus:0", *often,
            ),
            "steps",
            training,
            train / "steps.jsonl",
            mark='"phase": "train"',
        ),
        Watched(
            "syncnet --out",
            _BATCH,
            (
                str(_videos(cache, folder / "videos", videos, seconds)),
                "--out", str(folder / "out"), "--device", "cpu", "--workers", str(workers),
            ),
            "videos",
            videos,
            folder / "out" / "results.jsonl",
        ),
    ]  # fmt: skip


def _videos(cache: Path, folder: Path, count: int, seconds: float) -> Path:
    """A folder of so many copies of one short video; one file by many names is measured once."""
    from benchmarks.videos import write_video
    from data_tools.synth.clips import render_clip

    video = cache / f"long-runs-{seconds:g}s.mp4"
    if not video.exists():
        heads, sound = render_clip(np.random.default_rng(0), round(FPS * seconds), _HEAD)
        write_video(video, heads, sound, (_HEAD, _HEAD))
    folder.mkdir()
    for number in range(count):
        shutil.copyfile(video, folder / f"{number:05d}.mp4")
    return folder


def watch(watched: Watched, said: Path) -> list[Look]:
    """Do a run to its end; what its processes held, look after look, and how far it was.

    Args:
        said: file that gets all that the run prints.

    Raises:
        UserError: it failed.
    """
    looks: list[Look] = []
    words = [sys.executable, "-c", watched.code, *watched.arguments]
    start = time.monotonic()
    with said.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                done = _lines(watched.progress, watched.mark) * watched.per_line
                look = _look(process.pid)
                looks.append({"seconds": round(time.monotonic() - start, 2), "done": done} | look)
                time.sleep(_PAUSE)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise UserError(
            f"the run {watched.name!r} ended with status {process.returncode}: "
            f"{said.read_text(errors='replace')[-500:]}"
        )
    return looks


def _look(root: int) -> Look:
    """What a tree of processes holds now.

    memory_mb: private and shared memory, each process's share (PSS without mapped files);
    resident_mb: all that is resident, mapped files and what is shared counted in every process.
    """
    found = dict.fromkeys(BOUNDS, 0.0)
    for process in process_tree(root):
        place = Path(f"/proc/{process}")
        try:
            lines = (place / "smaps_rollup").read_text().splitlines()
            files, threads = len(os.listdir(place / "fd")), len(os.listdir(place / "task"))
        except OSError:
            continue  # it ended
        sizes = {name: int(size) for name, size, *_ in map(str.split, lines[1:])}
        found["memory_mb"] += (sizes["Pss_Anon:"] + sizes["Pss_Shmem:"]) / 1e3
        found["resident_mb"] += sizes["Rss:"] / 1e3
        found["files"] += files
        found["threads"] += threads
    return {name: round(value, 1) for name, value in found.items()}


def _lines(file: Path, mark: str) -> int:
    try:
        return sum(mark in line for line in file.read_text(errors="replace").splitlines())
    except FileNotFoundError:
        return 0


def judge(looks: Sequence[Look], total: int) -> dict[str, dict[str, Any]]:
    """Of each thing that was looked at, by how much it grew after the warm-up, and the verdict.

    Args:
        total: units of the whole run; its start-up and its end are left out.

    Raises:
        UserError: it was looked at too seldom to tell.
    """
    from scipy.stats import theilslopes

    warm = [look for look in looks if _WARM * total <= look["done"] < total]
    if len(warm) < _LEAST or warm[0]["done"] == warm[-1]["done"]:
        raise UserError(f"{len(warm)} looks are too few for a slope; give the run more to do")
    chosen = _thinned(warm, _MOST)
    done = np.array([look["done"] for look in chosen])
    found = {}
    for name, bound in BOUNDS.items():
        held = np.array([look[name] for look in chosen])
        with np.errstate(invalid="ignore"):  # of its interval, where all is the same
            grown = float(theilslopes(held, done)[0]) * (1 - _WARM) * total
        found[name] = {
            "median": round(float(np.median(held)), 1),
            "most": max(look[name] for look in warm),
            "grown": round(grown, 2),
            "bound": bound,
            "flat": grown < bound,
        }
    return found


def _thinned(looks: Sequence[Look], most: int) -> list[Look]:
    """Evenly chosen, no more than `most`."""
    count = min(most, len(looks))
    return [looks[at] for at in np.linspace(0, len(looks) - 1, count).round().astype(int)]


def measure(watched: Watched, said: Path) -> dict[str, Any]:
    """Do a run, watched, and judge it.

    Raises:
        UserError: as `watch` and `judge`.
    """
    looks = watch(watched, said)
    return {
        "run": watched.name,
        "unit": watched.unit,
        "total": watched.total,
        "seconds": round(looks[-1]["seconds"], 1),
        "looks": len(looks),
        "warm_up": _WARM,
        "held": judge(looks, watched.total),
        "points": _thinned(looks, _KEPT),
    }


def readme(result: dict[str, Any]) -> str:
    """What each run held, and by how much that grew."""
    rows = []
    for each in result["runs"]:
        held = each["held"]
        rows.append(
            [
                f"{each['run']}, {each['total']:,} {each['unit']}",
                *(
                    f"{held[name]['median']:,.0f}, {held[name]['grown']:+.1f}"
                    for name in ("memory_mb", "files", "threads")
                ),
                "flat" if all(each["flat"] for each in held.values()) else "**grows**",
            ]
        )
    bounds = f"{BOUNDS['memory_mb']:.0f} MB, or one file or thread,"
    return (
        table(["run", "memory, MB", "open files", "threads", "verdict"], rows)
        + "\nThe median of the whole tree of processes, and by how much it grew over the last "
        f"{1 - _WARM:.0%} of the run, as the fitted slope says; below {bounds} that is flat. "
        f"{machine_line(result)}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if something grows or a run fails, 2 wrong usage."""
    parser = command_line("long_runs", __doc__)
    parser.add_argument("--loader", type=AtLeastTwo, default=10_000, help="steps of the loader")
    parser.add_argument("--training", type=AtLeastTwo, default=1_000, help="steps of the training")
    parser.add_argument("--videos", type=AtLeastTwo, default=1_000, help="through syncnet --out")
    parser.add_argument("--seconds", type=AtLeastOne, default=1, help="of each video")
    parser.add_argument("--workers", type=AtLeastOne, default=process_count(0), help="of syncnet")
    quick = {"loader": 4_000, "training": 300, "videos": 160, "workers": 1}
    return run("long_runs", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    args.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.cache) as name:
        folder = Path(name)
        sizes = (args.loader, args.training, args.videos, args.seconds, args.workers)
        found = [
            measure(each, folder / f"{number}.out" if number else each.progress)
            for number, each in enumerate(runs(args.cache, folder, *sizes))
        ]
    report("long_runs", {"runs": found}, args.json, quick=args.quick)
    grows = [
        f"{name} of {each['run']} by {held['grown']:g} (bound {held['bound']:g})"
        for each in found
        for name, held in each["held"].items()
        if not held["flat"]
    ]
    if grows:
        raise UserError(f"not flat: {'; '.join(grows)}")


if __name__ == "__main__":
    sys.exit(main())
