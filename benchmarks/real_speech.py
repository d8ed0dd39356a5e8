"""Does it learn real speech?  python -m benchmarks.real_speech --grid VIDEOS [--others VIDEOS]

From the videos of one GRID speaker to a table: mouths are cropped, packed 80:10:10 by sentence,
`grid.yaml` is trained, and what it finds in sentences never seen is compared with the
seed's contrastive loss on the small model, with a regression of the sound's energy from the
mouth's movement, and with chance. The recordings themselves are off by a frame or two: all is
counted again against each sentence's own offset, as a network of the other kind finds it.
`--others` are videos of speakers never seen; those whose name is in `--truth` (CSV: video, offset)
are held against the offset listed there. The weights that come with the package are
WORK/syncnet_mouth.safetensors, calibrated.
"""

import csv
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from benchmarks import ridge
from benchmarks.markdown import interval, machine_line, table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from data_tools.errors import UserError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from trainer.data.dataset import Dataset
from trainer.model.fold import fold
from trainer.model.weights import load_model
from trainer.score.evaluation import CONTEXTS, PARTS, EvaluationOptions, evaluate
from trainer.score.intervals import summarise
from trainer.train.rounds import read_summary

CONFIGS = Path(__file__).parents[1] / "trainer" / "configs"
_CONTRASTIVE = ["--model.name", "small", "--train.batch_size", "128", "--train.val_every", "50"]


def prepare(videos: Path, out: Path, ratios: tuple[int, int, int]) -> Path:
    """Videos to shards of 64 x 64 gray mouths; what was done before is not done again."""
    crop = ["--crop", "mouth", "--gray", "--size", "64"]
    run_module("data_tools", "prepare", str(videos), "--out", str(out / "clips"), *crop)
    pack(out / "clips", out / "shards", PackOptions(ratios=ratios), 2)
    return out / "shards"


def train(shards: Path, run: Path, *more: str) -> dict[str, Any]:
    """A training in a process of its own; one that has finished is not done again."""
    done = read_summary(run)
    if done is None or not done.finished:
        resume = ["--resume", "auto"] if (run / "last.pt").exists() else []
        where = ["--data.shards", str(shards), "--run.dir", str(run)]
        run_module("trainer.run", *where, *resume, *more)
        done = read_summary(run)
    if done is None:
        raise UserError(f"the training in {run} left no summary")
    return {
        "seconds": round(done.seconds, 1),
        "steps": done.steps,
        "parameters": done.parameters,
        "first_step_wait_ms": done.first_step_wait_ms,
        "utilisation": done.utilisation,
    }


def measure(shards: Path, weights: Path) -> dict[str, Any]:
    """Accuracy of the literature with intervals, and of the control with swapped sound."""
    model = fold(load_model(weights))
    found = {}
    for name, swapped in (("own", False), ("swapped", True)):
        options = EvaluationOptions(swapped=swapped)
        measured, _ = evaluate(shards, model, options)
        found[name] = summarise(measured, options).as_dict()
    return _short(found["own"]) | {"swapped": _short(found["swapped"])["accuracy"]}


def measure_own(shards: Path, weights: Path, judge: Path) -> dict[str, Any]:
    """Accuracy against the offsets of whole clips that the network of `judge` finds."""
    options = EvaluationOptions()
    judged, _ = evaluate(shards, fold(load_model(judge)), options)
    own = {one.record.key: one.score.offset for one in judged}
    measured, _ = evaluate(shards, fold(load_model(weights)), options, own=own)
    offsets = Counter(own.values())
    return _short(summarise(measured, options).as_dict()) | {
        "own_offsets": {f"{offset:+d}": offsets[offset] for offset in sorted(offsets)}
    }


def _short(found: dict[str, Any]) -> dict[str, Any]:
    wanted = [*(f"k{context}" for context in CONTEXTS), "clip"]
    accuracy = {
        name: {edge: _round(value) for edge, value in found["accuracy"][name].items()}
        for name in wanted
    }
    parts = {
        f"accuracy_{part}": {
            name: {edge: _round(value) for edge, value in figure.items()}
            for name, figure in found[f"accuracy_{part}"].items()
        }
        for part in PARTS
    }
    auc = _round(found["auc"]["value"])
    clips = found["clips"]
    return {"clips": clips, "accuracy": accuracy, **parts, "auc": auc}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def listed(path: Path) -> dict[str, int]:
    """Offsets in frames by the name of the video."""
    with open(path, encoding="utf-8", newline="") as stream:
        return {row["video"]: int(row["offset"]) for row in csv.DictReader(stream)}


