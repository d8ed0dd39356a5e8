"""Where a run writes and what it goes on from."""

from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from data_tools.atomic import NO_ROOM
from data_tools.errors import UsageError
from data_tools.lock import locked
from trainer.config.command import saved_config
from trainer.config.settings import (
    FIXED_ON_RESUME,
    INIT_FIXED_ON_RESUME,
    LATER_FIXED_ON_RESUME,
    Config,
    Data,
    Options,
)
from trainer.data.sampler import TrainSampler
from trainer.train import agent, checkpoint, timing
from trainer.train.checkpoint import CheckpointError, Resumed
from trainer.train.distributed import Processes


def open_folder(
    config: Config, options: Options, processes: Processes, stack: ExitStack
) -> tuple[Path, Resumed | None]:
    """This run's folder (the same on all processes), and the checkpoint to go on from, if any.

    The folder is locked until `stack` is closed.

    Raises:
        InUse: another process is writing there.
        UsageError: it cannot be written to, it holds a run that is not to be gone on with, or a
            setting that must not change differs from the checkpoint's.
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    asked = Path(config.run.dir) if config.run.dir else None
    source = checkpoint.find(options.resume, asked) if options.resume else None
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{config.model.name}"
    folder = asked or (source.parent if source else Path("runs") / name)
    folder = processes.gather(folder)[0]  # clocks differ between processes

    def claim() -> Path | None:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"run.dir {folder} is a file, not a folder")
        try:
            stack.enter_context(locked(folder, "run"))
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise UsageError(
                f"run.dir {folder} cannot be made or written to: {error.strerror or error}"
            ) from None
        checkpoint.clear(folder)
        # Now that nobody writes any more; one may just have been saved by whoever did.
        path = checkpoint.find(options.resume, folder) if options.resume else None
        ours = options.restarted or options.resume == "auto"
        ours = ours or (path is not None and path.parent.samefile(folder))
        if not ours and (folder / timing.STEPS).exists():
            raise UsageError(
                f"{folder} already holds a run: add --resume auto to go on with it, or choose "
                "another run.dir"
            )
        agent.remember(folder)
        return path

    source = processes.together(claim)
    resumed = checkpoint.resume(source) if source else None
    if resumed:
        _check_same(config, resumed)
    return folder, resumed


def _check_same(config: Config, resumed: Resumed) -> None:
    saved = saved_config(resumed.path, resumed.state)
    _check_same_sets(config.data, saved.data, resumed.path)
    now, before = config.as_dict(), saved.as_dict()
    fixed = (*FIXED_ON_RESUME, *LATER_FIXED_ON_RESUME)
    reasons = dict.fromkeys(fixed, "the samples would not go on where they stopped")
    reasons |= dict.fromkeys(
        INIT_FIXED_ON_RESUME, "leave it out, a checkpoint goes on with its own weights"
    )
    for name, reason in reasons.items():
        group, key = name.split(".")
        if before[group][key] != now[group][key]:
            raise UsageError(
                f"{resumed.path} was trained with {name} {before[group][key]}, not "
                f"{now[group][key]}: {reason}"
            )


def _check_same_sets(now: Data, before: Data, path: Path) -> None:
    """Refuse another number of sets, or other weights of them; folders may have moved."""
    sets, others = (max(1, len(data.folders)) for data in (now, before))
    if sets != others:
        raise UsageError(
            f"{path} was trained on {others} set(s) of data.shards, not {sets}: the samples would "
            "not go on where they stopped"
        )
    if now.shares != before.shares:
        raise UsageError(
            f"{path} was trained with data.weights {_weights(before)}, not {_weights(now)}: the "
            "samples would not go on where they stopped"
        )


def _weights(data: Data) -> str:
    return " ".join(map(str, data.weights)) if data.weights else "by the samples of each set"


def first_step(resumed: Resumed | None, sampler: TrainSampler, total: int) -> int:
    """The first step to do, of `total`.

    Raises:
        UsageError: it lies beyond the last.
        CheckpointError: the run that wrote the checkpoint cannot have come so far.
    """
    if resumed is None:
        return 0
    step, before = resumed.progress.step, saved_config(resumed.path, resumed.state).train
    whole = before.total(sampler.steps_per_epoch)
    if step > whole:
        raise CheckpointError(
            f"{resumed.path} does not fit this run: it says that {step} steps are done, but "
            f"its whole training on these shards has {whole}; give the shards that it was trained "
            "on"
        )
    if step > total:
        raise UsageError(
            f"{resumed.path} has come to step {step}, beyond the {total} of this training: give "
            "more train.epochs (or train.steps) to go on"
        )
    return step
