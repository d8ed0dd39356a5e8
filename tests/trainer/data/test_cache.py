"""The cache of decoded frames: right frames or none, whatever becomes of its files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from numpy.typing import NDArray

from data_tools.cache_file import FRAMES, HEAD, MAP, Look, allocated
from trainer.data import cache as cache_module
from trainer.data import cache_room
from trainer.data.cache import CacheError, FrameCache
from trainer.data.cached import DeviceStore
from trainer.data.dataset import Dataset

pytestmark = pytest.mark.timeout(60)

LOOK = Look(64, 3, "a decoder 1.0")
PLENTY = 10**9


@pytest.fixture(scope="module")
def dataset(shards_folder: Path) -> Dataset:
    return Dataset(shards_folder, "train")


@pytest.fixture(scope="module")
def pixels(dataset: Dataset) -> NDArray[np.uint8]:
    """(frames, frame_bytes): all frames of the split, decoded."""
    shard = dataset.shards[0]
    jpegs = [
        shard.bytes[at : at + size].tobytes()
        for at, size in zip(shard.offset.tolist(), shard.size.tolist(), strict=True)
    ]
    return np.stack([simplejpeg.decode_jpeg(jpeg).ravel() for jpeg in jpegs])


def open_cache(
    folder: Path, dataset: Dataset, look: Look = LOOK, budget: int = PLENTY, threads: int = 2
) -> FrameCache:
    return FrameCache(folder, dataset, look, budget, threads)


def filled_cache(folder: Path, dataset: Dataset, pixels: NDArray[np.uint8]) -> Path:
    """A cache that holds all frames."""
    with open_cache(folder, dataset) as cache:
        cache.offer(np.arange(len(pixels)), pixels)
    return folder


def read(
    cache: FrameCache, first: NDArray[np.int64], length: int = 5
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    out = np.full((len(first), length, cache.look.frame_bytes), 7, np.uint8)
    return out, cache.read(first, out)


def missing_and_right(cache: FrameCache, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(frames,) which are missing; the others must be right, at the first look and the second."""
    last = len(pixels) - 5
    first = np.append(np.arange(0, last, 5), last)
    frames = first[:, None] + np.arange(5)
    for _ in range(2):
        out, missing = read(cache, first)
        assert np.array_equal(out[~missing], pixels[frames[~missing]])
    told = np.ones(len(pixels), np.bool_)
    told[frames[~missing]] = False
    return told


