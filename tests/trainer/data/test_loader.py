"""The loader, with real DALI: exact frames, steady steps, damaged frames, a clean end."""

from __future__ import annotations

import logging
import resource
import shutil
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from numpy.typing import NDArray
from torch.nn import functional

from trainer.data import pipeline
from trainer.data.augment import Augment
from trainer.data.batch import Shape, shape_of
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader, LoaderError
from trainer.data.sampler import Pairing, Segments, TrainSampler

pytestmark = pytest.mark.timeout(60)

SMALL = Shape(samples=4, sample_frames=5, audio_frames=5, size=64, channels=3)
Quarantine = Mapping[int, int]


class Walk:
    """Requests that walk through all clips; notes the steps it was asked for."""

    def __init__(self, dataset: Dataset, shape: Shape = SMALL) -> None:
        self.dataset, self.shape = dataset, shape
        self.steps: list[int] = []

    def __call__(self, step: int, quarantine: Quarantine) -> Segments:
        self.steps.append(step)
        sample = step * self.shape.samples + np.arange(self.shape.samples)
        clip = sample % len(self.dataset)
        start = sample * 3 % (50 - self.shape.sample_frames + 1)
        reach = (self.shape.audio_frames - self.shape.sample_frames) // 2
        return Segments(clip, start, clip, start - reach, np.ones_like(clip))


class Sampled:
    """Requests of a training sampler, which heeds the quarantine."""

    def __init__(self, dataset: Dataset) -> None:
        self.sampler = TrainSampler(dataset.windows, batch_size=4, windows_per_clip=4)

    def __call__(self, step: int, quarantine: Quarantine) -> Segments:
        return self.sampler.batch(step, quarantine=quarantine)


@pytest.fixture(scope="module")
def dataset(shards_folder: Path) -> Dataset:
    return Dataset(shards_folder, "train")


@pytest.fixture
def copy(shards_folder: Path, tmp_path: Path) -> Path:
    """A copy of the shards that a test may damage."""
    return Path(shutil.copytree(shards_folder, tmp_path / "copy"))


def small(dataset: Dataset, shape: Shape = SMALL, **options: Any) -> Loader:
    return Loader(dataset, Walk(dataset, shape), shape, threads=1, **options)


def decoded(
    dataset: Dataset, segments: Segments, sample_frames: int, colours: str = "RGB"
) -> torch.Tensor:
    """(N, R, H, W, C): the runs' frames as libjpeg-turbo decodes them at its most exact."""
    frames = [
        simplejpeg.decode_jpeg(jpeg.tobytes(), colours, fastdct=False, fastupsample=False)
        for jpeg in dataset.jpegs(segments, sample_frames)
    ]
    return torch.from_numpy(np.stack(frames)).unflatten(0, (len(segments), sample_frames))


def same(a: Segments, b: Segments) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Segments))


def overwrite(folder: Path, frames: Iterable[tuple[int, int]], jpeg: bytes | None = None) -> None:
    """Put `jpeg`, padded with zeros, or garbage in place of (clip, frame)s of the train split."""
    shard = Dataset(folder, "train").shards[0]
    rng = np.random.default_rng(0)
    with shard.tar.open("r+b") as stream:
        for clip, frame in frames:
            at = int(shard.first_frame[clip]) + frame
            size = int(shard.size[at])
            stream.seek(int(shard.offset[at]))
            stream.write(rng.bytes(size) if jpeg is None else jpeg.ljust(size, b"\0"))


def jpeg_of(size: int) -> bytes:
    pixels: NDArray[np.uint8] = np.full((size, size, 3), 90, dtype=np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, 50, "RGB", "420"))


def feeders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loader"]


# ------------------------------------------------------------------------------ the contents


@pytest.mark.parametrize(("sample_frames", "audio_frames"), [(5, 5), (15, 45), (7, 3)])
def test_a_batch_holds_exactly_the_frames_and_sound_asked_for(
    dataset: Dataset, sample_frames: int, audio_frames: int
) -> None:
    shape = Shape(4, sample_frames, audio_frames, 64, 3)
    with small(dataset, shape) as loader:
        for batch in islice(loader, 6):
            assert batch.frames_NRHWC.shape == (4, sample_frames, 64, 64, 3)
            assert batch.frames_NRHWC.dtype == torch.uint8
            assert torch.equal(batch.frames_NRHWC, decoded(dataset, batch.segments, sample_frames))
            assert batch.mfcc_NFC.shape == (4, 4 * audio_frames, 13)
            expected = dataset.mfcc(batch.segments, audio_frames, 4 * audio_frames)
            assert np.array_equal(batch.mfcc_NFC.numpy(), expected)
            assert same(batch.segments, Walk(dataset, shape)(batch.step, {}))


