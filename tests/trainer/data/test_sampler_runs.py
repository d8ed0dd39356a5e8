"""Several windows of one decoded run: whole runs, fair pairs for each window, nothing else new."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data_tools.errors import UsageError
from trainer.data.sampler import Pairing, Segments, TrainSampler
from trainer.data.shares import taken

CLIPS = np.array([45, 3, 60, 4, 120, 51, 10, 0])
SETS = np.array([0, 0, 0, 1, 1, 1, 1, 1])


def same(a: Segments, b: Segments) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Segments))


@st.composite
def samplers(draw: st.DrawFn) -> TrainSampler:
    """Any sampler of runs, of one set or several, with clips too short."""
    count = draw(st.integers(1, 12))
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    windows = np.array(draw(st.lists(st.integers(0, 80), min_size=sum(sizes), max_size=sum(sizes))))
    windows[np.cumsum(sizes) - 1] = 40  # one at least can be used
    pairing: Pairing = draw(st.sampled_from(["independent", "paired"]))
    runs = draw(st.sampled_from([2, 4, 12] if count % 2 else [1, 2, 3, 4, 12]))
    min_shift = draw(st.integers(1, 8))
    return TrainSampler(
        windows,
        batch_size=runs * count,
        windows_per_clip=draw(st.integers(12, 20)) * count,
        min_shift=min_shift,
        max_shift=draw(st.integers(min_shift, 60)),
        seed=draw(st.integers(0, 2**70)),
        pairing=pairing,
        curriculum=draw(st.integers(0, 3)),
        sets=np.repeat(np.arange(len(sizes)), sizes) if len(sizes) > 1 else None,
        windows_per_run=count,
    )


@given(made=samplers(), step=st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_a_batch_is_made_of_whole_runs_inside_their_clips(made: TrainSampler, step: int) -> None:
    segments, count = made.batch(step), made.windows_per_run
    assert len(segments) == made.batch_size
    clip, start, label = (
        column.reshape(-1, count) for column in (segments.clip, segments.start, segments.label)
    )
    assert (clip == clip[:, :1]).all() and (start == start[:, :1] + np.arange(count)).all()
    assert np.array_equal(segments.audio_clip, segments.clip)
    last = made.windows[segments.clip] - 1
    sounds = [segments.start, segments.audio_start]
    if made.pairing == "paired":
        assert segments.false_start is not None and (label == 1).all()
        false, apart = np.full(len(segments), True), segments.false_start - segments.start
        sounds.append(segments.false_start)
    else:
        false, apart = segments.label == 0, segments.audio_start - segments.start
        assert 2 * false.sum() == made.batch_size  # half are genuine, and by turns
        assert (label[:, 1:] != label[:, :-1]).all() and (apart[~false] == 0).all()
    assert all(((at >= 0) & (at <= last)).all() for at in sounds)
    # a clip too short for the curriculum's shift gives the widest that it has
    least = np.minimum(made.min_shift_at(step), last - (count - 1))
    assert ((np.abs(apart) >= least) & (np.abs(apart) <= made.max_shift))[false].all()


@given(made=samplers(), step=st.integers(0, 10**6), data=st.data())
@settings(deadline=None, max_examples=40)
def test_runs_have_one_order_for_any_number_of_processes(
    made: TrainSampler, step: int, data: st.DataObject
) -> None:
    runs = made.batch_size // made.windows_per_run
    world = data.draw(st.sampled_from([n for n in (1, 2, 3, 4, 6, 12) if runs % n == 0]))
    most = max(made.members, key=len)
    quarantine = {int(most[0]): step} if len(most) > 1 else {}
    whole = made.batch(step, quarantine=quarantine)
    parts = [made.batch(step, rank, world, quarantine) for rank in range(world)]
    assert same(Segments.joined(parts), whole)
    assert same(replace(made).batch(step, quarantine=quarantine), whole)
    assert not np.isin(whole.clip, list(quarantine)).any()
    assert whole.key is not None and len(set(whole.key.tolist())) == len(whole)


@given(made=samplers(), first=st.integers(0, 10**5), steps=st.integers(1, 8))
@settings(deadline=None, max_examples=30)
def test_each_set_gives_its_weight_of_the_runs(made: TrainSampler, first: int, steps: int) -> None:
    sets = np.zeros(len(made.windows), int) if made.sets is None else made.sets
    clips = [made.batch(first + i).clip[:: made.windows_per_run] for i in range(steps)]
    runs, count = made.batch_size // made.windows_per_run, len(made.members)
    before, after = (np.array(taken(n * runs, made.shares)) for n in (first, first + steps))
    counted = np.bincount(sets[np.concatenate(clips)], minlength=count)
    assert np.array_equal(counted, after - before)


@given(seed=st.integers(0, 1000), epoch=st.integers(0, 1000), count=st.sampled_from([1, 2, 5]))
@settings(deadline=None, max_examples=30)
def test_each_clip_gives_windows_per_clip_an_epoch(seed: int, epoch: int, count: int) -> None:
    made = TrainSampler(CLIPS, 50, 10, 3, seed=seed, windows_per_run=count)
    steps = range(epoch * made.steps_per_epoch, (epoch + 1) * made.steps_per_epoch)
    assert made.samples_per_epoch == 10 * (3 + count - 1 < CLIPS).sum()
    counts = np.bincount(np.concatenate([made.batch(step).clip for step in steps]), minlength=8)
    assert counts.max() <= 10 and counts.sum() == made.samples_per_epoch // 50 * 50


@pytest.mark.parametrize("pairing", ["independent", "paired"])
@pytest.mark.parametrize(("count", "windows"), [(2, 11), (3, 12), (5, 14)])
def test_neither_position_tells_a_genuine_pair_from_a_false_one(
    pairing: Pairing, count: int, windows: int
) -> None:
    """Of the windows at each place of a run, and so of all of them; ten places, shifts of 3..5."""
    total = 30_000 * count
    made = TrainSampler(
        np.array([windows]), total, total, 3, 5, pairing=pairing, windows_per_run=count
    )
    segments = made.batch(0)
    apart = np.abs(np.arange(10)[:, None] - np.arange(10))
    pairs = (apart >= 3) & (apart <= 5)
    share = pairs.sum(axis=1) / pairs.sum()
    assert len(set(share.tolist())) > 1  # not flat, so that the test can fail
    sound = segments.audio_start if pairing == "independent" else segments.false_start
    assert sound is not None
    for turn in range(count):
        own = slice(turn, None, count)
        start, shifted = segments.start[own] - turn, sound[own] - turn
        kinds = [np.full(len(start), True)] * 2
        if pairing == "independent":
            kinds = [segments.label[own] == 1, segments.label[own] == 0]
        genuine, false = kinds
        drawn = np.zeros((10, 10), dtype=np.int64)
        np.add.at(drawn, (start[false], shifted[false]), 1)
        assert drawn[~pairs].sum() == 0
        assert stats.chisquare(drawn[pairs]).pvalue > 1e-4
        at = np.bincount(start[genuine], minlength=10)
        assert stats.chisquare(at, share * at.sum()).pvalue > 1e-4
        # both kinds at every place, though batches are but half and half
        assert abs(genuine.sum() - false.sum()) < 0.05 * len(start)


def test_each_false_sound_of_a_run_is_drawn_for_itself() -> None:
    made = TrainSampler(np.full(50, 500), 1000, 20, pairing="paired", windows_per_run=5)
    segments = made.batch(0)
    assert segments.false_start is not None
    shift = (segments.false_start - segments.start).reshape(-1, 5)
    assert (np.ptp(shift, axis=1) > 0).all()
    assert len(set(shift[:, 0].tolist())) > 30
    assert np.abs(np.corrcoef(shift, rowvar=False) - np.eye(5)).max() < 0.3


@pytest.mark.parametrize(
    ("pairing", "several", "wanted"),
    [
        ("independent", False, "4e60db4efac92767"),
        ("independent", True, "bc7826713a7b7157"),
        ("paired", False, "06ce37dd1d0cb11f"),
        ("paired", True, "95b8b21e1166f69f"),
    ],
)
def test_single_windows_are_the_samples_of_earlier_versions(
    pairing: Pairing, several: bool, wanted: str
) -> None:
    """Digests of what the sampler gave before there were runs."""
    mixed: Any = {"sets": SETS, "weights": (3, 1)} if several else {}
    made = TrainSampler(CLIPS, 8, seed=3, pairing=pairing, curriculum=2, **mixed)
    digest = hashlib.sha256()
    for step in range(12):
        batch = made.batch(step, quarantine={4: 5})
        for field in fields(batch):
            column = getattr(batch, field.name)
            digest.update(b"-" if column is None else column.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == wanted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"windows_per_run": 0}, "windows_per_run must be at least 1"),
        ({"windows_per_run": 3}, "train.batch_size 20 must be a multiple"),
        ({"windows_per_run": 4}, "data.windows_per_clip 10 must be a multiple of"),
        ({"windows_per_run": 2, "pairing": "multiway", "sample_frames": 9}, "is a run already"),
        ({"windows_per_run": 2, "windows": np.array([4, 4])}, "lower data.min_shift or data.win"),
    ],
)
def test_what_makes_no_runs_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TrainSampler(**{"windows": CLIPS, "batch_size": 20, "windows_per_clip": 10, **changes})


def test_runs_that_processes_cannot_share_are_refused() -> None:
    made = TrainSampler(CLIPS, 20, 10, windows_per_run=5)
    assert len(made.batch(0, 1, 2)) == 10
    with pytest.raises(
        UsageError, match=r"20 in runs of 5 windows \(data.windows_per_run\) is not"
    ):
        made.batch(0, 0, 5)
