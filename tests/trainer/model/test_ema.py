"""The running average: by hand, buffers included."""

import pytest
import torch
from torch import nn

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
