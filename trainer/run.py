"""Train SyncNet: `python -m trainer.run --data.shards DIR --model.name syncnet ...`.

Without arguments it makes a synthetic set once, packs it, trains the small model and evaluates it:
a three-minute look at everything. On several GPUs:
`torchrun --nproc-per-node N -m trainer.run ...`.
"""

import gc
import importlib.metadata
import logging
import math
import os
import platform
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_loader
from rich.console import Console
from rich.logging import RichHandler
from torch import nn

from data_tools.atomic import atomic_path, write_json
from data_tools.errors import MissingPackage
from data_tools.keep import Row, read_keep
from data_tools.lock import locked
from data_tools.manifest import MANIFEST, ShardError, read_manifest
from data_tools.mfcc import CEPSTRA, WINDOW_COLUMNS, WINDOW_FRAMES
from data_tools.names import print_anything
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.progress import progress
from data_tools.records import RecordError
from data_tools.shards import open_shards
from data_tools.synth.clips import synthesize
from data_tools.verifying import verify
from trainer.config import (
    FIXED_ON_RESUME,
    SETTINGS,
    Config,
    Data,
    Loss,
    Model,
    Run,
    Train,
    check,
    check_value,
    from_dict,
    load_value,
    settings,
)
from trainer.data.augment import Augment
from trainer.data.dataset import Dataset
from trainer.data.loader import Batch, Loader, LoaderError, Shape
from trainer.data.sampler import TrainSampler
from trainer.model.ema import average
from trainer.model.losses import Pairs, labelled, make_loss, shifted
from trainer.model.syncnet import PRESETS, SyncNet, parameter_count
from trainer.train import checkpoint, display, distributed, timing
from trainer.train.checkpoint import CheckpointError, Resumed
from trainer.train.distributed import Agreement, Elsewhere, Processes
from trainer.train.guard import Action, Guard, NotLearning
from trainer.train.timing import StepClock, StepLog
from trainer.train.validate import REACH, NoRuns, Validation

log = logging.getLogger("trainer")

# The demonstration: small heads, enough of them that unseen ones are recognised.
DEMO_CLIPS, DEMO_SIZE, DEMO_SECONDS = 320, 64, 3.0
# How often the guard is asked; it looks more often.
_GUARD_STEPS = 50
# A batch that has not been learnt by heart after so many steps will not be.
_OVERFIT_STEPS = 400
_LEARNT = 0.02  # of the first loss
DEMO_TRAIN = {"train.epochs": 40, "train.val_every": 10, "train.batch_size": 128}


@dataclass(frozen=True)
class Options:
    """What the command line says besides the configuration."""

    resume: str | None = None
    trackers: tuple[str, ...] = ()
    demo: bool = False
    guard: Action = "warn"
    overfit: int = 0


def train(
    config: Config, options: Options = Options(), console: Console | None = None
) -> dict[str, Any]:
    """Train, validate, evaluate; returns what is written to summary.json.

    Raises:
        ValueError: settings that no run could use.
        RecordError, LoaderError, CheckpointError: bad data; the message says what to do.
        NotLearning: the loss or the weights are no numbers any more, the guard was told to stop
            such a run, or --overfit failed.
        InUse: another process is writing to run.dir.
        Elsewhere: any of these, on the first process.
    """
    check(config)
    display.check_trackers(options.trackers)
    device_type = distributed.find_device(config.train.device, "train.device").split(":")[0]
    processes = distributed.setup(device_type)
    try:
        # What was opened is closed also when opening the next thing fails.
        with ExitStack() as opened:
            return _Training(config, options, device_type, processes, console, opened).run()
    finally:
        distributed.leave()


class _Stopped(Exception):
    """A signal asked to leave in the midst of the evaluation."""


