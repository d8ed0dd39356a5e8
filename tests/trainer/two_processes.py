"""What each of two processes of one training does in tests; `<work>-<rank>.pt` is what it found."""

from contextlib import nullcontext
from pathlib import Path

import torch

from trainer.model.losses import make_loss
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.train.distributed import Processes
from trainer.train.timing import StepClock
from trainer.train.validate import Validation


def validated(shards: Path, model: SyncNet, processes: Processes) -> dict[str, float]:
    """The figures of a validation in batches of two runs."""
    validation = Validation(
        shards, "train", PRESETS["small"], processes,
        max_clips=4, runs_per_clip=2, batch_runs=2, min_shift=1, device="cpu", threads=1,
    )  # fmt: skip
    clock = StepClock(torch.device("cpu"))
    try:
        return validation.run(model, make_loss("contrastive", 1.0, 1), nullcontext, clock)
    finally:
        validation.close()


def validate(processes: Processes, shards: str, folder: str) -> None:
    """Validate a model whose batch norm differs between the processes."""
    torch.manual_seed(0)
    model = SyncNet("small")
    torch.manual_seed(processes.rank)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    figures = validated(Path(shards), model, processes)
    torch.save([figures, model.state_dict()], Path(folder) / f"validate-{processes.rank}.pt")
