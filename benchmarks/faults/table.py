"""The table of faults: what was injected, how often, and what became of it."""

from typing import Any

from benchmarks.markdown import table


def readme(result: dict[str, Any]) -> str:
    """A row for each kind, the totals, and the sentences of the refusals."""
    rows = [
        [row["fault"], *(f"{row[name]:,}" for name in ("tries", "survived", "refused", "lost"))]
        for row in result["rows"]
    ]
    totals = result["totals"]
    names = ("tries", "survived", "refused", "lost")
    rows.append(["**all**", *(f"**{totals[name]:,}**" for name in names)])
    how = "a small tmpfs" if result["full_disk"] == "tmpfs" else "a limit (RLIMIT_FSIZE)"
    return (
        table(["fault", *names], rows)
        + f"\nA full disk is {how}. It took {result['cpu_s'] / 60:.0f} minutes of processor.\n"
    )
