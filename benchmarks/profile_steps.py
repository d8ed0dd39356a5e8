"""Where does each step's time go, why is the first slow?  python -m benchmarks.profile_steps

    --emulate seed              a run whose first step took most of each epoch, scaled down
    --emulate seed --attribute  its first step split into its causes, by experiment
    --loader torch-persistent ours --model small    any loaders before a real training step
    --from runs/x               a past training run
    --compare runs/x runs/y     two of them side by side

Every form prints a table and writes one HTML page that needs no network, a JSON and the rows of
every step (same format as a run's steps.jsonl). First and other waits are medians over the epochs
from the second on; what an epoch needs to end and the next to begin counts as wait of the first
step.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks import attribute, draw
from benchmarks.loaders import LOADERS, Settings, open_by_name, runnable
from benchmarks.measure import (
    Result,
    at_least,
    check_device,
    exit_status,
    isolated,
    start_fast,
    try_writing,
)
from benchmarks.sources import Source, own_source, synthetic_source
from benchmarks.step import EmulatedStep, TrainingStep
from data_tools.atomic import atomic_path
from data_tools.records import RecordError
from trainer.model.syncnet import PRESETS
from trainer.train import timing
from trainer.train.timing import StepClock, StepRow

PAGE = "profile.html"
SEED_STEPS = 15
# The seed's 0.21 s for 1,024 samples (4,920 samples/s) hold the hand-over of the batch as well as
# the compute; here the hand-over alone takes about half of that time.
SEED_RATE = 2 * 4920


def profile(
    name: str,
    source: Source,
    settings: Settings,
    compute: EmulatedStep | TrainingStep,
    epochs: int,
    val_every: int = 0,
) -> list[StepRow]:
    """Rows of steps.jsonl for `epochs` epochs with loader `name`, one after another.

    With `val_every`, the val split is read by the same kind of loader at the end of such epochs.
    """
    device = torch.device(settings.device)
    label = np.arange(source.batch_size) % 2
    clock = StepClock(device)
    rows: list[dict[str, Any]] = []
    with open_by_name(name, source, settings) as train:
        for epoch in range(1, epochs + 1):
            batches = None
            for number in range(source.steps):
                clock.begin()
                if batches is None:
                    batches = train()
                frames, mfcc = next(batches)
                clock.mark("data")
                loss = compute.run(frames, mfcc, label, clock)
                if number == source.steps - 1:
                    del frames, mfcc
                    next(batches, None)  # the loader ends its epoch, workers and all
                    clock.mark("boundary")
                row = {"epoch": epoch, "step": len(rows), "phase": "train", "loss": float(loss)}
                rows.append(row | clock.end().milliseconds())
            if val_every and epoch % val_every == 0:
                rows[-1]["validation_ms"] = _validate(name, source, settings, compute)
    return [StepRow(**row) for row in _boundary_to_first(rows)]


def _boundary_to_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count the time in which a loader ends an epoch as wait of the next epoch's first step."""
    for number, row in enumerate(rows):
        ending = row.pop("boundary_ms", 0.0)
        row["total_ms"] = max(0.0, row["total_ms"] - ending)
        if number + 1 < len(rows):
            rows[number + 1]["data_ms"] += ending
            rows[number + 1]["total_ms"] += ending
    return rows


def _validate(
    name: str, source: Source, settings: Settings, compute: EmulatedStep | TrainingStep
) -> float:
    """Milliseconds of reading and scoring the val split with a loader of its own."""
    clock = StepClock(torch.device("cpu"))
    clock.begin()
    held_out = Source(source.shards, source.made, source.batch_size, 1, "val")
    label = np.arange(source.batch_size) % 2
    with open_by_name(name, held_out, settings) as epochs:
        for frames, mfcc in epochs():
            compute.validate(frames, mfcc, label)
    clock.mark("validation")
    return clock.end().milliseconds()["validation_ms"]


def figures(rows: list[StepRow], batch_size: int) -> dict[str, Any]:
    """The JSON's figures of a profile; medians over epochs >= 2 (or the only one).

    `first_step_share` is the first step's part of its epoch; `utilisation` the share of the steps'
    time not spent waiting, first steps included; `process_share` what each process takes of all
    time, validation included.
    """
    epochs = timing.by_epoch(rows)
    if not epochs:
        raise ValueError("there is no training step to report on")
    kept = [steps for epoch, steps in epochs.items() if epoch >= 2] or list(epochs.values())
    total = sum(row.total_ms for steps in kept for row in steps)
    waited = sum(row.data_ms for steps in kept for row in steps)
    spent = {
        phase: sum(row.spent(phase) for steps in kept for row in steps) for phase in draw.PHASES
    }
    validation = [row.total_ms for row in rows if row.phase == "val"]
    validation += [row.validation_ms for row in rows if row.validation_ms]
    numbers = {steps[0].epoch for steps in kept}
    spent["validation"] = sum(
        row.total_ms if row.phase == "val" else row.validation_ms
        for row in rows
        if row.epoch in numbers and (row.phase == "val" or row.validation_ms)
    )
    everything = total + spent["validation"]
    others = [row.data_ms for steps in kept for row in steps[1:]]
    return {
        "epochs": len(epochs),
        "steps_per_epoch": round(median(map(len, epochs.values()))),
        "first_step_wait_ms": round(median(steps[0].data_ms for steps in kept), 3),
        "other_step_wait_ms": round(median(others), 3) if others else None,
        "first_step_share": round(
            median(steps[0].total_ms / sum(r.total_ms for r in steps) for steps in kept), 4
        ),
        "utilisation": round(1 - waited / total, 4),
        "samples_per_s": round(sum(map(len, kept)) * batch_size / total * 1e3, 1),
        "epoch_s": round(median(sum(r.total_ms for r in steps) for steps in kept) / 1e3, 3),
        "cold_start_ms": round(next(iter(epochs.values()))[0].data_ms, 1),
        "validation_ms": round(median(validation), 1) if validation else None,
        "process_share": {name: round(ms / everything, 4) for name, ms in spent.items() if ms},
    }


