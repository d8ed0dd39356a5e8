"""Whole clips in one pass: as if each had been embedded alone; damaged ones named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_tools.packing import pack
from data_tools.plan import PackOptions
from trainer.data.dataset import Dataset
from trainer.data.fixed_segments import fixed_segments
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet
from trainer.score.clip_distances import (
    Embedded,
    Unreadable,
    clip_distances,
    clip_sound,
    embed_clips,
    run_starts,
)

# frames; the sound of n frames gives n - 5 windows, runs take 1, 8 and 32
LENGTHS = [6, 7, 12, 13, 14, 36, 37, 38, 90]


@pytest.fixture(scope="module")
def model() -> SyncNet:
    torch.manual_seed(0)
    return fold(SyncNet("small").eval())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Path:
    """Clips of many lengths, all in the train split."""
    root = tmp_path_factory.mktemp("lengths")
    for seed, frames in enumerate(LENGTHS):
        make_clip(root / "clips" / f"c{frames}", frames=frames, size=64, seed=seed)
    pack(root / "clips", root / "shards", PackOptions(gray=True, ratios=(1, 0, 0)))
    return root / "shards"


@given(st.integers(1, 60), st.integers(0, 500))
def test_runs_cover_every_window(step: int, more: int) -> None:
    starts = run_starts(step + more, step)
    covered = (starts[:, None] + np.arange(step)).ravel()
    assert np.array_equal(np.unique(covered), np.arange(step + more))
    assert len(starts) == -(-(step + more) // step)


def test_clips_of_any_length_are_embedded_as_if_alone(shards: Path, model: SyncNet) -> None:
    dataset = Dataset(shards, "train")
    found = {one.clip: one for one in embed_clips(dataset, model, threads=1)}
    assert sorted(found) == list(range(len(LENGTHS)))
    for clip, one in found.items():
        assert isinstance(one, Embedded)
        shard = dataset.shards[0]
        frames = np.stack(
            [
                simplejpeg.decode_jpeg(
                    bytes(shard.jpeg(clip, frame)), "GRAY", fastdct=False, fastupsample=False
                )
                for frame in range(dataset.frames[clip])
            ]
        )
        features = torch.from_numpy(shard.mfcc(clip).copy())
        with torch.inference_mode():
            lips = model.lips(torch.from_numpy(frames)[None])[0]
            sound = model.sound(features[None])[0]
        count = int(dataset.windows[clip])
        assert one.lips_KD.shape == one.sound_KD.shape == (count, 128)
        torch.testing.assert_close(one.lips_KD, lips[:count], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.sound_KD, sound[:count], rtol=1e-4, atol=1e-4)


def test_some_clips_only(shards: Path, model: SyncNet) -> None:
    dataset = Dataset(shards, "train")
    assert {one.clip for one in embed_clips(dataset, model, [2, 7], threads=1)} == {2, 7}
    assert list(embed_clips(dataset, model, [], threads=1)) == []


def _break(shards: Path, clips: list[int], frame: int) -> None:
    shard = Dataset(shards, "train").shards[0]
    with shard.tar.open("r+b") as stream:
        for clip in clips:
            at = int(shard.first_frame[clip]) + frame
            stream.seek(int(shard.offset[at]))
            stream.write(np.random.default_rng(0).bytes(int(shard.size[at])))


@pytest.mark.parametrize("bad", [[3], [0, 8], list(range(len(LENGTHS)))])
def test_clips_that_cannot_be_decoded_are_named(
    shards: Path, model: SyncNet, tmp_path: Path, bad: list[int]
) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    _break(copy, bad, frame=4)
    found = list(embed_clips(Dataset(copy, "train"), model, threads=1))
    assert sorted(one.clip for one in found) == list(range(len(LENGTHS)))
    unreadable = [one for one in found if isinstance(one, Unreadable)]
    assert sorted(one.clip for one in unreadable) == bad
    assert {one.reason for one in unreadable} == {"a frame cannot be decoded"}


@pytest.mark.parametrize("shift", [-7, 0, 3])
def test_sound_moved_in_the_features_is_sound_moved_in_the_windows(
    shards: Path, model: SyncNet, shift: int
) -> None:
    dataset = Dataset(shards, "train")
    clip = next(c for c in range(len(dataset)) if dataset.frames[c] == 90)
    still, moved = clip_sound(dataset, model, clip), clip_sound(dataset, model, clip, shift)
    inside = [k for k in range(len(still)) if 0 <= k + shift < len(still)]
    torch.testing.assert_close(
        moved[inside], still[[k + shift for k in inside]], rtol=1e-4, atol=1e-4
    )
    distances, valid = clip_distances(still, moved, 4, shift)
    assert distances.shape == valid.shape == (len(still), 9)
    for k, j in np.ndindex(valid.shape):
        at = k + j - 4  # of the moved sound's windows, of which those still in the clip count
        assert valid[k, j] == (0 <= at < len(still) and 0 <= at + shift < len(still))
    if shift >= -4 and shift <= 4:
        own = distances[:, 4 - shift][valid[:, 4 - shift]]
        np.testing.assert_allclose(own, 0, atol=1e-3)


def test_distances_are_those_of_the_validation(shards: Path, model: SyncNet) -> None:
    dataset = Dataset(shards, "train")
    clip = next(c for c in range(len(dataset)) if dataset.frames[c] == 90)
    (one,) = embed_clips(dataset, model, [clip], threads=1)
    assert isinstance(one, Embedded)
    distances, valid = clip_distances(one.lips_KD, one.sound_KD, 5)
    segments = fixed_segments(dataset.windows, 15, 5, 3)
    segments = segments[int(np.flatnonzero(segments.clip == clip)[0]) :][:1]
    start = int(segments.start[0])
    heard = dataset.mfcc(segments, 25, 100)
    with torch.inference_mode():
        sound = model.sound(torch.from_numpy(heard))[0]
    expected = torch.cdist(one.lips_KD[start : start + 1], sound[:11])[0]
    np.testing.assert_allclose(distances[start], expected, rtol=1e-3, atol=1e-3)
    assert valid[start].all()
