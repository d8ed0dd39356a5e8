"""The seed's contrastive loss, by hand and by gradient."""

import pytest
import torch

from trainer.losses import Contrastive, make_loss


def test_contrastive_equals_the_formula() -> None:
    lips = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    sound = torch.tensor([[[3.0, 4.0]], [[3.0, 4.0]], [[6.0, 8.0]]])
    label = torch.tensor([1, 0, 0])
    # d = 5, 5, 10; margin 7: (25 + (7 - 5)^2 + 0) / (2 * 3)
    assert Contrastive(7.0)(lips, sound, label).item() == pytest.approx(29 / 6, rel=1e-5)


def test_genuine_pairs_are_pulled_and_false_ones_pushed() -> None:
    lips = torch.tensor([[[1.0]], [[1.0]]], requires_grad=True)
    sound = torch.zeros(2, 1, 1)
    Contrastive(5.0)(lips, sound, torch.tensor([1, 0])).backward()
    assert lips.grad is not None
    assert lips.grad[0].item() > 0 > lips.grad[1].item()


def test_gradient_is_finite_at_distance_zero() -> None:
    lips = torch.zeros(2, 1, 4, requires_grad=True)
    Contrastive(1.0)(lips, torch.zeros(2, 1, 4), torch.tensor([1, 0])).backward()
    assert lips.grad is not None and torch.isfinite(lips.grad).all()


@pytest.mark.parametrize(
    ("name", "margin", "said"), [("nope", 1.0, "no loss"), ("contrastive", 0.0, "positive")]
)
def test_wrong_settings_are_refused(name: str, margin: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_loss(name, margin)