@pytest.mark.parametrize(
    ("pairing", "frames", "audio_frames"),
    [("independent", 5, 5), ("paired", 5, 10), ("multiway", 12, 12)],
)
def test_a_dataset_and_a_sampler_are_enough(
    dataset: Dataset, pairing: Pairing, frames: int, audio_frames: int
) -> None:
    sampler = TrainSampler(
        dataset.windows, 4, pairing=pairing, sample_frames=frames, min_shift=1, max_shift=5
    )
    with Loader(dataset, sampler, start=3) as loader:
        for batch in islice(loader, 3):
            assert same(batch.segments, sampler.batch(batch.step))
            assert batch.frames_NRHWC.shape == (4, frames, 64, 64, 3)
            assert batch.mfcc_NFC.shape == (4, 4 * audio_frames, 13)
            assert batch.quiet_NA.shape == (4, 0 if pairing == "independent" else audio_frames - 4)
        assert batch.step == 5
    with pytest.raises(TypeError, match="shape"):
        Loader(dataset, lambda step, quarantine: sampler.batch(step))


def test_sound_is_right_in_batch_after_batch(dataset: Dataset) -> None:
    with small(dataset) as loader:
        for batch in islice(loader, 100):
            assert np.array_equal(batch.mfcc_NFC.numpy(), dataset.mfcc(batch.segments, 5, 20))


def test_gray_frames_are_the_luma_of_the_jpeg(dataset: Dataset) -> None:
    with small(dataset, Shape(4, 5, 5, 64, 1)) as loader:
        batch = next(loader)
    assert batch.frames_NRHWC.shape == (4, 5, 64, 64, 1)
    assert torch.equal(batch.frames_NRHWC, decoded(dataset, batch.segments, 5, "GRAY"))


def test_frames_of_another_size_are_resized(dataset: Dataset) -> None:
    with small(dataset, Shape(4, 5, 5, 32, 3)) as loader:
        batch = next(loader)
    assert batch.frames_NRHWC.shape == (4, 5, 32, 32, 3)
    exact = decoded(dataset, batch.segments, 5).flatten(0, 1).permute(0, 3, 1, 2)
    resized = functional.interpolate(exact.float(), (32, 32), mode="bilinear", antialias=True)
    got = batch.frames_NRHWC.flatten(0, 1).permute(0, 3, 1, 2).float()
    difference = (got - resized).abs()
    assert difference.mean() < 0.5
    # Away from the border, where torch and DALI extend the picture differently, only rounding.
    assert difference[..., 2:-2, 2:-2].max() < 0.51


def test_frames_turn_channels_last_without_a_copy(dataset: Dataset) -> None:
    with small(dataset) as loader:
        frames = next(loader).frames_NRHWC
    turned = frames.permute(0, 4, 1, 2, 3)
    assert turned.is_contiguous(memory_format=torch.channels_last_3d)
    assert turned.data_ptr() == frames.data_ptr()


def test_a_request_may_hold_fewer_runs_than_the_shape(dataset: Dataset) -> None:
    walk = Walk(dataset)

    def shrinking(step: int, quarantine: Quarantine) -> Segments:
        return walk(step, quarantine)[: 1 + step % 4]

    with Loader(dataset, shrinking, SMALL, threads=1) as loader:
        for step, batch in enumerate(islice(loader, 9)):
            assert (
                len(batch.segments)
                == len(batch.frames_NRHWC)
                == len(batch.mfcc_NFC)
                == 1 + step % 4
            )
            assert torch.equal(batch.frames_NRHWC, decoded(dataset, batch.segments, 5))


# --------------------------------------------------------------------------------- the steps


@pytest.mark.parametrize("start", [0, 7, 10**9])
def test_steps_come_in_order_from_any_start(dataset: Dataset, start: int) -> None:
    walk = Walk(dataset)
    with small(dataset, start=start) as loader:
        for step, batch in zip(range(start, start + 12), loader, strict=False):
            assert batch.step == step
            assert same(batch.segments, walk(step, {}))


