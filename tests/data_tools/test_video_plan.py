"""The plan of shards: every video once, no speaker in two splits, nothing but names and sizes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.errors import UsageError
from data_tools.video_plan import PlannedVideo, ShardOptions, plan_video_shards, planned_videos


def listed(sizes: list[int], speakers: int) -> list[PlannedVideo]:
    return [
        PlannedVideo(f"v{n}.mp4", f"v{n}", f"v{n}", f"v{n}", f"s{n % speakers}", None, size)
        for n, size in enumerate(sizes)
    ]


@given(
    sizes=st.lists(st.integers(0, 40_000_000), max_size=60),
    speakers=st.integers(1, 9),
    expansion=st.floats(0.1, 10),
    seed=st.integers(0, 5),
)
def test_every_video_is_in_one_shard_and_no_speaker_in_two_splits(
    sizes: list[int], speakers: int, expansion: float, seed: int
) -> None:
    videos = listed(sizes, speakers)
    shards = plan_video_shards(videos, ShardOptions(seed=seed), expansion)
    assert sorted(v.name for shard in shards for v in shard.videos) == sorted(
        v.name for v in videos
    )
    splits = defaultdict(set)
    for shard in shards:
        # One video may be larger than a shard; two are not.
        if len(shard.videos) > 1:
            assert expansion * sum(v.size for v in shard.videos) <= 128e6
        for video in shard.videos:
            splits[video.speaker].add(shard.split)
    assert all(len(own) == 1 for own in splits.values())
    assert len({shard.name for shard in shards}) == len(shards)


def test_small_sets_are_cut_into_many_shards() -> None:
    videos = listed([1_000_000] * 1000, 1000)
    assert 60 <= len(plan_video_shards(videos, ShardOptions(), 1.0)) <= 70
    few = plan_video_shards(videos, ShardOptions(shard_mb=500), 0.001)
    assert [shard.split for shard in few] == ["train", "val", "test"]


def test_each_video_by_itself_fills_the_shares_exactly() -> None:
    shards = plan_video_shards(listed([10] * 50, 2), ShardOptions(split_by="clip"), 1.0)
    assert {shard.split: len(shard.videos) for shard in shards} == {
        "train": 40,
        "val": 5,
        "test": 5,
    }


def test_a_video_without_a_speaker_tears_no_speaker_apart() -> None:
    videos = listed([100] * 60, 6)
    videos[7] = replace(videos[7], speaker=None)
    shards = plan_video_shards(videos, ShardOptions(), 1.0)
    splits: dict[str | None, set[str]] = {}
    for shard in shards:
        for video in shard.videos:
            splits.setdefault(video.speaker, set()).add(shard.split)
    assert all(len(found) == 1 for found in splits.values())


def test_speakers_that_nobody_knows_cannot_be_kept_whole() -> None:
    videos = [replace(one, speaker=None) for one in listed([100] * 9, 3)]
    with pytest.raises(UsageError, match="no speaker is known; give --layout"):
        plan_video_shards(videos, ShardOptions(split_by="speaker"), 1.0)
    assert plan_video_shards(videos, ShardOptions(), 1.0)


def test_the_data_sets_own_split_stays() -> None:
    videos = [replace(v, split="test") for v in listed([10] * 8, 8)]
    assert {shard.split for shard in plan_video_shards(videos, ShardOptions(), 1.0)} == {"test"}


def test_names_tell_source_and_speaker() -> None:
    options = ShardOptions(source_pattern=r"^([^/]+/[^/]+)/", speaker_pattern=r"^(id\d+)/")
    names = ["id1/AbC/00001", "id1/aBc/00001", "id2/x y/00001"]
    videos = planned_videos([("none", name, "") for name in names], options)
    assert [v.source for v in videos] == ["id1/AbC", "id1/aBc", "id2/x y"]
    assert [v.speaker for v in videos] == ["id1", "id1", "id2"]
    keys = [v.key.lower() for v in videos]
    assert len(set(keys)) == 3
