"""Shards fetched so many steps ahead of those that are asked for, and no further."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from data_tools.errors import UserError
from trainer.data.sampler import Segments
from trainer.train.fetching import Follower


class Source:
    """Stands for a mirror: notes what is fetched, and fails for one shard."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def fetch(self, name: str, stopped: Callable[[], bool]) -> bool:
        self.fetched.append(name)
        if name == "1":
            raise UserError("no room")
        return True


def requests(step: int, quarantine: Mapping[int, int]) -> Segments:
    """One sample a step, of the clip of its number."""
    clip = np.array([step])
    return Segments(clip, clip, clip, clip, clip)


@contextmanager
def following(source: Source, total: int, local: tuple[int, ...] = ()) -> Iterator[Follower]:
    """Two clips a shard; three steps ahead."""
    shards = [
        SimpleNamespace(source=None if number in local else (source, str(number)))
        for number in range(total // 2)
    ]
    dataset: Any = SimpleNamespace(
        shards=shards, shards_of=lambda clips: sorted(set((clips // 2).tolist()))
    )
    follower = Follower(dataset, requests, 0, total, 3)
    try:
        yield follower
    finally:
        follower.close()


def becomes(source: Source, expected: set[str]) -> bool:
    """Whether just these are fetched, a little later too."""
    until = time.monotonic() + 30
    while set(source.fetched) != expected and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.05)
    return set(source.fetched) == expected


def test_shards_come_as_far_ahead_as_asked_and_one_that_fails_stops_none() -> None:
    source = Source()
    with following(source, 40) as follower:
        assert becomes(source, {"0", "1"})
        assert follower.request(4, {}).clip.tolist() == [4]
        assert becomes(source, {"0", "1", "2", "3"})
        follower.request(2, {})  # a step again, after a bad frame
        assert becomes(source, {"0", "1", "2", "3"})
        follower.request(100, {})
        assert becomes(source, {str(number) for number in range(20)})


def test_a_shard_that_lies_here_is_not_fetched() -> None:
    source = Source()
    with following(source, 8, local=(0, 2)) as follower:
        follower.request(7, {})
        assert becomes(source, {"1", "3"})
