"""What follows the loader in a benchmark: a real training step, or one emulated by a sleep."""

import time
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.model.losses import labelled, make_loss
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.train.timing import StepClock


class EmulatedStep:
    """Sleeps, as a GPU that computes leaves the cores to the loader."""

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1e3

    def run(
        self,
        frames_NRHWC: torch.Tensor,
        mfcc_NFC: torch.Tensor,
        label_N: NDArray[np.int64],
        clock: StepClock,
    ) -> torch.Tensor:
        """Sleep; marks it as "compute"."""
        time.sleep(self.seconds)
        clock.mark("compute")
        return torch.zeros(())

    def validate(
        self, frames_NRHWC: torch.Tensor, mfcc_NFC: torch.Tensor, label_N: NDArray[np.int64]
    ) -> None:
        """Sleep a third of a step: a forward pass without a backward one."""
        time.sleep(self.seconds / 3)


class TrainingStep:
    """The step of trainer.run with its model, loss and optimizer."""

    def __init__(self, model: str, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.model = SyncNet(model).to(device)
        if device.type == "cuda":
            for parameter in self.model.netcnnlip.parameters():
                if parameter.dim() == 5:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
        self.loss = make_loss("contrastive", PRESETS[model].margin, PRESETS[model].embedding)
        fused = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=fused)

    def run(
        self,
        frames_NRHWC: torch.Tensor,
        mfcc_NFC: torch.Tensor,
        label_N: NDArray[np.int64],
        clock: StepClock,
    ) -> torch.Tensor:
        """Forward, loss, backward, optimizer; marks each on `clock`."""
        label = torch.from_numpy(label_N).to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            lips, sound = self.model(frames_NRHWC, mfcc_NFC)
        clock.mark("forward")
        value: torch.Tensor = self.loss(lips, sound, labelled(label))
        clock.mark("loss")
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        clock.mark("backward")
        self.optimizer.step()
        clock.mark("optimizer")
        return value.detach()

    def replay(
        self,
        frames_NRHWC: torch.Tensor,
        mfcc_NFC: torch.Tensor,
        label_N: NDArray[np.int64],
        steps: int,
    ) -> float:
        """Median milliseconds of a step on the same batch."""
        clock = StepClock(self.device)
        times = []
        for _ in range(steps + 3):
            start = time.perf_counter()
            clock.begin()
            self.run(frames_NRHWC, mfcc_NFC, label_N, clock)
            synchronise(self.device)
            times.append(1e3 * (time.perf_counter() - start))
        return median(times[3:])

    def validate(
        self, frames_NRHWC: torch.Tensor, mfcc_NFC: torch.Tensor, label_N: NDArray[np.int64]
    ) -> None:
        """Forward and loss of a batch, as in validation."""
        self.model.eval()
        with torch.inference_mode():
            label = torch.from_numpy(label_N).to(self.device)
            self.loss(*self.model(frames_NRHWC, mfcc_NFC), labelled(label))
        self.model.train()


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, if it is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
