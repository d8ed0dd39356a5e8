"""The sampler: fair pairs, whole epochs, any world size, quarantine, fixed validation runs."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from trainer.data.sampler import Segments, TrainSampler
from trainer.data.shares import taken

CLIPS = np.array([45, 3, 60, 4, 120, 51, 10, 0])  # 3 and 0 are too short for a shift of 3


@st.composite
def samplers(draw: st.DrawFn) -> TrainSampler:
    """Any sampler that can be built, with short and long clips."""
    windows = draw(st.lists(st.integers(0, 200), min_size=1, max_size=12))
    min_shift = draw(st.integers(1, 8))
    windows.append(draw(st.integers(min_shift + 1, 200)))
    per_clip = draw(st.integers(2, 9))
    samples = per_clip * sum(count > min_shift for count in windows)
    return TrainSampler(
        np.array(windows),
        batch_size=2 * draw(st.integers(1, samples // 2)),
        windows_per_clip=per_clip,
        min_shift=min_shift,
        max_shift=draw(st.integers(min_shift, 60)),
        seed=draw(st.integers(0, 2**70)),
    )


def sampler(**changes: Any) -> TrainSampler:
    """Six eligible clips of five windows each in batches of eight."""
    return TrainSampler(**{"windows": CLIPS, "batch_size": 8, **changes})


def same(a: Segments, b: Segments) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Segments))


def joined(parts: list[Segments]) -> Segments:
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Segments)]
    return Segments(*(None if column[0] is None else np.concatenate(column) for column in columns))


def rows(segments: Segments) -> set[tuple[int, int]]:
    return set(zip(segments.clip.tolist(), segments.start.tolist(), strict=True))


# --------------------------------------------------------------------------------- the pairs


@given(made=samplers(), step=st.integers(0, 10**6))
def test_half_of_every_batch_is_genuine(made: TrainSampler, step: int) -> None:
    label = made.batch(step).label
    assert len(label) == made.batch_size
    assert label.sum() * 2 == made.batch_size
    assert set(label.tolist()) <= {0, 1}


@given(made=samplers(), step=st.integers(0, 10**6))
def test_sound_and_picture_lie_inside_the_clip(made: TrainSampler, step: int) -> None:
    segments = made.batch(step)
    count = made.windows[segments.clip]
    assert np.array_equal(segments.audio_clip, segments.clip)
    for at in (segments.start, segments.audio_start):
        assert at.dtype == np.int64
        assert ((at >= 0) & (at < count)).all()


@given(made=samplers(), step=st.integers(0, 10**6))
def test_false_pairs_are_shifted_within_limits_and_genuine_ones_not(
    made: TrainSampler, step: int
) -> None:
    segments = made.batch(step)
    distance = np.abs(segments.audio_start - segments.start)
    false = segments.label == 0
    assert (distance[~false] == 0).all()
    assert ((distance[false] >= made.min_shift) & (distance[false] <= made.max_shift)).all()


def test_both_sides_and_both_limits_are_drawn() -> None:
    made = sampler(windows=np.array([200]), batch_size=20_000, windows_per_clip=20_000)
    segments = made.batch(0)
    shift = (segments.audio_start - segments.start)[segments.label == 0]
    assert {-50, -3, 3, 50} <= set(shift.tolist())
    assert stats.binomtest(int((shift > 0).sum()), len(shift)).pvalue > 1e-3


@pytest.mark.parametrize(("windows", "nearest", "widest"), [(10, 3, 5), (7, 3, 50), (4, 3, 50)])
def test_false_pairs_are_uniform_over_all_ordered_pairs(
    windows: int, nearest: int, widest: int
) -> None:
    segments = one_clip(windows, nearest, widest)
    pairs = ordered_pairs(windows, nearest, widest)
    false = segments.label == 0
    drawn = np.zeros((windows, windows), dtype=np.int64)
    np.add.at(drawn, (segments.start[false], segments.audio_start[false]), 1)
    assert drawn[~pairs].sum() == 0
    assert stats.chisquare(drawn[pairs]).pvalue > 1e-3


def test_neither_position_tells_a_genuine_pair_from_a_false_one() -> None:
    segments = one_clip(10, 3, 5)
    share = ordered_pairs(10, 3, 5).sum(axis=1)
    assert len(set(share.tolist())) > 1  # not flat, so that the test can fail
    expected = share / share.sum() * (len(segments) // 2)
    for label in (0, 1):
        for position in (segments.start, segments.audio_start):
            drawn = np.bincount(position[segments.label == label], minlength=10)
            assert stats.chisquare(drawn, expected).pvalue > 1e-3


def one_clip(windows: int, nearest: int, widest: int) -> Segments:
    """Forty thousand samples of a single clip."""
    return TrainSampler(np.array([windows]), 40_000, 40_000, nearest, widest).batch(0)


def ordered_pairs(windows: int, nearest: int, widest: int) -> NDArray[np.bool_]:
    """(windows, windows): the pairs (start, shifted) that may be drawn."""
    place = np.arange(windows)
    distance = np.abs(place[:, None] - place)
    return np.asarray((distance >= nearest) & (distance <= widest))


# ------------------------------------------------------------------------------------ epochs


@given(seed=st.integers(0, 1000), epoch=st.integers(0, 1000))
def test_each_long_enough_clip_comes_windows_per_clip_times_an_epoch(seed: int, epoch: int) -> None:
    made = sampler(batch_size=10, seed=seed)
    assert made.samples_per_epoch == 30 and made.steps_per_epoch == 3
    steps = [made.batch(epoch * 3 + i) for i in range(3)]
    drawn = np.bincount(joined(steps).clip, minlength=len(CLIPS))
    assert np.array_equal(drawn, np.where(CLIPS > 3, 5, 0))


def test_the_dropped_rest_of_an_epoch_is_another_each_time() -> None:
    made = sampler()  # 30 samples, three batches of 8
    counts = [
        np.bincount(joined([made.batch(3 * epoch + i) for i in range(3)]).clip, minlength=8)
        for epoch in range(20)
    ]
    assert all(count.max() <= 5 and count.sum() == 24 for count in counts)
    assert len({tuple(count) for count in counts}) > 10


def test_each_epoch_brings_new_windows_in_a_new_order() -> None:
    made = sampler(windows=np.full(20, 500), batch_size=100)
    first, second = made.batch(0), made.batch(1)
    assert len(rows(first) & rows(second)) < 5
    assert not np.array_equal(first.clip, second.clip)


def test_each_sample_of_an_epoch_draws_its_own_window() -> None:
    made = sampler(windows=np.full(20, 500), batch_size=100)
    assert len(rows(made.batch(0))) > 90


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    assert same(sampler(seed=7).batch(11), sampler(seed=7).batch(11))
    assert not same(sampler(seed=7).batch(11), sampler(seed=8).batch(11))
    assert not same(sampler(seed=7).batch(11), sampler(seed=7).batch(12))


def test_a_late_step_of_a_large_set_is_drawn_in_range() -> None:
    made = sampler(windows=np.full(300_000, 3_000_000), batch_size=512)
    segments = made.batch(10**9)
    assert ((segments.start >= 0) & (segments.start < 3_000_000)).all()
    distance = np.abs(segments.audio_start - segments.start)[segments.label == 0]
    assert distance.min() >= 3 and distance.max() <= 50


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("quarantine", [None, {0: 0, 4: 2}])
def test_the_ranks_together_hold_the_single_batch(
    world: int, quarantine: dict[int, int] | None
) -> None:
    made = sampler()
    for step in range(5):
        parts = [made.batch(step, rank, world, quarantine) for rank in range(world)]
        assert all(len(part) == 8 // world for part in parts)
        assert same(joined(parts), made.batch(step, quarantine=quarantine))


# ------------------------------------------------------------------------------ several sets


@st.composite
def mixtures(draw: st.DrawFn) -> TrainSampler:
    """Samplers of two to four sets of any sizes, weights and pairing, with clips too short."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    sets = np.repeat(np.arange(len(sizes)), sizes)
    windows = np.array(draw(st.lists(st.integers(0, 80), min_size=len(sets), max_size=len(sets))))
    windows[np.cumsum(sizes) - 1] = 40  # one at least can be used
    pairing: Any = draw(st.sampled_from(["independent", "paired", "multiway"]))
    weights = draw(
        st.none() | st.lists(st.floats(0.01, 9), min_size=len(sizes), max_size=len(sizes))
    )
    return TrainSampler(
        windows,
        batch_size=draw(st.sampled_from([2, 4, 6, 12, 24])),
        windows_per_clip=draw(st.integers(12, 20)),
        seed=draw(st.integers(0, 2**70)),
        pairing=pairing,
        sample_frames=12,
        sets=sets,
        weights=weights,
    )


