"""One training step: model, loss, optimizer, schedule and scaler, and what a checkpoint holds of
them."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from data_tools.errors import UsageError
from data_tools.mfcc import CEPSTRA, WINDOW_COLUMNS, WINDOW_FRAMES
from trainer.config.settings import Config, Train
from trainer.data.batch import Batch
from trainer.model.ema import average
from trainer.model.losses import Pairs, labelled, make_loss, shifted
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.train.checkpoint import Resumed
from trainer.train.distributed import Processes
from trainer.train.guard import Guard
from trainer.train.timing import StepClock

Autocast = Callable[[], AbstractContextManager[Any]]


class TrainStep:
    """Forward, loss, backward, optimizer: `step(batch, number, clock)` returns the loss.

    The weights are drawn from `config.train.seed`, which seeds torch's generator.

    Args:
        config: model, loss, optimizer and pairing.
        device: where to compute; batches lie there.
        total: steps of the whole training, for the schedule of the learning rate.
        processes: gradients are means over all of them.
        min_shift_at: the smallest shift of false pairs at a step ("multiway" only); default:
            config.data.nearest.
        guard: looks at the embeddings of each step, if given.

    Attributes:
        model, loss: what is trained. `loss` is wrapped if several processes share its weights.
        average: the running average of the model's weights, None unless config.train.average.
        autocast: opens the context of the forward pass's precision.

    Raises:
        UsageError: a setting that the device cannot do.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        total: int,
        *,
        processes: Processes | None = None,
        min_shift_at: Callable[[int], int] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.config, self.device, self.total = config, device, total
        self._min_shift_at = min_shift_at or (lambda step: config.data.nearest)
        self._guard = guard
        preset = PRESETS[config.model.name]
        margin = preset.margin if config.loss.margin is None else config.loss.margin
        torch.manual_seed(config.train.seed)
        self.model = SyncNet(config.model.name)
        self.loss = make_loss(config.loss.name, margin, preset.embedding)
        # as the frames lie in memory; of the sound, what computes faster
        self.model.netcnnlip.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.model.netcnnaud.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.to(device)
        self.loss.to(device)
        decay = config.train.average
        self.average = average(self.model, decay) if decay else None
        self._parallel: nn.Module = self.model
        if processes is not None and processes.world > 1:
            self._share_gradients()
        self.optimizer = torch.optim.AdamW(
            [*self.model.parameters(), *self.loss.parameters()],
            lr=config.train.lr,
            weight_decay=config.train.weight_decay,
            fused=device.type == "cuda",
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, partial(lr_factor, config=config.train, total=total)
        )
        dtype = _dtype(config.train.precision, device)
        self.autocast: Autocast = partial(
            torch.autocast, device.type, dtype=dtype, enabled=dtype is not None
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    def _share_gradients(self) -> None:
        """Let the backward pass take the mean of the gradients over all processes."""
        cuda = self.device.type == "cuda"
        if self.config.train.sync_batchnorm:
            if not cuda:
                raise UsageError("train.sync_batchnorm needs GPUs")
            self._parallel = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        ids = [self.device.index] if cuda else None
        self._parallel = nn.parallel.DistributedDataParallel(self._parallel, device_ids=ids)
        if any(True for _ in self.loss.parameters()):
            self.loss = nn.parallel.DistributedDataParallel(self.loss, device_ids=ids)

    def __call__(self, batch: Batch, step: int, clock: StepClock) -> torch.Tensor:
        """Train on one batch; marks the ends of forward, loss, backward and optimizer.

        Args:
            batch: on `device`.
            step: its number, from 0.
            clock: begun; whoever fetched the batch has marked "data".

        Returns:
            The loss, a float32 scalar on `device`.
        """
        lips, sound = self.embed(batch)
        clock.mark("forward")
        pairs = self.pairs(batch, step)
        value: torch.Tensor = self.loss(lips, sound, pairs)
        if self._guard is not None:
            self._guard.look(step, value, lips, sound, pairs)
        clock.mark("loss")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()
        clock.mark("backward")
        if self.config.train.clip_grad > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        clock.mark("optimizer")
        return value.detach()

    def embed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of the batch's windows: lips (N, K, D) and sound (N, L, D)."""
        mfcc = batch.mfcc_NFC
        if self.config.data.pairing == "paired":
            # two sounds in a row: windows that span both would be neither
            mfcc = mfcc.reshape(-1, WINDOW_COLUMNS, CEPSTRA)
        with self.autocast():
            lips, sound = self._parallel(batch.frames_NRHWC, mfcc)
        return lips, sound.reshape(len(lips), -1, sound.shape[-1])

    def pairs(self, batch: Batch, step: int) -> Pairs:
        """Which pairs of the batch are genuine and which false, on the device."""
        data, samples = self.config.data, len(batch.segments)
        windows = data.sample_frames - WINDOW_FRAMES + 1
        if data.pairing == "multiway":
            nearest = self._min_shift_at(step)
            pairs = shifted(samples, windows, windows, 0, nearest, self.device)
        elif data.pairing == "paired":
            false = torch.tensor([False, True], device=self.device).expand(samples, 1, 2)
            pairs = Pairs(~false, false)
        else:
            label = torch.from_numpy(batch.segments.label).to(self.device, non_blocking=True)
            pairs = labelled(label)
        if not data.skip_quiet or data.pairing == "independent":
            return pairs
        quiet = torch.from_numpy(batch.quiet_NA).to(self.device, non_blocking=True)
        if data.pairing == "paired":
            # windows of the genuine and of the false sound; those between span both
            quiet = quiet[:, ::WINDOW_FRAMES]
        own = quiet[:, :windows]
        alike = own[:, :, None] & quiet[:, None]
        return Pairs(pairs.genuine_BKL, pairs.false_BKL & ~alike)

    @property
    def inference_model(self) -> SyncNet:
        """The weights that are validated and used: the running average where there is one."""
        return self.model if self.average is None else cast(SyncNet, self.average.module)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the step, torch's random number generators among it."""
        state = {
            "model": self.model.state_dict(),
            "loss": self._bare_loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, resumed: Resumed) -> None:
        """Go on from a checkpoint; learning rate and weight decay given anew hold.

        Raises:
            CheckpointError: an entry does not fit; it is named.
        """
        self.model.load_state_dict(resumed.take("model", self.model.state_dict()))
        self._bare_loss.load_state_dict(resumed.take("loss", self._bare_loss.state_dict()))
        if self.average is not None:
            if "average" in resumed.state:
                self.average.load_state_dict(resumed.take("average", self.average.state_dict()))
            else:  # a run that is told to average from now on
                self.average.module.load_state_dict(self.model.state_dict())
        self.optimizer.load_state_dict(resumed.optimizer(self.optimizer))
        self.schedule.load_state_dict(resumed.schedule(self.schedule))
        self._apply_given_lr()
        if self.scaler.is_enabled() and (scaler := resumed.scaler(self.scaler)):
            self.scaler.load_state_dict(scaler)
        torch.set_rng_state(resumed.rng("rng", torch.default_generator))
        if self.device.type == "cuda" and "cuda_rng" in resumed.state:
            cuda_rng = resumed.rng("cuda_rng", torch.Generator(self.device))
            torch.cuda.set_rng_state(cuda_rng, self.device)

    def _apply_given_lr(self) -> None:
        """Let the settings' learning rate and weight decay hold instead of the checkpoint's."""
        config, schedule = self.config.train, self.schedule
        for group in self.optimizer.param_groups:
            group["weight_decay"] = config.weight_decay
            if group["initial_lr"] != config.lr:
                group["initial_lr"] = config.lr
                group["lr"] = config.lr * lr_factor(schedule.last_epoch, config, self.total)
        schedule.base_lrs = [config.lr for _ in schedule.base_lrs]

    @property
    def _bare_loss(self) -> nn.Module:
        if isinstance(self.loss, nn.parallel.DistributedDataParallel):
            return cast(nn.Module, self.loss.module)
        return self.loss


def lr_factor(step: int, config: Train, total: int) -> float:
    """Share of the learning rate at `step`: a linear rise, then constant or half a cosine."""
    warmup = warmup_steps(config, total)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def warmup_steps(config: Train, total: int) -> int:
    """Steps over which the learning rate rises: half of a short training at most."""
    return min(config.warmup_steps, total // 2)


def _dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What the forward pass computes in; None: float32 throughout."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if dtype is torch.float16 and device.type != "cuda":
        raise UsageError("train.precision fp16 needs a GPU; use fp32 or bf16")
    return dtype
