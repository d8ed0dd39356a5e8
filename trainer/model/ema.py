"""A running average of a model's weights, which often scores better than any of them."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def average(model: nn.Module, decay: float) -> AveragedModel:
    """An average of `model` with `decay` a step, buffers included; young ones forget faster.

    Polyak and Juditsky 1992; the decay of the first steps, (1 + n) / (10 + n), is TensorFlow's.
    """

    @torch.no_grad()
    def blend(
        averaged: Sequence[torch.Tensor], current: Sequence[torch.Tensor], n: torch.Tensor | int
    ) -> None:
        done = int(n)
        weight = 1 - min(decay, (1 + done) / (10 + done))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, weight)
            else:
                old.copy_(new)  # counters of batches

    return AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
