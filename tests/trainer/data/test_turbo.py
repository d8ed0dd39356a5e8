"""libjpeg-turbo in threads: DALI's bits, the verdicts of `verify`, and when it is taken."""

from __future__ import annotations

import io
import shutil
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from data_tools.clips import ClipError
from data_tools.errors import UsageError
from data_tools.jpeg import decode_jpeg
from trainer.data.augment import Augment
from trainer.data.batch import Shape
from trainer.data.cached import Queue
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader
from trainer.data.pipeline import decode_pipeline
from trainer.data.sampler import TrainSampler
from trainer.data.turbo import BadFrames, Turbo, choose, decode

pytestmark = pytest.mark.timeout(60)

Pixels = NDArray[np.uint8]
CPU = Queue(torch.device("cpu"))


def picture(height: int, width: int) -> Pixels:
    """Smooth, of many colours: upsampling and DCT make a difference."""
    coarse = np.random.default_rng(height * width).integers(
        0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8
    )
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def saved(pixels: Pixels, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85, **options)
    return stream.getvalue()


def jpegs_of(height: int, width: int) -> list[Pixels]:
    """The same picture in every way that a JPEG may be made."""
    pixels = picture(height, width)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: taken as stored
    kinds = [simplejpeg.encode_jpeg(pixels, 85, "RGB", each) for each in ("444", "422", "420")]
    kinds += [simplejpeg.encode_jpeg(pixels, 40, "RGB", each) for each in ("440", "411")]
    kinds += [
        simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[:, :, :1]), 85, "GRAY", "Gray"),
        saved(pixels, progressive=True),
        saved(pixels, restart_marker_rows=1),
        saved(pixels, keep_rgb=True),
        saved(pixels, exif=exif),
    ]
    return [np.frombuffer(each, np.uint8) for each in kinds]


