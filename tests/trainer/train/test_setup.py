"""What is made ready before a run: the device, and where frames are decoded."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from data_tools.errors import UsageError
from trainer.config.settings import Config, Train
from trainer.data.decode_choice import Rates
from trainer.train import setup
from trainer.train.distributed import Processes
from trainer.train.setup import _device

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@dataclass(frozen=True)
class Two(Processes):
    """One of two processes, whose other one measured what is given."""

    others: tuple[float, ...] = ()

    def mean(self, values: list[float]) -> list[float]:
        return [(own + other) / 2 for own, other in zip(values, self.others, strict=True)]


def never(**options: Any) -> Any:
    raise AssertionError("nothing is to be measured")


@pytest.mark.parametrize("asked", ["cpu", "gpu"])
def test_what_was_asked_for_is_taken_unmeasured(asked: Any) -> None:
    assert setup.settle(asked, GPU, never, never, Processes(), pytest.fail) == asked


@pytest.mark.parametrize("asked", ["auto", "cpu"])
def test_without_a_gpu_the_cpu_decodes_and_nothing_is_said(asked: Any) -> None:
    assert setup.settle(asked, CPU, never, never, Processes(), pytest.fail) == "cpu"


def test_a_gpu_that_is_not_there_cannot_decode() -> None:
    with pytest.raises(UsageError, match=r"data\.decode_device gpu needs a GPU"):
        setup.settle("gpu", CPU, never, never, Processes(), pytest.fail)


@pytest.mark.parametrize(
    ("own", "others", "taken"),
    [((9.0, 2.0), (9.0, 2.0), "gpu"), ((9.0, 5.0), (1.0, 5.0), "cpu")],
)
def test_auto_takes_what_is_faster_over_all_processes_and_says_so(
    own: tuple[float, float],
    others: tuple[float, float],
    taken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "measure", lambda open_loader, step: Rates(*own, step=9.0))
    said: list[str] = []
    assert (
        setup.settle("auto", GPU, never, lambda: never, Two(others=(*others, 9.0)), said.append)
        == taken
    )
    assert len(said) == 1 and f"on the {taken.upper()}" in said[0]


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
        assert _device("cuda", False, shared, stack) == torch.device("cuda", 1)
        assert torch.backends.cudnn.benchmark == (not deterministic)
    assert not torch.backends.cudnn.benchmark
    with ExitStack() as stack:
        assert _device("cuda:3", False, Processes(), stack) == torch.device("cuda", 3)
        assert _device("cpu", True, Processes(), stack) == torch.device("cpu")
    assert chosen == [torch.device("cuda", 1), torch.device("cuda", 3)]


def test_a_deterministic_run_has_torch_take_ways_of_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "to be restored")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with ExitStack() as stack:
        _device("cuda", True, Processes(), stack)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    config = Config(train=Train(deterministic=True))
    assert setup._decoded_on(config) == "cpu" and setup._decoded_on(Config()) == "auto"
