"""Losses over embeddings of lips and sound. A loss is registered under a name.

Every loss sees K windows of lips and L of sound a sample, and two masks that say which of their
K x L pairs are genuine, which are false; pairs in neither count for nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from data_tools.errors import UsageError


@dataclass(frozen=True)
class Pairs:
    """Which pairs of a batch are genuine, which are false.

    Of a batch that is one part of several, a loss is the part's share in the loss of all of them,
    if the means are told of how many pairs they are: the shares of all parts add up to the loss of
    the whole, also where parts have unequally many false pairs.

    Attributes:
        genuine_BKL, false_BKL: bool; at most one genuine pair in each row and column.
        strange_BKBL: bool, which lips of one sample are false with which sound of another; None
            where samples are not compared with each other. Only "infonce" heeds it.
        genuine_of, false_of: positive scalars, how many pairs the means are of; None: those of
            this batch.
    """

    genuine_BKL: torch.Tensor
    false_BKL: torch.Tensor
    strange_BKBL: torch.Tensor | None = None
    genuine_of: torch.Tensor | None = None
    false_of: torch.Tensor | None = None

    def as_part_of(self, whole: "Pairs") -> "Pairs":
        """The same pairs, some of the pairs of `whole`."""
        return self.of(whole.counts().clamp(min=1))

    def counts(self) -> torch.Tensor:
        """(2,) int64: how many pairs are genuine, and how many false."""
        return torch.stack([self.genuine_BKL.sum(), self.false_BKL.sum()])

    def of(self, counts: torch.Tensor) -> "Pairs":
        """The same pairs, with means over so many genuine and false ones: (2,), positive."""
        return replace(self, genuine_of=counts[0], false_of=counts[1])


def labelled(label_B: torch.Tensor) -> Pairs:
    """One pair a sample, genuine where the label is 1 (pairing "independent")."""
    genuine = (label_B == 1)[:, None, None]
    return Pairs(genuine, ~genuine)


def shifted(
    samples: int, lips: int, sound: int, begin: int, min_shift: int, device: torch.device
) -> Pairs:
    """Every window of lips with every window of sound, window k genuine with sound k + begin.

    False pairs lie at least `min_shift` frames off; those nearer, which no one could tell from
    genuine ones, are left out (pairing "multiway", with begin 0).
    """
    apart = torch.arange(sound, device=device) - torch.arange(lips, device=device)[:, None] - begin
    shape = (samples, lips, sound)
    return Pairs((apart == 0).expand(shape), (apart.abs() >= min_shift).expand(shape))


def strange(
    clip_B: torch.Tensor, quiet_BK: torch.Tensor | None, lips: int, sound: int
) -> torch.Tensor:
    """Every window of lips with the sounds of the batch's other clips: (B, K, B, L) bool.

    Another sample of the same clip may hold the very sound, and two quiet sounds are as good as
    each other: neither is a false pair.

    Args:
        clip_B: (B,) integers, the clip of each sample.
        quiet_BK: (B, K) bool, K = L, windows whose own sound is quiet; None: unknown.
        lips, sound: K and L.
    """
    other = clip_B[:, None] != clip_B
    pairs = other[:, None, :, None].expand(-1, lips, -1, sound)
    if quiet_BK is None:
        return pairs
    return pairs & ~(quiet_BK[:, :, None, None] & quiet_BK)


def masked_mean(
    values: torch.Tensor, chosen: torch.Tensor, of: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean of the values where `chosen` (bool, same shape); zero where none is.

    With `of`, the share of these values in a mean over so many, of which the others are elsewhere.
    """
    count = chosen.sum().clamp(min=1) if of is None else of
    return torch.where(chosen, values, 0).sum() / count


def distance(lips: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
    """Euclidean distance over the last axis, float32, with a finite gradient at zero."""
    squared = (lips.float() - sound.float()).square().sum(-1)
    return (squared + 1e-12).sqrt()


def distances(lips_BKD: torch.Tensor, sound_BLD: torch.Tensor) -> torch.Tensor:
    """(B, K, L) Euclidean distances of all pairs, float32, with a finite gradient at zero."""
    if lips_BKD.shape[1] == sound_BLD.shape[1] == 1:
        return distance(lips_BKD, sound_BLD)[:, :, None]
    return (_squared(lips_BKD.float(), sound_BLD.float()) + 1e-12).sqrt()


class Contrastive(nn.Module):
    """E = 1/2N sum(y d^2 + (1 - y) max(margin - d, 0)^2), genuine and false pairs weighing alike.

    Chopra, Hadsell and LeCun 2005, as used by Chung and Zisserman 2016.
    """

    def __init__(self, margin: float, embedding: int) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self, lips_BKD: torch.Tensor, sound_BLD: torch.Tensor, pairs: Pairs
    ) -> torch.Tensor:
        """Scalar loss."""
        d = distances(lips_BKD, sound_BLD)
        far = (self.margin - d).clamp(min=0).square()
        pulled = masked_mean(d.square(), pairs.genuine_BKL, pairs.genuine_of)
        pushed = masked_mean(far, pairs.false_BKL, pairs.false_of)
        return (pulled + pushed) / 4


