"""Progress with rate and ETA: a live bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from data_tools.names import shown

_PLAIN_SECONDS = 5.0


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`; shows what is done of `total`, at what rate, until when."""
    console = Console(stderr=True)
    start = time.monotonic()
    done = 0
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total, rate="")

            def advance(count: int) -> None:
                nonlocal done
                done += count
                rate = done / max(time.monotonic() - start, 1e-6)
                bar.update(task, advance=count, rate=f"{rate:.1f} {unit}/s")

            yield advance
        return

    said = start

    def advance_plain(count: int) -> None:
        nonlocal done, said
        done += count
        now = time.monotonic()
        if now - said >= _PLAIN_SECONDS:
            said = now
            rate = done / (now - start)
            left = (total - done) / rate if rate else 0.0
            print(
                f"{description}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    yield advance_plain


@contextmanager
def reading(path: Path) -> Iterator[Callable[[int], None]]:
    """Progress over a file, for which it is told of the bytes as they are read."""
    size = path.stat().st_size if path.is_file() else 0
    with progress(f"{shown(path.name)}: reading", max(1, size // 1000), "kB") as advance:
        read = 0

        def on_bytes(count: int) -> None:
            nonlocal read
            advance((read + count) // 1000 - read // 1000)
            read += count

        yield on_bytes
