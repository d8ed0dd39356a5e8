"""One process or several: what torchrun's environment says, and the few collectives needed."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from data_tools.errors import UsageError
from trainer.model.device import find_device as find_device
from trainer.train.agent import meeting

T = TypeVar("T")
# All others wait while the first packs clips, validates alone or writes to a slow disk, which may
# take hours. A process that dies does not hold them so long: torchrun ends them, and gloo sees that
# the connection is gone. torch's default is half an hour.
CONTROL_TIMEOUT = timedelta(hours=24)
# Exchanging gradients, all have come to the same step; one may wait for its data or evaluate a
# larger share. Beyond that NCCL hangs, which no closed connection tells. Its default: 10 minutes.
GRADIENT_TIMEOUT = timedelta(hours=2)


class Elsewhere(Exception):
    """The first process raised an error, which it tells of itself: this one ends with it."""


@dataclass(frozen=True)
class Processes:
    """This process's place among all.

    Attributes:
        rank, world: 0 of 1 without torchrun.
        local_rank, local_world: the same on this machine.
        control: a gloo group for small CPU tensors, None alone.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def mean(self, values: list[float]) -> list[float]:
        """Elementwise mean over all processes; every process must call it with equal lengths."""
        if self.world == 1 or not values:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        return (tensor / self.world).tolist()

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in order of rank, on every process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.control)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """What `work`, done by the first process alone, returns; every process must call it.

        Raises:
            Elsewhere: on the others, if `work` raised an error, which the first process raises.
        """
        if self.world == 1:
            return work()
        done: tuple[T | None, Exception | None] = None, None
        if self.first:
            try:
                done = work(), None
            except Exception as error:  # the others must not wait for ever
                done = None, error
        value, failed = self.gather((done[0], done[1] is not None))[0]
        if done[1] is not None:
            raise done[1]
        if failed:
            raise Elsewhere
        result: T = value
        return result

    def total(self, counts: torch.Tensor) -> torch.Tensor:
        """Elementwise sum over all processes, on the training's device; waits for no GPU.

        Every process must call it, with a tensor of the same shape and type.
        """
        if self.world == 1:
            return counts
        counts = counts.clone()
        dist.all_reduce(counts)  # the default group's: NCCL where it lies on a GPU
        return counts

    def as_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give tensors of the training's device the first process's values, in place.

        Every process must call it, with tensors of the same shapes and types in the same order.
        """
        if self.world > 1:
            for tensor in tensors:  # the default group's: NCCL where they lie on GPUs
                dist.broadcast(tensor, 0)

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier(group=self.control)


def setup(device: str) -> Processes:
    """Join the process group that torchrun's environment describes; alone without it.

    Args:
        device: "cpu", or "cuda" for the GPU of this process's LOCAL_RANK.

    Raises:
        UsageError: one GPU for all processes, or fewer GPUs than processes on this machine.
        UserError: the other processes did not come.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    local_rank = int(os.environ["LOCAL_RANK"])
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    cuda = device.startswith("cuda")
    if cuda:
        _check_gpus(device, local_rank, local_world)
        torch.cuda.set_device(local_rank)
    join: dict[str, Any] = {}
    if (store := meeting(int(os.environ["RANK"]), world)) is not None:
        join = {"store": store, "rank": int(os.environ["RANK"]), "world_size": world}
    if cuda:
        dist.init_process_group("nccl", timeout=GRADIENT_TIMEOUT, **join)
        control = dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
    else:
        dist.init_process_group("gloo", timeout=CONTROL_TIMEOUT, **join)
        control = dist.group.WORLD
    return Processes(dist.get_rank(), world, local_rank, local_world, control)


def _check_gpus(device: str, local_rank: int, local_world: int) -> None:
    if ":" in device:
        raise UsageError(
            f"train.device {device}: under torchrun each process takes the GPU of its own number "
            "(LOCAL_RANK); give cuda, and choose GPUs by CUDA_VISIBLE_DEVICES"
        )
    there = torch.cuda.device_count()
    if local_rank >= there:
        raise UsageError(
            f"{local_world} processes on this machine, but {there} GPU(s): start "
            f"`torchrun --nproc-per-node {there}`"
        )


def leave() -> None:
    """Leave the process group, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()
