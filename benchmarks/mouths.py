"""Videos to shards of mouths, and trainings on them, by our own commands in processes of their own.

What has finished is not done again, and what was stopped goes on.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import run_module
from data_tools.errors import UserError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from trainer.train import checkpoint
from trainer.train.rounds import RunSummary, read_summary

_CROP = ("--crop", "mouth", "--gray", "--size", "64")


def prepare(videos: Sequence[Path], out: Path, ratios: tuple[int, int, int], *more: str) -> Path:
    """Videos to clips of 64 x 64 gray mouths (out/clips) and to shards; returns the shards' folder.

    Args:
        videos: files, folders, or lists of files.
        more: further options of `data_tools prepare`.
    """
    run_module("data_tools", "prepare", *videos, "--out", out / "clips", *_CROP, *more)
    pack(out / "clips", out / "shards", PackOptions(ratios=ratios), 2)
    return out / "shards"


def train(run: Path, *arguments: Path | str) -> RunSummary:
    """A training in the folder `run`.

    Raises:
        UserError: it failed, or left no summary.
    """
    done = read_summary(run)
    if done is None or not done.finished:
        resume = ("--resume", "auto") if (run / checkpoint.LAST).exists() else ()
        run_module("trainer.run", "--run.dir", run, *resume, *arguments)
        done = read_summary(run)
    if done is None:
        raise UserError(f"the training in {run} left no summary")
    return done