def dali_frames(jpegs: list[Pixels], channels: int) -> list[Pixels]:
    """As DALI's CPU decoder has them.

    Raises:
        RuntimeError: it refuses one.
    """
    pipeline: Any = decode_pipeline(
        lambda: jpegs,
        channels,
        batch_size=len(jpegs),
        num_threads=1,
        device_id=None,
        exec_dynamic=True,
        prefetch_queue_depth=1,
    )
    pipeline.build()
    return [np.asarray(frame) for frame in pipeline.run()[0]]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(
    ("height", "width"), [(224, 224), (111, 111), (64, 64), (65, 63), (17, 31), (1, 1)]
)
def test_frames_are_dalis_bit_by_bit(height: int, width: int, channels: int) -> None:
    jpegs = jpegs_of(height, width)
    rows = np.empty((len(jpegs), height, width, channels), np.uint8)
    assert decode(jpegs, rows, iter(range(len(jpegs)))) == []
    for row, expected in zip(rows, dali_frames(jpegs, channels), strict=True):
        np.testing.assert_array_equal(row, expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_frame_is_refused_where_verify_refuses_it_and_dalis_otherwise(
    data: st.DataObject,
) -> None:
    content = bytearray(simplejpeg.encode_jpeg(picture(32, 32), 85, "RGB", "420"))
    # Behind the headers: there, verify and the size of the batch have more to say.
    scan = content.index(b"\xff\xda") + 14
    if data.draw(st.booleans(), "cut"):
        keep = data.draw(st.integers(scan, len(content)))
        content[keep:] = bytes(len(content) - keep)  # in a shard the next bytes follow
    else:
        content[data.draw(st.integers(scan, len(content) - 1))] = data.draw(st.integers(0, 255))
    jpeg = np.frombuffer(bytes(content), np.uint8)
    row = np.empty((1, 32, 32, 3), np.uint8)
    faults = decode([jpeg], row, iter([0]))
    try:
        decode_jpeg(bytes(content), "")
    except ClipError:
        assert len(faults) == 1 and faults[0][1].startswith("cannot be decoded (")
    else:
        assert faults == []
        np.testing.assert_array_equal(row[0], dali_frames([jpeg], 3)[0])


def test_bad_frames_are_named_by_place_and_fault_and_the_others_decoded() -> None:
    good = np.frombuffer(simplejpeg.encode_jpeg(picture(64, 64)), np.uint8)
    others = [
        np.frombuffer(simplejpeg.encode_jpeg(picture(*size)), np.uint8)
        for size in ((32, 48), (300, 64))  # go into a row, do not
    ]
    jpegs = [good, others[0], good[:40], others[1], np.zeros(1, np.uint8), good[:-90], good]
    given = iter([jpegs])
    with (
        pytest.raises(BadFrames) as caught,
        Turbo(lambda: next(given, []), Shape(7, 1, 1, 64, 3), 3, CPU) as turbo,
    ):
        turbo.run()
    faults = dict(caught.value.faults)
    assert list(faults) == [1, 2, 3, 4, 5]
    assert faults[1] == "is 48x32, not 64x64" and faults[3] == "is 64x300, not 64x64"
    assert all("cannot be decoded" in faults[at] for at in (2, 4, 5))


def test_batches_come_in_order_with_what_goes_with_them_and_memory_is_used_again() -> None:
    pictures = [picture(64, 64) // (at + 1) for at in range(9)]
    jpegs = [np.frombuffer(simplejpeg.encode_jpeg(each), np.uint8) for each in pictures]
    asked = iter(range(100))

    def source() -> Any:
        at = next(asked)
        return [jpegs[at % 9]] * (1 + at % 3), np.full((2, 3), at, np.float32)

    with Turbo(source, Shape(3, 1, 1, 64, 3), 2, CPU) as turbo:
        places = set()
        for at in range(60):
            frames, sound = turbo.run()
            assert len(frames) == 1 + at % 3 and sound[0, 0] == at
            expected = simplejpeg.decode_jpeg(jpegs[at % 9])
            assert all(np.array_equal(frame, expected) for frame in frames.numpy())
            places.add(frames.data_ptr())
        assert len(turbo._buffers._arrays) <= 6 and len(places) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("turbo")]


SHAPE = Shape(8, 5, 5, 64, 3)
VARIED = Shape(8, 5, 5, 64, 3, Augment(turn=5.0))
HEARD = Shape(8, 5, 5, 64, 3, Augment(gain=3.0))


@pytest.mark.parametrize(
    ("decoder", "shape", "resize", "cached", "library", "said"),
    [
        ("cpu", SHAPE, False, False, "turbo", "0.77-0.85 of its rate for frames of 111 gray"),
        ("cpu", Shape(8, 5, 5, 64, 1), False, False, "turbo", "0.85-0.89"),
        ("cpu", Shape(8, 5, 5, 224, 3), False, False, "turbo", "0.57-0.63"),
        ("cpu", HEARD, False, False, "turbo", "auto"),
        ("cpu", VARIED, False, False, "dali", "augmented"),
        ("cpu", VARIED, False, True, "turbo", "auto"),  # what is decoded is not yet augmented
        ("cpu", SHAPE, True, False, "dali", "resized to 64x64"),
        ("cpu", VARIED, True, True, "dali", "resized to 64x64"),
        ("gpu", SHAPE, False, False, "dali", "a GPU decodes"),
    ],
)
def test_auto_takes_turbo_wherever_frames_are_taken_as_stored_by_a_cpu(
    decoder: Any, shape: Shape, resize: bool, cached: bool, library: str, said: str
) -> None:
    taken = choose("auto", decoder, shape, resize, cached)
    assert taken.library == library and said in taken.in_words(2)
    assert choose("dali", decoder, shape, resize, cached).library == "dali"
    if library == "turbo":
        assert choose("turbo", decoder, shape, resize, cached).library == "turbo"
    else:
        with pytest.raises(UsageError, match=r"data\.decoder turbo cannot be, for .*take auto"):
            choose("turbo", decoder, shape, resize, cached)


def test_before_a_gpu_dali_decodes_unless_turbo_is_asked_for() -> None:
    shape = Shape(8, 5, 5, 64, 1)
    taken = choose("auto", "cpu", shape, resize=False, cached=False, to_gpu=True)
    assert taken.library == "dali" and "the GPU's work" in taken.reason
    assert choose("turbo", "cpu", shape, False, False, to_gpu=True).library == "turbo"


@pytest.mark.parametrize(("channels", "parts"), [(3, 1), (1, 2)])
def test_a_loader_gives_the_batches_of_dali_round_bad_frames_as_well(
    shards_folder: Path, tmp_path: Path, channels: int, parts: int
) -> None:
    copied = Path(shutil.copytree(shards_folder, tmp_path / "shards"))
    shard = Dataset(copied, "train").shards[0]
    with shard.tar.open("r+b") as stream:
        for frame in range(10, 60, 9):
            stream.seek(int(shard.offset[frame]))
            stream.write(b"\x00" * int(shard.size[frame]))
    dataset = Dataset(copied, "train")
    shape = Shape(8 // parts, 5, 5, 64, channels)
    sampler = TrainSampler(dataset.windows, 8, windows_per_clip=4)

    def request(step: int, quarantine: Any) -> Any:
        return sampler.batch(step, quarantine=quarantine)

    options: dict[str, Any] = {"threads": 2, "parts": parts}
    with (
        Loader(dataset, request, shape, decoder="turbo", **options) as turbo,
        Loader(dataset, request, shape, decoder="dali", **options) as dali,
    ):
        assert (turbo.taken.library, dali.taken.library) == ("turbo", "dali")
        for one, other in islice(zip(turbo, dali, strict=True), 3 * sampler.steps_per_epoch):
            assert one.step == other.step
            assert np.array_equal(one.segments.clip, other.segments.clip)
            assert torch.equal(one.frames_NRHWC, other.frames_NRHWC)
            assert torch.equal(one.mfcc_NFC, other.mfcc_NFC)
        assert turbo.quarantine == dali.quarantine != {}
