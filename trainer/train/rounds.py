"""The rounds of a refinement: train, score, reject, train again; and what a finished run says.

Each training runs in a process of its own and in a folder of its own, and goes on where it was
stopped.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from data_tools.atomic import remove_partials, write_json
from data_tools.errors import UsageError
from data_tools.mirror import argument_of
from data_tools.records import Count, read_record
from data_tools.workers import PARENT
from trainer.config.command import parse, saved_config
from trainer.config.settings import NO_MANIFEST
from trainer.score.verdicts import KEEP_FILE, RefineError, VerdictOptions, score_and_judge
from trainer.train import checkpoint
from trainer.train.checkpoint import Resumed
from trainer.train.same_clips import other_clips
from trainer.train.sets import open_dataset

RESULT = "refine.json"
# What a refinement says to `trainer.run` itself.
OWN_OPTIONS = ("--run.dir", "--resume", "--data.manifest", "--data.clips")
# Settings that say where files lie and how fast it goes, not which network comes of it.
_FREE = {
    "data": (
        "shards", "local", "local_gb", "clips", "manifest", "threads", "ready", "decode_device",
        "decoder", "cache", "cache_gb", "hw_decoder_load",
    ),
    "train": ("device", "compile", "deterministic", "accumulate"),
}  # fmt: skip


@dataclass(frozen=True)
class RunSummary:
    """What we read of a run's summary.json; scores are None where there are none."""

    finished: bool = False
    seconds: float = 0.0
    steps: Count = 0
    parameters: Count = 0
    first_step_wait_ms: float | None = None
    utilisation: float = 0.0
    val_accuracy_k5: float | None = None
    val_accuracy_k15: float | None = None
    val_auc: float | None = None
    test_accuracy_k5: float | None = None
    test_accuracy_k15: float | None = None
    test_auc: float | None = None


def read_summary(run: Path) -> RunSummary | None:
    """What a run's folder says of it; None before its end.

    Raises:
        RecordError: its summary.json is damaged.
    """
    try:
        return read_record(
            run / "summary.json",
            RunSummary,
            "is not the summary of a run",
            "delete it, and the same command writes it anew",
            as_python=True,  # earlier versions wrote NaN
        )
    except (FileNotFoundError, NotADirectoryError):
        return None


@dataclass(frozen=True)
class Sets:
    """What a refinement trains on.

    Attributes:
        shards: the set whose labels are made anew each round.
        beside: sets in sync, which are trained on beside it and stay as they are.
    """

    shards: Path
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Refined:
    """What a refinement leads to.

    Attributes:
        weights: of the last training.
        rounds: what refine.json says of each.
    """

    weights: Path
    rounds: list[dict[str, Any]]


def refine(
    sets: Sets,
    folder: Path,
    rounds: int,
    options: VerdictOptions,
    training: list[str],
    say: Callable[[str], None],
    weights: Path | None = None,
) -> Refined:
    """Train, score, reject and train again, `rounds` trainings in all.

    Every training starts from fresh weights, so that what it learnt from rejected clips is gone,
    and has a folder of its own below `folder`. Every scoring looks at all clips of the set as they
    are in the shards, so no label outlives the network that made it. Finished parts are not done
    again.

    Args:
        training: options for `trainer.run`.
        say: shows a line to the user.
        weights: stand in for the first training.

    Raises:
        RefineError: a training failed; and as `score_and_judge`.
        UsageError: a training that is there, done or not, is of other options or labels.
    """
    for number in range(1, rounds + 1):
        check_options(sets, round_folder(folder, number) / "run", training)
    remove_partials(folder, RESULT)  # of one that was killed
    summary: list[dict[str, Any]] = []
    manifest: Path | None = None
    for number in range(1, rounds + 1):
        own = round_folder(folder, number)
        if number == 1 and weights is not None:
            best = weights
        else:
            on = f" on {manifest}" if manifest else ""
            say(f"round {number} of {rounds}: training{on}")
            best = _train(sets, own / "run", manifest, training)
        summary.append({"weights": str(best)} | _final_scores(own / "run"))
        if number < rounds:
            say(f"round {number} of {rounds}: scoring with {best}")
            found = score_and_judge(sets.shards, best, own, options, say, manifest)
            summary[-1] |= found.as_dict()
            manifest = own / KEEP_FILE
        write_json(folder / RESULT, {"rounds": summary})
    return Refined(best, summary)


