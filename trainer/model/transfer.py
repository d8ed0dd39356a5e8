"""Start a network from another's weights: layers that fit are loaded, the others are named."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from msgspec import Meta

from data_tools.errors import UsageError
from trainer.model.layers import layers_of
from trainer.model.syncnet import PRESETS
from trainer.model.weights import as_floats, forms, forms_of, read_state

_NAMED = 4  # of the layers that did not fit


@dataclass(frozen=True)
class Origin:
    """Which weights a training began with; checkpoints hold it.

    Attributes:
        sha256: of the file.
        layers: that were loaded from it, by the names of `trainer.model.layers.layers_of`.
    """

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Start:
    """What a network begins with.

    Attributes:
        origin: the file, and which layers are its.
        weights: entries of the state dict for those layers, float32; none in a training that goes
            on from a checkpoint, which has them.
    """

    origin: Origin
    weights: dict[str, torch.Tensor]


def start_from(path: Path, preset: str) -> Start:
    """What of the file at `path` fits the preset: every layer that has its name and shape there.

    Raises:
        WeightsError: as `trainer.model.weights.load_model`, but of any network's file.
        UsageError: no layer fits.
    """
    state = as_floats(read_state(path), path)
    given, wanted = forms(state), forms_of(preset)
    fitting: list[str] = []
    weights: dict[str, torch.Tensor] = {}
    for name, modules in layers_of(preset).items():
        keys = [key for key in wanted if key.rpartition(".")[0] in modules]
        if all(given.get(key) == wanted[key] for key in keys):
            fitting.append(name)
            weights |= {key: state[key] for key in keys}
    if not fitting:
        others = [name for name in PRESETS if given == forms_of(name)]
        advice = (
            f"it is of {others[0]}: add --model.name {others[0]}"
            if others
            else ("no layer has its name and shape there")
        )
        raise UsageError(f"model.init: nothing of {path} fits model.name {preset}: {advice}")
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Start(Origin(digest, tuple(fitting)), weights)


def told(origin: Origin, preset: str) -> str:
    """How much was loaded, and what was not, in a clause."""
    layers = layers_of(preset)
    left = [name for name in layers if name not in origin.layers]
    words = f"{len(origin.layers)} of {len(layers)} layers loaded"
    if not left:
        return words
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return (
        f"{words}; {', '.join(left[:_NAMED])}{more} did not fit (another name or shape in the "
        "file) and begin anew"
    )
