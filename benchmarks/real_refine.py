"""Does refinement find what is off in real speech?  python -m benchmarks.real_refine --work DIR

Takes the clips that `benchmarks.real_speech` prepared, puts a fifth of the training clips off sync
in secret (half shifted by 3 to 12 frames, half dubbed with another sentence), refines, and holds
what was rejected against the secret; accuracy on untouched clips before and after.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jsonargparse import Namespace

from benchmarks.markdown import table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from data_tools.atomic import atomic_path
from data_tools.errors import UserError
from data_tools.keep import REALIGN, read_keep
from data_tools.mfcc import SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shards import open_shards
from trainer.score.verdicts import KEEP_FILE

CONFIG = Path(__file__).parents[1] / "trainer" / "configs" / "grid.yaml"
SHARE, NEAREST, FARTHEST = 0.2, 3, 12


def spoil(clips: Path, shards: Path, out: Path, seed: int) -> dict[str, str]:
    """Copy the clips into <out>/clips/<split>/, a share of the training ones off sync.

    Returns the secret: what was done to each spoilt clip, by its key; also in <out>/secret.csv.
    """
    rng = np.random.default_rng(seed)
    folders = {path.parent.relative_to(clips): path.parent for path in clips.glob("*/*/audio.wav")}
    splits = {
        record.source: split
        for split in ("train", "val", "test")
        for shard in open_shards(shards, split)
        for record in shard.records
    }
    names = sorted(name for name in folders if name.parts[0] in splits)
    train = [name for name in names if splits[name.parts[0]] == "train"]
    chosen = [train[i] for i in rng.permutation(len(train))[: round(SHARE * len(train))]]
    secret = {}
    for name in names:
        target = out / "clips" / splits[name.parts[0]] / name
        _copy(folders[name], target, 0, folders[name])
    for number, name in enumerate(chosen):
        target = out / "clips" / "train" / name
        shutil.rmtree(target)
        if number % 2:
            other = train[(train.index(name) + 1 + int(rng.integers(len(train) - 1))) % len(train)]
            _copy(folders[name], target, 0, folders[other])
            secret[name.parts[0]] = "dubbed"
        else:
            early = int(rng.integers(NEAREST, FARTHEST + 1)) * int(rng.choice([-1, 1]))
            _copy(folders[name], target, early, folders[name])
            secret[name.parts[0]] = f"shifted {early:+d}"
    with atomic_path(out / "secret.csv") as partial, open(partial, "w", newline="") as stream:
        csv.writer(stream).writerows([("source", "done"), *sorted(secret.items())])
    return secret


def _copy(folder: Path, target: Path, early: int, sound: Path) -> None:
    """A clip whose sound, of the clip `sound`, is early by so many frames; both cut to fit."""
    audio, _ = soundfile.read(sound / "audio.wav", dtype="int16")
    frames = len(list((folder / "frames").glob("*.jpg")))
    first, heard = max(-early, 0), max(early, 0)
    audio = audio[heard * SAMPLES_PER_FRAME :]
    count = min(frames - first, len(audio) // SAMPLES_PER_FRAME)
    (target / "frames").mkdir(parents=True)
    for number in range(count):
        os.link(
            folder / "frames" / f"frame{first + number}.jpg",
            target / "frames" / f"frame{number}.jpg",
        )
    audio = audio[: count * SAMPLES_PER_FRAME]
    soundfile.write(target / "audio.wav", audio, SAMPLE_RATE, subtype="PCM_16")
    (target / "clip.json").write_text(json.dumps({"source": folder.parent.name}))


def judge(keep: Path, secret: dict[str, str], shards: Path) -> dict[str, Any]:
    """Precision and recall of the rejected (or re-aligned) clips against the secret."""
    rows = read_keep(keep)
    source = {
        record.key: record.source
        for shard in open_shards(shards, "train")
        for record in shard.records
    }
    rejected = {clip for clip, row in rows.items() if not row.used or row.verdict == REALIGN}
    spoilt = {clip for clip in rows if source[clip] in secret}
    shifted = {clip for clip in spoilt if secret[source[clip]].startswith("shifted")}
    found = [clip for clip in shifted if rows[clip].offset is not None]
    right = sum(abs((rows[c].offset or 0) - int(secret[source[c]].split()[1])) <= 1 for c in found)
    both = len(rejected & spoilt)
    return {
        "clips": len(rows),
        "off_sync": len(spoilt),
        "rejected": len(rejected),
        "precision": round(both / max(1, len(rejected)), 4),
        "recall": round(both / max(1, len(spoilt)), 4),
        "recall_shifted": round(len(rejected & shifted) / max(1, len(shifted)), 4),
        "recall_dubbed": round(
            len(rejected & (spoilt - shifted)) / max(1, len(spoilt - shifted)), 4
        ),
        "shift_found_within_one_frame": round(right / max(1, len(shifted)), 4),
    }


def measure(
    work: Path, epochs: int, seed: int, precision: str, quick: bool = False
) -> dict[str, Any]:
    """Spoil, refine, judge."""
    spoilt = work / f"spoilt-{seed}"
    if spoilt.exists() and not (spoilt / "secret.csv").exists():
        shutil.rmtree(spoilt)
    if not spoilt.exists():
        spoil(work / "grid" / "clips", work / "grid" / "shards", spoilt, seed)
    with open(spoilt / "secret.csv", encoding="utf-8", newline="") as stream:
        secret = {row["source"]: row["done"] for row in csv.DictReader(stream)}
    pack(spoilt / "clips", spoilt / "shards", PackOptions(), 2)
    out = spoilt / f"refined-{epochs}"
    command = [sys.executable, "-m", "trainer.refine", "--data.shards", str(spoilt / "shards")]
    command += ["--out", str(out), "--rounds", "2", "--config", str(CONFIG)]
    # a network of one step knows no offset: all clips stay, so that there is a second training
    command += ["--threshold=-1e9"] if quick else ["--realign"]
    command += ["--train.epochs", str(epochs), "--train.val_every", str(epochs)]
    command += ["--train.seed", str(seed), "--train.precision", precision]
    if subprocess.run(command).returncode:
        raise UserError("the refinement failed; see above")
    rounds = json.loads((out / "refine.json").read_text())["rounds"]
    keep = out / "round-1" / KEEP_FILE
    names = ("test_accuracy_k5", "test_accuracy_k15", "test_auc")
    return judge(keep, secret, spoilt / "shards") | {
        "epochs": epochs,
        "seed": seed,
        "precision": precision,
        "before": {name: round(rounds[0][name], 4) for name in names},
        "after": {name: round(rounds[1][name], 4) for name in names},
    }


def readme(result: dict[str, Any]) -> str:
    """Real speech of which a fifth was put off sync in secret, before and after refinement."""
    before, after = result["before"], result["after"]
    rows = [
        [
            "rejected or re-aligned, of "
            f"{result['clips']} training clips with {result['off_sync']} off sync",
            f"{result['rejected']}",
        ],
        ["precision", f"{result['precision']:.1%}"],
        [
            "recall (shifted, dubbed)",
            f"{result['recall']:.1%} ({result['recall_shifted']:.1%}, "
            f"{result['recall_dubbed']:.1%})",
        ],
        [
            "shift of the shifted found within +-1 frame",
            f"{result['shift_found_within_one_frame']:.1%}",
        ],
        [
            "K=5 on untouched clips, before and after",
            f"{before['test_accuracy_k5']:.1%}, {after['test_accuracy_k5']:.1%}",
        ],
        [
            "K=15 on untouched clips, before and after",
            f"{before['test_accuracy_k15']:.1%}, {after['test_accuracy_k15']:.1%}",
        ],
    ]
    note = f"\nTwo trainings of {result['epochs']} epochs each, seed {result['seed']}.\n"
    return table(["refinement on GRID", "found"], rows) + note


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a step fails, 2 wrong usage."""
    parser = command_line("real_refine", __doc__, cache=False)
    parser.add_argument("--work", type=Path, default=Path("runs/real"), help="of real_speech")
    parser.add_argument(
        "--epochs", type=AtLeastOne, default=20, help="of each of the two trainings"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp32"),
        default="auto",
        help="of the trainings",
    )
    return run("real_refine", parser, argv, _measure, {"epochs": 1, "precision": "fp32"})


def _measure(args: Namespace) -> None:
    if not (args.work / "grid" / "shards").is_dir():
        raise UserError(f"{args.work} holds no grid/shards: run benchmarks.real_speech first")
    figures = measure(args.work, args.epochs, args.seed, args.precision, args.quick)
    report("real_refine", figures, args.json, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
