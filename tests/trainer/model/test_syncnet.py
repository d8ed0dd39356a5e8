"""Layouts, keys, and one pass over T frames giving the embeddings of all T - 4 windows."""

import pytest
import torch
from torch import nn

from trainer.model.convolutions import WholeConv2d, WholeConv3d
from trainer.model.syncnet import PRESETS, SyncNet, parameter_count

# From the published weights: first and last convolution, heads.
PUBLISHED = {
    "netcnnlip.0.weight": (96, 3, 5, 7, 7),
    "netcnnlip.4.weight": (256, 96, 1, 5, 5),
    "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    "netcnnaud.0.weight": (64, 1, 3, 3),
    "netcnnaud.4.weight": (192, 64, 3, 3),
    "netcnnaud.8.weight": (384, 192, 3, 3),
    "netcnnaud.18.weight": (512, 256, 5, 4),
    "netfclip.0.weight": (512, 512),
    "netfclip.3.weight": (1024, 512),
    "netfcaud.3.bias": (1024,),
}


def frames_of(name: str, batch: int, frames: int) -> torch.Tensor:
    preset = PRESETS[name]
    shape = (batch, frames, preset.size, preset.size, preset.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_syncnet_has_the_published_keys_and_shapes() -> None:
    state = SyncNet("syncnet").state_dict()
    tensors = {key: value for key, value in state.items() if "num_batches" not in key}
    assert len(tensors) == 88
    for stream in ("netcnnaud", "netcnnlip"):
        for index in (0, 4, 8, 11, 14, 18):
            assert f"{stream}.{index}.weight" in tensors
            assert f"{stream}.{index + 1}.running_var" in tensors
    assert {key: tuple(tensors[key].shape) for key in PUBLISHED} == PUBLISHED


def test_parameter_counts() -> None:
    assert parameter_count(SyncNet("syncnet")) == 13_631_616
    assert 0.3e6 < parameter_count(SyncNet("small")) < 0.5e6


@pytest.mark.parametrize("name", PRESETS)
def test_one_pass_equals_window_by_window(name: str) -> None:
    torch.manual_seed(0)
    model = SyncNet(name).eval()
    frames = frames_of(name, 1, 8)
    sound = torch.randn(1, 32, 13)
    with torch.no_grad():
        lips, audio = model(frames, sound)
        single = torch.cat([model.lips(frames[:, i : i + 5]) for i in range(4)], dim=1)
        heard = torch.cat([model.sound(sound[:, 4 * i : 4 * i + 20]) for i in range(4)], dim=1)
    assert lips.shape == audio.shape == (1, 4, PRESETS[name].embedding)
    torch.testing.assert_close(lips, single, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(audio, heard, rtol=1e-3, atol=1e-4)


def test_syncnet_weights_act_on_bgr_while_frames_come_as_rgb() -> None:
    model = SyncNet("syncnet").eval()
    conv = model.netcnnlip[0]
    frames = frames_of("syncnet", 1, 5)
    rgb = frames.permute(0, 4, 1, 2, 3).float()
    with torch.no_grad():
        expected = torch.nn.functional.conv3d(rgb.flip(1), conv.weight, conv.bias, conv.stride)
        torch.testing.assert_close(conv(rgb), expected, rtol=1e-3, atol=1e-2)


def test_frames_are_converted_without_changing_their_layout() -> None:
    model = SyncNet("small")
    seen: list[bool] = []
    model.netcnnlip[0].register_forward_pre_hook(
        lambda module, inputs: seen.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last_3d)
        )
    )
    model.lips(frames_of("small", 2, 5))
    assert seen == [True]


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no model 'large'"):
        SyncNet("large")


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last_3d])
def test_a_convolution_over_the_whole_map_is_a_matrix_product(format: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain, whole = nn.Conv3d(6, 4, (1, 3, 2)), WholeConv3d(6, 4, (1, 3, 2))
    whole.load_state_dict(plain.state_dict())
    for each in (plain, whole):
        each.to(memory_format=format)  # type: ignore[call-overload]
    x = torch.randn(2, 6, 5, 3, 2).to(memory_format=format)
    seen, wanted = whole(x), plain(x)
    torch.testing.assert_close(seen, wanted)
    direction = torch.randn_like(wanted)
    wanted.backward(direction)
    seen.backward(direction)
    torch.testing.assert_close(whole.weight.grad, plain.weight.grad)
    assert whole.bias is not None and plain.bias is not None
    torch.testing.assert_close(whole.bias.grad, plain.bias.grad)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_the_same_of_sound(format: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain, whole = nn.Conv2d(6, 4, (5, 4)), WholeConv2d(6, 4, (5, 4))
    whole.load_state_dict(plain.state_dict())
    x = torch.randn(3, 6, 5, 4).to(memory_format=format)
    torch.testing.assert_close(whole(x), plain(x))
