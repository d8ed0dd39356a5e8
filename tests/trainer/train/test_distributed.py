"""Who computes where, and how long the others wait."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

from data_tools.errors import UsageError
from trainer.train import distributed


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the second of two processes on this machine."""
    for name, value in {
        "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_nobody_gives_up_while_the_first_packs(torchrun: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, timedelta]] = []
    chosen: list[int] = []

    def joined(backend: str, timeout: timedelta) -> str:
        asked.append((backend, timeout))
        return f"group of {backend}"

    torchrun.setattr(torch.cuda, "device_count", lambda: 2)
    torchrun.setattr(torch.cuda, "set_device", chosen.append)
    torchrun.setattr(dist, "init_process_group", joined)
    torchrun.setattr(dist, "new_group", joined)
    torchrun.setattr(dist, "get_rank", lambda: 1)
    processes = distributed.setup("cuda")
    assert asked == [("nccl", timedelta(hours=2)), ("gloo", timedelta(hours=24))]
    assert chosen == [1] and processes.local_rank == 1 and processes.control == "group of gloo"


@pytest.mark.parametrize(
    ("device", "gpus", "said"),
    [
        ("cuda:1", 4, "train.device cuda:1: under torchrun each process takes the GPU of its own"),
        ("cuda", 1, "2 processes on this machine, but 1 GPU"),
    ],
)
def test_one_gpu_for_several_processes_is_refused(
    torchrun: pytest.MonkeyPatch, device: str, gpus: int, said: str
) -> None:
    torchrun.setattr(torch.cuda, "device_count", lambda: gpus)
    torchrun.setattr(dist, "init_process_group", lambda *_, **__: pytest.fail("it joined"))
    with pytest.raises(UsageError, match=said):
        distributed.setup(device)


# It leaves without the interpreter's end, at which threads of gloo that `processes` still holds may
# abort it (torch 2.13); a training holds none by then.
_OTHER = """
import os
from trainer.train import distributed
processes = distributed.setup("cpu")
assert processes.gather("second") == ["first", "second"]
assert processes.together(lambda: 1 / 0) == "packed"
distributed.leave()
os._exit(0)
"""


def test_gloo_waits_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    for name, value in (place | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    second = os.environ | place | {"RANK": "1", "LOCAL_RANK": "1"}
    with subprocess.Popen([sys.executable, "-c", _OTHER], env=second) as other:
        try:
            processes = distributed.setup("cpu")
            group: Any = processes.control
            backend = group._get_backend(torch.device("cpu"))
            assert backend.options._timeout == distributed.CONTROL_TIMEOUT == timedelta(hours=24)
            assert processes.gather("first") == ["first", "second"]
            assert processes.together(lambda: "packed") == "packed"
            assert other.wait(60) == 0
        finally:
            distributed.leave()
            other.kill()
