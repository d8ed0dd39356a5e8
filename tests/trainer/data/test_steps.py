"""Steps planned several at a time: what each is alone, in order, whatever comes between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from trainer.data.augment import Augment, change_sound
from trainer.data.batch import Shape
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments, TrainSampler
from trainer.data.steps import Steps

SHAPE = Shape(4, 5, 5, 64, 3, Augment(gain=3.0, noise=0.1), quiet=True)


@pytest.fixture(scope="module")
def dataset(shards_folder: Path) -> Dataset:
    return Dataset(shards_folder, "train")


def test_a_step_planned_with_others_is_what_it_is_alone(dataset: Dataset) -> None:
    sampler = TrainSampler(dataset.windows, 4, windows_per_clip=4)
    asked: list[int] = []

    def requests(step: int, quarantine: Mapping[int, int]) -> Segments:
        asked.append(step)
        return sampler.batch(step, quarantine=quarantine)[: 1 + step % 4]  # of any length

    steps = Steps(dataset, requests, SHAPE, lambda first, length: first % 2 == 0)
    quarantine: dict[int, int] = {}
    for step in range(7, 60):
        if step == 40:
            quarantine[int(sampler.batch(41).clip[0])] = 40
            steps.clear()
        found = steps.plan(step, quarantine)
        segments = sampler.batch(step, quarantine=quarantine)[: 1 + step % 4]
        assert found.step == step
        assert np.array_equal(found.whole.segments.clip, segments.clip)
        assert np.array_equal(found.first, dataset.first_frames(segments))
        sound = dataset.mfcc(segments, 5, 20)
        assert np.array_equal(found.whole.quiet_NA, dataset.quiet(segments, sound, 20))
        assert segments.key is not None and SHAPE.augment is not None
        change_sound(SHAPE.augment, segments.key, sound)
        assert np.array_equal(found.sound, sound)
    # each step once and in order, blocks of 1, 2, 4, 8 and 16 of them, one block ahead
    assert asked == [*range(7, 70), *range(40, 87)]


def test_requests_that_fail_do_so_when_it_is_their_turn(dataset: Dataset) -> None:
    sampler = TrainSampler(dataset.windows, 4, windows_per_clip=4)

    def requests(step: int, quarantine: Mapping[int, int]) -> Segments:
        if step >= 9:
            raise ValueError("out of ideas")
        return sampler.batch(step)

    steps = Steps(dataset, requests, SHAPE, None)
    assert [steps.plan(step, {}).step for step in range(9)] == list(range(9))
    with pytest.raises(ValueError, match="out of ideas"):
        steps.plan(9, {})