def test_a_batch_held_for_ten_steps_does_not_change(dataset: Dataset) -> None:
    with small(dataset) as loader:
        held = next(loader)
        frames, sound = held.frames_NRHWC.clone(), held.mfcc_NFC.clone()
        later = list(islice(loader, 10))
        assert torch.equal(held.frames_NRHWC, frames)
        assert torch.equal(held.mfcc_NFC, sound)
    assert torch.equal(held.frames_NRHWC, frames)  # nor does it when the loader is gone
    assert torch.equal(later[-1].frames_NRHWC, decoded(dataset, later[-1].segments, 5))


def test_two_hundred_batches_do_not_grow_the_process(dataset: Dataset) -> None:
    with small(dataset) as loader:
        for _ in islice(loader, 50):
            pass
        before = resident_mb()
        for _ in islice(loader, 200):
            pass
        assert resident_mb() - before < 16  # 200 batches are 50 MB


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


# --------------------------------------------------------------------------- damaged frames


@pytest.mark.parametrize(
    ("jpeg", "fault"), [(None, "cannot be decoded"), (jpeg_of(32), "is 32x32, not 64x64")]
)
@pytest.mark.parametrize(("clip", "frame", "decoder"), [(2, 20, "turbo"), (6, 33, "dali")])
def test_the_clip_of_a_bad_frame_is_left_out_from_its_step_on(
    copy: Path,
    caplog: pytest.LogCaptureFixture,
    jpeg: bytes | None,
    fault: str,
    clip: int,
    frame: int,
    decoder: Any,
) -> None:
    overwrite(copy, [(clip, frame)], jpeg)
    dataset = Dataset(copy, "train")
    requests = Sampled(dataset)
    met = next(step for step in range(1000) if covers(requests(step, {}), clip, frame))
    with (
        caplog.at_level(logging.WARNING, "trainer.data.loader"),
        Loader(dataset, requests, SMALL, threads=1, decoder=decoder) as loader,
    ):
        for step, batch in zip(range(met + 8), loader, strict=False):
            assert batch.step == step
            assert same(batch.segments, requests(step, {clip: met}))
            assert torch.equal(batch.frames_NRHWC, decoded(dataset, batch.segments, 5))
            assert step < met or clip not in batch.segments.clip
        assert loader.quarantine == {clip: met}
    assert len(caplog.records) == 1
    assert f"step {met}: frame {dataset.frame_name(clip, frame)} {fault}" in caplog.text


def resized(content: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header says another size."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


@pytest.mark.parametrize(("height", "width"), [(65_500, 65_500), (65, 64), (64, 4000)])
def test_a_frame_larger_than_the_records_say_never_reaches_the_decoder(
    copy: Path, caplog: pytest.LogCaptureFixture, height: int, width: int
) -> None:
    overwrite(copy, [(2, 20)], resized(jpeg_of(64), height, width))
    dataset = Dataset(copy, "train")
    handed = dataset.jpegs(Segments(*(np.array([value]) for value in (2, 18, 2, 18, 0))), 5)
    assert [len(jpeg) > 1 for jpeg in handed] == [True, True, False, True, True]
    requests = Sampled(dataset)
    met = next(step for step in range(1000) if covers(requests(step, {}), 2, 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        caplog.at_level(logging.WARNING, "trainer.data.loader"),
        Loader(dataset, requests, SMALL, threads=1) as loader,
    ):
        for step, batch in zip(range(met + 3), loader, strict=False):
            assert torch.equal(batch.frames_NRHWC, decoded(dataset, batch.segments, 5))
            assert step < met or 2 not in batch.segments.clip
        assert loader.quarantine == {2: met}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10
    assert f"frame {dataset.frame_name(2, 20)} cannot be decoded" in caplog.text


@pytest.mark.parametrize("orientation", [3, 6])
def test_frames_are_taken_as_stored_whatever_exif_says(copy: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0)
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels.repeat(8, 1)), 50)
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    turned = jpeg[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(body) + 2) + body + jpeg[2:]
    overwrite(copy, [(2, frame) for frame in range(50)], turned)
    dataset = Dataset(copy, "train")
    segments = Segments(*(np.array([value] * 4) for value in (2, 10, 2, 10, 0)))
    with Loader(dataset, lambda step, quarantine: segments, SMALL, threads=1) as loader:
        batch = next(loader)
    assert torch.equal(batch.frames_NRHWC, decoded(dataset, segments, 5))


def covers(segments: Segments, clip: int, frame: int) -> bool:
    return bool(
        ((segments.clip == clip) & (segments.start <= frame) & (frame < segments.start + 5)).any()
    )


