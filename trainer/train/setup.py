"""Opens everything that a training needs, in the order that hides the waiting."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from data_tools.errors import UsageError
from data_tools.manifest import read_manifest
from data_tools.mirror import open_sets
from data_tools.shards import open_shards
from data_tools.traffic import Traffic, so_far
from trainer.config import check
from trainer.config.command import save_config
from trainer.config.settings import Config, DecodeDevice, Options, several
from trainer.data.batch import Batch, Shape
from trainer.data.cached import counted
from trainer.data.dataset import Dataset
from trainer.data.decode_choice import Rates, measure
from trainer.data.decoding import Decoder
from trainer.data.loader import Loader
from trainer.data.sampler import Segments, TrainSampler
from trainer.data.steps import Requests
from trainer.model.syncnet import PRESETS
from trainer.model.transfer import Start
from trainer.score.scoring import REACH
from trainer.train import display, distributed
from trainer.train.caching import cache_of
from trainer.train.checkpoint import Resumed
from trainer.train.demo import make_shards
from trainer.train.distributed import Processes
from trainer.train.fetching import fetching
from trainer.train.guard import Guard
from trainer.train.peers import watching
from trainer.train.resume import first_step, open_folder
from trainer.train.same_clips import check_same_clips
from trainer.train.sets import (
    check_share,
    make_sampler,
    open_dataset,
    quarantined,
    with_shards,
)
from trainer.train.start import open_start
from trainer.train.step import TrainStep, warmup_steps
from trainer.train.timing import StepClock
from trainer.train.validate import NoRuns, Validation


@dataclass(frozen=True)
class Opened:
    """A run whose parts are open, ready for its first step.

    Attributes:
        config: as asked, data.shards filled in.
        options: what the command line said besides.
        processes: this process's place among all.
        console: where to print; silent on every process but the first.
        folder: of the run, locked.
        dataset: the training split of all sets.
        sampler: which samples each step is made of.
        loader: at work from step `start` on.
        loader_options: what any other loader of this run is to be opened with.
        validation: of the val split; None where there is nothing to validate with.
        step: model, loss, optimizer, as they were if resumed.
        guard: watches `step`, unless it is off.
        tracker: sends figures to those of --log.
        start: the first step to do, of `total`.
        total: steps of the whole training.
        best: largest K=5 accuracy of validations so far, 0..1; -1 before the first.
        began: time.monotonic() at which the run would have begun without its interruptions.
        before: what this process had fetched of remote sets before.
    """

    config: Config
    options: Options
    processes: Processes
    console: Console
    folder: Path
    dataset: Dataset
    sampler: TrainSampler
    loader: Loader
    loader_options: dict[str, Any]
    validation: Validation | None
    step: TrainStep
    guard: Guard
    tracker: display.Tracker
    start: int
    total: int
    best: float
    began: float
    before: Traffic

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.step.device

    def say(self, text: str) -> None:
        """Print a line, however long, in one colour."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def fetched(self) -> Traffic:
        """What this process has fetched of remote sets for this run since it was opened."""
        return so_far().since(self.before)

    def seconds(self) -> float:
        """How long the run has taken so far, interruptions left out."""
        return time.monotonic() - self.began


@contextmanager
def open_run(
    config: Config, options: Options | None = None, console: Console | None = None
) -> Iterator[Opened]:
    """Open a training: `with open_run(config) as opened: ...`.

    All is closed at the end, and also when opening the next part fails. Under torchrun every
    process calls it.

    Raises:
        UsageError: settings that no run could use, or a run.dir that another process writes to.
        RecordError, LoaderError, CheckpointError: bad data; the message says what to do.
        MissingPackage: a tracker is not installed.
        Elsewhere: any of these, on the first process.
        Lost: another process is gone.
    """
    options = options or Options()
    check(config)
    display.check_trackers(options.trackers)
    asked = distributed.find_device(config.train.device, "train.device")
    processes = distributed.setup(asked)
    console = console or Console(quiet=not processes.first)
    try:
        with watching(processes), ExitStack() as stack:
            device = _device(asked, config.train.deterministic, processes, stack)
            yield _open(config, options, device, processes, console, stack)
    finally:
        distributed.leave()