@given(made=mixtures(), first=st.integers(0, 10**6), steps=st.integers(1, 12))
@settings(deadline=None, max_examples=30)
def test_each_set_gives_its_weight_of_the_samples_whenever_one_looks(
    made: TrainSampler, first: int, steps: int
) -> None:
    assert made.sets is not None
    of = made.sets[joined([made.batch(first + i) for i in range(steps)]).clip]
    given_before = np.array(taken(first * made.batch_size, made.shares))
    given_after = np.array(taken((first + steps) * made.batch_size, made.shares))
    counted = np.bincount(of, minlength=len(made.members))
    assert np.array_equal(counted, given_after - given_before)


@given(mixtures(), st.integers(0, 3))
@settings(deadline=None, max_examples=15)
def test_each_set_is_gone_through_in_epochs_of_its_own(made: TrainSampler, number: int) -> None:
    """In the first samples that a set gives, each of its clips comes windows_per_clip times."""
    count = len(made.members)
    made = replace(made, batch_size=24, windows_per_clip=12, weights=(3, 2, 1, 1)[:count])
    members = made.members[number % count]
    once, share = len(members) * 12, made.shares[number % count] / sum(made.shares)
    steps = int((once + count) / (24 * share)) + 1
    clips = joined([made.batch(step) for step in range(steps)]).clip
    counts = np.bincount(clips[np.isin(clips, members)], minlength=len(made.windows))[members]
    assert once <= counts.sum() < once + 24 + 2 * count  # the next epoch has just begun
    assert (counts >= 12).all()


