"""A track of any length, some of it in memory at once."""

import numpy as np
import pytest
import torch

from data_tools.mfcc import SAMPLES_PER_FRAME, mfcc
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet
from trainer.score.embed import embed_lips, embed_sound, part_of
from trainer.score.scoring import score
from trainer.score.track import TrackError, score_track


def test_a_long_track_in_pieces_gives_what_it_gives_at_once() -> None:
    torch.manual_seed(0)
    model = fold(SyncNet("small").eval())
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (700, 64, 64, 1), dtype=np.uint8)
    audio = rng.integers(-9000, 9000, 700 * SAMPLES_PER_FRAME, dtype=np.int16)
    pieces = np.split(frames, [100, 101, 350])
    heard = lambda count: (part_of(audio), count * SAMPLES_PER_FRAME)  # noqa: E731
    one = score_track(model, pieces, heard, precision="fp32")
    lips = embed_lips(model, [frames], precision="fp32")
    sound = embed_sound(model, mfcc(np.pad(audio, (0, 240))), precision="fp32")
    other = score(lips, sound, 15)
    assert one.offset == other.offset and len(one.frames_K) == len(other.frames_K) == 696
    np.testing.assert_allclose(one.means_S, other.means_S, rtol=1e-4)
    np.testing.assert_allclose(one.frames_K, other.frames_K, atol=1e-3)


def test_a_track_that_is_too_short_is_the_users_matter() -> None:
    model = SyncNet("small").eval()
    frames, audio = np.zeros((4, 64, 64, 1), np.uint8), np.zeros(4 * SAMPLES_PER_FRAME, np.int16)
    with pytest.raises(TrackError, match="too short"):
        score_track(model, [frames], audio)


def test_parity_is_float32_whatever_else_is_asked_for() -> None:
    torch.manual_seed(0)
    model = fold(SyncNet("small").eval())
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 64, 64, 1), dtype=np.uint8)
    audio = rng.integers(-9000, 9000, 20 * SAMPLES_PER_FRAME, dtype=np.int16)
    means = {
        (mode, how): score_track(model, [frames], audio, 3, mode, precision=how).means_S
        for mode in ("parity", "masked")
        for how in ("fp32", "bf16")
    }
    assert np.array_equal(means["parity", "bf16"], means["parity", "fp32"])
    assert not np.array_equal(means["masked", "bf16"], means["masked", "fp32"])
