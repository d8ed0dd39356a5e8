"""Does refinement help people never seen?  python -m benchmarks.strangers --data REAL

The loop that Chung and Zisserman drew in 2016, on data that need it. `REAL/grid_s1` is one speaker
in a studio, in sync; `REAL/lrw_ar` are wild clips of a second, each off by a few frames of its own.
A network of the one speaker alone puts the wild clips in place, one trained on both makes their
labels anew, and another is trained on those. Against it stand the one speaker alone and both sets
with the wild clips as they are; all trainings take the same number of steps by `strangers.yaml`.
Accuracy is that on speakers that none has seen. What has finished is not done again.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from benchmarks.strangers.groups import accuracy_of, prepare_strangers
from data_tools.errors import UserError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from trainer.train.rounds import read_summary, round_folder

CONFIG = "strangers.yaml"
MOUTHS = ("--crop", "mouth", "--gray", "--size", "64")
# Clips of a second that are hardly seen or heard would be noise.
_WILD = ("--min-frames", "25", "--min-confidence", "0.7")
_HALVES = ("--data.weights", "0.5", "0.5")
ALONE, AS_IS, REALIGNED, ANEW = (
    "one speaker alone",
    "both, wild clips as they are",
    "both, re-aligned by the first",
    "both, labels made anew by the third",
)


@dataclass(frozen=True)
class Folders:
    """Shards to train on."""

    studio: Path
    wild: Path


def prepare(real: Path, work: Path, quick: bool = False) -> Folders:
    """Videos to shards of 64 x 64 gray mouths; what was done before is not done again.

    The studio sentences are split 80:10:10; of the wild clips, whose offsets nobody knows, all are
    for training.
    """
    ratios = {"grid_s1": (80, 10, 10), "lrw_ar": (100, 0, 0)}
    for name, wanted in ratios.items():
        videos = real / name
        if not videos.is_dir():
            raise UserError(f"{real} holds no folder {name}: give --data the folder of real clips")
        if quick:
            videos = _some(videos, work / f"{name}.txt")
        more = _WILD if name == "lrw_ar" else ()
        command("data_tools", "prepare", videos, "--out", work / "clips" / name, *MOUTHS, *more)
        pack(work / "clips" / name, work / "shards" / name, PackOptions(ratios=wanted), 2)
    return Folders(work / "shards" / "grid_s1", work / "shards" / "lrw_ar")


def _some(videos: Path, names: Path, count: int = 24) -> Path:
    """A list of the first few videos of a folder."""
    files = sorted(path for path in videos.iterdir() if path.suffix in (".mp4", ".mpg"))[:count]
    names.parent.mkdir(parents=True, exist_ok=True)
    names.write_text("".join(f"{path.resolve()}\n" for path in files))
    return names


def command(module: str, *arguments: Path | str) -> None:
    """Run `python -m module`.

    Raises:
        UserError: it failed.
    """
    words = [sys.executable, "-m", module, *map(str, arguments)]
    if status := subprocess.run(words).returncode:
        raise UserError(f"python -m {' '.join(words[2:])} ended with {status}")


def train(out: Path, *arguments: Path | str) -> Path:
    """A training in a process of its own; goes on where it was stopped. Returns the weights."""
    done = read_summary(out)
    if done is None or not done.finished:
        resume = ("--resume", "auto") if (out / "last.pt").exists() else ()
        command("trainer.run", "--config", CONFIG, "--run.dir", out, *resume, *arguments)
    return out / "last.pt"


def rounds(folders: Folders, work: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    """All trainings of one seed: the weights of each, and what was said of the wild clips."""
    settings = [*settings, "--train.seed", str(seed)]
    studio, wild = folders.studio, folders.wild
    alone = train(work / f"alone-{seed}", "--data.shards", studio, *settings)
    both = ["--data.shards", wild, studio, *_HALVES]
    as_is = train(work / f"as-is-{seed}", *both, *settings)
    out = work / f"refined-{seed}"
    where = ["--data.shards", wild, "--with", studio, *_HALVES, "--out", out]
    how = ["--weights", alone, "--realign", "--rounds", "3", "--config", CONFIG]
    command("trainer.refine", *where, *how, *settings)
    told = json.loads((out / "refine.json").read_text(encoding="utf-8"))["rounds"]
    trained = {
        ALONE: (alone, None),
        AS_IS: (as_is, None),
        REALIGNED: (round_folder(out, 2) / "run" / "last.pt", told[0]),
        ANEW: (round_folder(out, 3) / "run" / "last.pt", told[1]),
    }
    return {name: {"weights": weights, "labels": by} for name, (weights, by) in trained.items()}


def measure_all(args: Namespace) -> dict[str, Any]:
    """Everything, in order."""
    folders = prepare(args.data, args.work, args.quick)
    strangers = prepare_strangers(args.data, args.work, args.quick)
    settings = ["--train.steps", str(args.steps)]
    if args.quick:
        settings += ["--train.batch_size", "4", "--train.warmup_steps", "1"]
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for name, one in rounds(folders, args.work / "runs", seed, settings).items():
            accuracy = accuracy_of(one["weights"], strangers | {"own": folders.studio})
            entry = {"seed": seed, "labels": _labels(one["labels"]), "accuracy": accuracy}
            found.setdefault(name, []).append(entry)
    clips = {
        "studio": _count(folders.studio),
        "wild": _count(folders.wild),
    }
    return {"steps": args.steps, "seeds": args.seeds, "clips": clips, "trainings": found}
