"""Calls out, in words, a training that learns nothing, instead of letting it run for days.

Every few steps it looks at the embeddings at hand: how far they are spread, how much nearer genuine
pairs are than false ones, how often a genuine pair is nearer than a false one (chance: half).
Everything is computed on the device and read some steps later, so that nothing waits for it.

What is broken (a loss that is no number, embeddings that collapsed or exploded) is said as soon as
a few steps have shown it; that nothing is learnt only when a healthy run would have begun to.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import torch

from data_tools.errors import UserError
from trainer.model.losses import Pairs, distances, masked_mean
from trainer.train.stream import Readback, plain_events

Action = Literal["warn", "stop", "off"]
EVERY = 5  # steps between looks, once there are the fewest that a judgement needs
_LOOKS = 40  # that a judgement rests on at most
_FEWEST = 8  # and at least
# Windows that all lie within a hundredth of their length of each other carry no information.
MIN_SPREAD = 0.01
# By chance the mean over some thousands of pairs stays within a percent of a half.
MIN_ORDER = 0.52
# A validation whose distances are so many times those of the training. The training normalises by
# each batch and hides that the weights run away; a validation, which normalises by averages that
# lag behind, shows it: healthy runs keep below 7, those at 100 times the learning rate reach 1000.
MAX_STRETCH = 10.0
# What neither a validation of two clips nor some looks at small batches reach by chance.
_LEARNT = 0.6
# What a healthy run needs to rise above chance, at least: windows seen in all, and steps at the
# full learning rate. Independent pairs of synthetic heads take the small model about 10,000.
_WINDOWS = 12_800
_STEPS = 50
_ALONE = 1.5  # as much again where no validation confirms it


class NotLearning(UserError):
    """A training that was ended because it learns nothing; says what was seen and what to try."""


@dataclass(frozen=True)
class Seen:
    """What was seen of the latest steps.

    Attributes:
        loss: mean; not finite if none of the latest was. (Looks with single figures that are not,
            as 16-bit floats give now and then, do not count.)
        spread: root mean square deviation of the embeddings over their root mean square length, of
            the stream where it is smaller; 0 where all are one point.
        gap: by how much genuine pairs are nearer than false ones, as a share of the latter.
        order: share of pairs of pairs in which the genuine one is nearer, in the later half of the
            looks; chance is 0.5.
        distance: mean of the false pairs.
    """

    loss: float
    spread: float
    gap: float
    order: float
    distance: float


class Guard:
    """Watches a training; `verdict` says in words what is wrong with it, if anything.

    Args:
        lr: the learning rate, for the advice.
        warmup_steps: of the learning rate, during which nothing is expected.
        windows: of lips a step, over all processes.
    """

    def __init__(self, lr: float, warmup_steps: int, windows: int) -> None:
        self._lr = lr
        self._patience = max(warmup_steps + _STEPS, math.ceil(_WINDOWS / windows))
        self._looks: deque[torch.Tensor] = deque(maxlen=_LOOKS)
        self._coming: deque[Readback] = deque()  # looks that the device may not have come to
        self._said: set[str] = set()
        self.blown_up = False  # whether a verdict was that the loss is no number

    @torch.no_grad()
    def look(
        self,
        step: int,
        loss: torch.Tensor,
        lips_BKD: torch.Tensor,
        sound_BLD: torch.Tensor,
        pairs: Pairs,
    ) -> None:
        """Remember what one step shows; costs nothing on most steps."""
        if step % EVERY and len(self._looks) + len(self._coming) >= _FEWEST:
            return
        d = distances(lips_BKD, sound_BLD)
        genuine, false = pairs.genuine_BKL, pairs.false_BKL
        figures = [loss.detach().float(), _spread(lips_BKD), _spread(sound_BLD)]
        figures += [masked_mean(d, genuine), masked_mean(d, false), _order(d, genuine, false)]
        look = torch.stack(figures)
        self._receive(wait=False)
        self._coming.append(Readback(look, plain_events(look.device)))

    def _receive(self, wait: bool) -> None:
        """Take the looks that have come; with `wait`, all of them."""
        while self._coming and (wait or self._coming[0].here()):
            # a copy: allocating pinned memory is slow, so what is free of it is used again
            self._looks.append(self._coming.popleft().read().clone())

    def order_now(self) -> float:
        """`Seen.order` of the latest look alone (waits for that step); 0 before the first."""
        self._receive(wait=True)
        return float(self._looks[-1][-1]) if self._looks else 0.0

    def seen(self) -> Seen | None:
        """The mean of the latest looks; None before there are enough.

        Waits for the latest of them, some steps ago: the device has the steps since then to do.
        """
        self._receive(wait=True)
        if len(self._looks) < _FEWEST:
            return None
        looks = torch.stack(list(self._looks)).double()
        usable = looks.isfinite().all(1)
        if usable[-_FEWEST:].any():
            looks = looks[usable]
        # a spread that fell to nothing a moment ago must not be hidden by what it was before
        spread = float(looks[-_FEWEST:, 1:3].mean(0).min())
        # nor an order that rises by what it was before there was anything to learn from
        order = float(looks[-max(_FEWEST, len(looks) // 2) :, -1].mean())
        loss, _, _, genuine, false, _ = looks.mean(0).tolist()
        return Seen(loss, spread, (false - genuine) / max(false, 1e-12), order, false)

    def verdict(self, step: int, validation: dict[str, float] | None = None) -> str | None:
        """What is wrong, in one paragraph, or None; each fault is named once.

        Args:
            step: the step just done.
            validation: the figures of a validation just done, which is then judged as well.
        """
        found = self._fault(step + 1, validation)
        if found is None or found[0] in self._said:
            return None
        fault, words = found
        self._said.add(fault)
        return f"not learning: {words}. {self.advice(fault)}"

    def _fault(self, steps: int, validation: dict[str, float] | None) -> tuple[str, str] | None:
        """The gravest fault after so many steps: its name, and what was seen of it."""
        seen = self.seen()
        for figures in (validation, vars(seen) if seen else None):
            if figures and not math.isfinite(figures["loss"]):
                self.blown_up = True
                return "nan", f"the loss is {figures['loss']}: it has blown up"
        if seen is None:
            return None
        if seen.spread < MIN_SPREAD:
            return "collapse", (
                f"the embeddings have collapsed: all windows lie within {seen.spread:.2%} of one "
                "another, so that every distance is alike"
            )
        if validation is None:
            if seen.order < MIN_ORDER and steps >= _ALONE * self._patience:
                return "chance", (
                    f"{steps} steps and still at chance: genuine pairs are nearer than false ones "
                    f"in {seen.order:.1%} of cases (50 % is guessing)"
                )
            return None
        auc, far, loss = (validation[name] for name in ("auc", "false_distance", "loss"))
        if far > MAX_STRETCH * seen.distance and auc < _LEARNT:
            return "explosion", (
                f"the embeddings have exploded: false pairs are {far:,.0f} apart in validation, "
                f"{seen.distance:.1f} in training; validation loss {loss:,.4g}"
            )
        # averaged weights lag behind those that are trained, and few clips are learnt by heart
        if seen.order < _LEARNT and auc < MIN_ORDER and steps >= self._patience:
            return "chance", (
                f"{steps} steps and validation is at chance: AUC {auc:.3f} (0.5 is guessing), K=5 "
                f"{validation['accuracy_k5']:.1%} (9.7 % is guessing)"
            )
        return None

    def advice(self, fault: str = "chance") -> str:
        """What to try."""
        lr = self._lr
        lower = f"a lower train.lr (now {lr:g}; {lr / 10:g}, say), a longer train.warmup_steps"
        if fault in ("nan", "explosion"):
            return f"Try {lower}, train.clip_grad 1."
        if fault == "collapse":
            return (
                f"Try {lower}, or loss.name infonce with data.pairing multiway, which has no such "
                "resting point."
            )
        return (
            f"Try {lower}; and see whether the data can be learnt: `--overfit 1` must learn its "
            "batch by heart, `data_tools info SHARDS --montage look.png` shows what is trained on, "
            "`trainer.sync` tells whether sound and picture of its videos agree."
        )

    def figures(self) -> dict[str, Any]:
        """For trackers; empty before there is anything to show."""
        seen = self.seen()
        return {} if seen is None else {f"guard/{k}": v for k, v in vars(seen).items()}


def _spread(x_BKD: torch.Tensor) -> torch.Tensor:
    flat = x_BKD.float().flatten(0, 1)
    deviation = flat.var(0, unbiased=False).mean().sqrt()
    return deviation / flat.square().mean().sqrt().clamp(min=1e-12)


def _order(d: torch.Tensor, genuine: torch.Tensor, false: torch.Tensor) -> torch.Tensor:
    """Share of (genuine, false) pairs of pairs in which the genuine is nearer; ties count half."""
    others = torch.where(false, d, torch.inf).flatten().sort().values
    count = false.sum().clamp(min=1)
    own = torch.where(genuine, d, 0).flatten()
    below = torch.searchsorted(others, own) + torch.searchsorted(others, own, right=True)
    return masked_mean(1 - below.clamp(max=2 * count) / (2 * count), genuine.flatten())
