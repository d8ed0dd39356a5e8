"""The lip stream over single windows as 2-D convolutions, with the same weights.

Of five frames, the first kernel spans all and every other spans one: stacked as channels under 2-D
kernels they are the same sums (`trainer.model.syncnet._paper` says so, too).
"""

import torch
from torch import nn
from torch.nn import functional

from trainer.model.syncnet import ColourConv3d, WholeConv3d


class Planes(nn.Module):
    """Computes what a lip stream computes of one window, in two dimensions.

    Args:
        stream: `SyncNet.netcnnlip`; its weights are used, not copied.
    """

    def __init__(self, stream: nn.Sequential) -> None:
        super().__init__()
        self.stream = stream

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, 5, H, W) -> (B, hidden, 1, 1, 1)."""
        if x.is_contiguous():
            planes = x.flatten(1, 2)
        else:  # channels last, as the loader's frames are: one copy, which stays so
            planes = x.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)
        for layer in self.stream:
            planes = _plane(layer, planes)
        return planes[:, :, None]


def _plane(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One layer over (B, C, H, W)."""
    if isinstance(layer, WholeConv3d):
        whole = functional.linear(x.flatten(1), layer.weight.flatten(1), layer.bias)
        return whole[:, :, None, None]
    if isinstance(layer, nn.Conv3d):
        weight = layer.weight.flip(1) if isinstance(layer, ColourConv3d) else layer.weight
        stride, padding = layer.stride[1:], layer.padding[1:]
        return functional.conv2d(x, weight.flatten(1, 2), layer.bias, stride, padding)
    if isinstance(layer, nn.BatchNorm3d):
        return functional.batch_norm(
            x, layer.running_mean, layer.running_var, layer.weight, layer.bias,
            layer.training, layer.momentum or 0.0, layer.eps,
        )  # fmt: skip
    if isinstance(layer, nn.MaxPool3d):
        return functional.max_pool2d(
            x, layer.kernel_size[1:], layer.stride[1:], layer.padding[1:]  # type: ignore[index]
        )  # fmt: skip
    changed: torch.Tensor = layer(x)
    return changed
