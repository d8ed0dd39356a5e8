"""AdamW without the compiler is torch's AdamW."""

import pytest
import torch

from trainer.train.optimizer import AdamW


@pytest.mark.parametrize("fused", [True, False])
def test_steps_and_state_are_those_of_torch_to_the_bit(fused: bool) -> None:
    both = [_trained(kind, fused) for kind in (AdamW, torch.optim.AdamW)]
    (ours, our_state), (theirs, their_state) = both
    assert all(map(torch.equal, ours, theirs))
    assert our_state["param_groups"] == their_state["param_groups"]
    assert our_state["state"].keys() == their_state["state"].keys() == {0, 1}
    for number, moments in our_state["state"].items():
        assert all(
            torch.equal(moments[name], their_state["state"][number][name]) for name in moments
        )


def test_a_step_keeps_no_graph_and_leaves_gradients_on() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([weight], lr=0.1)
    (weight**2).sum().backward()
    optimizer.step()
    assert weight.is_leaf and torch.is_grad_enabled() and not torch.equal(weight, torch.ones(3))
    optimizer.zero_grad()
    assert weight.grad is None


def _trained(
    kind: type[torch.optim.AdamW], fused: bool
) -> tuple[list[torch.Tensor], dict[str, dict[int, dict[str, torch.Tensor]]]]:
    """Weights and state after six steps, saved and loaded in the middle, a scaler's among them."""
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 3)
    scaler = torch.amp.GradScaler("cpu")
    state = None
    for _half in range(2):
        optimizer = kind(network.parameters(), lr=0.01, weight_decay=0.1, fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(network(torch.rand(5, 4)).square().sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
        state = optimizer.state_dict()
    return [parameter.detach() for parameter in network.parameters()], state
