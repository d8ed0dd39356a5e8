"""What a person sees of a run: a live line or plain ones, tables, trackers."""

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data_tools.errors import MissingPackage, UsageError
from data_tools.progress import PLAIN_SECONDS, Pace
from data_tools.traffic import Traffic, so_far
from trainer.config.settings import Config
from trainer.data.cached import Counted
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader
from trainer.data.sampler import TrainSampler
from trainer.model.syncnet import PRESETS
from trainer.train import metrics
from trainer.train.distributed import Processes
from trainer.train.sets import announce_sets, in_words

TRACKERS = ("tensorboard", "wandb", metrics.NAME)
_PACKAGES = {metrics.NAME: "prometheus_client"}  # whose names are others
_TABLE_ROWS = 12


class Display:
    """Progress of the training steps; silent on every process but the first."""

    def __init__(self, console: Console, total: int, done: int, batch_size: int) -> None:
        self._console = console
        self._batch_size = batch_size
        self._pace = Pace(total, done)
        self._bar: Progress | None = None
        if console.is_terminal and not console.quiet:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("", total=total, completed=done, epoch=1, figures="")

    def __enter__(self) -> "Display":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, epoch: int, row: dict[str, Any] | None) -> None:
        """One more step is done; `row` is the newest complete row, if any."""
        pace = self._pace
        pace.advance()
        # Drawing more often than anyone can read costs the step.
        if not pace.due(0.2 if self._bar else PLAIN_SECONDS):
            return
        figures = f"{pace.rate * self._batch_size:,.0f} samples/s"
        if row is not None:
            figures = f"loss {row['loss']:.4f}, {figures}, wait {row['data_ms']:.2f} ms"
        if self._bar:
            self._bar.update(self._task, completed=pace.done, epoch=epoch, figures=figures)
        else:
            left = pace.seconds_left or 0.0  # a step is done, so there is a rate
            self._console.print(
                f"step {pace.done}/{pace.total}, epoch {epoch}, {figures}, ETA {left:.0f} s",
                highlight=False,
            )


def check_trackers(names: Iterable[str]) -> None:
    """Refuse trackers that cannot work, before anything else is done.

    Raises:
        UsageError: an unknown tracker, or a port that is none.
        MissingPackage: its package is not installed.
    """
    for asked in names:
        name = asked if metrics.port_of(asked) is None else metrics.NAME
        if name not in TRACKERS:
            raise UsageError(f"--log {asked!r}: there are {', '.join(TRACKERS)}[:port]")
        package = _PACKAGES.get(name, name)
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(
                f"--log {name} needs the package {package}: pip install 'syncnet-trainer[{name}]'"
            )


class Tracker:
    """Sends figures to TensorBoard, W&B and Prometheus, as asked (see `check_trackers`).

    Args:
        names: of --log.
        folder: of the run.
        config: its settings.
        total: steps of the whole training.
        asked: further figures for Prometheus, by name, asked for when they are read.

    Attributes:
        metrics: what Prometheus reads, if it is among them.

    Raises:
        UserError: Prometheus's port cannot be listened on.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        config: dict[str, Any],
        total: int,
        asked: Mapping[str, Callable[[], float]],
    ) -> None:
        self.metrics: metrics.Metrics | None = None
        for port in map(metrics.port_of, names):
            if port is not None:
                batch_size = config["train"]["batch_size"]
                self.metrics = metrics.Metrics(port, batch_size, total, asked)
        self._board: Any = None
        self._wandb: Any = None
        if "tensorboard" in names:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))
        if "wandb" in names:
            import wandb

            self._wandb = wandb.init(
                project="syncnet", name=folder.name, dir=str(folder), config=config, resume="allow"
            )

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Send the figures of one step."""
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(figures, step=step)
        if self.metrics is not None:
            self.metrics.log(step, figures)

    def close(self) -> None:
        """Send what is pending."""
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
        if self.metrics is not None:
            self.metrics.close()


