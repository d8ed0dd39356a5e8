"""Which clip goes into which shard, under which key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_tools.clips import Clip
from data_tools.plan import PackOptions, plan_shards


def clips_of(sources: list[int], split: str | None = None) -> list[Clip]:
    """Names only: as many clips of each source as the list says."""
    return [
        Clip(f"s{source}/c{number}", Path(f"s{source}/c{number}"), split, f"s{source}")
        for source, count in enumerate(sources)
        for number in range(count)
    ]


def test_clips_are_shuffled_across_shards() -> None:
    clips = clips_of([1] * 200)
    plan = plan_shards(clips, [[50_000]] * 200, PackOptions(ratios=(1, 0, 0), shard_mb=1))
    order = [int(clip.source[1:]) for shard in plan for _, clip in shard.clips]
    assert sorted(order) == list(range(200))
    assert len(plan) == 10
    assert np.abs(np.corrcoef(order, range(200))[0, 1]) < 0.3


@given(st.lists(st.integers(1, 1_500_000), min_size=1, max_size=50))
def test_shards_stay_below_the_limit_unless_one_clip_exceeds_it(sizes: list[int]) -> None:
    clips = clips_of([1] * len(sizes))
    plan = plan_shards(clips, [[s] for s in sizes], PackOptions(ratios=(1, 0, 0), shard_mb=1))
    size_of = dict(zip((clip.name for clip in clips), sizes, strict=True))
    for shard in plan:
        total = sum(size_of[clip.name] for _, clip in shard.clips)
        assert total <= 1_000_000 or len(shard.clips) == 1


@given(
    st.lists(st.text(min_size=1, max_size=120), min_size=1, max_size=20, unique=True).map(sorted)
)
def test_keys_are_unique_short_and_hold_no_dot(names: list[str]) -> None:
    clips = [Clip(name, Path(), None, name) for name in names]
    plan = plan_shards(clips, [[1]] * len(clips), PackOptions())
    keys = [key for shard in plan for key, _ in shard.clips]
    assert len(set(keys)) == len(names)
    assert all(len(key) <= 80 and key.isascii() for key in keys)
    assert not any(set(key) & set("./ ") for key in keys)