@given(made=mixtures(), step=st.integers(0, 10**6), data=st.data())
@settings(deadline=None, max_examples=40)
def test_several_sets_have_one_order_for_any_number_of_processes(
    made: TrainSampler, step: int, data: st.DataObject
) -> None:
    size = made.batch_size
    world = data.draw(st.sampled_from([n for n in (1, 2, 3, 4, 6, 12) if size % n == 0]))
    most = max(made.members, key=len)
    quarantine = {int(most[0]): step} if len(most) > 1 else {}
    whole = made.batch(step, quarantine=quarantine)
    parts = [made.batch(step, rank, world, quarantine) for rank in range(world)]
    assert same(joined(parts), whole)
    # a resume is one integer: a sampler made anew knows as much
    assert same(replace(made).batch(step, quarantine=quarantine), whole)
    assert not np.isin(whole.clip, list(quarantine)).any()


@given(made=mixtures(), step=st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_samples_of_several_sets_lie_inside_their_clips_and_half_are_genuine(
    made: TrainSampler, step: int
) -> None:
    segments = made.batch(step)
    last = made.windows[segments.clip] - (8 if made.pairing == "multiway" else 1)
    assert ((segments.start >= 0) & (segments.start <= last)).all()
    assert np.array_equal(segments.audio_clip, segments.clip)
    if made.pairing == "independent":
        assert segments.label.tolist() == [1, 0] * (made.batch_size // 2)
        assert (np.abs(segments.audio_start - segments.start)[segments.label == 0] >= 3).all()


def mixture(**changes: Any) -> TrainSampler:
    """Two sets of three clips, three samples to one."""
    sets = np.repeat([0, 1], 3)
    return TrainSampler(
        **{"windows": np.full(6, 50), "batch_size": 4, "sets": sets, "weights": (3, 1), **changes}
    )


def test_a_set_of_one_sample_a_step_gives_both_kinds_at_any_slot() -> None:
    made = mixture()
    segments = [made.batch(step) for step in range(300)]
    slot = np.array([int(np.flatnonzero(batch.clip >= 3)[0]) for batch in segments])
    assert all((batch.clip >= 3).sum() == 1 for batch in segments)
    assert stats.chisquare(np.bincount(slot, minlength=4)).pvalue > 1e-3


def test_by_default_sets_are_mixed_as_if_they_were_one() -> None:
    made = mixture(windows=np.array([50, 50, 2, 50, 2, 2]), weights=None)
    assert made.shares == (2, 1)
    drawn = joined([made.batch(step) for step in range(300)]).clip
    assert np.bincount(drawn, minlength=6).tolist() == [400, 400, 0, 400, 0, 0]


def test_an_epoch_of_several_sets_is_as_long_as_all_of_them() -> None:
    made = mixture(windows_per_clip=7)
    assert (made.samples_per_epoch, made.steps_per_epoch) == (42, 10)
    assert mixture(windows_per_clip=7, weights=(1, 100)).steps_per_epoch == 10


def test_sets_of_equal_clips_draw_different_windows() -> None:
    made = mixture(weights=(1, 1), windows=np.full(6, 5000), batch_size=20, windows_per_clip=50)
    drawn = joined([made.batch(step) for step in range(15)])
    mine, other = (set(drawn.start[drawn.clip // 3 == number].tolist()) for number in (0, 1))
    assert len(mine & other) < 20 < len(mine)


def test_the_curriculum_counts_the_epochs_of_all_sets() -> None:
    made = mixture(curriculum=4, windows_per_clip=100, weights=(1, 9), windows=np.full(6, 500))
    for step in (0, made.steps_per_epoch, 5 * made.steps_per_epoch):
        segments = joined([made.batch(step + i) for i in range(0, made.steps_per_epoch, 15)])
        distance = np.abs(segments.audio_start - segments.start)[segments.label == 0]
        assert distance.min() >= made.min_shift_at(step)
    assert made.min_shift_at(0) > made.min_shift_at(5 * made.steps_per_epoch) == 3


def test_a_bad_clip_is_replaced_out_of_its_own_set() -> None:
    made = mixture()
    for step in range(50):
        before, after = made.batch(step), made.batch(step, quarantine={3: 0, 0: 10})
        assert np.array_equal(before.clip >= 3, after.clip >= 3)
        assert not np.isin(after.clip, [3, 0] if step >= 10 else [3]).any()
    with pytest.raises(ValueError, match="every clip of set 2 is in quarantine"):
        made.batch(0, quarantine={3: 0, 4: 0, 5: 0})


def test_a_set_without_a_clip_long_enough_is_named() -> None:
    with pytest.raises(ValueError, match=r"no clip of set 2 is long enough .*longest: 3 windows"):
        mixture(windows=np.array([50, 50, 50, 3, 2, 1]))


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        ({}, "28a1e9ecd5be92e4"),
        ({"pairing": "paired", "curriculum": 3}, "bfa39c5b626b7619"),
        ({"pairing": "multiway", "sample_frames": 10, "curriculum": 2}, "4a9830152b322af4"),
    ],
)
def test_the_order_of_one_set_is_that_of_version_0_2(changes: dict[str, Any], digest: str) -> None:
    """A run that 0.2.0 began goes on with the same samples."""
    for one_set in ({}, {"sets": np.zeros(len(CLIPS), np.int64), "weights": (2.0,)}):
        found = hashlib.sha256()
        made = sampler(**changes, **one_set)
        for step in (0, 1, 7, 10**6):
            for quarantine in (None, {4: 5}):
                segments = made.batch(step, quarantine=quarantine)
                for field in fields(Segments):
                    column = getattr(segments, field.name)
                    if column is not None:
                        found.update(np.ascontiguousarray(column).astype("<i8").tobytes())
        assert found.hexdigest()[:16] == digest


# -------------------------------------------------------------------------------- quarantine


def test_quarantine_bars_a_clip_from_its_step_on_and_changes_nothing_else() -> None:
    made = sampler()
    barred = {4: 5, 0: 9}
    for step in range(20):
        before, after = made.batch(step), made.batch(step, quarantine=barred)
        out = [clip for clip, since in barred.items() if since <= step]
        replaced = np.isin(before.clip, out)
        assert not np.isin(after.clip, out).any()
        assert (CLIPS[after.clip] > 3).all()
        assert np.array_equal(before.label, after.label)
        for field in fields(Segments):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if old is None:
                continue
            assert np.array_equal(old[~replaced], new[~replaced])


def test_replacements_are_fair_pairs_of_all_clips_left() -> None:
    made = sampler(batch_size=3000, windows_per_clip=500)
    before, after = made.batch(0), made.batch(0, quarantine={4: 0, 0: 0})
    replaced = np.isin(before.clip, [0, 4])
    drawn = np.bincount(after.clip[replaced], minlength=8)[[2, 3, 5, 6]]
    assert stats.chisquare(drawn).pvalue > 1e-3
    count = CLIPS[after.clip]
    assert ((after.audio_start >= 0) & (after.audio_start < count)).all()
    distance = np.abs(after.audio_start - after.start)
    assert (distance[after.label == 0] >= 3).all() and (distance[after.label == 1] == 0).all()


def test_no_clip_left_is_an_error_from_that_step_on() -> None:
    made = sampler()
    barred = dict.fromkeys(range(len(CLIPS)), 2)
    assert same(made.batch(1, quarantine=barred), made.batch(1))
    with pytest.raises(ValueError, match="every clip is in quarantine"):
        made.batch(2, quarantine=barred)


# -------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, "batch_size 7 must be even"),
        ({"batch_size": 0}, "batch_size 0 must be even"),
        ({"batch_size": -2}, "batch_size -2 must be even"),
        ({"min_shift": 0}, "1 <= min_shift <= max_shift"),
        ({"min_shift": 9, "max_shift": 8}, "min_shift 9 and max_shift 8"),
        ({"windows_per_clip": 0}, "windows_per_clip must be at least 1"),
        ({"windows": np.array([3, 2])}, r"longest: 3 windows.*lower data\.min_shift"),
        ({"windows": np.array([], dtype=np.int64)}, "longest: 0 windows"),
        ({"batch_size": 32}, r"exceeds the 30 samples.*6 clips x 5.*lower train\.batch_size"),
    ],
)
def test_settings_without_a_batch_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**changes)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="8 is not divisible by 3 processes"):
        sampler().batch(0, 0, 3)


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_a_slice_of_runs_cuts_every_field(pairing: str) -> None:
    segments = sampler(pairing=pairing).batch(0)
    assert same(joined([segments[:3], segments[3:]]), segments)
    assert len(segments[2:5]) == 3


