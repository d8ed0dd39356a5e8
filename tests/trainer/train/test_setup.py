"""What is made ready before a run: the device."""

from contextlib import ExitStack

import pytest
import torch

from trainer.train.distributed import Processes
from trainer.train.setup import _device


@pytest.mark.parametrize("deterministic", [False, True])
def test_cudnn_tries_its_kernels_while_a_run_is_open(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)
    assert not torch.backends.cudnn.benchmark
    with ExitStack() as stack:
        shared = Processes(rank=5, world=8, local_rank=1, local_world=4)
        assert _device("cuda", shared, stack) == torch.device("cuda", 1)
        assert torch.backends.cudnn.benchmark == (not deterministic)
    assert not torch.backends.cudnn.benchmark
    with ExitStack() as stack:
        assert _device("cuda:3", Processes(), stack) == torch.device("cuda", 3)
        assert _device("cpu", Processes(), stack) == torch.device("cpu")
    assert chosen == [torch.device("cuda", 1), torch.device("cuda", 3)]
