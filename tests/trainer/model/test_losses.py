"""Every loss by hand, by gradient, and with pairs that count for nothing."""

import pytest
import torch

from data_tools.errors import UsageError
from trainer.model.losses import (
    LOSSES,
    Contrastive,
    InfoNCE,
    Pairs,
    distances,
    labelled,
    make_loss,
    shifted,
    strange,
)

CPU = torch.device("cpu")


def test_contrastive_equals_the_formula() -> None:
    lips = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    sound = torch.tensor([[[3.0, 4.0]], [[3.0, 4.0]], [[6.0, 8.0]], [[0.0, 1.0]]])
    pairs = labelled(torch.tensor([1, 0, 0, 1]))
    # d = 5, 5, 10, 1; margin 7: (25 + 1 + (7 - 5)^2 + 0) / (2 * 4)
    assert Contrastive(7.0, 2)(lips, sound, pairs).item() == pytest.approx(30 / 8, rel=1e-5)


def test_genuine_pairs_are_pulled_and_false_ones_pushed() -> None:
    lips = torch.tensor([[[1.0]], [[1.0]]], requires_grad=True)
    sound = torch.zeros(2, 1, 1)
    Contrastive(5.0, 1)(lips, sound, labelled(torch.tensor([1, 0]))).backward()
    assert lips.grad is not None
    assert lips.grad[0].item() > 0 > lips.grad[1].item()


def test_shifted_pairs_by_hand() -> None:
    pairs = shifted(1, 2, 4, begin=1, min_shift=2, device=CPU)
    assert pairs.genuine_BKL[0].tolist() == [
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert pairs.false_BKL[0].tolist() == [
        [False, False, False, True],
        [True, False, False, False],
    ]


def test_distances_are_those_of_every_pair() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(2, 3, 5), torch.randn(2, 4, 5)
    expected = (lips[:, :, None] - sound[:, None]).norm(dim=-1)
    torch.testing.assert_close(distances(lips, sound), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(distances(lips[:, :1], sound[:, :1]), expected[:, :1, :1])


def test_infonce_equals_two_cross_entropies() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    logits = -(lips[:, :, None] - sound[:, None]).square().sum(-1) / 10
    target = torch.arange(3).repeat(2)
    rows = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target)
    columns = torch.nn.functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), target)
    found = InfoNCE(1.0, 4)(lips, sound, shifted(2, 3, 3, 0, 1, CPU))
    torch.testing.assert_close(found, (rows + columns) / 2)


def test_sounds_of_other_clips_join_the_denominators_with_their_weight() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    quiet = torch.rand(3, 4) < 0.5
    clip = torch.tensor([7, 2, 7])  # the first and the last may share a sound
    pairs = shifted(3, 4, 4, 0, 2, CPU)
    pairs = Pairs(pairs.genuine_BKL, pairs.false_BKL, strange(clip, quiet, 4, 4))
    total = 0.0
    for first, second in ((lips, sound), (sound, lips)):
        for b in range(3):
            for k in range(4):
                terms = []
                for c in range(3):
                    for j in range(4):
                        term = (-(first[b, k] - second[c, j]).square().sum() / 10).exp()
                        if b == c and (k == j or abs(k - j) >= 2):
                            terms.append(term)
                        elif clip[b] != clip[c] and not (quiet[b, k] and quiet[c, j]):
                            terms.append(0.3 * term)
                genuine = -(first[b, k] - second[b, k]).square().sum() / 10
                total += float(sum(terms).log() - genuine) / 24
    assert InfoNCE(1.0, 5, 0.3)(lips, sound, pairs).item() == pytest.approx(total, rel=1e-5)
    without = InfoNCE(1.0, 5)(lips, sound, pairs)
    torch.testing.assert_close(without, InfoNCE(1.0, 5, 1e-9)(lips, sound, pairs))
    assert without < total


