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

import json
import os
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt
from rich.console import Console
from rich.table import Table

from benchmarks import attribute, markdown, profile_page
from benchmarks.attribute import ALONE, LADDER
from benchmarks.loaders import LOADERS, runnable
from benchmarks.loaders.batches import Settings
from benchmarks.options import (
    AtLeastOne,
    add_data,
    check_device,
    check_even,
    command_line,
)
from benchmarks.processes import isolated, start_fast
from benchmarks.profiling import Compute, Profile, figure_rows, figures, profile
from benchmarks.result import Result, try_writing
from benchmarks.sources import Source, own_source, synthetic_source
from benchmarks.step import EmulatedStep, training_step
from data_tools.atomic import atomic_path
from data_tools.cli import exit_status, parse
from data_tools.errors import UsageError, UserError
from data_tools.records import RecordError
from trainer.model.syncnet import PRESETS
from trainer.train import timing
from trainer.train.timing import StepRow

PAGE = "profile.html"
SEED_STEPS = 15
# The seed's 0.21 s for 1,024 samples (4,920 samples/s) hold the hand-over of the batch as well as
# the compute; here the hand-over alone takes about half of that time.
SEED_RATE = 2 * 4920


def table(profiles: list[Profile]) -> Table:
    """The figures side by side."""
    shown = Table("", *(p.name for p in profiles), title="steps, epochs from the second on")
    for row in figure_rows(profiles):
        shown.add_row(*row)
    return shown


def read_profile(path: Path, batch_size: int | None) -> Profile:
    """The profile of a past run.

    Args:
        path: a run's folder or its steps.jsonl.
        batch_size: default: what the run's config.yaml says.

    Raises:
        UsageError: there are no rows, or the batch size is not known.
    """
    file = path / timing.STEPS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file} does not exist: give a run's folder or its {timing.STEPS}")
    try:
        rows = timing.read_rows(file)
    except RecordError as error:
        raise UsageError(f"{file} holds a row that is none of step times: {error}") from None
    if batch_size is None:
        config = file.parent / "config.yaml"
        try:
            batch_size = int(yaml.safe_load(config.read_text())["train"]["batch_size"])
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            raise UsageError(f"{config} does not tell the batch size: add --batch N") from None
    name = path.name if path.is_dir() else path.stem
    try:
        return Profile(name, str(path), rows, figures(rows, batch_size))
    except UserError as error:
        raise UsageError(f"{file}: {error}") from None
    except ArithmeticError:
        raise UsageError(f"{file}: its steps took no time at all") from None


def loaders_of(args: Namespace, console: Console) -> list[str]:
    """The loaders that were asked for and can run here."""
    return runnable(args.loader or (["torch-seed", "ours"] if args.emulate else ["ours"]), console)


def run_profiles(names: list[str], args: Namespace, console: Console) -> list[Profile]:
    """Profile loaders, each in a fresh process."""
    source, settings = make_source(args), Settings(args.workers, device=args.device)
    made = []
    for name in names:
        console.print(f"{name}: {LOADERS[name].what} ...", soft_wrap=True)
        rows, _ = isolated(
            _profile_here, name, source, settings, step_of(args), args.epochs, args.val_every
        )
        made.append(Profile(name, LOADERS[name].what, rows, figures(rows, args.batch)))
    return made


def step_of(args: Namespace) -> tuple[str | None, float]:
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
    device = torch.device(settings.device)
    compute: Compute = training_step(model, device) if model else EmulatedStep(milliseconds, device)
    return profile(name, source, settings, compute, epochs, val_every)


def make_source(args: Namespace) -> Source:
    """The frames: of --shards, or synthetic ones of the size that the model takes."""
    if args.shards:
        return own_source(args.shards, args.cache, args.batch, args.steps)
    size, gray = args.size, args.gray
    if args.model:
        size, gray = PRESETS[args.model].size, PRESETS[args.model].channels == 1
    return synthetic_source(args.cache, args.clips, size, gray, args.batch, args.steps)


