"""One pass over a track gives what cut windows give; parity with the official code."""

from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks import official
from data_tools.mfcc import mfcc
from trainer.model.device import Precision
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet
from trainer.score import embed
from trainer.score.embed import PIECE, embed_lips, embed_sound, features, frames_at_once
from trainer.score.track import score_track


def model_with_statistics(name: str = "small") -> SyncNet:
    """A model whose batch statistics are not those of a fresh one."""
    torch.manual_seed(0)
    model = SyncNet(name)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def test_folding_changes_nothing_but_rounding() -> None:
    model = model_with_statistics()
    folded = fold(model)
    assert not any("BatchNorm" in type(module).__name__ for module in folded.modules())
    frames = torch.randint(0, 256, (2, 7, 64, 64, 1), dtype=torch.uint8)
    sound = torch.randn(2, 28, 13)
    with torch.inference_mode():
        for one, other in zip(model(frames, sound), folded(frames, sound), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="evaluation mode"):
        fold(SyncNet("small"))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2 * PIECE + 9), st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_pieces_of_any_length_give_every_window_once(count: int, lengths: list[int]) -> None:
    frames = np.random.default_rng(count).integers(0, 256, (count, 64, 64, 1), dtype=np.uint8)
    cuts = [cut for cut in np.cumsum(lengths) if cut < count]
    model = fold(model_with_statistics())
    found = embed_lips(model, np.split(frames, cuts), precision="fp32")
    assert found.shape == (max(0, count - 4), 128)
    if count >= 5:
        with torch.inference_mode():
            whole = model.lips(torch.from_numpy(frames)[None])[0]
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def test_sound_windows_are_those_of_the_model() -> None:
    model = fold(model_with_statistics())
    heard = np.random.default_rng(0).normal(size=(4 * 700 + 3, 13)).astype(np.float32)
    with torch.inference_mode():
        whole = model.sound(torch.from_numpy(heard)[None])[0]
    torch.testing.assert_close(
        embed_sound(model, heard, precision="fp32"), whole, rtol=1e-4, atol=1e-4
    )
    assert embed_sound(model, heard[:19]).shape == (0, 128)
    assert embed_sound(model, heard[:20]).shape == (1, 128)


def test_bfloat16_differs_by_a_few_hundredths() -> None:
    model = fold(model_with_statistics())
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 64, 64, 1), dtype=np.uint8)
    heard = rng.normal(size=(80, 13)).astype(np.float32)
    for exact, rough in (
        tuple(embed_lips(model, [frames], "cpu", how) for how in ("fp32", "bf16")),
        tuple(embed_sound(model, heard, "cpu", how) for how in ("fp32", "bf16")),
    ):
        assert rough.dtype == torch.float32 and not torch.equal(exact, rough)
        error = (exact - rough).norm(dim=1) / exact.norm(dim=1)
        assert error.max() < 0.05


@pytest.mark.parametrize("samples", [1, 400, 16000, 240_240, 240_241, 2_000_123])
def test_features_of_long_sounds_are_the_same(samples: int) -> None:
    audio = np.random.default_rng(0).integers(-9000, 9000, samples, dtype=np.int16)
    np.testing.assert_allclose(features(audio), mfcc(audio), rtol=1e-5, atol=1e-5)


def check_parity(
    bgr: NDArray[np.uint8], audio: NDArray[np.int16], reach: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare with the plain implementation; returns its embeddings."""
    state = official.stand_in_state()
    model = SyncNet("syncnet")
    model.load_state_dict(state, strict=False)
    model = fold(model.eval())
    lips, sound = official.embed(state, bgr, audio)
    rgb = bgr[..., ::-1].copy()
    own_lips = embed_lips(model, [rgb], precision="fp32")
    own_sound = embed_sound(model, mfcc(audio), precision="fp32")
    count = len(lips)
    assert close(own_lips[:count], lips) and close(own_sound[:count], sound)
    offset, confidence, distances, frames = official.score(lips, sound, reach)
    found = score_track(model, [rgb], audio, reach, "parity")
    assert found.offset == offset
    assert found.confidence == pytest.approx(confidence, rel=1e-2)
    np.testing.assert_allclose(found.means_S, distances.mean(0), rtol=1e-3)
    np.testing.assert_allclose(found.frames_K, frames, atol=1e-2 * confidence + 1e-4)
    return lips, sound


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal to 1e-3 of the embedding's length."""
    error = (one - other).norm(dim=1) / other.norm(dim=1)
    return bool(error.max() < 1e-3)


def test_parity_with_the_official_way_on_data_made_here() -> None:
    rng = np.random.default_rng(1)
    low = rng.integers(0, 256, (32, 14, 14, 3), dtype=np.uint8)
    bgr = np.stack([cv2.resize(picture, (224, 224)) for picture in low])
    audio = (rng.normal(size=33 * 640) * 3000).astype(np.int16)
    check_parity(bgr, audio, reach=6)


@pytest.mark.real
@pytest.mark.slow
def test_parity_with_what_the_official_code_computed(real_clips: Path) -> None:
    folder = real_clips / "parity"
    if not (folder / "expected.npz").exists():
        pytest.skip("no parity reference among the real recordings")
    pictures = [cv2.imread(str(path)) for path in sorted((folder / "frames").glob("*.jpg"))]
    bgr = np.stack([picture for picture in pictures if picture is not None])
    audio, rate = soundfile.read(folder / "audio.wav", dtype="int16")
    assert rate == 16000
    expected = np.load(folder / "expected.npz", allow_pickle=False)
    model = SyncNet("syncnet")
    model.load_state_dict(official.stand_in_state(), strict=False)
    model = fold(model.eval())
    rgb = bgr[..., ::-1].copy()
    lips = embed_lips(model, [rgb[:44]], precision="fp32")
    sound = embed_sound(model, mfcc(audio), precision="fp32")
    assert close(lips, torch.from_numpy(expected["video"]))
    assert close(sound[:40], torch.from_numpy(expected["audio"]))
    found = score_track(model, [rgb], audio, 15, "parity")
    assert len(found.frames_K) == len(expected["dist"])
    np.testing.assert_allclose(found.means_S, expected["dist"].mean(0), rtol=1e-3)
    assert found.offset == int(expected["offset"])
    assert found.confidence == pytest.approx(float(expected["confidence"]), rel=1e-2)


def test_auto_is_the_devices_own_bfloat16_or_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(
        torch, "autocast", lambda *kind, enabled: opened.append((*kind, enabled)) or nullcontext()
    )
    own = {"cuda:0": True, "cuda:1": False, "cpu": True}
    monkeypatch.setattr(embed, "has_bf16", lambda device: own[str(device)])
    before = torch.backends.cudnn.allow_tf32
    asked: list[tuple[str, Precision, bool]] = [
        ("cuda:0", "auto", True),
        ("cuda:0", "fp32", False),
        ("cuda:1", "auto", False),
        ("cuda:1", "bf16", True),
        ("cpu", "auto", True),
        ("cpu", "fp32", False),
    ]
    for name, precision, half in asked:
        device = torch.device(name)
        with embed.computing_in(precision, device):
            assert opened[-1] == (device.type, torch.bfloat16, half)
            assert torch.backends.cudnn.allow_tf32 == (before and precision != "fp32")
        assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize(("name", "frames"), [("syncnet", 111), ("medium", 1024)])
def test_a_gpu_is_given_more_at_once(name: str, frames: int) -> None:
    model = SyncNet(name)
    assert frames_at_once(model, torch.device("cpu")) == PIECE
    assert frames_at_once(model, torch.device("cuda", 0)) == frames
