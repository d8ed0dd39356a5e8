"""Batch normalisation folded into the layers before it, for inference."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from trainer.model.syncnet import SyncNet


def fold(model: SyncNet) -> SyncNet:
    """A copy for inference: batch normalisation folded into the layer before it.

    The same function up to rounding (Jacob et al. 2018, equation 14); the lip stream's weights are
    laid out channels last, as its frames are.

    Raises:
        ValueError: the model is in training mode, where the statistics are those of the batch.
    """
    if model.training:
        raise ValueError("only a model in evaluation mode can be folded")
    folded = deepcopy(model)
    for name in ("netcnnlip", "netfclip", "netcnnaud", "netfcaud"):
        setattr(folded, name, _folded(getattr(folded, name)))
    folded.netcnnlip.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    folded.netcnnaud.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded.requires_grad_(False)


def _folded(layers: nn.Sequential) -> nn.Sequential:
    out: list[nn.Module] = []
    for layer in layers:
        before = out[-1] if out else None
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            assert isinstance(before, (nn.Conv2d, nn.Conv3d))
            out[-1] = fuse_conv_bn_eval(before, layer)
        elif isinstance(layer, nn.BatchNorm1d):
            assert isinstance(before, nn.Linear)
            out[-1] = fuse_linear_bn_eval(before, layer)
        elif not (isinstance(layer, nn.MaxPool2d) and layer.kernel_size == 1):
            out.append(layer)
    return nn.Sequential(*out)
