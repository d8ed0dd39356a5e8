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

PLAIN_SECONDS = 5.0  # between two plain lines
_SLOW = 0.5  # a second, below which a minute's rate says more

_listener: Callable[[], None] | None = None


@contextmanager
def heard_by(listener: Callable[[], None]) -> Iterator[None]:
    """Meanwhile all progress of this process is shown to nobody and told to `listener` instead.

    For a worker among others, whose lines would mix with theirs, and for its watchdog.
    """
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def still_alive() -> None:
    """Tell whoever listens (`heard_by`) that work goes on, in stages that show no progress."""
    if _listener is not None:
        _listener()


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`; shows what is done of `total`, at what rate, until when."""
    if (listener := _listener) is not None:
        yield lambda _: listener()
        return
    console = Console(stderr=True)
    pace = Pace(total)
    if not console.is_terminal:

        def advance_plain(count: int) -> None:
            pace.advance(count)
            if pace.due(PLAIN_SECONDS):
                words = f"{description}: {pace.done}/{total} {unit}"
                if pace.seconds_left is not None:
                    words += f", {pace.rate_in_words(unit)}, {pace.seconds_left:.0f} s left"
                print(words, file=sys.stderr, flush=True)

        yield advance_plain
        return

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
            pace.advance(count)
            bar.update(task, advance=count, rate=pace.rate_in_words(unit))

        yield advance


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


class Pace:
    """Counts what is done; knows the rate, the time left, and when to say so again.

    Attributes:
        total, done: in whatever is counted; `done` may begin above 0, for work that goes on.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.done = total, done
        self._first = done
        self._start = self._told = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count

    @property
    def rate(self) -> float:
        """What was done per second since this object was made."""
        return (self.done - self._first) / max(time.monotonic() - self._start, 1e-6)

    def rate_in_words(self, unit: str) -> str:
        """The same as "3.2 clips/s", or "4.1 videos/min" of what takes its time."""
        if self.rate and self.rate < _SLOW:
            return f"{60 * self.rate:.1f} {unit}/min"
        return f"{self.rate:.1f} {unit}/s"

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None while nothing is done."""
        rate = self.rate
        return (self.total - self.done) / rate if rate else None

    def due(self, seconds: float) -> bool:
        """Whether `seconds` have passed since this was true last."""
        now = time.monotonic()
        if now - self._told < seconds:
            return False
        self._told = now
        return True
