"""Pieces of the tables that the benchmarks write into README.md and docs/."""

from collections.abc import Iterable
from typing import Any

Row = list[str]


def table(header: Row, rows: list[Row]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine_line(result: dict[str, Any]) -> str:
    """The machine of a result in a sentence."""
    m = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    gpu = m["gpu"] or "no GPU"
    return f"{m['cores']} cores of {m['processor']}, {gpu}; Python {m['python']}, {versions}."


def in_order(entries: dict[str, Any], names: Iterable[str]) -> list[tuple[str, Any]]:
    """Entries in the order of `names`: a JSON's keys are sorted."""
    return [(name, entries[name]) for name in names if name in entries]


def interval(figure: dict[str, float]) -> str:
    """A share with its interval: "93.9% (92.1% to 95.7%)"."""
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"
