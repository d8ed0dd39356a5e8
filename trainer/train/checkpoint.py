"""Checkpoints that appear whole or not at all and never execute code: last, best, keep N.


What a checkpoint holds is compared with what is about to receive it, entry by entry, before any of
it is used.
"""

import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from msgspec import Meta
from torch import nn
from torch.nn.utils import get_total_norm

from data_tools.atomic import atomic_path, remove_partials, sync
from data_tools.errors import UserError
from data_tools.records import Count, RecordError, convert
from trainer.model import torch_file
from trainer.model.torch_file import NotOfTorch, TorchFileError, plain_name, write
from trainer.model.transfer import Origin
from trainer.model.weights import WeightsError, inference_weights

LAST, BEST = "last.pt", "best.pt"
_KEPT = "step-*.pt"


_ADVICE = "resume from another checkpoint (step-*.pt, best.pt)"


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, not one of ours, or of another run."""


class _Misfit(Exception):
    """What is wrong with an entry, as a clause that begins with the entry's name."""


_Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


@dataclass(frozen=True)
class SplitClips:
    """What identifies the clips of a split.

    Attributes:
        sizes: digest of the clips, frames and bytes of each shard.
        hashes: digest of the shards' hashes; None: an older set, which has none.
    """

    sizes: _Digest
    hashes: _Digest | None


@dataclass(frozen=True)
class SetClips:
    """What identifies the clips that a run takes of a set.

    Attributes:
        train, val: of the splits.
        used: digest of the windows of each training clip, and by how much it is moved.
    """

    train: SplitClips
    val: SplitClips
    used: _Digest


@dataclass(frozen=True)
class Progress:
    """How far a run had come.

    Attributes:
        step: the next to do.
        best: largest K=5 accuracy of its validations, 0..1; -1 before the first.
        seconds: that it has taken.
        quarantine: clip (`Dataset.name`) -> step from which on it is left out.
        init: the weights that it began with, if not with random ones.
        clips: of each set; None: a run of an earlier version.
    """

    step: Count
    best: Annotated[float, Meta(ge=-1, le=1)]
    seconds: Annotated[float, Meta(ge=0, le=1e10)]
    quarantine: dict[str, Count]
    init: Origin | None = None
    clips: list[SetClips] | None = None


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from; what its methods return fits what they were given.

    Their errors, CheckpointError, name the file, the entry and what is wrong with it.

    Attributes:
        path: of the file.
        state: all that it holds; only the methods and `progress` have looked into it.
        progress: how far the run had come.
    """

    path: Path
    state: dict[str, Any]
    progress: Progress

    def take(self, entry: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """The entry, which has the keys, shapes and types of the state dict `wanted`."""
        return cast(dict[str, Any], _checked(self.path, _like, self._entry(entry), wanted, entry))

    def optimizer(self, wanted: torch.optim.Optimizer) -> dict[str, Any]:
        """The state of an AdamW of the same parameters."""
        found = self._entry("optimizer")
        return cast(dict[str, Any], _checked(self.path, _optimizer, found, wanted))

    def schedule(self, wanted: torch.optim.lr_scheduler.LRScheduler) -> dict[str, Any]:
        """The state of a schedule that has come as far as the run."""
        found, step = self._entry("schedule"), self.progress.step
        return cast(dict[str, Any], _checked(self.path, _schedule, found, wanted, step))

    def scaler(self, wanted: torch.amp.GradScaler) -> dict[str, Any]:
        """The state of a scaler; empty where the run had none (it had another precision)."""
        found = self._entry("scaler")
        return {} if found == {} else self.take("scaler", wanted.state_dict())

    def rng(self, entry: str, wanted: torch.Generator) -> torch.Tensor:
        """The state of a random number generator of this kind."""
        return cast(torch.Tensor, _checked(self.path, _rng, self._entry(entry), wanted, entry))

    def _entry(self, name: str) -> Any:
        if name not in self.state:
            raise CheckpointError(
                f"{self.path} is no whole checkpoint: it has no {name}; {_ADVICE}"
            )
        return self.state[name]


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
    """Read a checkpoint onto the CPU; of what is in its entries nothing is known yet.

    Raises:
        CheckpointError: the file is missing, damaged, or holds anything but tensors and plain
            values (it is never executed).
    """
    try:
        state = torch_file.read(path)
    except NotOfTorch as error:
        raise CheckpointError(f"{path} {error}, so no checkpoint of this trainer") from None
    except TorchFileError as error:
        raise CheckpointError(f"{path} {error}") from None
    whole = {"model", "optimizer", "step", "config"}
    if not (
        isinstance(state, dict) and whole <= state.keys() and isinstance(state["config"], dict)
    ):
        raise CheckpointError(f"{path} is not a checkpoint of this trainer")
    return cast(dict[str, Any], state)


def resume(path: Path) -> Resumed:
    """Read a checkpoint to go on from.

    Raises:
        CheckpointError: as `load`; or how far the run had come is nonsense.
    """
    state = load(path)
    names = ("step", "best", "seconds", "quarantine", "init", "clips")
    try:
        progress = convert({name: state[name] for name in names if name in state}, Progress)
    except RecordError as error:
        raise CheckpointError(f"{path} is damaged: {error}; {_ADVICE}") from None
    return Resumed(path, state, progress)


def weights(path: Path, model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights to use of a checkpoint, which fit `model`.

    Raises:
        CheckpointError: as `load`; or they do not fit.
    """
    state = load(path)
    entry = "average" if "average" in state else "model"
    try:
        found = inference_weights(state)
    except WeightsError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return cast(dict[str, torch.Tensor], _checked(path, _like, found, model.state_dict(), entry))


