"""Convolutions whose weights lie as published, and that compute what is faster."""

import torch
from torch import nn
from torch.nn import functional


class ColourConv3d(nn.Conv3d):
    """A convolution whose weights are for BGR, as published, over frames that come as RGB."""

    @property
    def kernel(self) -> torch.Tensor:
        """(D, 3, T, H, W) for RGB; turning the kernel is cheaper than turning frames."""
        return self.weight.flip(1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, 3, T, H, W) RGB -> features."""
        return functional.conv3d(input, self.kernel, self.bias, self.stride, self.padding)


class WholeConv3d(nn.Conv3d):
    """A convolution over one frame as large as its map: a matrix product, and computed as one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, D, T, 1, 1), H x W the size of the kernel."""
        x = whole(input.transpose(1, 2).flatten(0, 1), self.weight[:, :, 0], self.bias)
        # sizes as tensors have them: a trace would keep those of `len` for good
        return x.view(input.shape[0], input.shape[2], -1, 1, 1).transpose(1, 2)


class WholeConv2d(nn.Conv2d):
    """A convolution as large as its map: a matrix product, and computed as one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, D, 1, 1), H x W the size of the kernel."""
        return whole(input, self.weight, self.bias)[:, :, None, None]


def whole(
    x_NCHW: torch.Tensor, weight_DCHW: torch.Tensor, bias_D: torch.Tensor | None
) -> torch.Tensor:
    """(N, D). Convolution kernels take three times as long for it as the matrix product."""
    if x_NCHW.is_contiguous(memory_format=torch.channels_last):  # flattened without a copy
        x_NCHW, weight_DCHW = x_NCHW.permute(0, 2, 3, 1), weight_DCHW.permute(0, 2, 3, 1)
    return functional.linear(x_NCHW.flatten(1), weight_DCHW.flatten(1), bias_D)
