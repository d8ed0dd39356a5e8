"""The running average: by hand, buffers included."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.model.ema import average


def test_the_average_follows_the_weights_with_a_growing_memory() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    averaged = average(model, 0.9)
    expected = None
    for n in range(200):
        with torch.no_grad():
            model[0].weight.fill_(float(n))
            model[1].running_mean.fill_(float(-n))
            model[1].num_batches_tracked.fill_(n)
        averaged.update_parameters(model)
        weight = 1 - min(0.9, (1 + n) / (10 + n))
        expected = float(n) if expected is None else expected + weight * (n - expected)
    assert expected is not None
    assert averaged.module[0].weight.item() == pytest.approx(expected, rel=1e-5)
    assert averaged.module[1].running_mean.item() == pytest.approx(-expected, rel=1e-5)
    assert averaged.module[1].num_batches_tracked.item() == 199
    assert 180 < expected < 199


def test_it_is_torchs_own_average_but_for_the_decay_and_reads_its_files() -> None:
    """Old checkpoints were written by `AveragedModel`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.1), use_buffers=True)
    ours = average(model, 0.1)  # young ones forget as fast from the first step on
    for number in range(6):
        if number == 3:
            assert ours.state_dict().keys() == theirs.state_dict().keys()
            again = average(model, 0.1)
            again.load_state_dict(theirs.state_dict())
            assert int(again.n_averaged) == 3
            ours = again
        model(torch.randn(8, 3)).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        theirs.update_parameters(model)
        ours.update_parameters(model)
    for name, value in theirs.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.state_dict()[name], value)
    assert int(ours.module[1].num_batches_tracked) == int(model[1].num_batches_tracked) == 6


def test_the_count_is_read_on_the_host() -> None:
    """On a GPU reading it from there would wait; "meta" has nothing to read at all."""
    model = nn.Linear(2, 2, device="meta")
    averaged = average(model, 0.9)
    for _ in range(3):
        averaged.update_parameters(model)
    assert averaged.n_averaged.device.type == "cpu" and int(averaged.n_averaged) == 3
