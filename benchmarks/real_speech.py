"""Does it learn real speech?  python -m benchmarks.real_speech --grid VIDEOS

From the videos of one GRID speaker to a table: mouths are cropped, packed 80:10:10 by sentence,
`grid.yaml` is trained, and what it finds in sentences never seen is compared with the
seed's contrastive loss on the small model, with a regression of the sound's energy from the
mouth's movement, and with chance. The recordings themselves are off by a frame or two: all is
counted again against each sentence's own offset, as a network of the other kind finds it.
"""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from benchmarks import mouths, ridge
from benchmarks.markdown import interval, machine_line, table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from trainer.data.dataset import Dataset
from trainer.model.fold import fold
from trainer.model.weights import load_model
from trainer.score.evaluation import CONTEXTS, PARTS, EvaluationOptions, evaluate
from trainer.score.intervals import summarise

CONFIGS = Path(__file__).parents[1] / "trainer" / "configs"
_CONTRASTIVE = ["--model.name", "small", "--train.batch_size", "128", "--train.val_every", "50"]


def train(shards: Path, run: Path, *more: str) -> dict[str, Any]:
    """What the summary of a training says (`benchmarks.mouths.train`)."""
    done = mouths.train(run, "--data.shards", shards, *more)
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


def measure_all(args: Namespace) -> dict[str, Any]:
    """Everything, in order."""
    shards = mouths.prepare([args.grid], args.work / "grid", (80, 10, 10))
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


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a step fails, 2 wrong usage."""
    parser = command_line("real_speech", __doc__, cache=False)
    parser.add_argument("--grid", type=Path, required=True, help="videos of one GRID speaker")
    parser.add_argument("--work", type=Path, default=Path("runs/real"), help="clips, shards, runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--contrastive-epochs", type=AtLeastOne, default=100)
    return run("real_speech", parser, argv, _measure)


def _measure(args: Namespace) -> None:
    report("real_speech", measure_all(args), args.json, len(args.seeds), quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
