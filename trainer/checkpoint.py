"""Checkpoints that appear whole or not at all and never execute code: last, best, keep N."""

import os
from pathlib import Path
from typing import Any, cast

import torch

from data_tools.atomic import atomic_path, sync

LAST, BEST = "last.pt", "best.pt"
_KEPT = "step-*.pt"


class CheckpointError(Exception):
    """A checkpoint that is missing, truncated or not one of ours."""


def save(folder: Path, state: dict[str, Any], keep: int, best: bool) -> None:
    """Write last.pt, keep the newest `keep` as step-N.pt, and best.pt if this is the best.

    `state` holds tensors and plain values only, "step" among them.
    """
    last = folder / LAST
    with atomic_path(last) as partial:
        torch.save(state, partial)
    # Further names of the same file: a link costs nothing and cannot be half written.
    if best:
        _link(last, folder / BEST)
    if keep:
        _link(last, folder / f"step-{state['step']:08d}.pt")
    kept = sorted(folder.glob(_KEPT))
    for old in kept[: max(0, len(kept) - keep)]:
        old.unlink()


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or holds anything but tensors and plain
            values (it is never executed).
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no readable checkpoint: {first}") from None
    whole = {"model", "optimizer", "step", "config"}
    if not (
        isinstance(state, dict) and whole <= state.keys() and isinstance(state["config"], dict)
    ):
        raise CheckpointError(f"{path} is not a checkpoint of this trainer")
    return cast(dict[str, Any], state)


def judged(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights to use of a checkpoint: the running average where the run kept one."""
    if "average" not in state:
        return cast(dict[str, torch.Tensor], state["model"])
    averaged = state["average"].items()
    return {
        key.removeprefix("module."): value for key, value in averaged if key.startswith("module.")
    }


def find(resume: str, run_dir: Path | None) -> Path | None:
    """The checkpoint that `--resume` means; None if "auto" finds none and a run starts afresh.

    "auto" looks in `run_dir`, or, without one, in the newest folder below runs/ that has any.

    Raises:
        CheckpointError: a path that holds no checkpoint.
    """
    if resume == "auto":
        if run_dir is not None:
            return run_dir / LAST if (run_dir / LAST).exists() else None
        found = sorted(Path("runs").glob(f"*/{LAST}"), key=lambda path: path.stat().st_mtime)
        return found[-1] if found else None
    path = Path(resume)
    if path.is_dir():
        path = path / LAST
    if not path.exists():
        raise CheckpointError(f"--resume: {path} does not exist")
    return path


def _link(source: Path, name: Path) -> None:
    partial = name.with_name(f".{name.name}.partial-{os.getpid()}")
    partial.unlink(missing_ok=True)
    os.link(source, partial)
    os.replace(partial, name)
    sync(name.parent)