# ------------------------------------------------------------------------- other pairings


def test_paired_windows_come_with_both_sounds_of_the_same_draw() -> None:
    alone, both = (
        sampler(windows=np.full(20, 99)),
        sampler(windows=np.full(20, 99), pairing="paired"),
    )
    segments = both.batch(3)
    assert segments.false_start is not None and (segments.label == 1).all()
    assert np.array_equal(segments.audio_start, segments.start)
    apart = np.abs(segments.false_start - segments.start)
    assert (apart >= 3).all() and (apart <= 50).all()
    assert ((segments.false_start >= 0) & (segments.false_start < 99)).all()
    assert np.array_equal(segments.start, alone.batch(3).start)


@given(
    windows=st.lists(st.integers(0, 60), min_size=1, max_size=9),
    frames=st.integers(8, 30),
    step=st.integers(0, 500),
)
def test_multiway_runs_lie_inside_their_clips(windows: list[int], frames: int, step: int) -> None:
    fits = np.array(windows) >= frames - 4
    changes = {"windows": np.array(windows), "pairing": "multiway", "sample_frames": frames}
    if not fits.any():
        with pytest.raises(ValueError, match=f"a run of {frames} frames"):
            sampler(**changes)
        return
    made = sampler(batch_size=1, min_shift=1, **changes)
    assert np.array_equal(made.eligible, np.flatnonzero(fits))
    segments = made.batch(step)
    assert (segments.start >= 0).all() and (segments.label == 1).all()
    assert (segments.start + frames - 4 <= made.windows[segments.clip]).all()


