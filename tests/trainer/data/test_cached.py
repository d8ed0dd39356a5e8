"""Loaders with a cache of decoded frames: the very batches of a loader without one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_tools.__main__ import main as info
from data_tools.cache_file import FRAMES, MAP, Look
from trainer.data.augment import Augment
from trainer.data.batch import Batch, Shape
from trainer.data.cache import FrameCache
from trainer.data.cached import Buffers, DeviceStore, HostStore, Store
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader, LoaderError
from trainer.data.sampler import TrainSampler

pytestmark = pytest.mark.timeout(60)

CPU = torch.device("cpu")
STEPS = 12
VARIED = Augment(flip=True, shift=0.1, turn=5.0, brightness=0.2, contrast=0.2, jpeg=40, gain=3.0)


@pytest.fixture(scope="module")
def dataset(shards_folder: Path) -> Dataset:
    return Dataset(shards_folder, "train")


def sampler_of(dataset: Dataset, **options: Any) -> TrainSampler:
    return TrainSampler(dataset.windows, 8, windows_per_clip=4, **options)


def host_store(folder: Path, dataset: Dataset, budget: int = 10**9, size: int = 64) -> HostStore:
    return HostStore(FrameCache(folder, dataset, Look(size, 3, "test"), budget, 2), CPU)


def device_store(folder: Path, dataset: Dataset, budget: int = 10**9, size: int = 64) -> Store:
    return DeviceStore(dataset, Look(size, 3, "test"), budget, CPU)


def loaded(dataset: Dataset, steps: int, **options: Any) -> list[Batch]:
    """Batches, copied."""
    with Loader(dataset, sampler_of(dataset), threads=2, **options) as loader:
        return [
            replace(batch, frames_NRHWC=batch.frames_NRHWC.clone(), mfcc_NFC=batch.mfcc_NFC.clone())
            for batch in islice(loader, steps)
        ]


def assert_alike(given: list[Batch], expected: list[Batch]) -> None:
    for one, other in zip(given, expected, strict=True):
        assert one.step == other.step
        assert np.array_equal(one.segments.clip, other.segments.clip)
        assert np.array_equal(one.segments.start, other.segments.start)
        assert torch.equal(one.frames_NRHWC, other.frames_NRHWC)
        assert torch.equal(one.mfcc_NFC, other.mfcc_NFC)
        assert np.array_equal(one.quiet_NA, other.quiet_NA)


@pytest.mark.parametrize("open_store", [host_store, device_store])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(8, 5, 5, 64, 3),
        Shape(8, 5, 5, 64, 3, VARIED),
        Shape(8, 5, 5, 48, 3, Augment(zoom=0.1)),  # resized, then varied
        Shape(4, 5, 5, 64, 3, VARIED),  # in two parts
    ],
    ids=["as it is", "augmented", "resized", "in parts"],
)
def test_batches_are_those_without_a_cache(
    tmp_path: Path, dataset: Dataset, open_store: Callable[..., Store], shape: Shape
) -> None:
    options: dict[str, Any] = {"shape": shape, "parts": 8 // shape.samples}
    expected = loaded(dataset, STEPS, **options)
    for budget in (10**9, 150 * shape.size**2 * 3):  # all clips, or two of them
        store = open_store(tmp_path / str(budget), dataset, budget, shape.size)
        for _ in range(2):
            assert_alike(loaded(dataset, STEPS, store=store, **options), expected)
        if isinstance(store, HostStore):  # as another run finds it
            store.close()
            store = open_store(tmp_path / str(budget), dataset, budget, shape.size)
            assert_alike(loaded(dataset, STEPS, store=store, **options), expected)
        there = store.summary()
        store.close()
        assert there.there > 0
        assert (there.kept == there.frames) == (budget == 10**9)


@pytest.mark.parametrize("open_store", [host_store, device_store])
def test_a_frame_that_is_there_is_not_decoded(
    tmp_path: Path, shards_folder: Path, open_store: Callable[..., Store]
) -> None:
    copied = Path(shutil.copytree(shards_folder, tmp_path / "shards"))
    dataset = Dataset(copied, "train")
    store = open_store(tmp_path / "cache", dataset)
    expected = loaded(dataset, STEPS, store=store)
    if isinstance(store, HostStore):
        store._cache.flush()
    shard = dataset.shards[0]
    with shard.tar.open("r+b") as stream:  # the JPEGs go, mapped as they are
        for at, size in zip(shard.offset.tolist(), shard.size.tolist(), strict=True):
            stream.seek(at)
            stream.write(bytes(size))
    assert_alike(loaded(dataset, STEPS, store=store), expected)
    store.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("decoder", ["cpu", "gpu"])
@pytest.mark.parametrize("augment", [None, Augment(flip=True, turn=5.0, brightness=0.2)])
@pytest.mark.parametrize("kind", ["host", "device"])
def test_a_gpu_gets_the_batches_of_a_loader_without_a_cache(
    tmp_path: Path, dataset: Dataset, decoder: Any, augment: Augment | None, kind: str
) -> None:
    gpu = torch.device("cuda", torch.cuda.current_device())
    options: dict[str, Any] = {
        "shape": Shape(8, 5, 5, 64, 3, augment),
        "device": str(gpu),
        "decode_device": decoder,
        "hw_decoder_load": 0.0,
    }
    expected = loaded(dataset, STEPS, **options)
    look, store = Look(64, 3, decoder), None
    for turn in range(3):
        if kind == "host":
            store = HostStore(FrameCache(tmp_path, dataset, look, 10**9, 2), gpu)
        elif store is None:
            store = DeviceStore(dataset, look, 150 * look.frame_bytes, gpu)
        assert_alike(loaded(dataset, STEPS, store=store, **options), expected)
        there = store.summary().there
        if kind == "host" or turn == 2:
            store.close()
        assert turn == 0 or there > 0


def test_info_says_how_much_is_cached(
    tmp_path: Path, shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(shards_folder, tmp_path / "shards"))
    dataset = Dataset(copied, "train")
    store = host_store(tmp_path / "cache", dataset)
    loaded(dataset, 4, store=store)
    store.close()
    arguments = ["info", str(copied), "--cache", str(tmp_path / "cache")]
    assert info(arguments) == 0
    said = capsys.readouterr().out
    assert "2.5 MB as 64 gray" in said and "of 600 frames as 64 RGB (test)" in said
    there = int(said.split("cached in ")[1].split(": ")[1].split(" ")[0])
    assert len(np.unique(_asked(dataset, 4))) <= there <= len(dataset.shards[0].offset)
    twin = shutil.copytree(copied, tmp_path / "twin")  # with its times: it shares the frames
    assert info([arguments[0], str(twin), *arguments[2:]]) == 0
    assert f"{there} of 600 frames as 64 RGB (test)" in capsys.readouterr().out
    (path,) = (tmp_path / "cache").glob(f"*{FRAMES}")
    path.with_suffix(MAP).write_bytes(b"nonsense")
    assert info(arguments) == 0
    assert "cached in" not in capsys.readouterr().out


def _asked(dataset: Dataset, steps: int) -> NDArray[np.int64]:
    first = [dataset.first_frames(sampler_of(dataset).batch(step)) for step in range(steps)]
    return np.concatenate(first)[:, None] + np.arange(5)


def test_a_bad_frame_is_named_and_its_clip_left_out_as_without_a_cache(
    tmp_path: Path, shards_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = Path(shutil.copytree(shards_folder, tmp_path / "shards"))
    shard = Dataset(copied, "train").shards[0]
    with shard.tar.open("r+b") as stream:
        for frame in range(10, 60, 9):
            stream.seek(int(shard.offset[frame]))
            stream.write(b"\x00" * int(shard.size[frame]))
    dataset = Dataset(copied, "train")
    with caplog.at_level(logging.WARNING):
        expected = loaded(dataset, STEPS)
        told = [record.message for record in caplog.records]
        for _ in range(2):
            caplog.clear()
            store = host_store(tmp_path / "cache", dataset)
            assert_alike(loaded(dataset, STEPS, store=store), expected)
            store.close()
            assert [record.message for record in caplog.records] == told
    assert told


def test_a_cut_cache_is_decoded_around(tmp_path: Path, dataset: Dataset) -> None:
    expected = loaded(dataset, STEPS)
    loaded(dataset, STEPS, store=(store := host_store(tmp_path, dataset)))
    store._cache.flush()
    with (next(tmp_path.glob(f"*{FRAMES}"))).open("r+b") as stream:
        stream.truncate(100_000)
    assert_alike(loaded(dataset, STEPS, store=store), expected)
    store.close()


def test_what_fails_while_planning_is_told(tmp_path: Path, dataset: Dataset) -> None:
    def request(step: int, quarantine: Any) -> Any:
        raise ValueError("no such step")

    store = host_store(tmp_path, dataset)
    with (
        pytest.raises(LoaderError, match="no such step"),
        Loader(dataset, request, Shape(8, 5, 5, 64, 3), store=store) as loader,
    ):
        next(loader)
    store.close()


def test_a_buffer_is_used_again_once_nobody_looks_at_it() -> None:
    buffers = Buffers()
    first = buffers.take(4, 10)
    tensor = torch.from_numpy(first)[1:2].view(2, 5)
    address = first.ctypes.data
    del first
    other = buffers.take(4, 10)
    assert other.ctypes.data != address
    tensor.fill_(3)
    del tensor
    assert buffers.take(2, 20).ctypes.data == address
    assert len(buffers._arrays) == 2
    assert buffers.take(5, 10).shape == (5, 10)  # larger than those free
