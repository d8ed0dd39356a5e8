"""The lip stream in two dimensions against the same in three."""

from copy import deepcopy

import pytest
import torch

from trainer.model import syncnet as syncnet_module
from trainer.model.flat import flat_lips
from trainer.model.fold import fold
from trainer.model.syncnet import PRESETS, SyncNet


def frames_of(name: str, samples: int, frames: int) -> torch.Tensor:
    preset = PRESETS[name]
    shape = (samples, frames, preset.size, preset.size, preset.channels)
    generator = torch.Generator().manual_seed(len(name))
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def deep(model: SyncNet, frames_BTHWC: torch.Tensor) -> torch.Tensor:
    x: torch.Tensor = model.netcnnlip(frames_BTHWC.permute(0, 4, 1, 2, 3).to(torch.float32))
    return x.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("folded", [False, True])
def test_windows_come_out_alike(name: str, folded: bool) -> None:
    torch.manual_seed(1)
    model = SyncNet(name).eval()
    model = fold(model) if folded else model
    frames = frames_of(name, 1, 7)
    with torch.no_grad():
        flat = flat_lips(model.netcnnlip, frames, torch.float32)
        expected = deep(model, frames)
    assert flat.shape == expected.shape == (1, 3, expected.shape[2])
    assert torch.allclose(flat, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["small", "medium"])
def test_gradients_and_statistics_come_out_alike(name: str) -> None:
    torch.manual_seed(2)
    model = SyncNet(name).train()
    other = deepcopy(model)
    frames = frames_of(name, 3, 6)
    direction = None
    for network, stream in ((model, deep), (other, None)):
        x = (
            stream(network, frames)
            if stream
            else flat_lips(network.netcnnlip, frames, torch.float32)
        )
        direction = torch.randn(x.shape) if direction is None else direction
        (x * direction).sum().backward()
    for (key, one), two in zip(
        model.netcnnlip.named_parameters(), other.netcnnlip.parameters(), strict=True
    ):
        assert one.grad is not None and two.grad is not None
        # a bias before batch norm has no gradient but rounding
        assert torch.allclose(one.grad, two.grad, rtol=1e-3, atol=2e-3), key
    for (key, one), two in zip(model.named_buffers(), other.buffers(), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-4), key


def test_bfloat16_takes_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SyncNet("small").eval()
    frames = frames_of("small", 2, 5)
    with torch.no_grad():
        exact = model.lips(frames)
        monkeypatch.setattr(model.netcnnlip, "forward", None)  # three dimensions would call it
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = model.lips(frames)
    assert (near - exact).norm() < 0.05 * exact.norm()


def test_a_cpu_that_trains_in_bfloat16_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SyncNet("small").eval()
    frames = frames_of("small", 2, 5)
    monkeypatch.setattr(syncnet_module, "flat_lips", None)
    exact = model.lips(frames)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = model.lips(frames)
    near.float().sum().backward()
    assert (near - exact).norm() < 0.05 * exact.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_gpu_gives_what_a_cpu_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    torch.manual_seed(3)
    model = SyncNet(name).eval()
    frames = frames_of(name, 2, 7)
    with torch.no_grad():
        expected = model.lips(frames)
        found = model.cuda().lips(frames.cuda()).cpu()
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)