class InfoNCE(nn.Module):
    """Pick the right sound among all shifts, and the right lips for each sound: -d^2 as logits.

    Multi-way matching (Chung, Chung and Kang 2019, "Perfect Match") in both directions, with the
    squared distance in place of its inverse: the embeddings' own scale is the temperature. Sounds
    of other samples (`Pairs.strange_BKBL`) join the denominators with the weight `others`.
    """

    def __init__(self, margin: float, embedding: int, others: float = 0.0) -> None:
        super().__init__()
        self.others = others

    def forward(
        self, lips_BKD: torch.Tensor, sound_BLD: torch.Tensor, pairs: Pairs
    ) -> torch.Tensor:
        """Scalar loss: mean cross-entropy of rows and columns that have a genuine pair."""
        lips, sound = lips_BKD.float(), sound_BLD.float()
        logits = -_squared(lips, sound) / 10
        # finite, since a row without any pair would turn into nan
        logits = logits.masked_fill(~(pairs.genuine_BKL | pairs.false_BKL), -1e9)
        by_lips, by_sound = logits.logsumexp(2, True), logits.logsumexp(1, True)
        if self.others and pairs.strange_BKBL is not None:
            across = -_squared(lips.flatten(0, 1)[None], sound.flatten(0, 1)[None]) / 10
            across = across.view(pairs.strange_BKBL.shape) + math.log(self.others)
            across = across.masked_fill(~pairs.strange_BKBL, -1e9)
            by_lips = torch.logaddexp(by_lips, across.logsumexp((2, 3))[:, :, None])
            by_sound = torch.logaddexp(by_sound, across.logsumexp((0, 1))[:, None])
        per_lips = (by_lips - logits).masked_fill(~pairs.genuine_BKL, 0)
        per_sound = (by_sound - logits).masked_fill(~pairs.genuine_BKL, 0)
        genuine, of = pairs.genuine_BKL, pairs.genuine_of
        return (masked_mean(per_lips, genuine, of) + masked_mean(per_sound, genuine, of)) / 2


class CosineBCE(nn.Module):
    """Binary cross-entropy of the cosine similarity, as the expert of Wav2Lip (Prajwal 2020).

    There both embeddings end in a ReLU, so that the cosine is a probability; the public layout has
    none, so (1 + cosine) / 2 is.
    """

    def __init__(self, margin: float, embedding: int) -> None:
        super().__init__()

    def forward(
        self, lips_BKD: torch.Tensor, sound_BLD: torch.Tensor, pairs: Pairs
    ) -> torch.Tensor:
        """Scalar loss."""
        lips = functional.normalize(lips_BKD.float(), dim=-1)
        sound = functional.normalize(sound_BLD.float(), dim=-1)
        likely = ((1 + lips @ sound.transpose(1, 2)) / 2).clamp(1e-6, 1 - 1e-6)
        genuine = masked_mean(-likely.log(), pairs.genuine_BKL, pairs.genuine_of)
        false = masked_mean(-(1 - likely).log(), pairs.false_BKL, pairs.false_of)
        return (genuine + false) / 2


class Bins(nn.Module):
    """Two bins, in sync or off: cross-entropy of a classifier on |lips - sound|.

    The classification that the seed's authors tried and gave up, as a weighted L1 distance (Koch,
    Zemel and Salakhutdinov 2015); its weights are positive, so that embeddings which the classifier
    calls in sync are also near each other.
    """

    def __init__(self, margin: float, embedding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(embedding))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(
        self, lips_BKD: torch.Tensor, sound_BLD: torch.Tensor, pairs: Pairs
    ) -> torch.Tensor:
        """Scalar loss."""
        weight = functional.softplus(self.weight) / len(self.weight) ** 0.5
        apart = (lips_BKD.float()[:, :, None] - sound_BLD.float()[:, None]).abs()
        in_sync = self.bias - (apart * weight).sum(-1)
        genuine = masked_mean(functional.softplus(-in_sync), pairs.genuine_BKL, pairs.genuine_of)
        false = masked_mean(functional.softplus(in_sync), pairs.false_BKL, pairs.false_of)
        return (genuine + false) / 2


LOSSES: dict[str, Callable[[float, int], nn.Module]] = {
    "contrastive": Contrastive,
    "infonce": InfoNCE,
    "bce": CosineBCE,
    "bins": Bins,
}


def make_loss(name: str, margin: float, embedding: int, others: float = 0.0) -> nn.Module:
    """The loss registered as `name`; only "contrastive" heeds the margin, "bins" has weights.

    Args:
        others: weight of the sounds of other samples; "infonce" alone takes one.

    Raises:
        UsageError: no such loss, a margin that is not positive, or others with another loss.
    """
    if name not in LOSSES:
        raise UsageError(f"no loss {name!r}; there are {', '.join(LOSSES)}")
    if others and name != "infonce":
        raise UsageError(f"loss.others is for loss.name infonce, not {name}")
    if not margin > 0:
        raise UsageError(f"loss.margin must be positive, not {margin}")
    if others:
        return InfoNCE(margin, embedding, others)
    return LOSSES[name](margin, embedding)


def _squared(lips_BKD: torch.Tensor, sound_BLD: torch.Tensor) -> torch.Tensor:
    """(B, K, L) squared distances by one matrix product, in float32 whatever autocast says."""
    with torch.autocast(lips_BKD.device.type, enabled=False):
        product = lips_BKD @ sound_BLD.transpose(1, 2)
    lengths = lips_BKD.square().sum(-1)[:, :, None] + sound_BLD.square().sum(-1)[:, None]
    return (lengths - 2 * product).clamp(min=0)