def test_what_was_offered_is_read_by_this_run_and_the_next(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    rng = np.random.default_rng(0)
    half = np.sort(rng.choice(len(pixels), len(pixels) // 2, replace=False))
    with open_cache(tmp_path / "new" / "cache", dataset) as cache:
        assert missing_and_right(cache, pixels).all()
        cache.offer(half, pixels[half])
        cache.flush()
        absent = missing_and_right(cache, pixels)
        assert np.array_equal(np.flatnonzero(~absent), half)
        assert cache.summary().there == len(half)
    with open_cache(tmp_path / "new" / "cache", dataset) as cache:
        assert np.array_equal(np.flatnonzero(~missing_and_right(cache, pixels)), half)
        assert not cache.summary().rebuilt


def test_of_more_frames_than_may_wait_some_are_kept_each_time(
    tmp_path: Path,
    dataset: Dataset,
    pixels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch of 1,024 windows in colour is larger than what may wait to be written."""
    monkeypatch.setattr(cache_module, "_PENDING", 20 * LOOK.frame_bytes + 1)
    frames = np.arange(len(pixels))
    with open_cache(tmp_path, dataset) as cache:
        kept = []
        for _ in range(2):
            wanted = cache.wanted(frames)
            cache.offer(frames[wanted], pixels[wanted])
            cache.flush()
            kept.append(cache.summary().there)
        assert kept == [20, 40]
        assert missing_and_right(cache, pixels).sum() == len(pixels) - 40


def test_processes_share_it_while_it_is_filled(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    with open_cache(tmp_path, dataset) as one, open_cache(tmp_path, dataset) as other:
        one.offer(np.arange(100), pixels[:100])
        other.offer(np.arange(50, 150), pixels[50:150])
        one.flush()
        other.flush()
        for each in (one, other):
            assert np.flatnonzero(~missing_and_right(each, pixels)).tolist() == list(range(150))


@pytest.mark.parametrize("where", ["entry", "frame", "both halves of an entry"])
def test_a_flipped_byte_is_a_missing_frame(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8], where: str
) -> None:
    filled_cache(tmp_path, dataset, pixels)
    number = 41
    path = next(tmp_path.glob(f"*{FRAMES if where == 'frame' else MAP}"))
    places = [number * LOOK.frame_bytes + 17] if where == "frame" else [HEAD + 8 * number]
    if where == "both halves of an entry":
        places.append(places[0] + 4)
    with path.open("r+b") as stream:
        for at in places:
            stream.seek(at)
            byte = stream.read(1)[0]
            stream.seek(at)
            stream.write(bytes([byte ^ 0x10]))
    with open_cache(tmp_path, dataset) as cache:
        assert np.flatnonzero(missing_and_right(cache, pixels)).tolist() == [number]
        cache.offer(np.array([number]), pixels[number : number + 1])
        cache.flush()
        assert not missing_and_right(cache, pixels).any()


def test_an_entry_without_its_frame_is_a_missing_frame(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    """As after a power cut, were the map to reach the disk and frames not: holes are zeros."""
    filled_cache(tmp_path, dataset, pixels)
    path = next(tmp_path.glob(f"*{FRAMES}"))
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)
    with open_cache(tmp_path, dataset) as cache:
        assert not cache.summary().rebuilt  # nothing but the checksums tells
        there = np.flatnonzero(~missing_and_right(cache, pixels))
        assert there.tolist() == list(range(size // 2 // LOOK.frame_bytes))


@pytest.mark.parametrize("ending", [FRAMES, MAP])
@pytest.mark.parametrize("left", [0, 5000])
def test_a_file_that_was_cut_is_made_anew(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8], ending: str, left: int
) -> None:
    filled_cache(tmp_path, dataset, pixels)
    os.truncate(next(tmp_path.glob(f"*{ending}")), left)
    with open_cache(tmp_path, dataset) as cache:
        assert cache.summary().rebuilt == 1
        assert missing_and_right(cache, pixels).all()
    filled_cache(tmp_path, dataset, pixels)
    with open_cache(tmp_path, dataset) as cache:
        assert not missing_and_right(cache, pixels).any()


@pytest.mark.parametrize("ending", [FRAMES, MAP])
def test_a_file_that_is_cut_or_removed_while_it_is_read_does_no_harm(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8], ending: str
) -> None:
    filled_cache(tmp_path, dataset, pixels)
    with open_cache(tmp_path, dataset) as cache:
        assert not missing_and_right(cache, pixels).any()
        path = next(tmp_path.glob(f"*{ending}"))
        path.rename(tmp_path / "elsewhere")  # who has it mapped goes on
        assert not missing_and_right(cache, pixels).any()
        os.truncate(tmp_path / "elsewhere", 5000)
        assert missing_and_right(cache, pixels).all()
        cache.offer(np.arange(3), pixels[:3])
        cache.flush()


def test_a_map_with_a_head_of_another_kind_is_made_anew(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    filled_cache(tmp_path, dataset, pixels)
    path = next(tmp_path.glob(f"*{MAP}"))
    with path.open("r+b") as stream:
        stream.write(path.read_bytes()[:HEAD].replace(b"a decoder", b"b decoder"))
    with open_cache(tmp_path, dataset) as cache:
        assert cache.summary().rebuilt == 1
        assert missing_and_right(cache, pixels).all()


_FILLER = """
import sys
from pathlib import Path
import numpy as np
from trainer.data import cache as module
from trainer.data.cache import FrameCache
from data_tools.cache_file import Look
from trainer.data.dataset import Dataset
module._SYNC_BYTES = 20 * 64 * 64 * 3
pixels = np.load(sys.argv[3], mmap_mode="r")
cache = FrameCache(Path(sys.argv[1]), Dataset(Path(sys.argv[2]), "train"),
                   Look(64, 3, "a decoder 1.0"), 10**9, 1)
print("ready", flush=True)
for at in range(len(pixels)):
    cache.offer(np.array([at]), pixels[at : at + 1])
    if at % 10 == 0:
        cache.flush()
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05])
def test_a_kill_while_it_is_filled_leaves_right_frames_alone(
    tmp_path: Path,
    dataset: Dataset,
    shards_folder: Path,
    pixels: NDArray[np.uint8],
    seconds: float,
) -> None:
    np.save(tmp_path / "pixels.npy", pixels)
    folder = tmp_path / "cache"
    arguments = [str(folder), str(shards_folder), str(tmp_path / "pixels.npy")]
    command = [sys.executable, "-c", textwrap.dedent(_FILLER), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    with open_cache(folder, dataset) as cache:
        said = cache.summary().there
        missing = missing_and_right(cache, pixels)
        assert int((~missing).sum()) == said  # none was noted before its bytes were there
        cache.offer(np.flatnonzero(missing), pixels[missing])
        cache.flush()
        assert not missing_and_right(cache, pixels).any()


def test_frames_are_noted_after_they_reached_the_disk(
    tmp_path: Path,
    dataset: Dataset,
    pixels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    with open_cache(tmp_path, dataset) as cache:

        def sync(descriptor: int) -> None:
            seen.append(cache.summary().there)

        monkeypatch.setattr(cache_module.os, "fdatasync", sync)
        cache.offer(np.arange(20), pixels[:20])
        cache.flush()
        assert seen == [0]
        assert cache.summary().there == 20


# ------------------------------------------------------------------------------ what fits


def test_a_budget_keeps_whole_clips_and_a_larger_one_the_same_and_more(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    whole = sum(each.frames for each in dataset.shards[0].records) * LOOK.frame_bytes
    before = np.zeros(len(pixels), np.bool_)
    for share in (0.0, 0.3, 0.6, 2.0):
        folder = tmp_path / str(share)
        with open_cache(folder, dataset, budget=int(share * whole)) as cache:
            cache.offer(np.arange(len(pixels)), pixels)
            cache.flush()
            there = ~missing_and_right(cache, pixels)
            assert np.array_equal(there, cache.kept)
            assert (before <= there).all()
            taken = sum(allocated(each) for each in folder.glob(f"*{FRAMES}"))
            assert taken <= max(share * whole, HEAD + 8 * len(pixels) + 4096)
            if 0 < share < 1:
                assert there.any() and not there.all()
            before = there
    assert before.all()


def test_a_budget_that_was_lowered_is_kept(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    filled_cache(tmp_path, dataset, pixels)
    budget = pixels.nbytes // 2
    with open_cache(tmp_path, dataset, budget=budget) as cache:
        cache.offer(np.arange(len(pixels)), pixels)
        cache.flush()
        assert 0 < (~missing_and_right(cache, pixels)).sum() < len(pixels)
        assert sum(allocated(each) for each in tmp_path.glob(f"*{FRAMES}")) <= budget


def test_the_last_gigabyte_of_a_disk_is_left(
    tmp_path: Path,
    dataset: Dataset,
    pixels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(cache_room, "LEFT_FREE", free + 10**9)
    with open_cache(tmp_path / "none", dataset) as cache:
        assert not cache.kept.any()
    monkeypatch.undo()
    with open_cache(tmp_path / "later", dataset) as cache:
        monkeypatch.setattr(cache_module, "free_bytes", lambda folder: 10**9)
        cache.offer(np.arange(10), pixels[:10])
        cache.flush()
        assert cache.summary().there == 0
        assert missing_and_right(cache, pixels).all()
    assert "filled no further" in caplog.text


def test_a_full_disk_ends_the_filling_and_nothing_else(
    small_disk: Callable[[int], Path],
    dataset: Dataset,
    pixels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cache_room, "LEFT_FREE", -(10**9))  # or nothing would be tried
    monkeypatch.setattr(cache_module, "LEFT_FREE", -(10**9))
    folder = small_disk(1_000_000)
    with open_cache(folder, dataset) as cache:
        for at in range(0, len(pixels), 10):
            cache.offer(np.arange(at, at + 10), pixels[at : at + 10])
            cache.flush()
        there = ~missing_and_right(cache, pixels)
        assert 10 < there.sum() < len(pixels)
    assert "filled no further" in caplog.text


def test_what_is_stale_goes_and_what_is_in_use_stays(
    tmp_path: Path, shards_folder: Path, pixels: NDArray[np.uint8]
) -> None:
    copied = Path(shutil.copytree(shards_folder, tmp_path / "shards"))
    folder = tmp_path / "cache"
    old = Dataset(copied, "train")
    filled_cache(folder, old, pixels)
    before = set(folder.glob(f"*{FRAMES}"))
    os.utime(old.shards[0].tar, (1, 1))  # as if written anew, with the same sizes
    with open_cache(folder, Dataset(copied, "train")) as cache:
        assert missing_and_right(cache, pixels).all()
        assert before.isdisjoint(folder.glob(f"*{FRAMES}"))


def test_copies_of_a_set_share_its_frames(
    tmp_path: Path, shards_folder: Path, pixels: NDArray[np.uint8]
) -> None:
    one, copy = (
        Dataset(shutil.copytree(shards_folder, tmp_path / name), "train") for name in ("a", "b")
    )
    folder = tmp_path / "cache"
    with open_cache(folder, one) as first:
        first.offer(np.arange(20), pixels[:20])
        first.flush()
        with open_cache(folder, copy) as second:
            assert (second.summary().there, second.summary().rebuilt) == (20, 0)
            first.offer(np.arange(len(pixels)), pixels)  # still into the file that both have open
            first.flush()
            assert not missing_and_right(second, pixels).any()
    with open_cache(folder, one) as first:
        assert first.summary().rebuilt == 0 and not missing_and_right(first, pixels).any()


def test_the_budget_goes_to_clips_that_are_read(
    tmp_path: Path, shards_folder: Path, dataset: Dataset, pixels: NDArray[np.uint8]
) -> None:
    last = dict(sorted(zip(dataset.shards[0].hashes, dataset.keys, strict=True))[-2:])
    some = Dataset(shards_folder, "train", dict.fromkeys(last.values(), 0))
    used = np.repeat(some.used, some.frames)
    one = pixels.nbytes // len(dataset)
    budget = HEAD + 2 * 4096 + 3 * (one + 4096 + 8 * len(pixels))  # of three clips

    def fill(clips: Dataset) -> NDArray[np.bool_]:
        """Frames that are kept, which is all that is there of the clips that are used."""
        with open_cache(tmp_path, clips, budget=budget) as cache:
            cache.offer(np.arange(len(pixels)), pixels)
            cache.flush()
            found = cache.summary()
            assert found.kept == found.there == cache.kept.sum()
            assert found.frames == clips.frames[clips.used].sum()
            assert sum(allocated(each) for each in tmp_path.glob(f"*{FRAMES}")) <= budget
            return cache.kept

    assert np.array_equal(fill(some), used)
    # with other clips the same files keep others, within the budget
    every = fill(dataset)
    assert every.any() and not (every & used).any()
    with open_cache(tmp_path, dataset, budget=budget) as other:
        with open_cache(tmp_path, some, budget=budget) as cache:
            assert not cache.kept.any()  # as long as a process reads those others
        assert np.array_equal(other.kept, every)
    assert np.array_equal(fill(some), used)
    held = DeviceStore(some, LOOK, 2 * one, torch.device("cpu")).summary()
    assert held.kept == held.frames == used.sum()


@pytest.mark.parametrize("look", [Look(64, 1, LOOK.decoder), Look(64, 3, "another decoder")])
def test_other_frames_yield_when_room_is_short_unless_they_are_in_use(
    tmp_path: Path, dataset: Dataset, pixels: NDArray[np.uint8], look: Look
) -> None:
    filled_cache(tmp_path, dataset, pixels)
    with open_cache(tmp_path, dataset) as first:
        with open_cache(tmp_path, dataset, look, budget=pixels.nbytes) as second:
            assert not second.kept.any()
        assert not missing_and_right(first, pixels).any()
    with open_cache(tmp_path, dataset, look) as second:
        assert second.kept.all()  # there is room for both
    with open_cache(tmp_path, dataset) as first:
        assert not missing_and_right(first, pixels).any()
    with open_cache(tmp_path, dataset, look, budget=pixels.nbytes) as second:
        assert second.kept.any()
    with open_cache(tmp_path, dataset) as first:
        assert missing_and_right(first, pixels).all()


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot hold a cache"):
        open_cache(tmp_path / "file" / "cache", dataset)
