"""What a GPU refuses is told in a sentence; a bug of ours is not."""

from contextlib import nullcontext

import pytest
import torch

from data_tools.errors import UserError
from trainer.data.loader import LoaderError
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
    assert not has_bf16(torch.device("cpu")) and asked == [False]
