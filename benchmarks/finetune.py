"""What does it win to start from weights?  python -m benchmarks.finetune --data DIR

A set of one's own is small: here a fifth of one GRID speaker's training sentences. A network that
has never seen this speaker is tuned to them, all of it or with its first layers frozen, and a
network begins at random, for as many steps; all are measured on the speaker's unseen sentences.

The networks of the package have been trained on this very speaker, so none of them can be the
start. It is trained here, on other people alone (LRW-AR), or given by --init, which must not have
seen the speaker either. LRW-AR is not in sync: its clips are first moved by `trainer.refine` with
the package's network, through which nothing of the speaker but the timing of others' clips passes.

DIR holds folders of shards, 64 x 64 gray mouths as `data_tools prepare` crops and `data_tools pack`
packs them: grid_s1 (the speaker) and lrw_ar.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from benchmarks.markdown import Row, interval, machine_line, table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.processes import run_module
from benchmarks.real_speech import CONFIGS, measure, train
from benchmarks.result import report
from data_tools.errors import UsageError
from data_tools.keep import KEEP, SHIFTED, write_keep
from data_tools.keep import Row as KeepRow
from data_tools.shards import open_shards
from trainer.model.weights import find_weights, load_model
from trainer.score.verdicts import KEEP_FILE

# LRW-AR's clips have 30 frames, some fewer.
_SETTINGS = ["--config", str(CONFIGS / "grid.yaml"), "--data.run_frames", "24"]
VARIANTS: dict[str, list[str]] = {
    "begun at random": [],
    "tuned": ["--model.init_lr", "0.3"],
    "tuned, first three layers of each stream frozen": [
        "--model.init_lr", "0.3", "--model.freeze", "lips:3,sound:3",
    ],
}  # fmt: skip


def write_share(shards: Path, every: int, path: Path) -> int:
    """A keep.csv that keeps every so-manyth training clip of the shards; returns how many."""
    keys = sorted(record.key for shard in open_shards(shards, "train") for record in shard.records)
    left_out = KeepRow(SHIFTED, reason="left out by benchmarks.finetune")
    rows = {key: KeepRow(KEEP) if at % every == 0 else left_out for at, key in enumerate(keys)}
    write_keep(path, rows)
    return sum(row.used for row in rows.values())


def train_start(general: Path, work: Path, epochs: int, more: list[str]) -> Path:
    """Weights of a network trained on other people, whose sound is put in place before."""
    scored = work / "scored"
    if not (scored / KEEP_FILE).exists():
        run_module(
            "trainer.refine", "--data.shards", str(general), "--weights", "mouth", "--score-only",
            "--realign", "--out", str(scored),
        )  # fmt: skip
    manifest = ["--data.manifest", str(scored / KEEP_FILE)]
    length = ["--train.epochs", str(epochs), "--train.val_every", str(max(1, epochs // 4))]
    train(general, work / "start", *_SETTINGS, *manifest, *length, *more)
    return work / "start" / "best.pt"


def measure_all(
    own: Path, start: Path, work: Path, args: Namespace, more: list[str]
) -> dict[str, Any]:
    """The start as it is, then every variant with every seed, on sentences never seen."""
    clips = write_share(own, args.share, work / KEEP_FILE)
    length = ["--train.epochs", str(args.epochs)]
    length += ["--train.val_every", str(max(1, args.epochs // 4))]
    settings = [*_SETTINGS, "--data.manifest", str(work / KEEP_FILE), *length, *more]
    found: dict[str, Any] = {"not tuned": [measure(own, start)]}

    def tuned(number: int, seed: int) -> dict[str, Any]:
        options = list(VARIANTS.values())[number]
        init = ["--model.init", str(start)] if options else []
        folder = work / "runs" / f"{number}-seed-{seed}"
        trained = train(own, folder, *settings, *init, *options, "--train.seed", str(seed))
        return trained | measure(own, folder / "best.pt") | {"seed": seed}

    with ThreadPoolExecutor(args.jobs) as pool:
        each = [
            [pool.submit(tuned, number, seed) for seed in args.seeds]
            for number in range(len(VARIANTS))
        ]
        for name, futures in zip(VARIANTS, each, strict=True):
            found[name] = [future.result() for future in futures]
    return {
        "clips": clips,
        "share": args.share,
        "epochs": args.epochs,
        "jobs": args.jobs,
        "networks": found,
    }


def readme(result: dict[str, Any]) -> str:
    """A few sentences of one speaker: tuned to them, or begun at random."""
    rows: list[Row] = []
    for name in ("not tuned", *VARIANTS):
        for one in result["networks"][name]:
            seed = f", seed {one['seed']}" if "seed" in one else ""
            rows.append(
                [
                    f"{name}{seed}",
                    f"{one['steps']:,}" if "steps" in one else "0",
                    f"{one['seconds']:,.0f} s" if "seconds" in one else "",
                    interval(one["accuracy_speech"]["k5"]),
                    interval(one["accuracy_speech"]["k15"]),
                    f"{one['accuracy']['clip']['value']:.1%}",
                ]
            )
    unseen = result["networks"]["not tuned"][0]["clips"]
    return (
        table(["network", "steps", "training", "K=5", "K=15", "whole clip"], rows)
        + f"\n{result['clips']} sentences of one GRID speaker (one in {result['share']}) to learn "
        f"from, {unseen} others to be measured on, where there is speech; within +-1 frame over "
        "+-15, 95 % intervals over sentences; chance is 9.7 %. The start is "
        f"{result['start']}, and has never seen this speaker. {machine_line(result)}\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a step fails, 2 wrong usage."""
    parser = command_line("finetune", __doc__, cache=False)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets' shards")
    parser.add_argument("--own", default="grid_s1", help="the set to be tuned to, in DIR")
    parser.add_argument("--general", default="lrw_ar", help="the set the start is trained on")
    parser.add_argument("--init", help="weights to start from instead, which have not seen the own")
    parser.add_argument("--work", type=Path, default=Path("runs/finetune"), help="runs")
    parser.add_argument("--share", type=AtLeastOne, default=5, help="one training clip in so many")
    parser.add_argument("--epochs", type=AtLeastOne, default=100, help="of every training on those")
    parser.add_argument("--general-epochs", type=AtLeastOne, default=20, help="of the start's")
    parser.add_argument(
        "--jobs", type=AtLeastOne, default=1, help="trainings side by side, where a GPU holds them"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    quick = {"epochs": 1, "general_epochs": 1, "seeds": [0]}
    return run("finetune", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    own, general = args.data / args.own, args.data / args.general
    for folder in (own,) if args.init else (own, general):
        if not (folder / "manifest.json").is_file():
            raise UsageError(f"--data: {folder} holds no shards (see --help)")
    args.work.mkdir(parents=True, exist_ok=True)
    # bfloat16, as configured, takes minutes where the processor has none
    more = ["--train.precision", "fp32", "--train.batch_size", "4"] if args.quick else []
    if args.init:
        start, told = find_weights(args.init), "given by --init"
        load_model(start)
    else:
        start = train_start(general, args.work, args.general_epochs, more)
        told = f"trained on {args.general} alone for {args.general_epochs} epochs"
    figures = measure_all(own, start, args.work, args, more) | {"start": told}
    report("finetune", figures, args.json, len(args.seeds), quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