@pytest.mark.parametrize("row", [0, 21, 42, 63])
def test_a_bad_header_is_survived_wherever_in_the_batch_it_lies(copy: Path, row: int) -> None:
    """DALI's own decoder ends the process for one in the part that its executor parses."""
    shape = Shape(64, 5, 5, 64, 3)
    overwrite(copy, [(6, 0)])
    dataset = Dataset(copy, "train")

    def requests(step: int, quarantine: Quarantine) -> Segments:
        clip, start = np.arange(64) % 6, np.zeros(64, dtype=np.int64)
        clip[row] = 0 if 6 in quarantine else 6
        return Segments(clip, start, clip, start, start)

    for _ in range(10):  # unguarded, it is a matter of timing
        with Loader(dataset, requests, shape, threads=2, decoder="dali") as loader:
            assert 6 not in next(loader).segments.clip
            assert loader.quarantine == {6: 0}


def test_epochs_pass_without_a_boundary(dataset: Dataset) -> None:
    requests = Sampled(dataset)
    with Loader(dataset, requests, SMALL, threads=1, start=3) as loader:
        for step in range(3, 3 + 4 * requests.sampler.steps_per_epoch):
            batch = next(loader)
            assert batch.step == step
            assert same(batch.segments, requests(step, {}))
            assert torch.equal(batch.frames_NRHWC, decoded(dataset, batch.segments, 5))


def test_all_bad_clips_of_a_batch_are_left_out_at_once(copy: Path) -> None:
    overwrite(copy, [(clip, frame) for clip in (0, 1, 4) for frame in range(50)])
    dataset = Dataset(copy, "train")
    with Loader(dataset, Sampled(dataset), SMALL, threads=1) as loader:
        for step, batch in zip(range(20), loader, strict=False):
            assert batch.step == step
            assert set(batch.segments.clip.tolist()) <= {2, 3, 5, 6}
        assert set(loader.quarantine) == {0, 1, 4}


