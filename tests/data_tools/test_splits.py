"""Which clip goes into which split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.clips import SPLITS, Clip
from data_tools.splits import assign_splits

RATIOS = (80, 10, 10)


def clips_of(sources: list[int], split: str | None = None) -> list[Clip]:
    """Names only: as many clips of each source as the list says."""
    return [
        Clip(f"s{source}/c{number}", Path(f"s{source}/c{number}"), split, f"s{source}")
        for source, count in enumerate(sources)
        for number in range(count)
    ]


@given(
    sources=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    ratios=st.tuples(st.integers(1, 90), st.integers(0, 30), st.integers(0, 30)),
    seed=st.integers(0, 5),
)
def test_no_source_is_in_two_splits(
    sources: list[int], ratios: tuple[int, int, int], seed: int
) -> None:
    clips = clips_of(sources)
    splits = assign_splits(clips, ratios, "source", seed)
    pairs = {(clip.source, split) for clip, split in zip(clips, splits, strict=True)}
    assert len(pairs) == len(sources)


@given(counts=st.lists(st.integers(1, 4), min_size=30, max_size=80), seed=st.integers(0, 5))
def test_split_by_source_comes_near_80_10_10(counts: list[int], seed: int) -> None:
    splits = Counter(assign_splits(clips_of(counts), RATIOS, "source", seed))
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert abs(splits[split] - share * sum(counts)) <= 6


@pytest.mark.parametrize("sources", [3, 4, 5, 9])
def test_few_sources_still_fill_every_split_they_can(sources: int) -> None:
    splits = set(assign_splits(clips_of([4] * sources), RATIOS, "source", 0))
    assert {"train", "val"} <= splits


@pytest.mark.parametrize("split_by", ["clip", "source"])
def test_4077_clips_give_3261_407_409(split_by: str) -> None:
    splits = Counter(assign_splits(clips_of([1] * 4077), RATIOS, split_by, 0))
    assert splits == {"train": 3261, "val": 407, "test": 409}


@given(clips=st.integers(1, 400), seed=st.integers(0, 3))
def test_split_by_clip_takes_floor_floor_and_the_rest(clips: int, seed: int) -> None:
    splits = Counter(assign_splits(clips_of([clips]), RATIOS, "clip", seed))
    train, val = clips * 8 // 10, clips // 10
    assert [splits[split] for split in SPLITS] == [train, val, clips - train - val]


def test_split_is_a_function_of_the_seed() -> None:
    clips = clips_of([3] * 40)
    first, again, other = (assign_splits(clips, RATIOS, "source", seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_clips_in_split_folders_stay_there() -> None:
    clips = clips_of([2] * 10, split="test")
    assert set(assign_splits(clips, RATIOS, "source", 0)) == {"test"}


def test_free_clips_follow_their_source_into_its_split_folder() -> None:
    fixed = Clip("val/s0/x", Path(), "val", "s0")
    splits = assign_splits([fixed, *clips_of([5] * 8)], RATIOS, "source", 0)
    assert splits[:6] == ["val"] * 6


def test_source_in_two_split_folders_is_refused() -> None:
    clips = [Clip(f"{split}/s/c", Path(), split, "s") for split in ("train", "val")]
    with pytest.raises(ValueError, match="one source must stay in one split"):
        assign_splits(clips, RATIOS, "source", 0)
