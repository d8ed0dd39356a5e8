"""The table of a refinement: each round's accuracy, and what became of the clips."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from data_tools.keep import KEEP, REALIGN, VERDICTS


def rounds_table(rounds: Sequence[dict[str, Any]]) -> Table:
    """A row for each round.

    Args:
        rounds: as refine.json has them; the last one is not scored.
    """
    table = Table(title="refinement, by round")
    for name in (
        "round",
        "val K=5",
        "K=15",
        "in place",
        "moved",
        "rejected",
        "set lies at",
        "anew",
    ):
        table.add_column(name, justify="left" if name in ("rejected", "set lies at") else "right")
    for number, one in enumerate(rounds, start=1):
        accuracy = [one.get(f"val_accuracy_{k}") for k in ("k5", "k15")]
        cells = ["-" if value is None else f"{value:.1%}" for value in accuracy]
        table.add_row(str(number), *cells, *_labels(one))
    return table


def _labels(one: dict[str, Any]) -> list[str]:
    """In place, moved, rejected, where the set lies, and how many labels are not as before."""
    if "verdicts" not in one:
        return [""] * 5
    verdicts, spread, changes = one["verdicts"], one["spread"], one["changes"]
    rejected = [
        f"{verdicts[verdict]:,} {verdict}"
        for verdict in VERDICTS
        if verdicts[verdict] and verdict not in (KEEP, REALIGN)
    ]
    return [
        f"{verdicts[KEEP]:,}",
        f"{verdicts[REALIGN]:,}",
        ", ".join(rejected) or "-",
        f"{spread['low']:+d} to {spread['high']:+d}",
        "-" if changes is None else f"{sum(changes.values()):,}",
    ]
