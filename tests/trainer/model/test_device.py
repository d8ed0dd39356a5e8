"""What a GPU refuses is told in a sentence; a bug of ours is not."""

import pytest
import torch

from data_tools.errors import UserError
from trainer.data.loader import LoaderError
from trainer.model.device import naming_device_faults


def test_a_full_memory_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^CUDA out of memory\.$"), naming_device_faults():
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")


@pytest.mark.parametrize("error", [RuntimeError("shapes"), LoaderError("a shard"), ValueError("x")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), naming_device_faults():
        raise error
