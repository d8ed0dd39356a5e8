"""The lip stream computed in two dimensions, as GPUs are fastest, and CPUs embedding in bfloat16.

Behind the first layer no kernel spans more than one frame, and under the first the frames of a
window are as good as channels. So every window becomes one picture of 5 C channels. The sums are
the same; only the order of adding differs. A step of `syncnet` at 1,024 windows on an H200 takes
half the time (benchmarks/results/gpu_suite.json, "steps"); on a CPU it is faster in bfloat16 where
no gradient is asked for, and only there.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from data_tools.mfcc import WINDOW_FRAMES
from trainer.model.convolutions import ColourConv3d, WholeConv3d, whole


def flat_lips(
    layers: Iterable[nn.Module], frames_BTHWC: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """What `layers`, those of the lip stream, make of every window.

    Args:
        layers: 3-D convolutions, of which only the first spans frames (all of a window), max pools
            over pictures, and modules that do the same to every picture.
        frames_BTHWC: (B, T, H, W, C) uint8, T >= 5.
        dtype: to compute in.

    Returns:
        (B, T - 4, hidden) features.
    """
    batch = len(frames_BTHWC)
    x = _pictures(frames_BTHWC.to(dtype))
    for layer in layers:
        if isinstance(layer, nn.Conv3d):
            x = _convolution(layer, x)
        elif isinstance(layer, nn.MaxPool3d):
            x = functional.max_pool2d(
                x, _last_two(layer.kernel_size), _last_two(layer.stride), _last_two(layer.padding)
            )
        else:  # batch norm, which counts and may be synchronised, stays the module it is
            x = layer(x.unsqueeze(2)).squeeze(2)
    return x.view(batch, len(x) // batch, -1)


def _pictures(frames_BTHWC: torch.Tensor) -> torch.Tensor:
    """(B K, 5 C, H, W), channels last: a picture a window.

    Of floats: a GPU moves bytes one by one, and takes longer for them (measured on an H200).
    """
    windows = frames_BTHWC.unfold(1, WINDOW_FRAMES, 1)  # (B, K, H, W, C, 5)
    return windows.transpose(-1, -2).flatten(4, 5).flatten(0, 1).permute(0, 3, 1, 2)


def _convolution(layer: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    weight = layer.kernel if isinstance(layer, ColourConv3d) else layer.weight
    if weight.shape[2] == WINDOW_FRAMES:
        weight = weight.transpose(1, 2).flatten(1, 2)
        weight = weight.contiguous(memory_format=torch.channels_last)
    else:
        weight = weight[:, :, 0]
    if isinstance(layer, WholeConv3d):
        return whole(x, weight, layer.bias)[:, :, None, None]
    stride, padding = _last_two(layer.stride), _last_two(layer.padding)
    return functional.conv2d(x, weight, layer.bias, stride, padding)


def _last_two(extent: Any) -> tuple[int, int]:
    """Height and width of an extent over time, height and width."""
    _, height, width = (extent,) * 3 if isinstance(extent, int) else extent
    return height, width
