"""What became of bad input, as a table of a page."""

from typing import Any

from benchmarks.markdown import machine_line, table


def readme(result: dict[str, Any]) -> str:
    """A row for each target, and how many findings were mended on the way."""
    rows = [
        [
            f"`{row['target']}`",
            row["what"],
            f"{row['inputs']:,}",
            f"{row['refused'] / row['inputs']:.0%}",
            str(row["mended"]),
            str(row["findings"]),
        ]
        for row in result["rows"]
    ]
    total = [
        "all", "", f"{result['inputs']:,}", "", str(result["mended"]), str(result["findings"])
    ]  # fmt: skip
    header = ["target", "reads", "inputs", "refused", "found and mended", "left open"]
    told = f"{result['cpu_seconds'] / 60:.0f} minutes of one processor."
    return f"{table(header, [*rows, total])}\n{told} {machine_line(result)}\n"
