"""How many batches a device works on at once, with a device that a test moves on by hand."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.data.augment import Augment
from trainer.data.batch import Shape
from trainer.data.dataset import Dataset
from trainer.data.handover import InUse
from trainer.data.loader import Loader
from trainer.data.sampler import Segments


class Device:
    """Does nothing by itself: it gets as far as `synchronize` waits for, or as a test says."""

    def __init__(self) -> None:
        self.queued = 0  # marks
        self.done = 0
        self.waited: list[int] = []

    def mark(self) -> Mark:
        self.queued += 1
        return Mark(self, self.queued)


class Mark:
    def __init__(self, device: Device, number: int) -> None:
        self.device, self.number = device, number

    def query(self) -> bool:
        return self.device.done >= self.number

    def synchronize(self) -> None:
        self.device.waited.append(self.number)
        self.device.done = max(self.device.done, self.number)


def test_the_oldest_batch_is_waited_for_when_more_than_two_are_in_use() -> None:
    device = Device()
    in_use: InUse[str] = InUse(device.mark)
    for batch in "abcde":
        in_use.retire()
        assert in_use.hand(batch) == batch
        assert device.queued - device.done <= 2
    assert device.waited == [1, 2]  # a and b; c and d are at work, e was handed out


def test_a_device_that_keeps_up_is_never_waited_for() -> None:
    device = Device()
    in_use: InUse[int] = InUse(device.mark)
    for batch in range(9):
        device.done = device.queued
        in_use.retire()
        in_use.hand(batch)
    assert device.waited == []


def test_a_batch_is_let_go_only_when_its_work_is_done() -> None:
    class Held:
        pass

    held: dict[int, Any] = {}

    def batches() -> Iterator[Held]:
        for number in count():
            batch = Held()
            held[number] = weakref.ref(batch)
            yield batch

    device = Device()
    in_use: InUse[Held] = InUse(device.mark)
    for number, batch in zip(range(8), batches(), strict=False):
        in_use.retire()
        in_use.hand(batch)
        del batch
        # Batch n has mark n + 1.
        alive = [each for each in range(number + 1) if held[each]() is not None]
        assert alive == list(range(device.done, number + 1))
        if number == 4:
            device.done = device.queued


def test_the_loader_holds_two_batches_besides_the_one_in_hand(shards_folder: Path) -> None:
    dataset, device = Dataset(shards_folder, "train"), Device()
    one = np.zeros(2, dtype=np.int64)
    segments = Segments(one, one, one, one, one)
    shape = Shape(2, 5, 5, 64, 1)
    with Loader(
        dataset, lambda step, quarantine: segments, shape, threads=1, marker=device.mark
    ) as loader:
        for _ in range(6):
            next(loader)
            assert device.queued - device.done <= 2
    assert device.waited == [1, 2, 3]


# --------------------------------------------------------------------------------------- GPU

BATCHES = 30
VARIED = Augment(flip=True, turn=5.0, shift=0.05, brightness=0.2)


def sums(dataset: Dataset, shape: Shape, decode_device: Any, asleep: bool) -> list[int]:
    """The sum of every batch's pixels and of its sound, taken on the GPU.

    Behind a kernel that sleeps, so that a batch is read long after the next ones are decoded; or
    with the device at rest before and after.
    """
    rng = np.random.default_rng(0)
    clips = rng.integers(0, len(dataset), (1000, shape.samples))
    starts = rng.integers(0, 40, (1000, shape.samples))

    def requests(step: int, quarantine: Any) -> Segments:
        clip, start = clips[step % 1000], starts[step % 1000]
        return Segments(clip, start, clip, start, np.ones_like(clip), key=start + 50 * clip)

    found = []
    # All frames that its hardware takes go there: it and the other decoders differ in pixels.
    options: dict[str, Any] = {
        "device": "cuda",
        "decode_device": decode_device,
        "hw_decoder_load": 1.0,
    }
    with Loader(dataset, requests, shape, threads=4, **options) as loader:
        for _ in range(BATCHES):
            batch = next(loader)
            if asleep:
                torch.cuda._sleep(100_000_000)  # cycles, about 50 ms
            else:
                torch.cuda.synchronize()
            weights = torch.arange(1, 65, device="cuda")
            pixels = batch.frames_NRHWC.long().sum((0, 1, 4)) * weights * weights[:, None]
            found.append(pixels.sum() + (batch.mfcc_NFC * 1000).long().sum())
            if not asleep:
                torch.cuda.synchronize()
            del batch
        return [int(each) for each in found]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="streams need a CUDA device")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("channels", "augment", "decode_device"),
    [(3, None, "gpu"), (1, None, "gpu"), (3, VARIED, "gpu"), (1, VARIED, "cpu")],
)
def test_no_batch_is_overwritten_before_it_has_been_read(
    shards_folder: Path, channels: int, augment: Augment | None, decode_device: str
) -> None:
    """nvJPEG's hardware writes at once, whatever its stream waits for (torchcodec #1634)."""
    dataset = Dataset(shards_folder, "train")
    shape = Shape(64, 5, 5, 64, channels, augment)
    at_rest = sums(dataset, shape, decode_device, asleep=False)
    assert len(set(at_rest)) > BATCHES // 2  # the batches differ: a mix-up would be seen
    assert sums(dataset, shape, decode_device, asleep=True) == at_rest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="streams need a CUDA device")
def test_taking_over_a_batch_waits_for_no_stream(shards_folder: Path) -> None:
    """While the consumer's stream is busy, batches are handed out that no stream waits for."""
    dataset = Dataset(shards_folder, "train")
    one = np.zeros(8, dtype=np.int64)
    segments = Segments(one, one, one, one, one)
    with Loader(
        dataset, lambda step, quarantine: segments, Shape(8, 5, 5, 64, 1), device="cuda"
    ) as loader:
        int(next(loader).frames_NRHWC.long().sum())  # loads the kernels
        other = torch.cuda.Stream()
        time.sleep(2.0)  # the next batches are ready
        torch.cuda.synchronize()
        torch.cuda._sleep(1_000_000_000)  # the consumer's stream, about half a second
        batch = next(loader)
        with torch.cuda.stream(other):
            total = batch.frames_NRHWC.long().sum()
            other.synchronize()
        assert not torch.cuda.current_stream().query()  # it sleeps still
        torch.cuda.synchronize()
        assert int(total) == int(batch.frames_NRHWC.long().sum())
