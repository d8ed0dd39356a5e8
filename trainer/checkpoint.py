"""Checkpoints that appear whole or not at all and never execute code: last, best, keep N."""

import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch.nn.utils import get_total_norm

from data_tools.atomic import atomic_path, remove_partials, sync

LAST, BEST = "last.pt", "best.pt"
_KEPT = "step-*.pt"


class CheckpointError(Exception):
    """A checkpoint that is missing, truncated or not one of ours."""


def save(folder: Path, state: dict[str, Any], keep: int, best: bool) -> None:
    """Write last.pt, keep the newest `keep` as step-N.pt, and best.pt if this is the best.

    `state` holds tensors and plain values only, "step" among them.

    Raises:
        OSError: they cannot be written; those that were there are whole.
    """
    names = [folder / BEST] if best else []
    if keep:
        names.append(folder / f"step-{state['step']:08d}.pt")
    with atomic_path(folder / LAST) as partial:
        write(state, partial)
        sync(partial)
        # Before last.pt, so that a run that is killed in between comes to the same best again.
        for name in names:
            _link(partial, name)
    kept = [path for path in folder.glob(_KEPT) if re.fullmatch(r"step-\d{8,}\.pt", path.name)]
    # By age: a run that went back to an earlier step has the later ones of before beside it.
    kept.sort(key=lambda path: (path.stat().st_mtime_ns, len(path.name), path.name))
    for old in kept[: max(0, len(kept) - keep)]:
        old.unlink()


def write(content: Any, path: Path) -> None:
    """torch.save to `path`, with the file's own error if it cannot be written.

    Raises:
        OSError: as the file gave it.
    """
    with open(path, "wb") as stream:
        sink = _Sink(stream)
        torch.save(content, cast(IO[bytes], sink))
        if sink.error is not None:
            raise sink.error


class _Sink:
    """Takes what torch writes; keeps the first error, behind which torch would put its own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write `data`, unless the file has failed already."""
        if self.error is None:
            try:
                self._stream.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing: closing the file does."""


def finite(state: Any) -> bool:
    """Whether every number of the tensors in nested dictionaries, lists and tuples is finite.

    Waits for the device, once for all of them.
    """
    tensors = [tensor for tensor in _floats(state) if tensor.numel()]
    return math.isfinite(get_total_norm(tensors, math.inf)) if tensors else True


def _floats(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        if state.is_floating_point():
            yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _floats(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _floats(value)


def clear(folder: Path) -> None:
    """Remove half a checkpoint that a killed process left; no other may be writing there."""
    remove_partials(folder, LAST, BEST, _KEPT)


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
    """Give a file one more name, whole or not at all: a link costs nothing."""
    with atomic_path(name) as partial:
        try:
            os.link(source, partial)
        except OSError:  # not every file system has links
            with source.open("rb") as one, partial.open("wb") as other:
                shutil.copyfileobj(one, other, 1 << 20)
