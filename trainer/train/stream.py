"""Numbers that travel between host and GPU without either waiting for the other.

What the host hands over goes through pinned memory; what it wants to know is copied there, and read
once an event behind the copy has passed. On a CPU there is nothing to copy and nothing to wait for.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray


class Event(Protocol):
    """A place in the device's queue of work, as `torch.cuda.Event`."""

    def record(self) -> None:
        """Put it behind all work queued so far."""

    def query(self) -> bool:
        """Whether the device has come to it."""

    def synchronize(self) -> None:
        """Wait on the host until it has."""

    def elapsed_time(self, end_event: Any, /) -> float:
        """Milliseconds of the device from this event to `end_event`; both have passed."""


NewEvent: TypeAlias = Callable[[], Event]


def timed_events(device: torch.device) -> NewEvent | None:
    """What makes events whose times can be compared; None on a CPU, which computes at once."""
    if device.type != "cuda":
        return None
    return lambda: torch.cuda.Event(enable_timing=True)


def plain_events(device: torch.device) -> NewEvent | None:
    """What makes events without times, which cost less; None on a CPU."""
    return torch.cuda.Event if device.type == "cuda" else None


def upload(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """A small array on `device`, usable by whatever is queued there next; shape and dtype are kept.

    From pageable memory a copy may wait for all work queued before it.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class Readback:
    """A tensor of the device on its way to the host.

    Args:
        value: of any shape; later changes of it do not count on a GPU.
        new_event: makes the event behind the copy; None: there is nothing to wait for.
    """

    def __init__(self, value: torch.Tensor, new_event: NewEvent | None) -> None:
        value = value.detach()
        if value.is_cuda:
            self._host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._host.copy_(value, non_blocking=True)
        else:
            self._host = value
        self._event = None
        if new_event is not None:
            self._event = new_event()
            self._event.record()

    def here(self) -> bool:
        """Whether `read` would not wait."""
        return self._event is None or self._event.query()

    def read(self) -> torch.Tensor:
        """The value on the CPU; waits until the device has come so far."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return self._host
