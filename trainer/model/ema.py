"""A running average of a model's weights, which often scores better than any of them."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def average(model: nn.Module, decay: float) -> "RunningAverage":
    """An average of `model` with `decay` a step, buffers included; young ones forget faster.

    Polyak and Juditsky 1992; the decay of the first steps, (1 + n) / (10 + n), is TensorFlow's.
    """
    return RunningAverage(model, decay)


class RunningAverage(AveragedModel):
    """torch's `AveragedModel`, whose own update waits for the GPU in every step.

    It reads how many models it has seen from a tensor that it first copies to the device. Here that
    tensor, `n_averaged`, stays on the host, where reading it costs nothing.

    Attributes:
        module: the average, a copy of the model.
        n_averaged: int64 on the CPU, the updates so far.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards `model`; the first time it becomes a copy of it."""
        done = int(self.n_averaged)
        weight = 1 - min(self.decay, (1 + done) / (10 + done)) if done else 1.0
        old = [*self.module.parameters(), *self.module.buffers()]
        new = [*model.parameters(), *model.buffers()]
        blended: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
        copied: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
        for ours, theirs in zip(old, new, strict=True):
            # counters of batches are no averages
            mine, other = blended if done and ours.is_floating_point() else copied
            mine.append(ours)
            other.append(theirs)
        if blended[0]:
            torch._foreach_lerp_(*blended, weight)
        if copied[0]:
            torch._foreach_copy_(*copied)
        self.n_averaged += 1