def _parser() -> ArgumentParser:
    parser = command_line("profile_steps", __doc__)
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
    how.add_argument("--batch", type=AtLeastOne, help="samples a step (default: 64; a run's own)")
    how.add_argument("--steps", type=AtLeastOne, default=SEED_STEPS, help="of an epoch")
    how.add_argument("--epochs", type=AtLeastOne, default=6)
    how.add_argument(
        "--step-ms",
        type=NonNegativeFloat,
        help="emulated compute of a step (default: batch / 9,840 s, the seed's)",
    )
    how.add_argument("--model", choices=sorted(PRESETS), help="train it instead of emulating")
    how.add_argument("--val-every", type=NonNegativeInt, default=0, help="validate every N epochs")
    how.add_argument(
        "--workers",
        type=AtLeastOne,
        default=SEED_STEPS + 1,
        help="of the torch loaders that stay as the seed had them: more than batches",
    )
    how.add_argument("--device", default="cpu", help="cpu or cuda")
    add_data(parser)
    parser.add_argument(
        "--out", type=Path, help="folder of page, JSON and rows (default: runs/profile-<time>)"
    )
    return parser


def _check(args: Namespace) -> None:
    if args.batch is not None:
        check_even("--batch", args.batch)
    check_device(args.device)
    if args.past and args.compare:
        raise UsageError("--from reports on one run, --compare on two: give one of them")
    measuring = ("emulate", "attribute", "loader", "model", "shards", "val_every")
    if args.past or args.compare:
        _alone("--from and --compare report on past runs", args, measuring)
    elif args.attribute:
        _alone("--attribute tries loaders of its own", args, ("loader", "model", "val_every"))


def _alone(why: str, args: Namespace, others: tuple[str, ...]) -> None:
    for name in others:
        if getattr(args, name):
            raise UsageError(f"{why}: leave --{name.replace('_', '-')} out")


def readme(result: dict[str, Any]) -> str:
    """The emulated seed: shape, causes, remedies."""
    rows = [
        [
            remedy["what"],
            f"{remedy['first_step_wait_ms']:,.0f} ms",
            f"{result['loaders'][name]['first_step_share']:.0%}",
            f"{remedy['epoch_wait_ms']:,.0f} ms",
            f"{remedy['epoch_ms']:,.0f} ms",
        ]
        for name, remedy in markdown.in_order(
            result["attribution"]["remedies"],
            [trial.name for trial in (*LADDER, *ALONE)],
        )
    ]
    header = ["loader", "first step waits", "its share of the epoch", "all waits", "an epoch"]
    found = result["attribution"]
    parts = ", ".join(
        f"{cause} {ms:,.0f} ms"
        for cause, ms in markdown.in_order(
            found["first_step_wait_ms_explained"],
            [str(trial.cause) for trial in LADDER[1:]] + ["left with ours"],
        )
    )
    return (
        markdown.table(header, rows)
        + f"\n{result['steps']} steps of {result['batch_size']} samples, {result['workers']} "
        f"workers, compute emulated. Of the first step's wait: {parts}. "
        f"Main cause: {found['main_cause']}.\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""

    def work() -> None:
        args = parse(_parser(), argv)
        if args.json is not None:
            try_writing(args.json)
        args.out = args.out or Path("runs") / f"profile-{datetime.now():%Y%m%d-%H%M%S}"
        _report(args, Console(width=None if sys.stdout.isatty() else 140))

    return exit_status("profile_steps", work, "stopped")


def _report(args: Namespace, console: Console) -> None:
    _check(args)
    past = args.compare or ([args.past] if args.past else None)
    causes = None
    if past:
        profiles = [read_profile(path, args.batch) for path in past]
        if len({p.name for p in profiles}) < len(profiles):
            profiles = [Profile(p.what, p.what, p.rows, p.figures) for p in profiles]
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
            profiles = causes.profiles(args.batch)
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
    args: Namespace,
    profiles: list[Profile],
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
            profile_page.page(
                profiles,
                result,
                causes.verdict() if causes else [],
                causes.remedies() if causes else [],
            ),
            encoding="utf-8",
        )
    if profile_page.charts_missing():
        console.print(profile_page.NO_CHARTS, soft_wrap=True, highlight=False, markup=False)
    if args.quick:
        console.print(profile_page.QUICK)
    for path in [*written, page]:
        console.print(f"wrote {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