def test_multiway_needs_room_for_false_pairs() -> None:
    with pytest.raises(ValueError, match="must exceed min_shift"):
        sampler(pairing="multiway", sample_frames=7, min_shift=3)


def test_a_curriculum_brings_the_false_pairs_nearer() -> None:
    made = sampler(windows=np.full(64, 200), batch_size=64, curriculum=10)
    per_epoch = made.steps_per_epoch
    least = [made.min_shift_at(epoch * per_epoch) for epoch in range(13)]
    assert least[0] == 25 and least[10:] == [3, 3, 3] and least == sorted(least, reverse=True)
    for epoch in (0, 5, 11):
        segments = joined([made.batch(epoch * per_epoch + i) for i in range(per_epoch)])
        apart = np.abs(segments.audio_start - segments.start)[segments.label == 0]
        assert least[epoch] <= apart.min() <= least[epoch] + 2
    assert sampler().min_shift_at(0) == 3


def test_keys_are_those_of_the_sample_whoever_draws_it() -> None:
    made = sampler(windows=np.full(20, 99))
    whole = made.batch(4)
    parts = joined([made.batch(4, rank, 2) for rank in range(2)])
    assert whole.key is not None and same(whole, parts) and len(set(whole.key.tolist())) == 8
    assert not np.array_equal(whole.key, made.batch(5).key)
