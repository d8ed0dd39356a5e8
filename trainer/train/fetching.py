"""In which order a training needs the shards of remote sets: they are fetched in that order."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue

from data_tools.errors import UserError
from data_tools.fetch_ahead import THREADS, Wanted, fetching_ahead
from data_tools.mirror import mirror_at
from data_tools.remote import Stopped
from data_tools.shards import open_shards
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments
from trainer.data.steps import Requests

_PATIENCE = 5.0  # seconds for threads to leave off; one that waits for a server may die
_POLL = 0.1  # seconds
_MOST_STEPS = 10_000  # that are looked through for shards; what is left then comes in any order


def in_order_of_need(
    dataset: Dataset, requests: Requests, start: int, total: int
) -> Iterator[Wanted]:
    """The shards of remote sets: of the steps from `start` on, then of val, then of test.

    Args:
        requests: (step, quarantine) -> what this process is given at a step.
        total: steps of the whole training.
    """
    left = {number: shard.source for number, shard in enumerate(dataset.shards)}
    left = {number: source for number, source in left.items() if source is not None}
    for step in range(start, min(total, start + _MOST_STEPS)):
        if not left:
            break
        segments = requests(step, {})
        for clips in (segments.clip, segments.audio_clip):
            for number in dataset.shards_of(clips):
                if (source := left.pop(number, None)) is not None:
                    yield source
    # other processes of this machine begin with those that they need first
    yield from filter(None, left.values())
    for split in ("val", "test"):
        for folder in dataset.folders:
            if mirror_at(folder) is not None:
                yield from filter(None, (each.source for each in open_shards(folder, split)))


@contextmanager
def fetching(
    dataset: Dataset,
    requests: Requests,
    start: int,
    total: int,
    block_steps: int | None,
    say: Callable[[str], None],
) -> Iterator[Requests]:
    """Fetch the shards of remote sets ahead of need; yields the requests to give the loader.

    Args:
        requests, start, total: as of `in_order_of_need`.
        block_steps: after which other shards are needed; None: all are needed all the time.
        say: is told now and then what has come.
    """
    if block_steps is None or not any(shard.scarce for shard in dataset.shards):
        with fetching_ahead(in_order_of_need(dataset, requests, start, total), say):
            yield requests
        return
    follower = Follower(dataset, requests, start, total, block_steps)
    try:
        yield follower.request
    finally:
        follower.close()


class Follower:
    """Fetches the shards of the steps to come, so many steps ahead of those that are asked for.

    What was used longest ago makes room. Close it when done.

    Args:
        dataset, requests, start, total: as of `in_order_of_need`.
        ahead: steps.
    """

    def __init__(
        self, dataset: Dataset, requests: Requests, start: int, total: int, ahead: int
    ) -> None:
        self._dataset, self._requests, self._ahead = dataset, requests, ahead
        self._now, self._total = start, total
        self._moved = threading.Condition()
        self._stop = threading.Event()
        self._wanted: SimpleQueue[Wanted] = SimpleQueue()
        works: list[Callable[[], None]] = [partial(self._follow, start), *[self._fetch] * THREADS]
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def request(self, step: int, quarantine: Mapping[int, int]) -> Segments:
        """What a step is given; the shards of later ones are then fetched."""
        with self._moved:
            if step > self._now:
                self._now = step
                self._moved.notify()
        return self._requests(step, quarantine)

    def close(self) -> None:
        """Stop; what is under way is left off and kept for a later run."""
        self._stop.set()
        with self._moved:
            self._moved.notify()
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _follow(self, step: int) -> None:
        asked: dict[Wanted, int] = {}  # the last step for which a shard was asked for
        while step < self._total:
            with self._moved:
                self._moved.wait_for(partial(self._due, step))
            if self._stop.is_set():
                return
            segments = self._requests(step, {})
            for clips in (segments.clip, segments.audio_clip):
                for number in self._dataset.shards_of(clips):
                    source = self._dataset.shards[number].source
                    if source is None:
                        continue
                    if step - asked.get(source, -self._ahead - 1) > self._ahead // 2:
                        self._wanted.put(source)
                        asked[source] = step
            step += 1

    def _due(self, step: int) -> bool:
        return self._stop.is_set() or self._now + self._ahead >= step

    def _fetch(self) -> None:
        """What cannot be fetched is left to whoever reads it, whom the error then reaches."""
        while not self._stop.is_set():
            try:
                mirror, name = self._wanted.get(timeout=_POLL)
            except Empty:
                continue
            with suppress(UserError, OSError, Stopped):
                mirror.fetch(name, stopped=self._stop.is_set)