def _open(
    config: Config,
    options: Options,
    device: torch.device,
    processes: Processes,
    console: Console,
    stack: ExitStack,
) -> Opened:
    began, before = time.monotonic(), so_far()
    folder, resumed = open_folder(config, options, processes, stack)
    config, dataset = _open_data(config, options, folder, processes, console)
    sampler = make_sampler(config, dataset)
    check_share(config, sampler, processes)
    total = config.train.total(sampler.steps_per_epoch)
    start = first_step(resumed, sampler, total)
    say = partial(console.print, highlight=False, soft_wrap=True)
    check_same_clips(resumed, dataset, say)
    weights = open_start(config.model, resumed, processes, say)
    requests = _requests(sampler, options.overfit, processes)
    block_steps = sampler.block_steps if config.data.order == "blocks" else None
    requests = stack.enter_context(fetching(dataset, requests, start, total, block_steps, say))
    loader_options = _loader_options(config, device, processes)
    open_loader = partial(
        Loader,
        dataset,
        requests,
        _shape(config, processes),
        start=start,
        quarantine=quarantined(dataset, resumed),
        parts=config.train.accumulate,
        **loader_options,
    )
    trial = partial(_trial, config, device)
    decoder = settle(_decoded_on(config), device, open_loader, trial, processes, say)
    loader_options["decode_device"] = decoder
    store = counted(cache_of(config, dataset, decoder, total - start, device, say, stack))
    # Before the model: the first batches are decoded while it is built.
    loader = stack.enter_context(open_loader(decode_device=decoder, store=store))
    validation = None
    if not options.overfit:
        validation = open_validation(config, "val", processes, console, loader_options)
    if validation is not None:
        stack.callback(validation.close)
    display.announce(config, dataset, sampler, loader, device, processes, console)
    if start:
        say(f"resumed at step {start} of {total}")
    step, guard = _make_step(config, options, sampler, device, processes, resumed, weights)
    tracker = display.open_tracker(
        config, options.trackers if processes.first else (), folder, total, loader, before
    )
    stack.callback(tracker.close)
    if tracker.metrics is not None:
        say(f"metrics for Prometheus on port {tracker.metrics.port}")
    processes.together(partial(save_config, config, folder / "config.yaml"))
    best, seconds = (resumed.progress.best, resumed.progress.seconds) if resumed else (-1.0, 0.0)
    return Opened(
        config, options, processes, console, folder, dataset, sampler, loader, loader_options,
        validation, step, guard, tracker, start, total, best, began - seconds, before,
    )  # fmt: skip


def _open_data(
    config: Config, options: Options, folder: Path, processes: Processes, console: Console
) -> tuple[Config, Dataset]:
    """The settings with the shards there are, and those of training."""
    open_sets(several(config.data.shards), config.data.copies)
    shards = make_shards(config.data, folder, options, processes, console)
    config = with_shards(config, shards)
    dataset = open_dataset(config, console)
    for each in shards:
        open_shards(each, "test")  # its faults should be known now, not after days of training
    return config, dataset


def _device(
    asked: str, deterministic: bool, processes: Processes, stack: ExitStack
) -> torch.device:
    """Where to compute, made ready for it until `stack` is closed."""
    if asked == "cpu":
        return torch.device("cpu")
    device = torch.device(
        "cuda", int(asked.split(":")[1]) if ":" in asked else processes.local_rank
    )
    torch.cuda.set_device(device)
    if deterministic:
        same_bits(stack)
    cudnn = torch.backends.cudnn
    if not (cudnn.deterministic or torch.are_deterministic_algorithms_enabled()):
        # Batches keep their shape, so trying the kernels once pays. Two tries may choose two.
        stack.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
        cudnn.benchmark = True
    return device


def same_bits(stack: ExitStack) -> None:
    """Have torch compute the same bits each time, or raise where it cannot; until `stack` closes.

    As https://docs.pytorch.org/docs/stable/notes/randomness.html says.
    """
    # cuBLAS looks when it is first used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    stack.callback(
        torch.use_deterministic_algorithms,
        torch.are_deterministic_algorithms_enabled(),
        warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True)


def _requests(sampler: TrainSampler, overfit: int, processes: Processes) -> Requests:
    """What the loader asks for each step; --overfit has but so many steps, again and again."""

    def request(step: int, quarantine: Mapping[int, int]) -> Segments:
        number = step % overfit if overfit else step
        return sampler.batch(number, processes.rank, processes.world, quarantine)

    return request


def _shape(config: Config, processes: Processes) -> Shape:
    """Of one process's share of a batch, or of a part of it."""
    preset, data, augment = PRESETS[config.model.name], config.data, config.augment
    return Shape(
        config.train.batch_size
        // data.windows_per_run
        // processes.world
        // config.train.accumulate,
        data.sample_frames,
        data.audio_frames,
        preset.size,
        preset.channels,
        augment if augment.pictures or augment.sound else None,
        quiet=data.skip_quiet and data.pairing != "independent",
        windows=data.windows_per_run,
    )