def table(profiles: list[draw.Profile]) -> Table:
    """The figures side by side."""
    shown = Table("", *(p.name for p in profiles), title="steps, epochs from the second on")
    for row in draw.figure_rows(profiles):
        shown.add_row(*row)
    return shown


def read_profile(path: Path, batch_size: int | None) -> draw.Profile:
    """The profile of a past run.

    Args:
        path: a run's folder or its steps.jsonl.
        batch_size: default: what the run's config.yaml says.

    Raises:
        ValueError: there are no rows, or the batch size is not known.
    """
    file = path / timing.STEPS if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file} does not exist: give a run's folder or its {timing.STEPS}")
    try:
        rows = timing.read_rows(file)
    except RecordError as error:
        raise ValueError(f"{file} holds a row that is none of step times: {error}") from None
    if batch_size is None:
        config = file.parent / "config.yaml"
        try:
            batch_size = int(yaml.safe_load(config.read_text())["train"]["batch_size"])
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            raise ValueError(f"{config} does not tell the batch size: add --batch N") from None
    name = path.name if path.is_dir() else path.stem
    try:
        return draw.Profile(name, str(path), rows, figures(rows, batch_size))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    except ArithmeticError:
        raise ValueError(f"{file}: its steps took no time at all") from None


def loaders_of(args: argparse.Namespace, console: Console) -> list[str]:
    """The loaders that were asked for and can run here."""
    return runnable(args.loader or (["torch-seed", "ours"] if args.emulate else ["ours"]), console)


def run_profiles(
    names: list[str], args: argparse.Namespace, console: Console
) -> list[draw.Profile]:
    """Profile loaders, each in a fresh process."""
    source, settings = make_source(args), Settings(args.workers, device=args.device)
    made = []
    for name in names:
        console.print(f"{name}: {LOADERS[name].what} ...", soft_wrap=True)
        rows, _ = isolated(
            _profile_here, name, source, settings, step_of(args), args.epochs, args.val_every
        )
        made.append(draw.Profile(name, LOADERS[name].what, rows, figures(rows, args.batch)))
    return made


def step_of(args: argparse.Namespace) -> tuple[str | None, float]:
    """What follows the loader: (model to train, 0) or (None, milliseconds to sleep)."""
    if args.model:
        return args.model, 0.0
    milliseconds = 1e3 * args.batch / SEED_RATE if args.step_ms is None else args.step_ms
    return None, milliseconds


def _profile_here(
    name: str,
    source: Source,
    settings: Settings,
    step: tuple[str | None, float],
    epochs: int,
    val_every: int,
) -> list[StepRow]:
    model, milliseconds = step
    compute: EmulatedStep | TrainingStep = (
        TrainingStep(model, torch.device(settings.device)) if model else EmulatedStep(milliseconds)
    )
    return profile(name, source, settings, compute, epochs, val_every)


def make_source(args: argparse.Namespace) -> Source:
    """The frames: of --shards, or synthetic ones of the size that the model takes."""
    if args.shards:
        return own_source(args.shards, args.cache, args.batch, args.steps)
    size, gray = args.size, args.gray
    if args.model:
        size, gray = PRESETS[args.model].size, PRESETS[args.model].channels == 1
    return synthetic_source(args.cache, args.clips, size, gray, args.batch, args.steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what to report on")
    what.add_argument(
        "--emulate",
        choices=["seed"],
        help="15 steps, more workers than batches, compute in the seed's ratio",
    )
    what.add_argument("--attribute", action="store_true", help="split the first step by experiment")
    what.add_argument("--loader", nargs="+", metavar="NAME", help=", ".join(LOADERS))
    what.add_argument("--from", dest="past", type=Path, metavar="RUN", help="a past run")
    what.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two past runs")
    how = parser.add_argument_group("how to measure")
    how.add_argument("--batch", type=int, help="samples a step (default 64; of a run: its own)")
    how.add_argument("--steps", type=int, default=SEED_STEPS, help="of an epoch (default 15)")
    how.add_argument("--epochs", type=int, default=6)
    how.add_argument(
        "--step-ms",
        type=float,
        help="emulated compute of a step (default: batch / 9,840 s, the seed's)",
    )
    how.add_argument("--model", choices=sorted(PRESETS), help="train it instead of emulating")
    how.add_argument("--val-every", type=int, default=0, help="validate every N epochs")
    how.add_argument(
        "--workers",
        type=int,
        default=SEED_STEPS + 1,
        help="of the torch loaders that stay as the seed had them (default 16: more than batches)",
    )
    how.add_argument("--device", default="cpu", help="cpu or cuda")
    data = parser.add_argument_group("data")
    data.add_argument("--shards", type=Path, help="your shards (default: synthetic heads)")
    data.add_argument("--clips", type=int, default=64, help="synthetic clips (default 64)")
    data.add_argument("--size", type=int, default=224, help="of synthetic frames (default 224)")
    data.add_argument("--gray", action="store_true")
    data.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "syncnet-bench")
    out = parser.add_argument_group("output")
    out.add_argument(
        "--out", type=Path, help="folder of page, JSON and rows (default runs/profile-<time>)"
    )
    out.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--quick", action="store_true", help="tiny: shows only that it works")
    return parser


