"""Profiles: the rows of every step of a loader or a run, and the figures that follow from them."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.loaders import open_by_name
from benchmarks.loaders.batches import Settings
from benchmarks.sources import Source
from benchmarks.step import EmulatedStep, batch_of, validate
from data_tools.errors import UserError
from trainer.train import timing
from trainer.train.step import TrainStep
from trainer.train.timing import StepClock, StepRow

PHASES = (*timing.PHASES, "compute")
NAMES = {
    "data": "waiting for data",
    "forward": "forward",
    "loss": "loss",
    "backward": "backward",
    "optimizer": "optimizer",
    "compute": "compute, emulated",
    "validation": "validation",
}


Compute = EmulatedStep | TrainStep


@dataclass(frozen=True)
class Profile:
    """A profiled loader or run.

    Attributes:
        name, what: short and long.
        rows: as in steps.jsonl.
        figures: of `figures`.
    """

    name: str
    what: str
    rows: list[StepRow]
    figures: dict[str, Any]

    def epochs(self) -> list[list[StepRow]]:
        """Training rows by epoch."""
        return [steps for _, steps in sorted(timing.by_epoch(self.rows).items())]

    def typical(self) -> list[StepRow]:
        """The epoch of median length among those from the second on."""
        epochs = self.epochs()
        later = sorted(epochs[1:] or epochs, key=lambda rows: sum(r.total_ms for r in rows))
        return later[len(later) // 2]


def profile(
    name: str,
    source: Source,
    settings: Settings,
    compute: Compute,
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
                batch = batch_of(frames, mfcc, label)
                loss = compute(batch, len(rows), clock)
                if number == source.steps - 1:
                    del frames, mfcc, batch
                    next(batches, None)  # the loader ends its epoch, workers and all
                    clock.mark("boundary")
                row = {"epoch": epoch, "step": len(rows), "phase": "train", "loss": float(loss)}
                rows.append(row | clock.end().milliseconds())
            if val_every and epoch % val_every == 0:
                rows[-1]["validation_ms"] = _validate(name, source, settings, compute)
                clock.interrupt()
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


def _validate(name: str, source: Source, settings: Settings, compute: Compute) -> float:
    """Milliseconds of reading and scoring the val split with a loader of its own."""
    clock = StepClock(torch.device("cpu"))
    clock.begin()
    held_out = Source(source.shards, source.made, source.batch_size, 1, "val")
    label = np.arange(source.batch_size) % 2
    with open_by_name(name, held_out, settings) as epochs:
        for frames, mfcc in epochs():
            validate(compute, batch_of(frames, mfcc, label))
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
        raise UserError("there is no training step to report on")
    kept = [steps for epoch, steps in epochs.items() if epoch >= 2] or list(epochs.values())
    total = sum(row.total_ms for steps in kept for row in steps)
    waited = sum(row.data_ms for steps in kept for row in steps)
    spent = {phase: sum(row.spent(phase) for steps in kept for row in steps) for phase in PHASES}
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


def figure_rows(profiles: list[Profile]) -> list[list[str]]:
    """The figures in words: a row each, what it is and its value for every profile."""

    def row(what: str, value: Callable[[dict[str, Any]], str]) -> list[str]:
        return [what, *(value(p.figures) for p in profiles)]

    rows = [
        row("first step waits, median", lambda f: f"{f['first_step_wait_ms']:,.1f} ms"),
        row("other steps wait, median", lambda f: _ms(f["other_step_wait_ms"])),
        row("first step's share of its epoch", lambda f: f"{f['first_step_share']:.1%}"),
        row("utilisation, first steps included", lambda f: f"{f['utilisation']:.1%}"),
        row("samples/s", lambda f: f"{f['samples_per_s']:,.0f}"),
        row("an epoch takes", lambda f: f"{f['epoch_s']:.2f} s"),
        row("first batch of all", lambda f: f"{f['cold_start_ms']:,.0f} ms"),
    ]
    if any(p.figures["validation_ms"] for p in profiles):
        rows.append(row("a validation takes", lambda f: _ms(f["validation_ms"])))
    for process in NAMES:
        if any(process in p.figures["process_share"] for p in profiles):
            shares = [p.figures["process_share"].get(process, 0.0) for p in profiles]
            rows.append([f"share of {NAMES[process]}", *(f"{share:.1%}" for share in shares)])
    return rows


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"