def _loader_options(config: Config, device: torch.device, processes: Processes) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    return {
        "device": str(device),
        "decoder": config.data.decoder,
        "threads": config.data.threads or max(1, cores // processes.local_world),
        "ready": config.data.ready,
        "hw_decoder_load": config.data.hw_decoder_load,
    }


def _decoded_on(config: Config) -> DecodeDevice:
    """Where frames are to be decoded, as far as the settings say.

    nvJPEG shares frames out between its unit and kernels as they come, which differ by a level.
    """
    asked = config.data.decoded_on
    return "cpu" if config.train.deterministic and asked == "auto" else asked


def settle(
    asked: DecodeDevice,
    device: torch.device,
    open_loader: Callable[..., Loader],
    trial: Callable[[], Callable[[Batch], None]],
    processes: Processes,
    say: Callable[[str], None],
) -> Decoder:
    """Where frames are decoded, the same on every process; what had to be measured is said.

    Args:
        asked: data.decode_device.
        device: of the model.
        open_loader: opens the training's loader, given its `decode_device`.
        trial: makes a step to try batches with, whose weights nobody needs.

    Raises:
        UsageError: a GPU is to decode and the training has none.
    """
    if device.type != "cuda":
        if asked == "gpu":
            raise UsageError(
                f"data.decode_device gpu needs a GPU, and this training runs on the {device.type}"
            )
        return "cpu"
    if asked != "auto":
        return asked
    # All measure at the same time, as they will decode at the same time.
    own = measure(lambda decoder: open_loader(decode_device=decoder), trial())
    torch.cuda.empty_cache()
    rates = Rates(*processes.mean([own.gpu, own.cpu, own.step]))
    say(rates.in_words())
    return rates.faster


def _trial(config: Config, device: torch.device) -> Callable[[Batch], None]:
    """The step of a training, not compiled, on weights of its own; waits until it is done."""
    step = TrainStep(replace(config, train=replace(config.train, compile=False)), device, total=1)
    clock = StepClock(device)

    def run(batch: Batch) -> None:
        clock.begin()
        step(batch, 0, clock)
        torch.cuda.synchronize(device)

    return run


def open_validation(
    config: Config,
    split: str,
    processes: Processes,
    console: Console,
    loader_options: Mapping[str, Any],
    swapped: bool = False,
) -> Validation | None:
    """The validation of a split; None, said aloud, where the split cannot give one.

    Args:
        loader_options: for its `Loader`.
        swapped: pair each clip with another clip's sound: the control that must score at chance.
    """
    data = config.data
    folders = {
        f"set{number}": folder
        for number, folder in enumerate(data.folders, 1)
        if read_manifest(folder).splits[split].clips
    }
    mixed = len(data.folders) > 1
    for each in data.folders if mixed and folders else ():
        if each not in folders.values():
            console.print(f"note: no clip in the {split} split of {each}", soft_wrap=True)
    if not folders:
        console.print(f"note: no clip in the {split} split, so none is measured there")
        return None
    try:
        return Validation(
            tuple(folders.values()),
            split,
            PRESETS[config.model.name],
            processes,
            max_clips=data.val_clips,
            runs_per_clip=data.val_runs,
            # Eleven windows a run and no gradients: about the memory of a training step.
            batch_runs=max(1, min(64, config.train.batch_size // config.train.accumulate // 8)),
            min_shift=min(data.nearest, REACH),
            swapped=swapped,
            names=tuple(folders) if mixed and not swapped else (),
            **loader_options,
        )
    except NoRuns as reason:
        console.print(f"note: {reason}, so none is measured there", soft_wrap=True)
        return None


def _make_step(
    config: Config,
    options: Options,
    sampler: TrainSampler,
    device: torch.device,
    processes: Processes,
    resumed: Resumed | None,
    start: Start | None,
) -> tuple[TrainStep, Guard]:
    """The step, as it was if resumed, and what watches it."""
    total = config.train.total(sampler.steps_per_epoch)
    guard = Guard(
        config.train.lr,
        warmup_steps(config.train, total),
        config.train.batch_size * config.data.windows,
    )
    step = TrainStep(
        config,
        device,
        total,
        processes=processes,
        min_shift_at=sampler.min_shift_at,
        guard=None if options.guard == "off" else guard,
        start=start,
    )
    if resumed:
        step.load_state_dict(resumed)
    return step, guard
