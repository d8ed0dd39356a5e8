"""One training step: model, loss, optimizer, schedule and scaler, and what a checkpoint holds of
them."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_tools.errors import UsageError
from data_tools.mfcc import CEPSTRA, WINDOW_COLUMNS, WINDOW_FRAMES
from trainer.config.settings import Config, Train
from trainer.data.batch import Batch
from trainer.data.sampler import Segments
from trainer.model.device import has_bf16
from trainer.model.ema import average
from trainer.model.layers import freeze, frozen_layers, parameters_of
from trainer.model.losses import Pairs, labelled, make_loss, shifted, strange
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.model.transfer import Start
from trainer.train.checkpoint import Resumed
from trainer.train.compiling import compile_forward, naming_compiler_faults
from trainer.train.distributed import Processes
from trainer.train.guard import Guard
from trainer.train.optimizer import AdamW
from trainer.train.stream import upload
from trainer.train.timing import StepClock

Autocast = Callable[[], AbstractContextManager[Any]]


class TrainStep:
    """Forward, loss, backward, optimizer: `step(batch, number, clock)` returns the loss.

    The weights are drawn from `config.train.seed`, which seeds torch's generator. A step may come
    in parts, `step.take(loader, number, clock)`, whose gradients are added up.

    Args:
        config: model, loss, optimizer and pairing.
        device: where to compute; batches lie there.
        total: steps of the whole training, for the schedule of the learning rate.
        processes: gradients are means over all of them, of a loss that is each one's share in the
            loss of the whole batch.
        min_shift_at: the smallest shift of false pairs at a step ("multiway" only); default:
            config.data.nearest.
        guard: looks at the embeddings of each step (of its last part), if given.
        start: weights to begin with, if any.

    Attributes:
        model, loss: what is trained. `loss` is wrapped if several processes share its weights.
        average: the running average of the model's weights, None unless config.train.average.
        autocast: opens the context of the forward pass's precision.
        origin: the weights that it began with, if not with random ones.

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
        start: Start | None = None,
    ) -> None:
        self.config, self.device, self.total = config, device, total
        self._min_shift_at = min_shift_at or (lambda step: config.data.nearest)
        self._guard = guard
        # Where processes have unequally many pairs, and the loss heeds how many there are.
        uneven = config.data.pairing == "independent" or config.data.skip_quiet
        several = processes is not None and processes.world > 1
        self._among = processes if several and uneven and config.loss.name != "infonce" else None
        preset = PRESETS[config.model.name]
        margin = preset.margin if config.loss.margin is None else config.loss.margin
        torch.manual_seed(config.train.seed)
        self.model = SyncNet(config.model.name)
        self.origin = None if start is None else start.origin
        if start is not None:
            self.model.load_state_dict(start.weights, strict=False)  # they were chosen to fit
        if config.model.freeze is not None:
            freeze(self.model, frozen_layers(config.model.freeze, config.model.name))
        self.loss = make_loss(config.loss.name, margin, preset.embedding, config.loss.others)
        # as the frames lie in memory; of the sound, what computes faster
        self.model.netcnnlip.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.model.netcnnaud.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.to(device)
        self.loss.to(device)
        decay = config.train.average
        self.average = average(self.model, decay) if decay else None
        self._parallel: nn.Module = self.model
        if several:
            self._share_gradients()
        if config.train.compile:
            compile_forward(self._parallel)
        groups, self._kinds = self._groups()
        self.optimizer = AdamW(
            groups,
            lr=config.train.lr,
            weight_decay=config.train.weight_decay,
            fused=True,  # on a CPU, too, it is a little faster (benchmarks/cpu_step.py)
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, partial(lr_factor, config=config.train, total=total)
        )
        dtype = _dtype(config.train.precision, device)
        self.autocast: Autocast = partial(
            torch.autocast, device.type, dtype=dtype, enabled=dtype is not None
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
        # of "paired", which sound is the false one; made once, since making it waits for a GPU
        self._second = torch.tensor([False, True], device=device)

    def _groups(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The weights that train, in groups of one learning rate each; whose rate each is."""
        loaded = parameters_of(self.model, self.origin.layers) if self.origin else []
        there = {id(parameter) for parameter in loaded}
        fresh = [p for p in self.model.parameters() if id(p) not in there]
        fresh += self.loss.parameters()
        groups, whose = [], []
        for parameters, kind in ((fresh, "fresh"), (loaded, "loaded")):
            trained = [parameter for parameter in parameters if parameter.requires_grad]
            if trained:
                groups.append({"params": trained, "lr": self._rate(kind)})
                whose.append(kind)
        return groups, whose

    def _rate(self, kind: str) -> float:
        """The learning rate, before the schedule, of fresh or of loaded weights."""
        model, lr = self.config.model, self.config.train.lr
        return lr * model.init_lr if kind == "loaded" else lr

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
        """Train on one whole batch; marks the ends of forward, loss, backward and optimizer.

        Args:
            batch: on `device`.
            step: its number, from 0.
            clock: begun; whoever fetched the batch has marked "data".

        Returns:
            The loss, a float32 scalar on `device`.
        """
        value = self._add(batch, step, clock, None, last=True)
        self._update(clock)
        return value

    def take(self, batches: Iterator[Batch], step: int, clock: StepClock) -> torch.Tensor:
        """Fetch the `train.accumulate` parts of a batch and train on them, one after another.

        As many frames are in memory as a part has. Marks what `__call__` marks, and the ends of
        waiting for each part as "data", the one place where that is measured.

        Args:
            batches: gives the parts, on `device`.
            step, clock: as for `__call__`.

        Returns:
            The loss of the batch, a float32 scalar on `device`.
        """
        parts, value = self.config.train.accumulate, None
        for part in range(1, parts + 1):
            batch = next(batches)
            clock.mark("data")
            with ExitStack() as stack:
                if part < parts:  # processes exchange gradients once, when they are complete
                    for module in (self._parallel, self.loss):
                        if isinstance(module, nn.parallel.DistributedDataParallel):
                            stack.enter_context(module.no_sync())
                value = self._add(batch, step, clock, value, last=part == parts)
            del batch  # freed here, it is not taken for waiting for the next one
        assert value is not None
        self._update(clock)
        return value

    def _add(
        self, batch: Batch, step: int, clock: StepClock, before: torch.Tensor | None, last: bool
    ) -> torch.Tensor:
        """Add a part's gradients to those of the parts before; returns the loss of all so far.

        Args:
            before: the loss of the parts before; None for the first.
            last: whether no part follows.
        """
        lips, sound = self.embed(batch)
        clock.mark("forward")
        pairs = self.pairs(batch, step)
        own: torch.Tensor = self.loss(lips, sound, pairs)
        value = own.detach() if before is None else before + own.detach()
        if self._guard is not None and last:
            self._guard.look(step, value, lips, sound, pairs)
        clock.mark("loss")
        if before is None:
            self.optimizer.zero_grad(set_to_none=True)
        with naming_compiler_faults("train.compile"):
            self.scaler.scale(own).backward()
        clock.mark("backward")
        return value

    def _update(self, clock: StepClock) -> None:
        """Change the weights by the gradients."""
        if self.config.train.clip_grad > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        clock.mark("optimizer")

    def embed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of the batch's windows: lips (N, K, D) and sound (N, L, D)."""
        mfcc = batch.mfcc_NFC
        if self.config.data.pairing == "paired":
            # two sounds in a row: windows that span both would be neither
            mfcc = mfcc.reshape(-1, WINDOW_COLUMNS, CEPSTRA)
        with self.autocast(), naming_compiler_faults("train.compile"):
            lips, sound = self._parallel(batch.frames_NRHWC, mfcc)
        samples, width = len(batch.segments), sound.shape[-1]
        # windows of one run are samples of their own
        return lips.reshape(samples, -1, width), sound.reshape(samples, -1, width)

    def pairs(self, batch: Batch, step: int) -> Pairs:
        """Which pairs of the batch are genuine and which false, on the device.

        Of several processes, all must call it: they add up how many pairs they have.
        """
        pairs = self._pairs(batch.segments, batch.quiet_NA, step)
        if self.config.loss.others:  # multiway; of a part, the others of that part
            pairs = replace(pairs, strange_BKBL=self._strange(batch))
        own = pairs
        if batch.whole is not None:
            own = self._pairs(batch.whole.segments, batch.whole.quiet_NA, step)
        if self._among is not None:
            # the mean over processes of sums over so many pairs is the mean over all pairs
            total = self._among.total(own.counts()).clamp(min=1)
            return pairs.of(total / self._among.world)
        return pairs if batch.whole is None else pairs.as_part_of(own)

    def _pairs(self, segments: Segments, quiet_NA: NDArray[np.bool_], step: int) -> Pairs:
        data, samples = self.config.data, len(segments)
        windows = data.windows
        if data.pairing == "multiway":
            nearest = self._min_shift_at(step)
            pairs = shifted(samples, windows, windows, 0, nearest, self.device)
        elif data.pairing == "paired":
            false = self._second.expand(samples, 1, 2)
            pairs = Pairs(~false, false)
        else:
            pairs = labelled(upload(segments.label, self.device))
        if not data.skip_quiet or data.pairing == "independent":
            return pairs
        quiet = upload(quiet_NA, self.device)
        if data.pairing == "paired":
            # windows of the genuine and of the false sound; those between span both
            quiet = quiet[:, ::WINDOW_FRAMES]
        own = quiet[:, :windows]
        alike = own[:, :, None] & quiet[:, None]
        return replace(pairs, false_BKL=pairs.false_BKL & ~alike)

    def _strange(self, batch: Batch) -> torch.Tensor:
        data = self.config.data
        windows = data.windows
        clip = upload(batch.segments.clip, self.device)
        quiet = None
        if data.skip_quiet:
            quiet = upload(batch.quiet_NA, self.device)[:, :windows]
        return strange(clip, quiet, windows, windows)

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
        if self.origin is not None:
            state["init"] = {"sha256": self.origin.sha256, "layers": list(self.origin.layers)}
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
        """Let the settings' rates, schedule and length hold instead of the checkpoint's.

        The first step's rate among them, which the checkpoint was given by its own run's length.
        """
        config, schedule = self.config.train, self.schedule
        rates = [self._rate(kind) for kind in self._kinds]
        factor = lr_factor(schedule.last_epoch, config, self.total)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["weight_decay"] = config.weight_decay
            group["initial_lr"], group["lr"] = rate, rate * factor
        schedule.base_lrs = [*rates]
        schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]

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
    cuda = device.type == "cuda"
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if dtype is torch.float16 and not cuda:
        raise UsageError("train.precision fp16 needs a GPU; use fp32 or bf16")
    if dtype is torch.bfloat16 and cuda and not has_bf16(device):
        raise UsageError(
            f"train.precision bf16: {torch.cuda.get_device_name(device)} can only emulate it; use "
            "fp16 or fp32"
        )
    return dtype
