"""Weights from anywhere into a SyncNet: the published file, our checkpoints, safetensors.

Nothing in a file is ever executed. A bare state dict carries no name, so its preset is the one
whose keys and shapes it has.
"""

import warnings
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from data_tools.records import RecordError, decode_record
from trainer.checkpoint import judged
from trainer.model import PRESETS, SyncNet

_UNUSED = "num_batches_tracked"  # only training reads it; the published file has none
_PREFIXES = ("module.", "model.", "_orig_mod.")  # of wrappers around a model when it was saved


class WeightsError(Exception):
    """A file that holds no weights of a SyncNet; says what is wrong with it in one sentence."""


@dataclass(frozen=True)
class Calibration:
    """How often offsets are right, by how clear their minimum is; measured on held-out videos.

    Attributes:
        clearness: increasing values of `trainer.scoring.Score.clearness`.
        share_right: share 0..1 of the offsets of that clearness within one frame of the truth.
    """

    clearness: tuple[float, ...]
    share_right: tuple[float, ...]

    def probability(self, clearness: float) -> float:
        """Chance that an offset of this clearness is right: between the points, straight lines."""
        return float(np.interp(clearness, self.clearness, self.share_right))

    def as_dict(self) -> dict[str, list[float]]:
        """As `read_calibration` finds it in a file."""
        return {"clearness": list(self.clearness), "share_right": list(self.share_right)}


def public_state(model: SyncNet) -> dict[str, torch.Tensor]:
    """A network's state dict as it is published: without the counters that only training reads."""
    return {
        key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith(_UNUSED)
    }


def default_weights() -> Path | None:
    """The weights that come with the package, if any do."""
    path = files("trainer") / "pretrained" / "syncnet_mouth.safetensors"
    return path if isinstance(path, Path) and path.is_file() else None


def read_calibration(path: Path) -> Calibration | None:
    """What the metadata `calibration` of a safetensors file says; None for files without.

    It is JSON, {"clearness": [x0, x1, ...], "share_right": [p0, p1, ...]}.

    Raises:
        WeightsError: the file is damaged, or the calibration makes no sense.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("calibration")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from None
    if text is None:
        return None
    try:
        found = decode_record(text.encode(), Calibration, as_python=True)
    except RecordError as error:
        raise WeightsError(f"{path}: its calibration cannot be read: {error}") from None
    clearness, share = np.array(found.clearness), np.array(found.share_right)
    if (
        clearness.shape != share.shape
        or len(clearness) == 0
        or not np.isfinite(clearness).all()
        or not (np.diff(clearness) > 0).all()
        or not ((share >= 0) & (share <= 1)).all()
    ):
        raise WeightsError(
            f"{path}: its calibration needs increasing clearness and as many shares in 0..1"
        )
    return found


def load_model(path: Path) -> SyncNet:
    """A SyncNet in evaluation mode, on the CPU, with the weights at `path`.

    Takes a bare state dict (`syncnet_v2.model`), a checkpoint of this trainer, or safetensors.

    Raises:
        WeightsError: the file is missing, damaged, would execute code, or fits no preset.
    """
    state = read_state(path)
    model = SyncNet(preset_of(state, path))
    model.load_state_dict(state, strict=False)  # `preset_of` has compared all but _UNUSED
    return model.eval()


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in the file at `path`, without wrappers' prefixes; float32.

    Raises:
        WeightsError: as `load_model`.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is no file; give the file with the weights")
    if path.suffix == ".safetensors":
        state: Any = _read_safetensors(path)
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickles that it refuses a line later
                state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for damaged and foreign files
            raise WeightsError(f"{path} {_fault(error, path)}") from None
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = judged(state)  # our checkpoints
    elif isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise WeightsError(f"{path} holds no state dict (a table of named tensors)")
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    bad = [key for key, value in state.items() if not torch.isfinite(value.float()).all()]
    if bad:
        raise WeightsError(f"{path} holds numbers that are not finite, first in {bad[0]}")
    return {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }


def preset_of(state: dict[str, torch.Tensor], path: Path) -> str:
    """The preset whose keys and shapes `state` has.

    Raises:
        WeightsError: none has; names the first difference from the nearest.
    """
    differences = {}
    for name in PRESETS:
        with torch.device("meta"):
            wanted = {
                key: tuple(value.shape)
                for key, value in SyncNet(name).state_dict().items()
                if not key.endswith(_UNUSED)
            }
        found = {
            key: tuple(value.shape) for key, value in state.items() if not key.endswith(_UNUSED)
        }
        if found == wanted:
            return name
        differences[name] = [
            _difference(key, found.get(key), wanted.get(key))
            for key in wanted | found
            if found.get(key) != wanted.get(key)
        ]
    nearest = min(differences, key=lambda name: len(differences[name]))
    raise WeightsError(
        f"{path} fits no SyncNet of {', '.join(PRESETS)}; nearest is {nearest}, where "
        f"{differences[nearest][0]} ({len(differences[nearest])} tensors differ)"
    )


def _difference(key: str, found: tuple[int, ...] | None, wanted: tuple[int, ...] | None) -> str:
    if found is None:
        return f"{key} is missing"
    if wanted is None:
        return f"{key} is not known"
    return f"{key} is {'x'.join(map(str, found))}, not {'x'.join(map(str, wanted))}"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from None


def _fault(error: Exception, path: Path) -> str:
    text = str(error)
    with path.open("rb") as file:
        packed = file.read(2).startswith((b"\x80", b"PK"))  # a pickle, a zip file with one
    if packed and isinstance(error, UnpicklingError):
        return "is a pickle of more than tensors and is not opened, since it could execute code"
    if "PytorchStreamReader" in text or "EOF" in text or isinstance(error, (EOFError, OSError)):
        return "is damaged or truncated; fetch or save it again"
    return "is no file of weights: give a run's best.pt, syncnet_v2.model or .safetensors"
