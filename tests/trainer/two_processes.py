"""What each of two processes of one training does in tests; `<work>-<rank>.pt` is what it found."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from trainer.config.settings import Config, Data, Loss, Model, Train
from trainer.data.batch import Batch, Whole
from trainer.data.sampler import Segments
from trainer.model.losses import make_loss
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.train.distributed import Processes
from trainer.train.step import TrainStep
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


MULTIWAY = Data(pairing="multiway", run_frames=8)
CASES = {
    "contrastive": (MULTIWAY, Loss(), 1),
    "bins": (MULTIWAY, Loss("bins"), 1),
    "in parts": (MULTIWAY, Loss("bce"), 2),
    "labelled": (Data(), Loss(), 1),
    "infonce": (MULTIWAY, Loss("infonce"), 1),
}


def stepped(processes: Processes) -> dict[str, tuple[float, torch.Tensor]]:
    """Loss and weights after one step with each of CASES, and "fresh", those before.

    Plain gradient descent, since AdamW's first steps are signs; batch norm does not train.
    """
    found: dict[str, tuple[float, torch.Tensor]] = {}
    for name, (data, loss, parts) in CASES.items():
        train = Train(batch_size=8, accumulate=parts, warmup_steps=0, precision="fp32")
        config = Config(data, Model("small"), loss, train=train)
        step = TrainStep(config, torch.device("cpu"), 10, processes=processes)
        step.model.eval()
        found["fresh"] = 0.0, flat(step)
        step.optimizer = torch.optim.SGD(step.optimizer.param_groups, lr=1.0)  # type: ignore[assignment]
        step.schedule = torch.optim.lr_scheduler.LambdaLR(step.optimizer, lambda _: 1.0)
        batches = iter(parts_of(data.sample_frames, processes, parts))
        clock = StepClock(torch.device("cpu"))
        clock.begin()
        value = float(step.take(batches, 0, clock))
        found[name] = processes.mean([value])[0], flat(step)
    return found


def flat(step: TrainStep) -> torch.Tensor:
    """All weights in a row."""
    return torch.cat([each.detach().flatten() for each in step.model.parameters()])


def parts_of(frames: int, processes: Processes, parts: int) -> list[Batch]:
    """A process's share of a batch of 8, in parts; three samples are quiet, or genuine."""
    generator, number = torch.Generator().manual_seed(1), np.arange(8)
    pixels = torch.randint(0, 256, (8, frames, 64, 64, 1), dtype=torch.uint8, generator=generator)
    mfcc = torch.randn(8, 4 * frames, 13, generator=generator)
    segments = Segments(number, number, number, number, (number < 3).astype(int))
    quiet = np.repeat((number < 3)[:, None], frames - 4, 1)
    share = 8 // processes.world
    own = slice(processes.rank * share, (processes.rank + 1) * share)
    whole = Whole(segments[own], quiet[own]) if parts > 1 else None
    cuts = [slice(at, at + share // parts) for at in range(own.start, own.stop, share // parts)]
    return [Batch(0, segments[at], pixels[at], mfcc[at], quiet[at], whole) for at in cuts]


def steps(processes: Processes, folder: str) -> None:
    """Take the steps of `stepped`."""
    torch.save(stepped(processes), Path(folder) / f"steps-{processes.rank}.pt")
