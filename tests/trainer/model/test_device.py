"""What a GPU refuses is told in a sentence; a bug of ours is not."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from data_tools.errors import UserError
from trainer.data.loader import LoaderError
from trainer.model import device as device_module
from trainer.model.device import _cpu_has_bf16 as cpu_has_bf16  # tests/conftest.py puts it off
from trainer.model.device import has_bf16, naming_device_faults


def test_a_full_memory_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^CUDA out of memory\.$"), naming_device_faults():
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


@pytest.mark.parametrize("error", [RuntimeError("shapes"), LoaderError("a shard"), ValueError("x")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), naming_device_faults():
        raise error


def test_bfloat16_that_is_emulated_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    assert not has_bf16(torch.device("cuda", 1)) and asked == [False]


@pytest.mark.parametrize(
    ("flags", "allowed", "has"),
    [
        ("fpu avx512f avx512_bf16", "AVX512", True),
        ("fpu avx512f amx_bf16", "AVX512", True),
        ("fpu avx512f", "AVX512", False),
        ("fpu avx512f avx512_bf16", "AVX2", False),
    ],
)
def test_a_cpu_has_bfloat16_by_its_flags(
    monkeypatch: pytest.MonkeyPatch, flags: str, allowed: str, has: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: f"flags\t\t: {flags}\n")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: allowed)
    monkeypatch.setattr(device_module, "_cpu_has_bf16", cpu_has_bf16.__wrapped__)
    assert has_bf16(torch.device("cpu")) == has