def open_tracker(
    config: Config,
    names: Sequence[str],
    folder: Path,
    total: int,
    loader: Loader,
    before: Traffic,
) -> Tracker:
    """What sends figures to those of --log.

    Args:
        before: what this process had fetched of remote sets before the run.

    Raises:
        UserError: as `Tracker`.
    """
    asked: dict[str, Callable[[], float]] = {
        "quarantined_clips": lambda: len(loader.quarantine),
        "fetched_bytes": lambda: so_far().since(before).bytes,
        "fetch_retries": lambda: so_far().since(before).retries,
    }
    if isinstance(store := loader.store, Counted):
        asked |= {"cache_frames_found": lambda: store.found, "cache_frames": lambda: store.asked}
    return Tracker(names, folder, config.as_dict(), total, asked)


def announce(
    config: Config,
    dataset: Dataset,
    sampler: TrainSampler,
    loader: Loader,
    device: torch.device,
    processes: Processes,
    console: Console,
) -> None:
    """Say what is about to be trained, on what and where."""
    say = partial(console.print, highlight=False, soft_wrap=True)
    train = config.train
    length = f"{train.steps:,} steps" if train.steps else f"{train.epochs} epochs"
    preset, accumulate = PRESETS[config.model.name], config.train.accumulate
    parts = f" in {accumulate} parts" if accumulate > 1 else ""
    say(
        f"{len(sampler.eligible):,} clips, {sampler.steps_per_epoch:,} steps an epoch of "
        f"{config.train.batch_size} samples{parts}, {length}; model "
        f"{config.model.name} on {device}, {processes.world} process(es)"
    )
    if config.data.decoder == "auto":
        say(loader.taken_in_words)
    announce_sets(config, dataset, sampler, console)
    wanted = (preset.size, preset.size, preset.channels)
    other = {shape: n for shape, n in dataset.frame_shapes.items() if shape != wanted}
    for shape, clips in other.items():
        say(
            f"note: frames of {clips:,} clips are {in_words(shape)}, the model takes "
            f"{in_words(wanted)}: converted in the pipeline, at a cost; `data_tools pack "
            "--size/--gray` stores them as needed"
        )


def print_epochs(console: Console, table: list[dict[str, Any]]) -> None:
    """The first step against the rest, epoch by epoch (evenly chosen where there are many)."""
    shown = Table(
        title="every step timed: the first step of an epoch against the median of the rest"
    )
    for name in (
        "epoch",
        "first wait",
        "first total",
        "rest wait",
        "rest total",
        "utilisation",
        "samples/s",
    ):
        shown.add_column(name, justify="right")
    for row in _spread(table):
        shown.add_row(
            str(row["epoch"]),
            f"{row['first_wait_ms']:.2f} ms",
            f"{row['first_total_ms']:.1f} ms",
            f"{row['rest_wait_ms']:.2f} ms",
            f"{row['rest_total_ms']:.1f} ms",
            f"{row['utilisation']:.1%}",
            f"{row['samples_per_s']:,.0f}",
        )
    console.print(shown)


def print_scores(console: Console, scores: dict[str, dict[str, float]]) -> None:
    """Validation figures, one row a set."""
    shown = Table(title="offset within +-1 frame over +-15 (chance 9.7 %)")
    for name in ("set", "clips", "K=5", "K=15", "AUC", "genuine d", "false d", "loss"):
        shown.add_column(name, justify="left" if name == "set" else "right")
    for name, row in scores.items():
        shown.add_row(
            name,
            f"{row['clips']:.0f}",
            f"{row['accuracy_k5']:.1%}",
            f"{row['accuracy_k15']:.1%}",
            f"{row['auc']:.4f}",
            f"{row['genuine_distance']:.2f}",
            f"{row['false_distance']:.2f}",
            f"{row['loss']:.4f}",
        )
    console.print(shown)


def _spread(table: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    if len(table) <= _TABLE_ROWS:
        return table
    last = len(table) - 1
    return [table[i * last // (_TABLE_ROWS - 1)] for i in range(_TABLE_ROWS)]