def _check(args: argparse.Namespace) -> None:
    at_least(args, batch=1, steps=1, epochs=1, workers=1, clips=1, size=1, val_every=0)
    if args.batch is not None and args.batch % 2:
        raise ValueError(f"--batch must be even (half are genuine pairs), not {args.batch}")
    if args.step_ms is not None and args.step_ms < 0:
        raise ValueError("--step-ms must not be negative")
    check_device(args.device)
    if args.past and args.compare:
        raise ValueError("--from reports on one run, --compare on two: give one of them")
    measuring = ("emulate", "attribute", "loader", "model", "shards", "val_every")
    if args.past or args.compare:
        _alone("--from and --compare report on past runs", args, measuring)
    elif args.attribute:
        _alone("--attribute tries loaders of its own", args, ("loader", "model", "val_every"))


def _alone(why: str, args: argparse.Namespace, others: tuple[str, ...]) -> None:
    for name in others:
        if getattr(args, name):
            raise ValueError(f"{why}: leave --{name.replace('_', '-')} out")


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    args = _parser().parse_args(argv)
    args.out = args.out or Path("runs") / f"profile-{datetime.now():%Y%m%d-%H%M%S}"
    console = Console(width=None if sys.stdout.isatty() else 140)
    return exit_status("profile_steps", args.json, lambda: _report(args, console))


def _report(args: argparse.Namespace, console: Console) -> None:
    _check(args)
    past = args.compare or ([args.past] if args.past else None)
    causes = None
    if past:
        profiles = [read_profile(path, args.batch) for path in past]
        if len({p.name for p in profiles}) < len(profiles):
            profiles = [draw.Profile(p.what, p.what, p.rows, p.figures) for p in profiles]
    else:
        if args.quick:
            start_fast()
            args.clips, args.size, args.epochs = 20, 32, 2
            args.steps, args.workers = min(args.steps, 3), min(args.workers, 4)
        args.batch = args.batch or (4 if args.quick else 64)
        names = [] if args.attribute else loaders_of(args, console)
        try_writing(args.out / PAGE)
        if args.attribute:
            console.print("splitting the first step by experiment:")
            causes = attribute.measure(
                make_source(args),
                Settings(args.workers, device=args.device),
                step_of(args)[1],
                args.epochs,
                lambda text: console.print(text, soft_wrap=True),
            )
            profiles = causes.profiles(figures, args.batch)
        else:
            profiles = run_profiles(names, args, console)
    console.print(table(profiles))
    if causes:
        console.print(causes.table())
        for line in causes.verdict():
            console.print(line, soft_wrap=True)
    found: dict[str, Any] = {"loaders": {p.name: p.figures for p in profiles}}
    if causes:
        found["attribution"] = causes.as_dict()
    if not past:
        found |= {
            "batch_size": args.batch,
            "steps": args.steps,
            "step": args.model or f"emulated, {step_of(args)[1]:.1f} ms",
            "workers": args.workers,
        }
    _write(args, profiles, found, causes, console)


def _write(
    args: argparse.Namespace,
    profiles: list[draw.Profile],
    found: dict[str, Any],
    causes: attribute.Causes | None,
    console: Console,
) -> None:
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    result = Result("profile_steps", found, repetitions=args.epochs, quick=args.quick)
    written = [result.write(out / "profile.json")]
    if args.json:
        written.append(result.write(args.json))
    for p in profiles:
        rows = out / f"{p.name.replace(os.sep, '-')}.steps.jsonl"
        with atomic_path(rows) as partial:
            lines = [json.dumps(asdict(row)) + "\n" for row in p.rows]
            partial.write_text("".join(lines), encoding="utf-8")
        written.append(rows)
    page = out / PAGE
    with atomic_path(page) as partial:
        partial.write_text(
            draw.page(
                profiles,
                result,
                causes.verdict() if causes else [],
                causes.remedies() if causes else [],
            ),
            encoding="utf-8",
        )
    if args.quick:
        console.print(draw.QUICK)
    for path in [*written, page]:
        console.print(f"wrote {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