def round_folder(folder: Path, number: int) -> Path:
    """Where a refinement in `folder` keeps its round, 1 on."""
    return folder / f"round-{number}"


def training_arguments(
    sets: Sets, run: Path, training: Sequence[str], manifest: Path | None = None
) -> list[str]:
    """The command line of a training in the folder `run`, with the user's options `training`.

    Args:
        manifest: keep.csv of the set to be refined.
    """
    own = ["--run.dir", str(run), "--resume", "auto"]
    return [*training, *_data_arguments(sets, manifest), *own]


def _data_arguments(sets: Sets, manifest: Path | None) -> list[str]:
    folders = [argument_of(folder) for folder in (sets.shards, *sets.beside)]
    own = ["--data.shards", *folders]
    if manifest is not None:
        own += ["--data.manifest", str(manifest), *(NO_MANIFEST for _ in sets.beside)]
    return own


def check_options(sets: Sets, run: Path, training: Sequence[str]) -> None:
    """Refuse a training, done or stopped, that was begun with other options than `training`.

    Raises:
        UsageError: names the setting and the way out.
        CheckpointError: what it saved is damaged.
    """
    if (saved := _saved(run)) is None:
        return
    before = saved_config(saved.path, saved.state).as_dict()
    now = parse([*training, *_data_arguments(sets, None)])[0].as_dict()
    for group in ("data", "model", "loss", "augment", "train"):
        for name, value in now[group].items():
            if name not in _FREE.get(group, ()) and value != before[group][name]:
                raise UsageError(
                    f"{run} was trained with {group}.{name} {before[group][name]}, not {value}: "
                    "give the options of before or another --out, or delete it to train anew"
                )


def _check_labels(sets: Sets, run: Path, manifest: Path | None, training: Sequence[str]) -> None:
    """Refuse a training, done or stopped, on other clips or other labels of them."""
    if (saved := _saved(run)) is None or saved.progress.clips is None:
        return
    config, _ = parse([*training, *_data_arguments(sets, manifest)])
    what = other_clips(open_dataset(config, Console(quiet=True)), saved.progress.clips)
    if what is not None:
        raise UsageError(
            f"{what} those {run} was trained with: give another --out, or delete it to train anew"
        )


def _saved(run: Path) -> Resumed | None:
    """What a training last saved; None where it has saved nothing yet."""
    for name in (checkpoint.LAST, checkpoint.BEST):
        if (run / name).exists():
            return checkpoint.resume(run / name)
    return None


def _train(sets: Sets, run: Path, manifest: Path | None, training: list[str]) -> Path:
    """Train in a process of its own, going on where one was stopped; returns the best weights."""
    best = run / checkpoint.BEST
    _check_labels(sets, run, manifest, training)
    if _finished(run):
        return best
    arguments = training_arguments(sets, run, training, manifest)
    status = _wait_for([sys.executable, "-m", "trainer.run", *arguments])
    if status < 0:
        raise RefineError(
            f"training in {run} was killed by signal {-status}; the same command goes on with it"
        )
    if status > 0:
        raise RefineError(f"training in {run} failed, see above")
    if not _finished(run) or not best.exists():
        raise RefineError(f"training in {run} was stopped; the same command goes on with it")
    return best


def _wait_for(command: list[str]) -> int:
    """Run a training to its end; what would end this process, or has, lets it save first."""
    environment = {**os.environ, PARENT: str(os.getpid())}
    with subprocess.Popen(command, env=environment) as process:
        before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Ctrl-C in a terminal reaches it as well, any other way it does not; a second SIGINT,
            # unlike this, would interrupt its saving.
            process.terminate()
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


def _finished(run: Path) -> bool:
    summary = read_summary(run)
    return summary is not None and summary.finished


def _final_scores(run: Path) -> dict[str, Any]:
    """What the training's own evaluation found, for comparison over the rounds."""
    summary = read_summary(run)
    if summary is None or not summary.finished:
        return {}
    names = ("accuracy_k5", "accuracy_k15", "auc")
    wanted = [f"{split}_{name}" for split in ("val", "test") for name in names]
    scores = {name: getattr(summary, name) for name in wanted}
    return {name: value for name, value in scores.items() if value is not None}
