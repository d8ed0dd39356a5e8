"""The order by blocks: every sample once, few shards at a time, the same for any processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.errors import UsageError
from trainer.data.blocks import Blocks
from trainer.data.sampler import Segments, TrainSampler


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Blocks, int]:
    """Any set that can be cut, and samples of a clip."""
    nodes = draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(1, 12), min_size=1, max_size=12))
    counts[0] += max(0, nodes - sum(counts))
    return Blocks(np.array(counts), nodes, draw(st.integers(1, 20))), draw(st.integers(1, 4))


def part(blocks: Blocks, node: int, per_clip: int, key: int = 5) -> list[int]:
    """All samples of a node's part of an epoch that every node has as many of."""
    position = np.arange(blocks.least * per_clip)
    samples: list[int] = blocks.samples(
        position, np.full_like(position, node), per_clip, key
    ).tolist()
    return samples


@given(cuts())
def test_an_epoch_has_every_sample_once_but_for_the_rest(made: tuple[Blocks, int]) -> None:
    blocks, per_clip = made
    samples = [one for node in range(blocks.nodes) for one in part(blocks, node, per_clip)]
    total = int(blocks.counts.sum()) * per_clip
    assert len(set(samples)) == len(samples) and min(samples) >= 0 and max(samples) < total
    assert total - len(samples) < blocks.nodes * per_clip


@given(cuts())
def test_a_block_reads_shards_that_follow_each_other_and_no_more(made: tuple[Blocks, int]) -> None:
    blocks, per_clip = made
    shard_of = np.repeat(np.arange(len(blocks.counts)), blocks.counts)
    # a block's clips lie in both its ends, and between them in so many shards at most
    most = 2 + sum(np.cumsum(np.sort(blocks.counts)) < blocks.clips)
    for node in range(blocks.nodes):
        samples = part(blocks, node, per_clip)
        for first in range(0, len(samples), blocks.clips * per_clip):
            block = np.array(samples[first : first + blocks.clips * per_clip])
            assert len(np.unique(shard_of[block // per_clip])) <= most


def test_another_epoch_has_another_order_of_shards_and_of_samples() -> None:
    blocks = Blocks(np.full(40, 5), 1, 20)
    one, two = (np.array(part(blocks, 0, 1, key)) for key in (1, 2))
    assert not np.array_equal(np.unique(one[:20] // 5), np.unique(two[:20] // 5))
    assert not np.array_equal(one[:20], np.sort(one[:20]))


# ------------------------------------------------------------------------ as the sampler has it

WINDOWS = np.full(60, 40)
SHARDS = np.repeat(np.arange(12), 5)


def sampler(**changes: Any) -> TrainSampler:
    made: dict[str, Any] = {"windows": WINDOWS, "batch_size": 8, "windows_per_clip": 4}
    return TrainSampler(**made | {"shards": SHARDS, "block_clips": 5, "nodes": 4} | changes)


def rows(segments: Segments) -> list[tuple[int, ...]]:
    columns = segments.clip, segments.start, segments.audio_start, segments.label
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=30)
@given(step=st.integers(0, 200), world=st.sampled_from([1, 2, 4, 8]))
def test_a_batch_is_the_same_for_any_number_of_processes(step: int, world: int) -> None:
    made = sampler()
    shares = [made.batch(step, rank, world) for rank in range(world)]
    assert rows(Segments.joined(shares)) == rows(made.batch(step))


def test_a_process_that_has_whole_nodes_needs_the_shards_of_those_alone() -> None:
    made = sampler()
    assert made.block_steps == 10
    for steps in (range(10), range(20, 30)):  # of an epoch of 30
        for rank in range(4):
            clips = np.concatenate([made.batch(step, rank, 4).clip for step in steps])
            assert len(np.unique(SHARDS[clips])) <= 2
        everywhere = np.concatenate([made.batch(step).clip for step in steps])
        assert len(np.unique(SHARDS[everywhere])) >= 4  # of every node another one


@pytest.mark.parametrize("nodes", [4, 8])
def test_genuine_pairs_are_half_of_every_batch_and_of_every_node(nodes: int) -> None:
    made = sampler(nodes=nodes)
    epoch = [made.batch(step) for step in range(made.steps_per_epoch)]
    assert all(int(each.label.sum()) == 4 for each in epoch)
    shares = np.array([each.label for each in epoch]).reshape(len(epoch), nodes, -1).mean((0, 2))
    assert (abs(shares - 0.5) < 0.1).all()


@pytest.mark.parametrize("pairing", ["paired", "multiway"])
def test_every_kind_of_sample_comes_by_blocks(pairing: str) -> None:
    made = sampler(pairing=pairing, sample_frames=10, windows_per_clip=2)
    epoch = Segments.joined([made.batch(step) for step in range(made.steps_per_epoch)])
    assert np.bincount(epoch.clip, minlength=60).tolist() == [2] * 60
    # a sample is the same in any order: its draws go by its clip and number
    shuffled = replace(made, shards=None, nodes=1)
    other = Segments.joined([shuffled.batch(step) for step in range(shuffled.steps_per_epoch)])
    assert rows(epoch) != rows(other) and sorted(rows(epoch)) == sorted(rows(other))


def test_windows_in_runs_come_by_blocks() -> None:
    made = sampler(batch_size=16, windows_per_run=2, pairing="paired")
    epoch = Segments.joined([made.batch(step) for step in range(made.steps_per_epoch)])
    assert np.bincount(epoch.clip, minlength=60).tolist() == [4] * 60
    assert (epoch.start[1::2] == epoch.start[::2] + 1).all()


def test_of_several_sets_each_comes_by_blocks_of_its_own() -> None:
    made = sampler(sets=SHARDS // 6, weights=(1, 3), nodes=1, block_clips=10)
    shards = SHARDS[np.concatenate([made.batch(step).clip for step in range(6)])]
    assert np.bincount(shards // 6).tolist() == [12, 36]
    assert all(len(np.unique(shards[shards // 6 == number])) <= 3 for number in (0, 1))


def test_a_batch_that_the_nodes_cannot_share_is_refused() -> None:
    with pytest.raises(UsageError, match=r"does not make 3 equal parts.*data\.nodes"):
        sampler(nodes=3)


def test_clips_in_quarantine_are_replaced() -> None:
    made = sampler()
    barred = dict.fromkeys(range(30), 0)
    clips = np.concatenate([made.batch(step, quarantine=barred).clip for step in range(20)])
    assert clips.min() >= 30


def test_clips_that_are_too_short_are_in_no_block() -> None:
    windows = np.where(np.arange(60) % 7 == 0, 2, 40)
    made = sampler(windows=windows)
    clips = np.concatenate([made.batch(step).clip for step in range(made.steps_per_epoch)])
    assert (windows[clips] > 3).all()
    assert replace(made, nodes=2).samples_per_epoch == int((windows > 3).sum()) // 2 * 2 * 4