def find(resume: str, run_dir: Path | None) -> Path | None:
    """The checkpoint that `--resume` means; None if "auto" finds none and a run starts afresh.

    "auto" looks in `run_dir`, or, without one, in the newest folder below runs/ that has any.

    Raises:
        CheckpointError: a path that holds no checkpoint.
    """
    if resume == "auto":
        if run_dir is not None:
            return run_dir / LAST if (run_dir / LAST).exists() else None
        there = (path for path in Path("runs").glob(f"*/{LAST}") if path.is_file())
        found = sorted(there, key=lambda path: path.stat().st_mtime)
        return found[-1] if found else None
    path = Path(resume)
    if os.path.isdir(path):  # pathlib's raise for names that are too long
        path = path / LAST
    if not os.path.exists(path):
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


def _checked(path: Path, check: Any, *arguments: Any) -> Any:
    """check(*arguments), its complaint about the checkpoint at `path`."""
    try:
        return check(*arguments)
    except _Misfit as misfit:
        raise CheckpointError(f"{path} does not fit this run: {misfit}; {_ADVICE}") from None


def _like(found: Any, wanted: Any, where: str) -> Any:
    """A copy of `found` in plain containers, which differs from `wanted` in its numbers only."""
    if isinstance(wanted, torch.Tensor):
        return _tensor_like(found, wanted, where)
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            raise _Misfit(f"{where} is {_kind(found)}, not a table")
        for key in wanted:
            if key not in found:
                raise _Misfit(f"{where} has no {plain_name(key)}")
        for key in found:
            if key not in wanted:
                raise _Misfit(f"{where} has {plain_name(key)}, which this run does not know")
        return {key: _like(found[key], wanted[key], f"{where}.{key}") for key in wanted}
    if type(found) is not type(wanted):
        raise _Misfit(f"{where} is {_kind(found)}, not {_kind(wanted)}")
    if isinstance(wanted, (list, tuple)):
        if len(found) != len(wanted):
            raise _Misfit(f"{where} holds {len(found)} values, not {len(wanted)}")
        pairs = enumerate(zip(found, wanted, strict=True))
        return type(wanted)(_like(one, other, f"{where}.{n}") for n, (one, other) in pairs)
    if isinstance(wanted, float) and not math.isfinite(found):
        raise _Misfit(f"{where} is {found}")
    return found


def _tensor_like(found: Any, wanted: torch.Tensor, where: str) -> torch.Tensor:
    if not isinstance(found, torch.Tensor):
        raise _Misfit(f"{where} is {_kind(found)}, not a tensor")
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise _Misfit(f"{where} is {_kind(found)}, not {_kind(wanted)}")
    if found.is_floating_point() and not found.isfinite().all():
        raise _Misfit(f"{where} holds numbers that are not finite")
    return found.detach()


