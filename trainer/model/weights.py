"""Weights from anywhere into a SyncNet: the published file, our checkpoints, safetensors.

Nothing in a file is ever executed. A bare state dict carries no name, so its preset is the one
whose keys and shapes it has.
"""

import os
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from data_tools.errors import UsageError, UserError
from data_tools.names import shown
from data_tools.records import RecordError
from trainer.model import torch_file
from trainer.model.calibration import AnyCalibration, decode_calibration
from trainer.model.calibration import Calibration as Calibration
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.model.torch_file import NotOfTorch, TorchFileError, open_regular, plain_name

_MOST_HEADER = 1 << 20  # bytes of a safetensors header; a SyncNet's takes 10,000
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_UNUSED = "num_batches_tracked"  # only training reads it; the published file has none
_PREFIXES = ("module.", "model.", "_orig_mod.")  # of wrappers around a model when it was saved

# Of all that the file holds, in the metadata of our safetensors; a `sha256` is of others' tools.
DIGEST = "syncnet_sha256"

# The networks that come with the package, by the names that stand for their files.
PACKAGED = {"mouth": "mouth.safetensors", "mouth-grid": "mouth-grid.safetensors"}
DEFAULT = "mouth"


Crop = Literal["face", "mouth", "whole"]
CROPS: tuple[Crop, ...] = get_args(Crop)
Form = tuple[tuple[int, ...], str]  # of a tensor: shape, kind of numbers


class WeightsError(UserError):
    """A file that holds no weights of a SyncNet; says what is wrong with it in one sentence."""


def public_state(model: SyncNet) -> dict[str, torch.Tensor]:
    """A network's state dict as it is published: without the counters that only training reads."""
    return {
        key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith(_UNUSED)
    }


def default_weights() -> Path | None:
    """The weights that come with the package, if any do."""
    return _packaged(DEFAULT)


def find_weights(name: str | os.PathLike[str]) -> Path:
    """The file that a user means: a name of `PACKAGED` is the package's network, all else a file.

    A file that has such a name is meant by `./mouth`.

    Raises:
        UsageError: the name is empty.
        WeightsError: the package was installed without that network.
    """
    text = os.fspath(name)
    if not text:
        raise UsageError("a file name is empty")
    if text not in PACKAGED:
        return Path(text)
    path = _packaged(text)
    if path is None:
        raise WeightsError(f"the network {text} did not come with this package; give a file")
    return path


def _packaged(name: str) -> Path | None:
    path = files("trainer") / "pretrained" / PACKAGED[name]
    return path if isinstance(path, Path) and path.is_file() else None


def read_calibration(path: Path) -> AnyCalibration | None:
    """What the metadata `calibration` of a safetensors file says; None for files without.

    It is JSON, of a version that `trainer.model.calibration` knows.

    Raises:
        WeightsError: the file is damaged, or the calibration makes no sense.
    """
    text = _metadata(path).get("calibration")
    if text is None:
        return None
    try:
        return decode_calibration(text)
    except RecordError as error:
        raise WeightsError(f"{path}: its calibration cannot be read: {error}") from None


def read_crop(path: Path) -> Crop | None:
    """The crop that the weights were trained on, as a safetensors file or our checkpoint says.

    Returns:
        None: none is told, as by bare state dicts and runs on shards that do not say.

    Raises:
        WeightsError: the file is missing or damaged, or there is no such crop.
    """
    if path.suffix == ".safetensors":
        text: Any = _metadata(path).get("crop")
    else:
        state = _read_torch(path)
        ours = isinstance(state, dict) and isinstance(state.get("model"), dict)
        text = state.get("crop") if ours else None
    if text is None:
        return None
    for crop in CROPS:
        if isinstance(text, str) and text == crop:
            return crop
    told = plain_name(text) if isinstance(text, str) else "another kind of value"
    raise WeightsError(f"{path}: its crop must be one of {', '.join(CROPS)}, not {told}")


def _metadata(path: Path) -> dict[str, str]:
    """What stands beside the tensors of a safetensors file; nothing for other files."""
    if path.suffix != ".safetensors":
        return {}
    _check_safetensors(path)
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except Exception as error:  # the library raises many kinds
        raise WeightsError(f"{path} is damaged or no safetensors file: {_first(error)}") from None


def load_model(path: Path) -> SyncNet:
    """A SyncNet in evaluation mode, on the CPU, with the weights at `path`.

    Takes a bare state dict (`syncnet_v2.model`), a checkpoint of this trainer, or safetensors.

    Raises:
        WeightsError: the file is missing, damaged, would execute code, or fits no preset.
    """
    state = read_state(path)
    model = SyncNet(preset_of(state, path))
    # `preset_of` has compared all but _UNUSED
    model.load_state_dict(as_floats(state, path), strict=False)
    return model.eval()


