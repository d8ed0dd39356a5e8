"""Losses over embeddings of windows and their sounds. A loss is registered under a name."""

from collections.abc import Callable

import torch
from torch import nn


def distance(lips: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
    """Euclidean distance over the last axis, float32, with a finite gradient at zero."""
    squared = (lips.float() - sound.float()).square().sum(-1)
    return (squared + 1e-12).sqrt()


class Contrastive(nn.Module):
    """E = 1/2N sum(y d^2 + (1 - y) max(margin - d, 0)^2) over the N windows of all pairs.

    Chopra, Hadsell and LeCun 2005, as used by Chung and Zisserman 2016.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self, lips_BKD: torch.Tensor, sound_BKD: torch.Tensor, label_B: torch.Tensor
    ) -> torch.Tensor:
        """Scalar loss; `label_B` is 1 for genuine pairs, 0 for false ones."""
        d = distance(lips_BKD, sound_BKD)
        y = label_B.to(d.dtype)[:, None]
        return (y * d.square() + (1 - y) * (self.margin - d).clamp(min=0).square()).mean() / 2


LOSSES: dict[str, Callable[[float], nn.Module]] = {"contrastive": Contrastive}


def make_loss(name: str, margin: float) -> nn.Module:
    """The loss registered as `name`.

    Raises:
        ValueError: no such loss, or a margin that is not positive.
    """
    if name not in LOSSES:
        raise ValueError(f"no loss {name!r}; there are {', '.join(LOSSES)}")
    if not margin > 0:
        raise ValueError(f"loss.margin must be positive, not {margin}")
    return LOSSES[name](margin)
