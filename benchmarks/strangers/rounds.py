"""Does refinement help people never seen? The loop of the paper, on data that need it.

`DATA/grid_s1` is one speaker in a studio, in sync; `DATA/lrw_ar` are wild clips of a second, each
off by a few frames of its own. As Chung and Zisserman (2016) drew it: a network of the one speaker
puts the wild clips in place, one that is trained on both makes their labels anew, another is
trained on those. Against it stand the one speaker alone, and both sets with the wild clips as they
are. All trainings follow `strangers.yaml` and take the same number of steps; accuracy is that on
speakers whom none has seen. What has finished is not done again.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from jsonargparse import Namespace

from benchmarks import mouths
from benchmarks.markdown import Row, in_order, machine_line, table
from benchmarks.processes import run_module
from benchmarks.strangers import groups
from benchmarks.strangers.groups import JUDGED, Video, listed
from benchmarks.strangers.truth import WHOLE, measure
from data_tools.errors import UserError
from trainer.data.dataset import Dataset
from trainer.model.network import load_network
from trainer.train import checkpoint
from trainer.train.rounds import RESULT, round_folder

CONFIG = "strangers.yaml"
ALONE, AS_IS, REALIGNED, ANEW = (
    "one speaker alone",
    "both, the wild clips as they are",
    "both, put in place by the first network",
    "both, put in place anew by the third network",
)
# Of clips of a second, those that are hardly seen or heard would be noise.
_WILD = ("--min-frames", "25", "--min-confidence", "0.7")
_HALVES = ("--data.weights", "0.5", "0.5")
_QUICK = ("--train.batch_size", "2", "--train.warmup_steps", "1", "--train.average", "0")


@dataclass(frozen=True)
class Sets:
    """Shards to train on: one speaker in sync, and wild clips that are not."""

    studio: Path
    wild: Path


@dataclass(frozen=True)
class Trained:
    """A network of the loop.

    Attributes:
        name: ALONE, AS_IS, REALIGNED or ANEW.
        weights: its file.
        labels: what refine.json says of the wild clips that it was trained on; None: it was trained
            on them as they are, or not at all.
    """

    name: str
    weights: Path
    labels: dict[str, Any] | None


def prepare(data: Path, work: Path, quick: bool = False) -> Sets:
    """Videos to shards of 64 x 64 gray mouths; what was done before is not done again.

    The studio's sentences are split 80:10:10. Of the wild clips all are for training: nobody knows
    their offsets, so nothing could be measured on them.

    Raises:
        UserError: a folder is missing, or the preparation failed.
    """
    shards = []
    for name, ratios, more in (("grid_s1", (80, 10, 10), ()), ("lrw_ar", (100, 0, 0), _WILD)):
        videos = data / name
        if not videos.is_dir():
            raise UserError(f"{videos} is missing; --data is the folder of the real clips")
        if quick:
            videos = _first(videos, work / f"{name}.txt")
        shards.append(mouths.prepare([videos], work / name, ratios, *more))
    return Sets(*shards)


def _first(videos: Path, names: Path, count: int = 16) -> Path:
    """A list of the first few videos of a folder."""
    files = sorted(path for path in videos.iterdir() if path.suffix in (".mp4", ".mpg"))
    names.parent.mkdir(parents=True, exist_ok=True)
    names.write_text("".join(f"{path.resolve()}\n" for path in files[:count]), encoding="utf-8")
    return names


def train(folder: Path, *arguments: Path | str) -> Path:
    """A training by CONFIG; returns its weights."""
    mouths.train(folder, "--config", CONFIG, *arguments)
    return folder / checkpoint.LAST


def loop(sets: Sets, work: Path, seed: int, settings: list[str], rounds: int = 3) -> list[Trained]:
    """The trainings of one seed, four if the wild clips are put in place anew.

    Args:
        rounds: of the refinement: 2 ends with the first network's labels, 3 with those made anew.
    """
    settings = [*settings, "--train.seed", str(seed)]
    alone = train(work / f"alone-{seed}", "--data.shards", sets.studio, *settings)
    both: list[Path | str] = ["--data.shards", sets.wild, sets.studio, *_HALVES]
    as_is = train(work / f"as-is-{seed}", *both, *settings)
    out = work / f"refined-{seed}"
    which: list[Path | str] = [
        "--data.shards",
        sets.wild,
        "--with",
        sets.studio,
        *_HALVES,
        "--out",
        out,
    ]
    how: list[Path | str] = ["--weights", alone, "--realign", "--config", CONFIG]
    run_module("trainer.refine", *which, *how, "--rounds", str(rounds), *settings)
    told = json.loads((out / RESULT).read_text(encoding="utf-8"))["rounds"]

    def trained(number: int) -> Path:
        return round_folder(out, number) / "run" / checkpoint.LAST

    refined = [
        Trained(name, trained(number), told[number - 2])
        for number, name in ((2, REALIGNED), (3, ANEW))
        if number <= rounds
    ]
    return [Trained(ALONE, alone, None), Trained(AS_IS, as_is, None), *refined]


def measure_all(args: Namespace) -> dict[str, Any]:
    """All trainings of all seeds, and what strangers win by them."""
    work, videos = args.work, listed()
    settings = ["--train.steps", str(args.steps)]
    if args.quick:
        work, videos = work / "quick", some(videos)
        settings = ["--train.steps", "2", *_QUICK]
    sets = prepare(args.data, work, args.quick)
    clips, shards = groups.prepare(args.data, videos, work / "strangers")
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for one in loop(sets, work / "runs", seed, settings, args.rounds):
            figures = measure(load_network(one.weights), clips, shards, videos)
            entry = {
                "seed": seed,
                "device": _trained_on(one.weights.parent),
                "labels": labels(one.labels),
                **_short(figures),
            }
            found.setdefault(one.name, []).append(entry)
    counts = {
        "studio": len(Dataset(sets.studio, "train")),
        "wild": len(Dataset(sets.wild, "train")),
    }
    return {"steps": int(settings[1]), "seeds": args.seeds, "clips": counts, "trainings": found}


def _trained_on(run: Path) -> str:
    """The device of a training, in words."""
    return str(json.loads((run / "summary.json").read_text(encoding="utf-8"))["device"])


def some(videos: list[Video]) -> list[Video]:
    """Two videos of each group, for --quick."""
    return [
        video for group in JUDGED for video in [one for one in videos if one.group == group][:2]
    ]


def labels(told: dict[str, Any] | None) -> dict[str, Any] | None:
    """What was decided about the wild clips before a training, out of a round of refine.json."""
    if told is None:
        return None
    return {name: told[name] for name in ("verdicts", "spread") if name in told}


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of one network that the table needs."""
    return {
        "groups": {
            group: {
                "k5": found["speech"]["k5"]["value"],
                "k15": found["speech"]["k15"]["value"],
                "right": found["lengths"][WHOLE]["right"]["value"],
            }
            for group, found in figures["groups"].items()
        }
    }


