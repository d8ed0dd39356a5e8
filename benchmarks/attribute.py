"""Splits the wait of an epoch's first step into its causes, by taking them away one after another.

    worker start                    the seed's loader -> persistent workers
    a whole batch per worker        -> 1/8 of a batch per worker
    no prefetch over the boundary   -> one endless iterator
    decode rate and hand-over       -> ours

What a step down wins is what that cause cost. Each remedy is also tried alone on the seed's loader.
Waits are means over the epochs from the second on: an endless iterator that gives whole batches
delivers them in bursts, which fall on first steps by turns, and a median would hide them.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from rich.table import Table

from benchmarks.loaders import LOADERS, Kind
from benchmarks.loaders.batches import Settings
from benchmarks.options import part_of
from benchmarks.processes import isolated
from benchmarks.profiling import Profile, figures, profile
from benchmarks.sources import PARTS, Source
from benchmarks.step import EmulatedStep
from trainer.train import timing
from trainer.train.timing import StepRow


@dataclass(frozen=True)
class Trial:
    """A loader of the experiment.

    Attributes:
        name: of the profile.
        what: what was changed.
        cause: the cause that this step of the ladder takes away; None off the ladder.
    """

    name: str
    what: str
    cause: str | None = None


LADDER = (
    Trial("seed", "as the seed had it", "-"),
    Trial("persistent", "persistent workers", "worker start"),
    Trial("persistent+small", f"and 1/{PARTS} of a batch per worker", "a whole batch per worker"),
    Trial("persistent+small+endless", "and one endless iterator", "no prefetch over the boundary"),
    Trial("ours", "our loader", "decode rate and hand-over"),
)
ALONE = (
    Trial("small", f"only 1/{PARTS} of a batch per worker"),
    Trial("endless", "only one endless iterator (its workers persist of themselves)"),
)
_WAYS: dict[str, dict[str, Any]] = {
    "seed": {"persistent": False},
    "persistent": {"persistent": True},
    "persistent+small": {"persistent": True, "parts": PARTS},
    "persistent+small+endless": {"persistent": True, "parts": PARTS, "endless": True},
    "small": {"persistent": False, "parts": PARTS},
    "endless": {"persistent": True, "endless": True},
}
_TRIED = "attribute:"


def loader(name: str) -> Kind:
    """The loader of a trial."""
    if name == "ours":
        return LOADERS["ours"]
    return Kind(name, "torch_files", options=_WAYS[name])


@dataclass(frozen=True)
class Causes:
    """Rows of every trial, and what follows from them."""

    rows: dict[str, list[StepRow]]

    def first_wait_ms(self, name: str) -> float:
        """Mean wait of first steps."""
        return mean(steps[0].data_ms for steps in self._later(name))

    def epoch_wait_ms(self, name: str) -> float:
        """Mean of all waiting of an epoch."""
        return mean(sum(row.data_ms for row in steps) for steps in self._later(name))

    def epoch_ms(self, name: str) -> float:
        """Mean length of an epoch."""
        return mean(sum(row.total_ms for row in steps) for steps in self._later(name))

    def _later(self, name: str) -> list[list[StepRow]]:
        epochs = timing.by_epoch(self.rows[name])
        return [steps for epoch, steps in epochs.items() if epoch >= 2] or list(epochs.values())

    def shares(self) -> dict[str, float]:
        """Milliseconds of the first step's wait that each cause explains, in ladder order.

        They add up to the seed's wait; what ours still waits is its own entry.
        """
        waits = [self.first_wait_ms(trial.name) for trial in LADDER]
        causes = [str(trial.cause) for trial in LADDER[1:]]
        explained = {
            cause: before - after
            for cause, before, after in zip(causes, waits[:-1], waits[1:], strict=True)
        }
        return explained | {"left with ours": waits[-1]}

    def main_cause(self) -> str:
        """The cause that explains most."""
        shares = self.shares()
        del shares["left with ours"]
        return max(shares, key=lambda cause: shares[cause])

    def as_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "first_step_wait_ms_explained": {k: round(v, 1) for k, v in self.shares().items()},
            "main_cause": self.main_cause(),
            "remedies": {
                trial.name: {
                    "what": trial.what,
                    "first_step_wait_ms": round(self.first_wait_ms(trial.name), 1),
                    "epoch_wait_ms": round(self.epoch_wait_ms(trial.name), 1),
                    "epoch_ms": round(self.epoch_ms(trial.name), 1),
                }
                for trial in (*LADDER, *ALONE)
            },
        }

    def table(self) -> Table:
        """Each remedy: what the first step waits, what the epoch waits."""
        head, *rows = self.remedies()
        shown = Table(*head, title="what each remedy wins here, means of epochs from the second on")
        for trial, row in zip((*LADDER, *ALONE), rows, strict=True):
            shown.add_row(*row, end_section=trial.name == "ours")
        return shown

    def remedies(self) -> list[list[str]]:
        """That table's head and rows."""
        head = ["remedy", "first step waits", "", "all waits of an epoch", "an epoch", ""]
        rows = []
        first, epoch = self.first_wait_ms("seed"), self.epoch_ms("seed")
        for trial in (*LADDER, *ALONE):
            wait, whole = self.first_wait_ms(trial.name), self.epoch_ms(trial.name)
            row = [
                trial.what,
                f"{wait:,.0f} ms",
                f"{wait / first - 1:+.0%}" if trial.name != "seed" and first else "",
                f"{self.epoch_wait_ms(trial.name):,.0f} ms",
                f"{whole:,.0f} ms",
                f"{whole / epoch - 1:+.0%}" if trial.name != "seed" else "",
            ]
            rows.append(row)
        return [head, *rows]

    def verdict(self) -> list[str]:
        """In words."""
        shares, cause = self.shares(), self.main_cause()
        whole = self.first_wait_ms("seed")
        parts = ", ".join(f"{name} {ms:,.0f} ms ({ms / whole:.0%})" for name, ms in shares.items())
        first = self.first_wait_ms("persistent") / whole - 1
        epoch = self.epoch_ms("persistent") / self.epoch_ms("seed") - 1
        cure = "a cure" if first < -0.8 else "no cure"
        small = self.epoch_ms("persistent+small+endless") / self.epoch_ms("seed") - 1
        ours = self.epoch_ms("ours") / self.epoch_ms("seed") - 1
        noise = (
            " A part below 0 means that the machine was busy or that epochs were few: measure "
            "again with more --epochs."
        )
        return [
            f"Main cause: {cause}.",
            f"Of the {whole:,.0f} ms that the first step waits: {parts}."
            + (noise if min(shares.values()) < 0 else ""),
            f"Persistent workers alone are {cure}: the first step's wait changes by {first:+.0%}, "
            f"the epoch by {epoch:+.0%}.",
            "Spreading the wait is not removing it: with all three remedies the epoch changes by "
            f"{small:+.0%}, with a loader that decodes as fast as the cores can by {ours:+.0%}.",
        ]

    def profiles(self, batch_size: int) -> list[Profile]:
        """For table and page."""
        what = {trial.name: trial.what for trial in (*LADDER, *ALONE)}
        return [
            Profile(name, what[name], rows, figures(rows, batch_size))
            for name, rows in self.rows.items()
        ]


def measure(
    source: Source,
    settings: Settings,
    step_ms: float,
    epochs: int,
    say: Callable[[str], None],
) -> Causes:
    """Profile every trial, each in a fresh process."""
    rows = {}
    for trial in (*LADDER, *ALONE):
        say(f"  {trial.what} ...")
        rows[trial.name], _ = isolated(_trial, trial.name, source, settings, step_ms, epochs)
    return Causes(rows)


def _trial(
    name: str, source: Source, settings: Settings, step_ms: float, epochs: int
) -> list[StepRow]:
    LOADERS[_TRIED + name] = loader(name)  # in this process alone
    step = EmulatedStep(step_ms, torch.device(settings.device))
    return profile(_TRIED + name, source, settings, step, epochs)


if __name__ == "__main__":
    sys.exit(part_of("profile_steps --attribute"))