def test_a_clip_known_to_be_bad_is_never_touched(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overwrite(copy, [(2, frame) for frame in range(50)])
    dataset = Dataset(copy, "train")
    with Loader(dataset, Sampled(dataset), SMALL, threads=1, quarantine={2: 0}) as loader:
        assert all(2 not in batch.segments.clip for batch in islice(loader, 15))
    assert not caplog.records


@pytest.mark.parametrize("decoder", ["turbo", "dali"])
@pytest.mark.parametrize("jpeg", [None, jpeg_of(32)])
def test_no_clip_left_ends_the_loader_with_an_error(
    copy: Path, jpeg: bytes | None, decoder: Any
) -> None:
    overwrite(copy, [(clip, frame) for clip in range(7) for frame in range(50)], jpeg)
    dataset = Dataset(copy, "train")
    with (
        Loader(dataset, Sampled(dataset), SMALL, threads=1, decoder=decoder) as loader,
        pytest.raises(LoaderError, match="every clip is in quarantine"),
    ):
        next(loader)
    assert not feeders()


def test_requests_that_ask_for_a_bad_clip_again_end_the_loader_with_its_name(copy: Path) -> None:
    overwrite(copy, [(3, frame) for frame in range(50)])
    dataset = Dataset(copy, "train")
    with small(dataset) as loader, pytest.raises(LoaderError, match=dataset.keys[3]):
        next(loader)


class Broken:
    """A pipeline on a GPU that has met an error, which stays."""

    built = 0

    def __init__(self, source: Any, *args: Any, **options: Any) -> None:
        self.source = source

    def build(self) -> None:
        Broken.built += 1

    def run(self) -> None:
        self.source()
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_an_error_that_no_frame_is_to_blame_for_ends_the_loader_at_once(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipeline, "training_pipeline", Broken)
    with (
        small(dataset, decoder="dali") as loader,
        pytest.raises(LoaderError, match=r"not by its frames.*an illegal memory access") as caught,
    ):
        next(loader)
    assert isinstance(caught.value.__cause__, LoaderError)
    assert isinstance(caught.value.__cause__.__cause__, RuntimeError)
    assert loader.quarantine == {} and not caplog.records
    assert Broken.built == 1
    assert not feeders()


# ----------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError])
def test_an_error_in_the_requests_reaches_the_consumer(
    dataset: Dataset, kind: type[Exception]
) -> None:
    walk = Walk(dataset)

    def failing(step: int, quarantine: Quarantine) -> Segments:
        if step >= 9:
            raise kind("out of ideas")
        return walk(step, quarantine)

    with Loader(dataset, failing, SMALL, threads=1) as loader:
        steps = []
        with pytest.raises(LoaderError, match="out of ideas") as caught:
            for batch in loader:
                steps.append(batch.step)
        assert isinstance(caught.value.__cause__, kind)
        assert steps == list(range(len(steps))) and len(steps) < 9
    assert not feeders()


def test_closing_ends_the_thread_and_may_be_repeated(dataset: Dataset) -> None:
    loader = small(dataset)
    next(loader)
    loader.close()
    assert not feeders()
    loader.close()


def test_closing_right_after_construction_ends_the_thread(dataset: Dataset) -> None:
    for _ in range(3):
        small(dataset).close()
        assert not feeders()


@pytest.mark.parametrize("ready", [1, 4])
def test_closing_with_a_full_queue_ends_the_thread(dataset: Dataset, ready: int) -> None:
    walk = Walk(dataset)
    loader = Loader(dataset, walk, SMALL, threads=1, ready=ready)
    asked = -1
    while len(walk.steps) > asked:  # until it asks no more
        asked = len(walk.steps)
        time.sleep(0.5)
    assert asked > ready
    loader.close()
    assert not feeders()


def test_leaving_the_context_on_an_error_ends_the_thread(dataset: Dataset) -> None:
    with pytest.raises(ZeroDivisionError), small(dataset) as loader:
        next(loader)
        raise ZeroDivisionError
    assert not feeders()


def test_a_closed_loader_raises_and_does_not_hang(dataset: Dataset) -> None:
    loader = small(dataset)
    loader.close()
    began = time.monotonic()
    with pytest.raises(LoaderError, match="closed"):
        next(loader)
    assert time.monotonic() - began < 10


# --------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="mixed decoding needs a CUDA device")
@pytest.mark.parametrize(("colours", "channels"), [("RGB", 3), ("GRAY", 1)])
def test_mixed_decoding_is_near_the_decoding_on_the_cpu(
    dataset: Dataset, colours: str, channels: int
) -> None:
    with small(dataset, Shape(4, 5, 5, 64, channels), device="cuda") as loader:
        for batch in islice(loader, 10):
            assert batch.frames_NRHWC.is_cuda and batch.mfcc_NFC.is_cuda
            exact = decoded(dataset, batch.segments, 5, colours).float()
            difference = (batch.frames_NRHWC.cpu().float() - exact).abs()
            assert difference.mean() < 1.0
            assert difference.quantile(0.99) <= 4
            expected = dataset.mfcc(batch.segments, 5, 20)
            assert np.array_equal(batch.mfcc_NFC.cpu().numpy(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies to a CUDA device")
@pytest.mark.parametrize(("colours", "channels"), [("RGB", 3), ("GRAY", 1)])
@pytest.mark.parametrize("decoder", ["turbo", "dali"])
def test_frames_decoded_on_the_cpu_arrive_on_the_gpu_unchanged(
    dataset: Dataset, decoder: str, colours: str, channels: int
) -> None:
    shape = Shape(4, 5, 5, 64, channels)
    where = {"device": "cuda", "decode_device": "cpu"}
    with small(dataset, shape, decoder=decoder, **where) as loader:
        for batch in islice(loader, 10):
            assert batch.frames_NRHWC.is_cuda and batch.mfcc_NFC.is_cuda
            exact = decoded(dataset, batch.segments, 5, colours)
            assert torch.equal(batch.frames_NRHWC.cpu(), exact)
            expected = dataset.mfcc(batch.segments, 5, 20)
            assert np.array_equal(batch.mfcc_NFC.cpu().numpy(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="mixed decoding needs a CUDA device")
def test_pinned_jpegs_give_the_same_frames(dataset: Dataset) -> None:
    with (
        small(dataset, device="cuda", hw_decoder_load=1.0) as mapped,
        small(dataset, device="cuda", hw_decoder_load=1.0, pinned=True) as pinned,
    ):
        for a, b in islice(zip(mapped, pinned, strict=True), 5):
            assert torch.equal(a.frames_NRHWC, b.frames_NRHWC)


def test_jpegs_copied_before_they_are_decoded_give_the_same_frames(dataset: Dataset) -> None:
    with small(dataset, pinned=True, decoder="dali") as loader:
        for batch in islice(loader, 5):
            assert torch.equal(batch.frames_NRHWC, decoded(dataset, batch.segments, 5))


def test_a_gpu_cannot_decode_for_a_cpu(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="needs a GPU"):
        small(dataset, decode_device="gpu")


# -------------------------------------------------------------------------- steps in parts


@pytest.mark.parametrize(
    ("pairing", "count"), [("independent", 2), ("independent", 3), ("paired", 3)]
)
def test_windows_of_a_run_have_the_pictures_and_sounds_that_their_samples_say(
    dataset: Dataset, pairing: Pairing, count: int
) -> None:
    """Picture and sound, as decoded and stored, of each sample; whole and in parts."""
    sampler = TrainSampler(
        dataset.windows, 12, 6, max_shift=8, pairing=pairing, windows_per_run=count
    )
    half = replace(shape_of(dataset, sampler), samples=6 // count)
    with (
        Loader(dataset, sampler, threads=1, start=2) as loader,
        Loader(dataset, lambda s, q: sampler.batch(s), half, threads=1, start=2, parts=2) as parts,
    ):
        for batch in islice(loader, 2):
            segments, frames = batch.segments, batch.frames_NRHWC
            assert same(segments, sampler.batch(batch.step))
            assert frames.shape == (12 // count, count + 4, 64, 64, 3)
            windows = frames.unfold(1, 5, 1).movedim(-1, 2).flatten(0, 1)
            assert torch.equal(windows, decoded(dataset, segments, 5))
            sounds = [segments.audio_start]
            if pairing == "paired":
                assert segments.false_start is not None
                sounds.append(segments.false_start)
            else:
                moved = segments.audio_start != segments.start
                assert np.array_equal(moved, segments.label == 0)
            for row, clip in enumerate(segments.clip.tolist()):
                stored = dataset.shards[0].mfcc(clip)
                wanted = [stored[4 * at[row] : 4 * at[row] + 20] for at in sounds]
                assert np.array_equal(batch.mfcc_NFC[row].numpy(), np.concatenate(wanted))
            own = list(islice(parts, 2))
            assert torch.equal(torch.cat([p.frames_NRHWC for p in own]), frames)
            assert torch.equal(torch.cat([p.mfcc_NFC for p in own]), batch.mfcc_NFC)
            assert np.array_equal(np.concatenate([p.quiet_NA for p in own]), batch.quiet_NA)
            assert same(Segments.joined([p.segments for p in own]), segments)


@pytest.mark.parametrize("start", [0, 3])
def test_the_parts_of_a_step_make_up_the_step(dataset: Dataset, start: int) -> None:
    sampler = TrainSampler(
        dataset.windows, 6, pairing="multiway", sample_frames=12, min_shift=1, max_shift=5
    )

    def requests(step: int, quarantine: Mapping[int, int]) -> Segments:
        return sampler.batch(step, quarantine=quarantine)

    augment = Augment(flip=True, shift=0.1, noise=0.2)
    whole_shape = Shape(6, 12, 12, 64, 1, augment, quiet=True)
    part_shape = replace(whole_shape, samples=2)
    with (
        Loader(dataset, requests, whole_shape, threads=1, start=start) as whole,
        Loader(dataset, requests, part_shape, threads=1, start=start, parts=3) as parts,
    ):
        for batch in islice(whole, 3):
            own = list(islice(parts, 3))
            assert batch.whole is None
            assert [part.step for part in own] == [batch.step] * 3
            assert torch.equal(torch.cat([p.frames_NRHWC for p in own]), batch.frames_NRHWC)
            assert torch.equal(torch.cat([p.mfcc_NFC for p in own]), batch.mfcc_NFC)
            assert np.array_equal(np.concatenate([p.quiet_NA for p in own]), batch.quiet_NA)
            for part in own:
                assert part.whole is not None
                assert same(part.whole.segments, batch.segments)
                assert np.array_equal(part.whole.quiet_NA, batch.quiet_NA)


def test_a_bad_frame_in_a_later_part_takes_nothing_from_the_parts_before(copy: Path) -> None:
    dataset = Dataset(copy, "train")
    shape = Shape(2, 5, 5, 64, 1)
    bad = 3

    def requests(step: int, quarantine: Mapping[int, int]) -> Segments:
        clip = np.array([0, 1, 2, 4 if quarantine.get(bad, step + 1) <= step else bad])
        none = np.zeros(4, np.int64)
        return Segments(clip, none, clip, none, none + 1)

    overwrite(copy, [(bad, frame) for frame in range(5)])
    with Loader(dataset, requests, shape, threads=1, parts=2) as loader:
        seen = [(batch.step, batch.segments.clip.tolist()) for batch in islice(loader, 4)]
    assert seen == [(0, [0, 1]), (0, [2, 4]), (1, [0, 1]), (1, [2, 4])]
    assert loader.quarantine == {bad: 0}