def speakers(
    videos: Path, weights: Path, truth: dict[str, int], work: Path
) -> list[dict[str, Any]]:
    """What `trainer.sync` says of whole videos of speakers never seen, against what is listed."""
    files = sorted(path for path in videos.iterdir() if path.is_file())
    out = work / "speakers.csv"
    run_module(
        "trainer.sync", *map(str, files), "--weights", str(weights), "--csv", str(out), ok=(0, 1)
    )
    with open(out, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        {
            "video": Path(row["video"]).name,
            "track": row["track"],
            "offset": int(row["offset_frames"]),
            "listed": truth.get(Path(row["video"]).name),
            "clearness": float(row["clearness"]),
            "trusted": row["trusted"] == "True",
        }
        for row in rows
    ]


def run_module(module: str, *arguments: str, ok: tuple[int, ...] = (0,)) -> None:
    """`python -m module arguments`, in a process of its own.

    Raises:
        UserError: its exit status is none of `ok`.
    """
    command = [sys.executable, "-m", module, *arguments]
    status = subprocess.run(command).returncode
    if status not in ok:
        raise UserError(f"python -m {' '.join(command[2:])} ended with {status}")


def measure_all(args: Namespace) -> dict[str, Any]:
    """Everything, in order."""
    shards = prepare(args.grid, args.work / "grid", (80, 10, 10))
    grid = ["--config", str(CONFIGS / "grid.yaml")]
    short = ["--train.epochs", "1", "--train.val_every", "1", "--train.batch_size", "8"]
    short = short if args.quick else []
    found: dict[str, Any] = {"trained": {}, "unseen_clips": {}, "unseen_clips_own_offsets": {}}
    runs = {f"multiway, seed {seed}": [*grid, "--train.seed", str(seed)] for seed in args.seeds}
    epochs = ["--train.epochs", str(args.contrastive_epochs)]
    runs["contrastive"] = [*_CONTRASTIVE, *epochs]
    folders = {
        name: args.work / "runs" / name.replace(", ", "-").replace(" ", "-") for name in runs
    }
    for name, settings in runs.items():
        found["trained"][name] = train(shards, folders[name], *settings, *short)
        found["unseen_clips"][name] = measure(shards, folders[name] / "best.pt")
    first = next(iter(runs))
    for name in runs:  # judged by the network that has least in common with it
        judge = first if name == "contrastive" else "contrastive"
        weights = [folders[which] / "best.pt" for which in (name, judge)]
        found["unseen_clips_own_offsets"][name] = measure_own(shards, *weights)
    began = time.monotonic()
    measured = ridge.measure(Dataset(shards, "train"), Dataset(shards, "test"))
    found["trained"]["ridge"] = {"seconds": round(time.monotonic() - began, 1)}
    found["unseen_clips"]["ridge"] = _short(summarise(measured, EvaluationOptions()).as_dict())
    best = folders[first] / "best.pt"
    shipped = args.work / "syncnet_mouth.safetensors"
    calibration = ["--half", "--weights", str(best), "--data.shards", str(shards)]
    run_module("trainer.calibrate", str(shipped), *calibration)
    if args.others:
        truth = listed(args.truth) if args.truth else {}
        found["unseen_speakers"] = speakers(args.others, shipped, truth, args.work)
        if studio := sorted(args.others.glob("grid_other*")):
            names = args.work / "studio.txt"
            names.write_text("".join(f"{path.resolve()}\n" for path in studio))
            other = prepare(names, args.work / "others", (0, 0, 100))
            found["unseen_studio_speakers"] = measure(other, shipped)
    return found


