"""Segments that are no draw: those of validation, and swapped sound."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.fixed_segments import fixed_segments, swap_audio
from trainer.data.sampler import Segments

CLIPS = np.array([45, 3, 60, 4, 120, 51, 10, 0])


def same(a: Segments, b: Segments) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Segments))


def rows(segments: Segments) -> set[tuple[int, int]]:
    return set(zip(segments.clip.tolist(), segments.start.tolist(), strict=True))


@given(
    windows=st.lists(st.integers(0, 150), max_size=10),
    sample_frames=st.integers(5, 40),
    reach=st.integers(0, 20),
    per_clip=st.integers(1, 6),
)
def test_fixed_runs_lie_in_the_clip_and_inside_it_where_it_is_long_enough(
    windows: list[int], sample_frames: int, reach: int, per_clip: int
) -> None:
    count = np.array(windows, dtype=np.int64)
    segments = fixed_segments(count, sample_frames, reach, per_clip)
    last = count[segments.clip] - (sample_frames - 4)
    assert ((segments.start >= 0) & (segments.start <= last)).all()
    assert np.array_equal(segments.audio_start, segments.start - reach)
    assert (segments.label == 1).all()
    long = last >= 2 * reach
    assert (segments.start[long] >= reach).all()
    assert (segments.start[long] + reach <= last[long]).all()


@given(windows=st.lists(st.integers(0, 150), max_size=10), per_clip=st.integers(1, 6))
def test_fixed_runs_take_up_to_per_clip_different_places_of_each_clip(
    windows: list[int], per_clip: int
) -> None:
    segments = fixed_segments(np.array(windows, dtype=np.int64), 10, 15, per_clip)
    assert len(rows(segments)) == len(segments)
    drawn = np.bincount(segments.clip, minlength=len(windows))
    for count, got in zip(windows, drawn.tolist(), strict=True):
        places = max(1, count - 6 - 30 + 1) if count >= 6 else 0
        assert got == min(per_clip, places)


def test_fixed_runs_are_the_same_each_time() -> None:
    assert same(fixed_segments(CLIPS, 15, 15, 3), fixed_segments(CLIPS, 15, 15, 3))


@settings(max_examples=50)
@given(clips=st.lists(st.integers(0, 30), min_size=2, max_size=40).filter(lambda c: len({*c}) > 1))
def test_swapped_sound_is_never_that_of_the_same_clip(clips: list[int]) -> None:
    clip = np.array(clips)
    start = np.arange(len(clip))
    segments = Segments(clip, start, clip, start - 3, np.ones_like(clip))
    swapped = swap_audio(segments)
    assert (swapped.audio_clip != clip).all()
    assert set(swapped.audio_clip.tolist()) == set(clips)
    assert same(replace(swapped, audio_clip=clip), segments)