def readme(result: dict[str, Any]) -> str:
    """What strangers win by each training."""
    trainings = dict(in_order(result["trainings"], (ALONE, AS_IS, REALIGNED, ANEW)))
    heads = [
        "trained on",
        "wild clips kept (moved)",
        "GRID strangers K=5",
        "K=15",
        "talking K=15",
        "whole clips right",
        "against one speaker: GRID, talking K=15",
    ]
    rows: list[Row] = []
    for name, entries in trainings.items():
        gains = [
            mean(_percent(entries, group, "k15")) - mean(_percent(trainings[ALONE], group, "k15"))
            for group in ("grid", "talking")
        ]
        right = [
            mean(one["groups"][group]["right"] for group in one["groups"]) * 100 for one in entries
        ]
        rows.append(
            [
                name,
                _kept(entries, result["clips"]["wild"]),
                _spread(_percent(entries, "grid", "k5")),
                _spread(_percent(entries, "grid", "k15")),
                _spread(_percent(entries, "talking", "k15")),
                _spread(right),
                "" if name == ALONE else ", ".join(f"{gain:+.1f}" for gain in gains),
            ]
        )
    clips, seeds = result["clips"], len(result["seeds"])
    devices = {one["device"] for entries in trainings.values() for one in entries}
    return (
        table(heads, rows)
        + f"\nMeans over {seeds} seed{'s' if seeds > 1 else ''} (lowest to highest), percent. "
        f"{result['steps']:,} steps each, on {clips['studio']:,} sentences of one GRID speaker and "
        f"{clips['wild']:,} clips of LRW-AR, half and half. All figures are of speakers that no "
        "training has seen; whole clips are those of GRID, talking and TalkVid, each group "
        f"weighing alike. Trained on: {', '.join(sorted(devices))}. {machine_line(result)}\n\n"
        + _offsets(trainings)
    )


def _percent(entries: list[dict[str, Any]], group: str, figure: str) -> list[float]:
    return [100 * one["groups"][group][figure] for one in entries]


def _spread(values: list[float]) -> str:
    """A mean with the lowest and the highest: "81.9 (80.1 to 83.0)"."""
    between = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{mean(values):.1f}{between}"


def _kept(entries: list[dict[str, Any]], wild: int) -> str:
    name = entries[0]["labels"]
    if name is None:
        return ""
    verdicts = [one["labels"]["verdicts"] for one in entries]
    moved = mean(each["realign"] for each in verdicts)
    kept = mean(each["keep"] + each["realign"] for each in verdicts)
    return f"{kept:,.0f} of {wild:,} ({moved:,.0f})"


def _offsets(trainings: dict[str, Any]) -> str:
    """How the wild clips' offsets are spread, by the first seed's last labels."""
    by = {ANEW: "third", REALIGNED: "first"}
    last = next(name for name in by if name in trainings)
    spread = trainings[last][0]["labels"]["spread"]
    shares = ", ".join(
        f"{offset} ({entry['share']:.0%})"
        for offset, entry in sorted(spread["offsets"].items(), key=lambda one: int(one[0]))
        if spread["low"] <= int(offset) <= spread["high"] and entry["share"] >= 0.005
    )
    return (
        f"The wild clips are off by {shares} frames of 40 ms, as the {by[last]} network says "
        "(positive: the sound is early).\n"
    )