def readme(result: dict[str, Any]) -> str:
    """Sentences of GRID never seen in training, by everything that was trained on the others."""
    rows = []
    for name, found in result["unseen_clips"].items():
        accuracy, trained = found["accuracy"], result["trained"][name]
        swapped = found.get("swapped", {}).get("k15", {}).get("value")
        rows.append(
            [
                f"**{name}**" if name.startswith("multiway") else name,
                f"{trained['parameters'] / 1e6:.2f} M" if "parameters" in trained else "",
                f"{trained['seconds']:,.0f} s",
                interval(found["accuracy_speech"]["k5"]),
                interval(found["accuracy_speech"]["k15"]),
                f"{found['accuracy_inside']['k5']['value']:.1%}, "
                f"{found['accuracy_inside']['k15']['value']:.1%}",
                f"{accuracy['k5']['value']:.1%}, {accuracy['k15']['value']:.1%}",
                f"{accuracy['clip']['value']:.1%}",
                "" if swapped is None else f"{swapped:.1%}",
            ]
        )
    clips = next(iter(result["unseen_clips"].values()))["clips"]
    rows.append(["chance", "", "", "9.7%", "9.7%", "", "", "9.7%", ""])
    header = ["trained with", "parameters", "training", "K=5", "K=15", "pauses too"]
    header.append("edges too")
    header.append("whole clip")
    header.append("K=15, sound swapped")
    return (
        table(header, rows)
        + f"\n{clips} sentences of one GRID speaker never seen in training (studio, one camera); "
        "within +-1 frame over +-15, 95 % intervals over sentences. K=5 and K=15 are counted where "
        "the sound is louder than 20 dB below the sentence's loud parts and all 31 shifts lie "
        "inside the clip; then (K=5, K=15) in pauses too, of which nothing can be told from five "
        "frames; then also at the silent edges of the clip. "
        f"{machine_line(result)}\n\n" + _own_offsets(result)
    )


def _own_offsets(result: dict[str, Any]) -> str:
    """The same sentences against the offsets that they have themselves."""
    own = result["unseen_clips_own_offsets"]
    rows = [
        [
            name,
            *(interval(found["accuracy_speech"][f"k{context}"]) for context in (5, 15)),
            f"{found['accuracy_inside']['k5']['value']:.1%}, "
            f"{found['accuracy_inside']['k15']['value']:.1%}",
            f"{found['accuracy']['clip']['value']:.1%}",
        ]
        for name, found in own.items()
    ]
    judged = next(found for name, found in own.items() if name != "contrastive")["own_offsets"]
    offsets = sorted(judged, key=int)
    counts = ", ".join(f"{judged[offset]} at {int(offset):+d}" for offset in offsets)
    return (
        "The recordings themselves are not all in sync, which that table counts as errors of the "
        f"network: judged by the contrastive network, whole sentences lie at {counts} frames. "
        "Against those offsets, found by a network of another size, loss and training (the "
        "contrastive one is judged by the first multi-way one):\n\n"
        + table(["against own offsets", "K=5", "K=15", "pauses too", "whole clip"], rows)
    )


def readme_speakers(result: dict[str, Any]) -> str:
    """Speakers never seen: what trainer.sync says, against the offsets that are listed."""
    rows = [
        [
            row["video"],
            "unknown" if row["listed"] is None else f"{row['listed']:+d}",
            f"{row['offset']:+d}",
            "yes" if row["trusted"] else "not sure",
        ]
        for row in result["unseen_speakers"]
    ]
    known = [row for row in result["unseen_speakers"] if row["listed"] is not None]
    right = sum(abs(row["offset"] - row["listed"]) <= 1 for row in known)
    sure = sum(row["trusted"] for row in known)
    accuracy = result["unseen_studio_speakers"]["accuracy_speech"]
    clips = result["unseen_studio_speakers"]["clips"]
    wrong = sum(row["trusted"] and abs(row["offset"] - row["listed"]) > 2 for row in known)
    return (
        table(["video", "listed offset, frames", "found", "trusted"], rows)
        + f"\nIt is sure of {sure} of {len(known)}, of which {wrong} are off by more than two "
        f"frames; sure or not, {right} are within +-1 frame of what is listed. From a few frames "
        f"it is much weaker than on its own speaker (below): the {clips} studio clips give K=5 "
        f"{interval(accuracy['k5'])}, K=15 {interval(accuracy['k15'])}. The listed offsets were "
        "found by another network, not by a person, and GRID's own sound may be a frame early.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a step fails, 2 wrong usage."""
    parser = command_line("real_speech", __doc__, cache=False)
    parser.add_argument("--grid", type=Path, required=True, help="videos of one GRID speaker")
    parser.add_argument("--others", type=Path, help="videos of other speakers")
    parser.add_argument("--truth", type=Path, help="CSV with columns video, offset (frames)")
    parser.add_argument("--work", type=Path, default=Path("runs/real"), help="clips, shards, runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--contrastive-epochs", type=AtLeastOne, default=100)
    return run("real_speech", parser, argv, _measure)


def _measure(args: Namespace) -> None:
    report("real_speech", measure_all(args), args.json, len(args.seeds), quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