def _optimizer(found: Any, wanted: torch.optim.Optimizer) -> dict[str, Any]:
    """The state dict of an AdamW: numbers that the settings decide, and its moments."""
    own = wanted.state_dict()
    if not isinstance(found, dict) or not isinstance(found.get("state"), dict):
        raise _Misfit("optimizer has no state")
    groups = found.get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        wanted_groups = len(own["param_groups"])
        raise _Misfit(
            f"optimizer.param_groups is {_kind(groups)}, not {wanted_groups} list(s) of parameters"
        )
    kept = [
        _group(group, mine, f"optimizer.param_groups.{n}")
        for n, (group, mine) in enumerate(zip(groups, own["param_groups"], strict=True))
    ]
    parameters = [parameter for group in wanted.param_groups for parameter in group["params"]]
    moments = found["state"]
    # none before the first step
    if moments and set(moments) != set(range(len(parameters))):
        raise _Misfit(f"optimizer.state is of {len(moments)} parameters, not {len(parameters)}")
    state = {
        n: _moments(moments[n], parameters[n], f"optimizer.state.{n}") for n in sorted(moments)
    }
    return {"state": state, "param_groups": kept}


def _group(found: Any, own: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _Misfit(f"{where} is {_kind(found)}, not a table")
    kept = dict(own)
    for name in own.keys() & found.keys():  # other versions of torch know others
        value = found[name]
        if name in ("lr", "initial_lr", "weight_decay"):
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise _Misfit(f"{where}.{name} is {_kind(value)}, not a number of at least 0")
        elif name == "fused":  # by the device
            if value is not None and type(value) is not bool:
                raise _Misfit(f"{where}.{name} is {_kind(value)}, not true or false")
        elif type(value) is not type(own[name]) or value != own[name]:
            raise _Misfit(f"{where}.{name} is another than this run's")
        kept[name] = value
    for name in ("params", "lr", "initial_lr"):
        if name not in found:
            raise _Misfit(f"{where} has no {name}")
    return kept


def _moments(found: Any, parameter: torch.Tensor, where: str) -> dict[str, torch.Tensor]:
    names = ("step", "exp_avg", "exp_avg_sq")
    if not isinstance(found, dict) or set(found) != set(names):
        raise _Misfit(f"{where} does not hold {', '.join(names)} alone")
    kept = {
        "step": _tensor_like(found["step"], torch.tensor(0.0), f"{where}.step"),
        "exp_avg": _tensor_like(found["exp_avg"], parameter, f"{where}.exp_avg"),
        "exp_avg_sq": _tensor_like(found["exp_avg_sq"], parameter, f"{where}.exp_avg_sq"),
    }
    for name in ("step", "exp_avg_sq"):
        if not (kept[name] >= 0).all():
            raise _Misfit(f"{where}.{name} holds negative numbers")
    return kept


def _schedule(
    found: Any, wanted: torch.optim.lr_scheduler.LRScheduler, step: int
) -> dict[str, Any]:
    own = wanted.state_dict()
    if not isinstance(found, dict):
        raise _Misfit(f"schedule is {_kind(found)}, not a table")
    for name in ("last_epoch", "base_lrs"):
        if name not in found:
            raise _Misfit(f"schedule has no {name}")
    kept = dict(own)
    for name in own.keys() & found.keys():  # other versions of torch know others
        kept[name] = _like(found[name], own[name], f"schedule.{name}")
    if kept["last_epoch"] != step:
        raise _Misfit(f"schedule.last_epoch is {kept['last_epoch']}, but step is {step}")
    return kept


def _rng(found: Any, wanted: torch.Generator, where: str) -> torch.Tensor:
    state = _tensor_like(found, wanted.get_state(), where)
    try:
        torch.Generator(wanted.device).set_state(state)
    except RuntimeError as error:
        raise _Misfit(
            f"{where} is no state of a generator ({str(error).splitlines()[0]})"
        ) from None
    return state


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        shape = "x".join(map(str, value.shape)) or "one number"
        return f"{shape} of {str(value.dtype).removeprefix('torch.')}"
    if type(value) in (bool, float, type(None)):
        return str(value)
    if type(value) is int:
        return str(value) if abs(value) < 10**20 else "an immense number"
    words: dict[type, str] = {dict: "a table", list: "a list", tuple: "a tuple", str: "text"}
    return words.get(type(value), type(value).__name__)
