"""Shards fetched in the order of need by threads beside the work, ahead of whoever maps them."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from data_tools.errors import UserError
from data_tools.mirror import Mirror, mirror_at
from data_tools.progress import Pace
from data_tools.remote import Stopped

THREADS: Final = 4
_SAY_SECONDS = 10.0
_PATIENCE = 5.0  # seconds for a thread to leave off; one that waits for a server may die

Wanted = tuple[Mirror, str]  # a shard's source, and its name there


def note(words: str) -> None:
    """Tell of what has come on standard error, out of the way of results."""
    print(words, file=sys.stderr, flush=True)


@contextmanager
def fetching_ahead(wanted: Iterable[Wanted | None], say: Callable[[str], None]) -> Iterator[None]:
    """Fetch shards meanwhile, the first ones first; None stands for one that lies here anyway.

    What cannot be fetched is left to whoever maps it, whom the error then reaches.

    Args:
        say: is told now and then what has come, at what rate and how long the rest takes.
    """
    ahead = FetchAhead([each for each in wanted if each is not None], say)
    try:
        yield
    finally:
        ahead.close()


@contextmanager
def fetching_splits(
    splits: Iterable[tuple[Path, str]], say: Callable[[str], None]
) -> Iterator[None]:
    """`fetching_ahead` of whole splits, in the manifests' order.

    Args:
        splits: folder and split of each; "all" for every split. What is no copy lies here anyway.

    Raises:
        RemoteError, ShardError: as `Mirror.fetch_small`.
    """
    wanted: list[Wanted] = []
    for folder, split in splits:
        if (mirror := mirror_at(folder)) is not None:
            entries = [each for each in mirror.entries.values() if split in ("all", each.split)]
            mirror.fetch_small(entries)
            wanted += ((mirror, entry.name) for entry in entries)
    with fetching_ahead(wanted, say):
        yield


class FetchAhead:
    """Threads that fetch shards until all are here or there is no more room; close it when done.

    Args:
        wanted: in the order of need.
        say: as `fetching_ahead`.
    """

    def __init__(self, wanted: Iterable[Wanted], say: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        wanted = list(wanted)
        self._mirrors = {mirror.folder: mirror for mirror, _ in wanted}
        self._todo = {
            (mirror.folder, name): None for mirror, name in wanted if not mirror.has(name)
        }
        total = sum(self._mirrors[folder].entries[name].bytes for folder, name in self._todo)
        self._pace, self._say = Pace(max(1, total)), say
        self._stop = threading.Event()
        for mirror in self._mirrors.values():
            mirror.on_want = self._first
        self._threads = [
            threading.Thread(target=self._fetch, name=f"fetch-{number}", daemon=True)
            for number in range(min(THREADS, len(self._todo)))
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; what is under way is left off and kept for a later run."""
        self._stop.set()
        for mirror in self._mirrors.values():
            mirror.on_want = None
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _first(self, mirror: Mirror, name: str) -> None:
        """Put one before all others."""
        key = (mirror.folder, name)
        with self._lock:
            if key in self._todo:
                del self._todo[key]
                self._todo = {key: None, **self._todo}

    def _next(self) -> tuple[Path, str] | None:
        with self._lock:
            key = next(iter(self._todo), None)
            if key is not None:
                del self._todo[key]
            return key

    def _fetch(self) -> None:
        while not self._stop.is_set() and (key := self._next()) is not None:
            folder, name = key
            try:
                here = self._mirrors[folder].fetch(name, True, self._came, self._stop.is_set)
            except (UserError, OSError, Stopped):
                continue  # whoever needs it tries again, and tells of it
            if not here:  # no more room
                self._stop.set()

    def _came(self, count: int) -> None:
        with self._lock:
            pace = self._pace
            pace.advance(count)
            if not pace.due(_SAY_SECONDS) and pace.done < pace.total:
                return
            words = f"shards fetched: {pace.done / 1e6:,.0f} of {pace.total / 1e6:,.0f} MB, "
            words += f"{pace.rate / 1e6:.1f} MB/s"
            if pace.seconds_left:
                words += f", {pace.seconds_left:.0f} s left"
        self._say(words)