def as_floats(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The entries that inference reads, as float32.

    Raises:
        WeightsError: a number is not finite.
    """
    weights = {key: value.float() for key, value in state.items() if not key.endswith(_UNUSED)}
    for key, value in weights.items():
        if not value.isfinite().all():
            raise WeightsError(
                f"{path} holds numbers that are not finite, first in {plain_name(key)}"
            )
    return weights


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in the file at `path`, without wrappers' prefixes.

    Raises:
        WeightsError: as `load_model`.
    """
    _check_file(path)
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        try:
            state = inference_weights(state)  # our checkpoints
        except WeightsError as error:
            raise WeightsError(f"{path} is damaged: {error}") from None
    elif isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise WeightsError(f"{path} holds no state dict (a table of named tensors)")
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return {key: value.detach() for key, value in state.items()}


def _check_file(path: Path) -> None:
    if not os.path.isfile(path):  # pathlib's raises where a folder above cannot be entered
        raise WeightsError(
            f"{path} is no file; give the file with the weights, or the name of a network of the "
            f"package: {', '.join(PACKAGED)}"
        )


def _read_torch(path: Path) -> Any:
    """What `torch.save` wrote, whatever it is."""
    _check_file(path)
    try:
        return torch_file.read(path)
    except NotOfTorch:
        raise WeightsError(
            f"{path} is no file of weights: give a run's best.pt, syncnet_v2.model or .safetensors"
        ) from None
    except TorchFileError as error:
        raise WeightsError(f"{path} {error}") from None


def inference_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights to use of a checkpoint: the running average where the run kept one.

    Raises:
        WeightsError: the average is no table of tensors.
    """
    if "average" not in state:
        return cast(dict[str, torch.Tensor], state["model"])
    average = state["average"]
    if not isinstance(average, dict) or not all(isinstance(key, str) for key in average):
        raise WeightsError("its entry average is no table of named tensors")
    return {
        key.removeprefix("module."): value
        for key, value in average.items()
        if key.startswith("module.")
    }


def preset_of(state: dict[str, torch.Tensor], path: Path) -> str:
    """The preset whose keys and shapes `state` has.

    Raises:
        WeightsError: none has; names the first difference from the nearest.
    """
    differences = {}
    given = forms(state)
    for name in PRESETS:
        wanted = forms_of(name)
        if given == wanted:
            return name
        differences[name] = [
            _difference(plain_name(key), given.get(key), wanted.get(key))
            for key in wanted | given
            if given.get(key) != wanted.get(key)
        ]
    nearest = min(differences, key=lambda name: len(differences[name]))
    raise WeightsError(
        f"{path} fits no SyncNet of {', '.join(PRESETS)}; nearest is {nearest}, where "
        f"{differences[nearest][0]} ({len(differences[nearest])} tensors differ)"
    )


@cache
def forms_of(preset: str) -> dict[str, Form]:
    """`forms` of a preset's state dict."""
    with torch.device("meta"):
        return forms(SyncNet(preset).state_dict())


def forms(state: dict[str, torch.Tensor]) -> dict[str, Form]:
    """What the entries are like that inference reads: shape and kind of numbers."""
    return {key: _form(value) for key, value in state.items() if not key.endswith(_UNUSED)}


def _form(tensor: torch.Tensor) -> Form:
    """Shape and kind of numbers; all kinds of floats are one."""
    kind = "float" if tensor.dtype in _FLOATS else str(tensor.dtype).removeprefix("torch.")
    return tuple(tensor.shape), kind


def _difference(
    key: str,
    given: Form | None,
    wanted: Form | None,
) -> str:
    if given is None:
        return f"{key} is missing"
    if wanted is None:
        return f"{key} is not known"
    if given[0] == wanted[0]:
        return f"{key} holds {given[1]}, not {wanted[1]}"
    return f"{key} is {'x'.join(map(str, given[0]))}, not {'x'.join(map(str, wanted[0]))}"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    _check_safetensors(path)
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        state = load_file(path)
    except Exception as error:  # the library raises many kinds
        raise WeightsError(f"{path} is damaged or no safetensors file: {_first(error)}") from None
    if DIGEST in told and told[DIGEST] != digest(state, told):
        raise WeightsError(
            f"{path} is damaged, or was edited since it was written: its content differs from its "
            "hash; fetch or export it again"
        )
    return state


def digest(state: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of tensors and what is told beside them, its own entry aside, as hexadecimal digits.

    Safetensors has no checksum: a flipped bit would be another network, and nobody would know.
    """
    told = sha256()
    for name, text in sorted(metadata.items()):
        if name != DIGEST:
            told.update(f"{name}={len(text)}:{text}\n".encode())
    for name, tensor in sorted(state.items()):
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().view(-1)
        told.update(plain.view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def _check_safetensors(path: Path) -> None:
    """Refuse what the library would wait for, or read without bound."""
    try:
        with open_regular(path) as stream:
            header = int.from_bytes(stream.read(8), "little")
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise WeightsError(f"{path} {error}") from None
    if header > min(_MOST_HEADER, size - 8):
        raise WeightsError(f"{path} is damaged or no safetensors file: its header does not fit it")


def _first(error: Exception) -> str:
    lines = str(error).splitlines()
    return shown(lines[0][:200]) if lines else type(error).__name__