def test_others_are_for_infonce_alone() -> None:
    assert isinstance(make_loss("infonce", 1.0, 4, 0.5), InfoNCE)
    with pytest.raises(UsageError, match=r"loss.others is for loss.name infonce, not bce"):
        make_loss("bce", 1.0, 4, 0.5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradient_is_finite_and_pairs_in_neither_mask_count_for_nothing(name: str) -> None:
    torch.manual_seed(0)
    loss = make_loss(name, 1.0, 4)
    lips = torch.zeros(2, 3, 4, requires_grad=True)  # every distance zero at first
    sound = torch.randn(2, 3, 4)
    sound[0, 0] = 0
    pairs = shifted(2, 3, 3, 0, 1, CPU)
    nothing = torch.zeros_like(pairs.genuine_BKL)
    loss(lips, sound, Pairs(nothing, nothing)).backward()
    assert lips.grad is not None and torch.equal(lips.grad, torch.zeros_like(lips))
    loss(lips, sound, pairs).backward()
    assert torch.isfinite(lips.grad).all() and lips.grad.abs().sum() > 0
    # the third window takes part in no pair: moving it moves nothing
    used = pairs.genuine_BKL.clone(), pairs.false_BKL.clone()
    for mask in used:
        mask[:, 2] = mask[:, :, 2] = False
    moved = sound.clone()
    moved[:, 2] += 5
    with torch.no_grad():
        lips += torch.randn(2, 3, 4)
        torch.testing.assert_close(loss(lips, moved, Pairs(*used)), loss(lips, sound, Pairs(*used)))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_learns_to_tell_pairs_apart(name: str) -> None:
    torch.manual_seed(0)
    content = torch.randn(64, 1, 8)
    lips, sound = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    loss = make_loss(name, 3.0, 8)
    parameters = [*lips.parameters(), *sound.parameters(), *loss.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    pairs = shifted(1, 64, 64, 0, 1, CPU)

    def step() -> float:
        value = loss(lips(content)[None, :, 0], sound(content)[None, :, 0], pairs)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return float(value.detach())

    first = step()
    last = [step() for _ in range(200)][-1]
    found = distances(lips(content)[None, :, 0], sound(content)[None, :, 0])[0]
    assert last < 0.8 * first
    assert (found.argmin(1) == torch.arange(64)).float().mean() > 0.8


@pytest.mark.parametrize(
    ("name", "margin", "said"), [("nope", 1.0, "no loss"), ("contrastive", 0.0, "positive")]
)
def test_wrong_settings_are_refused(name: str, margin: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_loss(name, margin, 8)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_shares_of_parts_add_up_to_the_loss_of_the_whole(name: str) -> None:
    """Also where one part has hardly a false pair, so that the mean of the means would be off."""
    torch.manual_seed(0)
    loss = make_loss(name, 3.0, 4)
    lips, sound = torch.randn(6, 3, 4, requires_grad=True), torch.randn(6, 3, 4)
    pairs = shifted(6, 3, 3, 0, 1, CPU)
    false = pairs.false_BKL.clone()
    false[:2, :, 1:] = False
    whole = Pairs(pairs.genuine_BKL, false)
    cuts = slice(0, 2), slice(2, 4), slice(4, 6)
    parts = [
        loss(lips[at], sound[at], Pairs(pairs.genuine_BKL[at], false[at]).as_part_of(whole))
        for at in cuts
    ]
    wanted = loss(lips, sound, whole)
    torch.testing.assert_close(sum(parts), wanted)
    (own,) = torch.autograd.grad(sum(parts), lips)
    (all_at_once,) = torch.autograd.grad(wanted, lips)
    torch.testing.assert_close(own, all_at_once)
    if name != "infonce":  # whose denominator is one in every part
        means = [loss(lips[at], sound[at], Pairs(pairs.genuine_BKL[at], false[at])) for at in cuts]
        assert not torch.isclose(sum(means) / 3, wanted, rtol=1e-3)
