"""Which frames are to blame: found exactly where they are few, quickly where they are many."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from trainer.data import diagnosis, pipeline
from trainer.data.diagnosis import MOST_BUILDS, NoFrameToBlame, undecodable

pytestmark = pytest.mark.timeout(60)

Bytes = NDArray[np.uint8]
FRAMES = 1024 * 5


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def of(content: bytes) -> Bytes:
    return np.frombuffer(content, np.uint8)


GOOD = of(simplejpeg.encode_jpeg(picture(), 90))
TRUNCATED = GOOD[: len(GOOD) // 2]
GARBAGE = of(np.random.default_rng(1).bytes(400))
# DALI decodes it and libjpeg-turbo does not: doubtful, but not to blame.
PNG = cv2.imencode(".png", picture())[1]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of the pipelines that are built."""
    sizes: list[int] = []
    real = pipeline.decode_pipeline

    def counted(*args: Any, **options: Any) -> Any:
        sizes.append(options["batch_size"])
        return real(*args, **options)

    monkeypatch.setattr(pipeline, "decode_pipeline", counted)
    return sizes


@pytest.mark.parametrize("channels", [3, 1])
def test_exactly_the_frames_that_dali_refuses_are_found(channels: int, builds: list[int]) -> None:
    jpegs = [GOOD] * 40
    for at, bad in ((3, TRUNCATED), (17, GARBAGE), (18, PNG), (30, TRUNCATED[:1])):
        jpegs[at] = bad
    assert undecodable(jpegs, channels, 2) == [3, 17, 30]
    assert len(builds) <= 8


def test_one_bad_frame_of_a_large_batch_costs_two_pipelines(builds: list[int]) -> None:
    jpegs = [GOOD] * FRAMES
    jpegs[1234] = TRUNCATED
    assert undecodable(jpegs, 3, 2) == [1234]
    assert builds == [1, FRAMES - 1]


def test_a_large_batch_of_bad_frames_is_diagnosed_with_few_pipelines(builds: list[int]) -> None:
    assert undecodable([TRUNCATED, GARBAGE] * (FRAMES // 2), 3, 2) == list(range(FRAMES))
    assert len(builds) <= MOST_BUILDS + 1  # and a good picture


def test_a_frame_that_only_dali_refuses_is_found(
    monkeypatch: pytest.MonkeyPatch, builds: list[int]
) -> None:
    monkeypatch.setattr(diagnosis, "_is_clean", lambda jpeg: True)
    jpegs = [GOOD] * 500
    jpegs[321] = GARBAGE
    assert undecodable(jpegs, 3, 2) == [321]
    assert len(builds) <= 2 * 10


def test_good_frames_are_not_to_blame(builds: list[int]) -> None:
    with pytest.raises(NoFrameToBlame, match="each of its frames"):
        undecodable([GOOD, PNG] * 4, 3, 2)
    assert len(builds) == 2


def test_a_decoder_that_decodes_nothing_blames_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_decodes", lambda *args: False)
    with pytest.raises(NoFrameToBlame, match="no picture at all"):
        undecodable([GOOD] * 8, 3, 2)