class _Training:
    """One run: opens everything in the order that hides the waiting, then steps."""

    def __init__(
        self,
        config: Config,
        options: Options,
        device_type: str,
        processes: Processes,
        console: Console | None,
        opened: ExitStack,
    ) -> None:
        self.opened = opened
        self.began = time.monotonic()
        self.processes = processes
        self.console = console or Console(quiet=not processes.first)
        self.options = options
        resumed, self.folder = _open_run(config, options, processes, opened)
        config = replace(
            config,
            data=replace(
                config.data, shards=_shards(config, self.folder, options, processes, self.console)
            ),
        )
        self.config = config
        preset = PRESETS[config.model.name]
        self.device = _device(device_type, config.train.device, processes)

        assert config.data.shards is not None  # _shards saw to it
        shards = Path(config.data.shards)
        rows = None if config.data.manifest is None else read_keep(Path(config.data.manifest))
        keep = None
        if rows is not None:  # each clip with the frames by which its sound is early
            keep = {clip: -row.audio_shift for clip, row in rows.items() if row.used}
        self.dataset = Dataset(shards, "train", keep)
        self.used = len(self.dataset) if rows is None else self._announce_manifest(rows)
        open_shards(shards, "test")  # its faults should be known now, not after days of training
        self.sampler = TrainSampler(
            self.dataset.windows,
            config.train.batch_size,
            config.data.windows_per_clip,
            config.data.nearest,
            config.data.max_shift,
            config.train.seed,
            config.data.pairing,
            config.data.sample_frames,
            config.data.curriculum,
        )
        self.sampler.batch(0, processes.rank, processes.world)  # refuses an unequal share now
        self.total = config.train.epochs * self.sampler.steps_per_epoch
        self.start = _start(resumed, self.sampler, self.total)
        self.seconds_before = resumed.progress.seconds if resumed else 0.0
        threads = config.data.threads or max(
            1, len(os.sched_getaffinity(0)) // processes.local_world
        )
        self.loader_options: dict[str, Any] = {
            "device": str(self.device),
            "threads": threads,
            "ready": config.data.ready,
            "hw_decoder_load": config.data.hw_decoder_load,
        }
        # Before the model: the first batches are decoded while it is built.
        self.loader = Loader(
            self.dataset,
            lambda step, quarantine: self.sampler.batch(
                step % options.overfit if options.overfit else step,
                processes.rank,
                processes.world,
                quarantine,
            ),
            Shape(
                config.train.batch_size // processes.world,
                config.data.sample_frames,
                config.data.sound_frames,
                preset.size,
                preset.channels,
                config.augment if config.augment.pictures or config.augment.sound else None,
                quiet=config.data.skip_quiet and config.data.pairing != "independent",
            ),
            start=self.start,
            quarantine=_quarantine(self.dataset, resumed),
            **self.loader_options,
        )
        self.opened.callback(self.loader.close)
        self.validation = None if options.overfit else self._validation("val")
        self._announce(preset)

        torch.manual_seed(config.train.seed)
        self.model = SyncNet(config.model.name)
        margin = preset.margin if config.loss.margin is None else config.loss.margin
        self.loss = make_loss(config.loss.name, margin, preset.embedding)
        self._place_model(resumed)
        self.guard = Guard(
            config.train.lr,
            min(config.train.warmup_steps, self.total // 2),
            config.train.batch_size * (config.data.sample_frames - WINDOW_FRAMES + 1),
        )
        self.best = resumed.progress.best if resumed else -1.0
        self.scores: dict[str, dict[str, float]] = {}
        self.told_unsound = False
        self.tracker = display.Tracker(
            list(options.trackers) if processes.first else [], self.folder, config.as_dict()
        )
        self.opened.callback(self.tracker.close)
        processes.together(partial(save_config, config, self.folder / "config.yaml"))

    def _place_model(self, resumed: Resumed | None) -> None:
        """Model, optimizer, schedule and scaler on the device, as they were if resumed."""
        config = self.config.train
        for parameter in self.model.netcnnlip.parameters():
            if parameter.dim() == 5:  # as the frames lie in memory
                parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
        if resumed:
            self.model.load_state_dict(resumed.take("model", self.model.state_dict()))
            self.loss.load_state_dict(resumed.take("loss", self.loss.state_dict()))
        self.model.to(self.device)
        self.loss.to(self.device)
        self.average = average(self.model, config.average) if config.average else None
        # a run that is told to average from now on has none
        if resumed and self.average and "average" in resumed.state:
            averaged = resumed.take("average", self.average.state_dict())
            self.average.load_state_dict(averaged)
        parallel: nn.Module = self.model
        if self.processes.world > 1:
            if config.sync_batchnorm:
                if self.device.type != "cuda":
                    raise ValueError("train.sync_batchnorm needs GPUs")
                parallel = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
            ids = [self.device.index] if self.device.type == "cuda" else None
            parallel = nn.parallel.DistributedDataParallel(parallel, device_ids=ids)
            if any(True for _ in self.loss.parameters()):
                self.loss = nn.parallel.DistributedDataParallel(self.loss, device_ids=ids)
        self.parallel = parallel
        self.optimizer = torch.optim.AdamW(
            [*self.model.parameters(), *self.loss.parameters()],
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, partial(_lr_factor, config=config, total=self.total)
        )
        precision = config.precision
        if precision == "auto":
            precision = "bf16" if self.device.type == "cuda" else "fp32"
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        if dtype is torch.float16 and self.device.type != "cuda":
            raise ValueError("train.precision fp16 needs a GPU; use fp32 or bf16")
        self.autocast: Callable[[], AbstractContextManager[Any]] = partial(
            torch.autocast, self.device.type, dtype=dtype, enabled=dtype is not None
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)
        if resumed:
            self.optimizer.load_state_dict(resumed.optimizer(self.optimizer))
            self.schedule.load_state_dict(resumed.schedule(self.schedule))
            self._heed_given_lr()
            if self.scaler.is_enabled() and (scaler := resumed.scaler(self.scaler)):
                self.scaler.load_state_dict(scaler)
            torch.set_rng_state(resumed.rng("rng", torch.default_generator))
            if self.device.type == "cuda" and "cuda_rng" in resumed.state:
                cuda_rng = resumed.rng("cuda_rng", torch.Generator(self.device))
                torch.cuda.set_rng_state(cuda_rng, self.device)

    def _heed_given_lr(self) -> None:
        """Let a learning rate and weight decay given anew hold instead of the checkpoint's."""
        config, schedule = self.config.train, self.schedule
        for group in self.optimizer.param_groups:
            group["weight_decay"] = config.weight_decay
            if group["initial_lr"] != config.lr:
                group["initial_lr"] = config.lr
                group["lr"] = config.lr * _lr_factor(schedule.last_epoch, config, self.total)
        schedule.base_lrs = [config.lr for _ in schedule.base_lrs]

    def _validation(self, split: str, swapped: bool = False) -> Validation | None:
        """The validation of a split; None, said aloud, where the split cannot give one."""
        data = self.config.data
        assert data.shards is not None
        if read_manifest(Path(data.shards)).splits[split].clips == 0:
            self.console.print(f"note: no clip in the {split} split, so none is measured there")
            return None
        try:
            validation = self._make_validation(Path(data.shards), split, swapped)
        except NoRuns as reason:
            self.console.print(f"note: {reason}, so none is measured there", soft_wrap=True)
            return None
        self.opened.callback(validation.close)
        return validation

    def _make_validation(self, shards: Path, split: str, swapped: bool) -> Validation:
        data = self.config.data
        return Validation(
            shards,
            split,
            PRESETS[self.config.model.name],
            self.processes,
            max_clips=data.val_clips,
            runs_per_clip=data.val_runs,
            # Eleven windows a run and no gradients: about the memory of a training step.
            batch_runs=max(1, min(64, self.config.train.batch_size // 8)),
            min_shift=min(data.nearest, REACH),
            swapped=swapped,
            **self.loader_options,
        )

    def _announce(self, preset: Any) -> None:
        say = partial(self.console.print, highlight=False, soft_wrap=True)
        config, sampler = self.config, self.sampler
        say(
            f"{len(sampler.eligible):,} clips, {sampler.steps_per_epoch:,} steps an epoch of "
            f"{config.train.batch_size} samples, {config.train.epochs} epochs; model "
            f"{config.model.name} on {self.device}, {self.processes.world} process(es)"
        )
        if short := self.used - len(sampler.eligible):
            say(f"note: {short:,} clips are too short and are not used")
        wanted = (preset.size, preset.size, preset.channels)
        other = {shape: n for shape, n in self.dataset.frame_shapes.items() if shape != wanted}
        for (height, width, channels), clips in other.items():
            say(
                f"note: frames of {clips:,} clips are {width}x{height} {_colour(channels)}, the "
                f"model takes {preset.size}x{preset.size} {_colour(preset.channels)}: converted in "
                "the pipeline, at a cost; `data_tools pack --size/--gray` stores them as needed"
            )
        if self.start:
            say(f"resumed at step {self.start} of {self.total}")

    def run(self) -> dict[str, Any]:
        """All steps, then the evaluation of the best weights."""
        clock = StepClock(self.device)
        self.processes.together(partial(timing.cut_rows, self.folder / timing.STEPS, self.start))
        steps = StepLog(self.folder / timing.STEPS, self.device, self.processes)
        self.opened.callback(steps.close)
        # What exists now lives as long as the run: keep the collector from walking it again.
        gc.collect()
        gc.freeze()
        with _stop_requests() as stop:
            if self.options.overfit:
                return self._overfit(clock, stop)
            finished = self._steps(clock, steps, stop)
            self.processes.together(steps.check)
            return self._finish(finished, stop)

    def _overfit(self, clock: StepClock, stop: list[str]) -> dict[str, Any]:
        """Learn a few batches by heart: what can't be learnt so, days of training won't teach.

        Raises:
            NotLearning: they were not learnt, or the loss is no number any more.
        """
        count, recent = self.options.overfit, deque[float](maxlen=self.options.overfit)
        first, said = 0.0, time.monotonic()
        for step in range(_OVERFIT_STEPS):
            value = float(self._step(clock, step))
            # not every loss has zero for its floor, but all pairs in order is as good in the end
            ordered = step >= _OVERFIT_STEPS // 2 and self.guard.order_now() > 0.9999
            # the same on all processes, so that all leave at one step
            value, in_order, asked = self.processes.mean([value, ordered, bool(stop)])
            self._heed_loss(step, value)
            recent.append(value)
            first = sum(recent) if step < count else first
            learnt = sum(recent) < _LEARNT * first or in_order == 1
            done = step >= 2 * count and learnt
            if done or asked:
                break
            if time.monotonic() - said > 5 or step + 1 == count:
                self.console.print(f"step {step + 1}: loss {sum(recent) / len(recent):.4f}")
                said = time.monotonic()
        first, last = first / count, sum(recent) / len(recent)
        told = f"loss {first:.4f} -> {last:.4f} in {step + 1} steps over {count} batch(es)"
        if not done and not asked:
            self._end(
                f"--overfit: {told}: not learnt by heart, which takes {_LEARNT:.0%} of the first "
                f"loss, or each genuine pair nearer than any false one. {self.guard.advice()}"
            )
        self.console.print(
            f"--overfit: {told}: " + ("stopped" if asked else "learnt by heart, fine")
        )
        return {"finished": done, "first_loss": first, "last_loss": last, "steps": step + 1}

    def _steps(self, clock: StepClock, steps: StepLog, stop: list[str]) -> bool:
        """All steps that are left; False if stopped before the last."""
        agreement = Agreement(self.processes)
        per_epoch = self.sampler.steps_per_epoch
        saved = time.monotonic()
        with display.Display(
            self.console, self.total, self.start, self.config.train.batch_size
        ) as shown:
            for step in range(self.start, self.total):
                epoch = step // per_epoch + 1
                clock.begin()
                value = self._step(clock, step)
                last_of_epoch = (step + 1) % per_epoch == 0
                rows = steps.add(epoch, step, "train", value, clock.end())
                self._heed_rows(rows)
                shown.step(epoch, rows[-1] if rows else None)
                due = last_of_epoch and (
                    epoch % self.config.train.val_every == 0 or step + 1 == self.total
                )
                # Each duty is asked on its own: none may hide another.
                scores = self._validate(clock, steps, epoch, step) if due else None
                ended = None
                if due or (step + 1) % _GUARD_STEPS == 0:
                    ended = self._heed(step, scores)
                # After what takes long, so that a request made meanwhile is heard at this step.
                interrupted = agreement.ask(bool(stop) or steps.failure is not None)
                if due or ended or interrupted or self._save_due(step, saved):
                    self._heed_rows(steps.flush())
                    self._save(step + 1, due and self._is_best(scores))
                    saved = time.monotonic()
                if ended:
                    self._end(ended)
                if interrupted:
                    return step + 1 == self.total
        return True

    def _step(self, clock: StepClock, step: int) -> torch.Tensor:
        batch = next(self.loader)
        clock.mark("data")  # the one place where waiting for data is measured
        mfcc = batch.mfcc_NFC
        if self.config.data.pairing == "paired":
            # two sounds in a row: windows that span both would be neither
            mfcc = mfcc.reshape(-1, WINDOW_COLUMNS, CEPSTRA)
        with self.autocast():
            lips, sound = self.parallel(batch.frames_NRHWC, mfcc)
        sound = sound.reshape(len(lips), -1, sound.shape[-1])
        clock.mark("forward")
        pairs = self._pairs(batch, step)
        value: torch.Tensor = self.loss(lips, sound, pairs)
        if self.options.guard != "off":
            self.guard.look(step, value, lips, sound, pairs)
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
        if self.average:
            self.average.update_parameters(self.model)
        clock.mark("optimizer")
        return value.detach()

    def _pairs(self, batch: Batch, step: int) -> Pairs:
        """Which pairs of the batch are genuine and which false, on the device."""
        data, samples = self.config.data, len(batch.runs)
        windows = data.sample_frames - WINDOW_FRAMES + 1
        if data.pairing == "multiway":
            nearest = self.sampler.min_shift_at(step)
            pairs = shifted(samples, windows, windows, 0, nearest, self.device)
        elif data.pairing == "paired":
            false = torch.tensor([False, True], device=self.device).expand(samples, 1, 2)
            pairs = Pairs(~false, false)
        else:
            label = torch.from_numpy(batch.runs.label).to(self.device, non_blocking=True)
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

    def _save_due(self, step: int, saved: float) -> bool:
        run = self.config.run
        if run.save_steps and (step + 1) % run.save_steps == 0:
            return True
        late = time.monotonic() - saved > 60 * run.save_minutes
        if self.processes.world == 1:
            return late
        # All must save at one step, so the first process's clock decides, at the ends of epochs.
        ends = (step + 1) % self.sampler.steps_per_epoch == 0
        return ends and bool(self.processes.gather(late)[0])

    def _heed_rows(self, rows: list[dict[str, Any]]) -> None:
        """Tell the trackers of steps whose rows are complete; end the run if it has blown up."""
        for row in rows:
            self._heed_loss(row["step"], row["loss"])
            if row["phase"] == "train":
                figures = {k: v for k, v in row.items() if k.endswith("_ms") or k == "loss"}
                self.tracker.log(row["step"], {f"train/{k}": v for k, v in figures.items()})

    def _heed_loss(self, step: int, loss: float) -> None:
        """End the run if the loss of a step, the mean over all processes, is no number."""
        if math.isfinite(loss) or self.options.guard == "off":
            return
        # 16-bit floats overflow now and then; the scaler leaves out such a step.
        if self.scaler.is_enabled() and self.processes.together(
            lambda: checkpoint.finite(self._state(step, {}))
        ):
            return
        self._blown_up(step + 1, f"the loss is {loss}")

    def _blown_up(self, step: int, what: str) -> NoReturn:
        """End the run, all processes together, and say what remains of it."""
        last = self.folder / checkpoint.LAST
        left = f" {last} is as it was before." if last.exists() else ""
        self._end(f"step {step}: {what}: it has blown up. {self.guard.advice('nan')}{left}")

    def _end(self, words: str) -> NoReturn:
        raise NotLearning(words) if self.processes.first else Elsewhere

    def _validate(
        self, clock: StepClock, steps: StepLog, epoch: int, step: int
    ) -> dict[str, float] | None:
        """What the validation found; None where there is nothing to validate with."""
        self._heed_rows(steps.flush())
        if self.validation is None:
            return None
        scores = self.validation.run(
            self._judged,
            self.loss,
            self.autocast,
            clock,
            lambda loss, times: steps.add_now(epoch, step, "val", loss, times),
        )
        self.scores["val"] = scores
        self.tracker.log(step, {f"val/{name}": value for name, value in scores.items()})
        self.console.print(
            f"epoch {epoch}: val loss {scores['loss']:.4f}, within +-1 frame: K=5 "
            f"{scores['accuracy_k5']:.1%}, K=15 {scores['accuracy_k15']:.1%}, AUC "
            f"{scores['auc']:.4f}, distance {scores['genuine_distance']:.2f} genuine, "
            f"{scores['false_distance']:.2f} false",
            highlight=False,
            soft_wrap=True,
        )
        return scores

    def _is_best(self, scores: dict[str, float] | None) -> bool:
        """Whether a validation found the best weights so far; the latest are, where there is none.

        K=5 is the accuracy that saturates last.
        """
        if scores is None:
            return True
        better = math.isfinite(scores["loss"]) and scores["accuracy_k5"] > self.best
        if better:
            self.best = scores["accuracy_k5"]
        return better

    def _heed(self, step: int, scores: dict[str, float] | None) -> str | None:
        """Say what the guard has to say; returns it instead if it was told to end such a run.

        Raises:
            NotLearning: the run has blown up.
        """
        if self.options.guard == "off":
            return None
        self.tracker.log(step, self.guard.figures())
        verdict = self.guard.verdict(step, scores)
        # the first process speaks for all, so that all end together
        said, blown_up = self.processes.gather((verdict, self.guard.blown_up))[0]
        if said is None:
            return None
        said = f"step {step + 1}: {said}"
        if blown_up:
            self._end(said)
        if self.options.guard == "stop":
            return said
        self.console.print(f"[bold red]guard[/], {said}", soft_wrap=True)
        return None

    def _save(self, step: int, best: bool = False) -> None:
        """Save the state in which `step` is the next to do (first process only).

        Weights that are no numbers are not saved: a checkpoint of them would be of no use, and
        those that are there are.

        Raises:
            NotLearning: they are no numbers, which ends the run unless the guard is off.
            OSError: it cannot be written.
        """
        quarantine = {}
        for found in self.processes.gather(dict(self.loader.quarantine)):
            quarantine.update({self.dataset.keys[clip]: since for clip, since in found.items()})

        def save() -> bool:
            state = self._state(step, quarantine)
            if not checkpoint.finite(state):
                return False
            there = (self.folder / checkpoint.LAST).exists()
            try:
                checkpoint.save(self.folder, state, self.config.run.keep, best)
            except OSError as error:
                go_on = f"; those of before are whole: --resume {self.folder} goes on from there"
                raise OSError(f"step {step}: {error}{go_on if there else ''}") from None
            return True

        if self.processes.together(save) or self.told_unsound:
            return
        if self.options.guard != "off":
            self._blown_up(step, "the weights are no longer finite")
        self.told_unsound = True
        self.console.print(
            f"[bold red]step {step}[/]: the weights are no longer finite, so they are not saved "
            "(the guard is off: the run goes on)",
            soft_wrap=True,
        )

    def _state(self, step: int, quarantine: dict[str, int]) -> dict[str, Any]:
        """What a checkpoint holds."""
        state = {
            "model": self.model.state_dict(),
            "loss": self._bare_loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "step": step,
            "best": self.best,
            "seconds": self._seconds(),
            "quarantine": quarantine,
            "config": self.config.as_dict(),
        }
        if self.average:
            state["average"] = self.average.state_dict()
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    @property
    def _bare_loss(self) -> nn.Module:
        if isinstance(self.loss, nn.parallel.DistributedDataParallel):
            return cast(nn.Module, self.loss.module)
        return self.loss

    @property
    def _judged(self) -> SyncNet:
        """The weights that are validated and used: the running average where there is one."""
        return self.model if self.average is None else cast(SyncNet, self.average.module)

    def _announce_manifest(self, rows: Mapping[str, Row]) -> int:
        """Say what the manifest does; returns how many clips it lets through."""
        listed = [rows[key] for key in self.dataset.keys if key in rows]
        used = [row for row in listed if row.used]
        if not used:
            raise ValueError(
                f"data.manifest {self.config.data.manifest} keeps none of the training clips in "
                f"{self.config.data.shards}: it is of other shards"
            )
        moved = sum(row.audio_shift != 0 for row in used)
        self.console.print(
            f"manifest: {len(used):,} of {len(self.dataset):,} training clips used, {moved:,} of "
            f"them re-aligned; {len(listed) - len(used):,} rejected, "
            f"{len(self.dataset) - len(listed):,} not listed",
            highlight=False,
            soft_wrap=True,
        )
        return len(used)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _finish(self, finished: bool, stop: list[str]) -> dict[str, Any]:
        """Evaluate the best weights, write summary and plot, print where everything lies."""
        quarantined = len(self.loader.quarantine)
        self.loader.close()
        if finished and not any(self.processes.gather(bool(stop))):
            self._evaluate(stop)
        rows = timing.read_rows(self.folder / timing.STEPS) if self.processes.first else []
        summary: dict[str, Any] = {
            "finished": finished,
            "seconds": self._seconds(),
            **timing.summarise(rows, self.config.train.batch_size),
            "quarantined_clips": quarantined,
            "parameters": parameter_count(self.model),
            "world_size": self.processes.world,
            "device": _device_name(self.device),
            "versions": _versions(),
        }
        for name, scores in self.scores.items():
            summary |= {f"{name}_{measure}": value for measure, value in scores.items()}
        if not self.processes.first:
            return summary
        write_json(self.folder / "summary.json", summary)
        timing.plot(rows, self.folder / "timing.png")
        display.print_epochs(self.console, timing.epoch_table(rows, self.config.train.batch_size))
        if self.scores:
            display.print_scores(self.console, self.scores)
        say = partial(self.console.print, highlight=False, soft_wrap=True)
        first, other = summary["first_step_wait_ms"], summary["other_step_wait_ms"]
        if first is not None and other is not None:
            say(
                f"waiting for data, epochs >= 2: {first:.2f} ms in the first step, {other:.2f} ms "
                f"in the others; utilisation {summary['utilisation']:.1%} first steps included"
            )
        if quarantined:
            say(f"{quarantined} clips were left out: a frame could not be decoded (see above)")
        if stop:
            what = "evaluation stopped" if finished else "stopped"
            say(f"{what} by {stop[0]}; go on with --resume {self.folder}")
        say(f"{summary['seconds']:.0f} s; in {self.folder}:")
        for name, what in (
            ("best.pt", "best weights (K=5 accuracy)"),
            ("last.pt", "for --resume"),
            ("steps.jsonl", "every step's times"),
            ("timing.png", "their picture"),
            ("summary.json", "the figures above"),
            ("config.yaml", "for --config"),
        ):
            if (self.folder / name).exists():
                say(f"  {name:13s} {what}")
        return summary

    def _evaluate(self, stop: list[str]) -> None:
        """Score the best weights on val, on test, and with swapped sound, which must be chance."""
        best = self.folder / checkpoint.BEST
        self.processes.barrier()
        if best.exists():
            self.model.load_state_dict(checkpoint.weights(best, self.model))
        if not all(self.processes.gather(checkpoint.finite(self.model.state_dict()))):
            self.console.print("note: the weights are not finite, so they are not evaluated")
            return
        clock = StepClock(self.device)
        wanted: dict[str, Validation | None] = {"val": self.validation}
        if self.validation is not None:
            wanted["test"] = self._validation("test")
            control = "test" if wanted["test"] is not None else "val"
            chosen = wanted[control]
            if chosen is not None and chosen.clips > 1:
                wanted[f"{control}_swapped"] = self._validation(control, swapped=True)
        for name, validation in wanted.items():
            if validation is None:
                continue
            shown = progress(f"evaluating {name}", validation.batches, "batches")
            with shown if self.processes.first else nullcontext(lambda count: None) as advance:

                def on_batch(
                    loss: float, times: object, advance: Callable[[int], None] = advance
                ) -> None:
                    advance(1)
                    if stop and self.processes.world == 1:
                        raise _Stopped

                try:
                    self.scores[name] = validation.run(
                        self.model, self.loss, self.autocast, clock, on_batch
                    )
                except _Stopped:
                    return
            validation.close()


def _lr_factor(step: int, config: Train, total: int) -> float:
    """Share of the learning rate at `step`: a linear rise, then constant or half a cosine."""
    warmup = min(config.warmup_steps, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


@contextmanager
def _stop_requests() -> Iterator[list[str]]:
    """Ask the loop to save and leave: on SIGTERM, on Ctrl-C, when the terminal is closed.

    A second Ctrl-C interrupts at once.
    """
    asked: list[str] = []

    def ask(number: int, frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number).name)

    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # by nohup
        numbers.remove(signal.SIGHUP)
    before = {s: signal.signal(s, ask) for s in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _device(kind: str, asked: str, processes: Processes) -> torch.device:
    if kind == "cpu":
        return torch.device("cpu")
    index = int(asked.split(":")[1]) if ":" in asked else processes.local_rank
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _open_run(
    config: Config, options: Options, processes: Processes, opened: ExitStack
) -> tuple[Resumed | None, Path]:
    """The checkpoint to go on from, if any, and this run's folder (the same on all processes).

    The folder is locked until `opened` is closed.
    """
    asked = Path(config.run.dir) if config.run.dir else None
    source = checkpoint.find(options.resume, asked) if options.resume else None
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{config.model.name}"
    folder = asked or (source.parent if source else Path("runs") / name)
    folder = processes.gather(folder)[0]  # clocks differ between processes

    def claim() -> Path | None:
        opened.enter_context(locked(folder, "run"))
        checkpoint.clear(folder)
        # Now that nobody writes any more; one may just have been saved by whoever did.
        found = checkpoint.find(options.resume, folder) if options.resume else None
        ours = options.resume == "auto" or (found and found.parent.samefile(folder))
        if not ours and (folder / timing.STEPS).exists():
            raise ValueError(
                f"{folder} already holds a run: add --resume auto to go on with it, or choose "
                "another run.dir"
            )
        return found

    source = processes.together(claim)
    resumed = checkpoint.resume(source) if source else None
    if resumed:
        _check_same(config, resumed)
    return resumed, folder


def _check_same(config: Config, resumed: Resumed) -> None:
    now = config.as_dict()
    before = _saved_config(resumed.path, resumed.state).as_dict()
    for name in FIXED_ON_RESUME:
        group, key = name.split(".")
        if before[group][key] != now[group][key]:
            raise ValueError(
                f"{resumed.path} was trained with {name} {before[group][key]}, not "
                f"{now[group][key]}: the samples would not go on where they stopped"
            )


def _saved_config(source: Path, state: dict[str, Any]) -> Config:
    """The settings of the run that wrote a checkpoint.

    Raises:
        CheckpointError: they make no sense.
    """
    try:
        return from_dict(state["config"])
    except ValueError as error:
        raise CheckpointError(
            f"{source} is damaged: {error}; resume from another checkpoint, or start afresh"
        ) from None


def _start(resumed: Resumed | None, sampler: TrainSampler, total: int) -> int:
    """The first step to do.

    Raises:
        ValueError: it lies beyond the last, `total`.
        CheckpointError: the run that wrote the checkpoint cannot have come so far.
    """
    if resumed is None:
        return 0
    step, epochs = resumed.progress.step, _saved_config(resumed.path, resumed.state).train.epochs
    if step > epochs * sampler.steps_per_epoch:
        raise CheckpointError(
            f"{resumed.path} does not fit this run: it says that {step} steps are done, but "
            f"{epochs} epochs of these shards are {epochs * sampler.steps_per_epoch}; give the "
            "shards that it was trained on"
        )
    if step > total:
        raise ValueError(
            f"{resumed.path} has come to step {step}, beyond the {total} of train.epochs: give "
            "more epochs to go on"
        )
    return step


def _shards(
    config: Config, folder: Path, options: Options, processes: Processes, console: Console
) -> str:
    """The folder of shards, made from clips or from the demonstration set if need be."""
    data = config.data
    shards = Path(data.shards) if data.shards else folder / "shards"
    clips = Path(data.clips) if data.clips else None
    if options.demo:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncnet-trainer"
        cache /= f"demo-{DEMO_CLIPS}x{DEMO_SECONDS:g}s-{DEMO_SIZE}"
        clips, shards = cache / "clips", cache / "shards"

    def make(clips: Path) -> None:
        if options.demo:
            console.print(
                f"no data given: a demonstration on {DEMO_CLIPS} synthetic talking heads "
                f"(cached in {clips.parent}); your own: --data.shards DIR, see --help",
                highlight=False,
                soft_wrap=True,
            )
            if not (clips / "truth.csv").exists():
                clips.parent.mkdir(parents=True, exist_ok=True)
                synthesize(clips, DEMO_CLIPS, seed=0, size=DEMO_SIZE, seconds=DEMO_SECONDS)
        workers = len(os.sched_getaffinity(0))
        chosen = PackOptions(gray=True, size=DEMO_SIZE) if options.demo else PackOptions()
        fresh = not (shards / MANIFEST).exists()
        manifest = pack(clips, shards, chosen, workers)
        if fresh and (faults := verify(shards, workers)):
            raise ShardError("\n".join(faults))
        dropped = manifest.dropped
        if dropped:
            console.print(
                f"{len(dropped)} of {manifest.clips_found} clips left out, for example "
                f"{dropped[0].clip}: {dropped[0].reason} ({dropped[0].detail}); all in "
                f"{shards / 'manifest.json'}",
                highlight=False,
                soft_wrap=True,
            )

    if clips is not None:
        processes.together(partial(make, clips))
    return str(shards)


def _quarantine(dataset: Dataset, resumed: Resumed | None) -> dict[int, int]:
    if not resumed:
        return {}
    number = {key: clip for clip, key in enumerate(dataset.keys)}
    barred = resumed.progress.quarantine.items()
    return {number[key]: since for key, since in barred if key in number}


def _colour(channels: int) -> str:
    return "colour" if channels == 3 else "gray"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {len(os.sched_getaffinity(0))} cores"


def _versions() -> dict[str, str]:
    packages = ("syncnet-trainer", "torch", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "numpy")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def parser() -> ArgumentParser:
    """The command line: configuration groups, --config, --resume, --log."""
    # exit_on_error would print forty lines of usage before the one that matters
    set_loader("settings", load_value, exceptions=(yaml.YAMLError,))
    result = ArgumentParser(
        prog="python -m trainer.run",
        description=__doc__,
        exit_on_error=False,
        parser_mode="settings",
        allow_abbrev=False,  # `_without_files` and trainer.refine look for names
    )
    result.add_argument("--config", action="config", help="YAML with any of the settings below")
    for name, group in (
        ("data", Data),
        ("model", Model),
        ("loss", Loss),
        ("augment", Augment),
        ("train", Train),
        ("run", Run),
    ):
        result.add_argument(f"--{name}", type=group, default=group())
    result.add_argument(
        "--resume",
        type=str | None,
        default=None,
        help="auto (the run in run.dir, else the newest below runs/), a run's folder, or a "
        "checkpoint; its settings hold unless given anew",
    )
    result.add_argument(
        "--guard",
        type=Action,
        default="warn",
        help="warn (default): say in words when nothing is being learnt; stop: end the run then; "
        "off",
    )
    result.add_argument(
        "--overfit",
        type=int,
        default=0,
        metavar="N",
        help="self-check before a long run: learn N batches by heart, without augmentation, and "
        "leave; exit status 1 if that fails",
    )
    result.add_argument(
        "--log", type=str, default="", help="trackers, separated by commas: tensorboard, wandb"
    )
    return result


def parse(argv: list[str]) -> tuple[Config, Options]:
    """Read the command line.

    Raises:
        ArgumentError: unknown names or wrong types.
        ValueError: a file of settings is not what it should be, or a value makes no sense.
        CheckpointError: --resume names no checkpoint, or one that is damaged.
    """
    command, argv = parser(), _without_files(argv)
    given = _given(command, argv)
    demo = given.data.shards is None and given.data.clips is None
    if given.resume:
        source = checkpoint.find(given.resume, Path(given.run.dir) if given.run.dir else None)
        if source is not None:
            saved = _saved_config(source, checkpoint.load(source)).as_dict()
            saved["run"].pop("dir", None)  # the folder may have moved
            command.set_defaults(
                {f"{g}.{name}": v for g, values in saved.items() for name, v in values.items()}
            )
            given = _given(command, argv)
            demo = False
    if demo:
        command.set_defaults(DEMO_TRAIN)
        given = _given(command, argv)
    built = command.instantiate(given)
    config = Config(built.data, built.model, built.loss, built.augment, built.train, built.run)
    trackers = tuple(name.strip() for name in given.log.split(",") if name.strip())
    if given.overfit < 0:
        raise ValueError(f"--overfit must not be negative, not {given.overfit}")
    if given.overfit:
        if given.resume:
            raise ValueError("--overfit starts afresh: it cannot be combined with --resume")
        train = replace(config.train, schedule="constant", warmup_steps=0)
        config = replace(config, augment=Augment(), train=train)
    return config, Options(given.resume, trackers, demo, given.guard, given.overfit)


def _without_files(argv: list[str]) -> list[str]:
    """The command line with what --config FILE or --data FILE say, in place of the files.

    Raises:
        ValueError: a file of settings is not what it should be, or a number is none.
    """
    sections = ("config", *(section.name for section in fields(Config)))
    kinds = SETTINGS | {"overfit": int, "resume": str, "guard": str, "log": str}
    result, left = [], iter(argv)
    for word in left:
        name, equals, value = word.removeprefix("--").partition("=")
        known = word.startswith("--") and (name in sections or name in kinds)
        given = value if equals else next(left, None) if known else None
        if not known or given is None:
            result.append(word)
        elif name in sections:
            result.append(f"--{name}={settings(name, given)}")
        else:
            check_value(name, kinds[name], given)
            result.append(f"--{name}={given}")
    return result


def _given(command: ArgumentParser, argv: list[str]) -> Namespace:
    """What the command line says.

    Raises:
        ArgumentError: as `parse`, in a message of bounded length.
    """
    try:
        return command.parse_args(argv)
    except ArgumentError as error:
        said = str(error.message)
        raise ArgumentError(None, said if len(said) <= 1000 else f"{said[:1000]} ...") from None
    except OverflowError:
        raise ArgumentError(None, "a number is too large for any setting") from None


def save_config(config: Config, path: Path) -> None:
    """Write the settings as YAML that --config reads."""
    # in ASCII: YAML takes some letters of Unicode for ends of lines
    text = yaml.safe_dump(config.as_dict(), sort_keys=False)
    with atomic_path(path) as partial_path:
        partial_path.write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; 0 done or stopped cleanly, 1 the data is bad, 2 wrong usage."""
    print_anything()
    console = Console(quiet=int(os.environ.get("RANK", "0")) != 0, width=_width())
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console)]
    )
    try:
        config, options = parse(sys.argv[1:] if argv is None else argv)
        train(config, options, console)
        return 0
    except ArgumentError as error:
        problem = str(error.message).removeprefix("error: ").splitlines()
        print(f"trainer.run: {' '.join(map(str.strip, problem))} (see --help)", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"trainer.run: {error}", file=sys.stderr)
        return 2
    except Elsewhere:
        return 1
    except (
        RecordError,
        LoaderError,
        CheckpointError,
        NotLearning,
        MissingPackage,
        OSError,
    ) as error:
        print(f"trainer.run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("trainer.run: interrupted; --resume auto goes on if it had begun", file=sys.stderr)
        return 130


def _width() -> int | None:
    # Redirected output has no width of its own; tables would be squeezed into 80 columns.
    return None if sys.stdout.isatty() else max(110, shutil.get_terminal_size().columns)


if __name__ == "__main__":
    sys.exit(main())
