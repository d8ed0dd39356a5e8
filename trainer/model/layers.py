"""The layers of a network, counted from the input of each stream, and those that do not train."""

from collections.abc import Iterable
from functools import cache

import torch
from torch import nn

from data_tools.errors import UsageError
from trainer.model.syncnet import SyncNet

# The parts of a SyncNet that each stream is made of, from its input on.
STREAMS = {"lips": ("netcnnlip", "netfclip"), "sound": ("netcnnaud", "netfcaud")}
_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
)

Layers = dict[str, tuple[str, ...]]


@cache
def layers_of(preset: str) -> Layers:
    """The layers of a preset by their names, "lips 1", "lips 2" ... "sound 1" ...: their modules.

    A layer is a convolution or a linear map with the normalisation behind it.
    """
    with torch.device("meta"):
        model = SyncNet(preset)
    return {
        f"{stream} {number}": tuple(modules)
        for stream, parts in STREAMS.items()
        for number, modules in enumerate(_layers(model, parts), 1)
    }


def _layers(model: nn.Module, parts: Iterable[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for part in parts:
        for name, module in model.get_submodule(part).named_modules(prefix=part):
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            if not own:
                continue
            if found and isinstance(module, _NORMS):
                found[-1].append(name)
            else:
                found.append([name])
    return found


def frozen_layers(text: str, preset: str) -> tuple[str, ...]:
    """The layers that `model.freeze` names.

    Args:
        text: streams, separated by commas, each as a whole ("lips") or with the number of its
            first layers ("lips:3").
        preset: whose layers.

    Raises:
        UsageError: no such stream or layer, a stream twice, or nothing would be left to train.
    """
    layers, chosen = layers_of(preset), {}
    for word in text.split(","):
        stream, colon, count = word.strip().partition(":")
        there = [name for name in layers if name.split()[0] == stream]
        if not there or stream in chosen:
            fault = "is named twice" if there else "is no stream"
            raise UsageError(
                f"model.freeze: {stream[:80]!r} {fault}; give lips or sound, lips:3 for the first "
                "three layers, several with a comma between"
            )
        if colon and not (count.isascii() and count.isdigit() and 0 < int(count[:9]) <= len(there)):
            raise UsageError(
                f"model.freeze: {stream} of {preset} has layers 1 to {len(there)}, not "
                f"{count[:80]!r}"
            )
        chosen[stream] = there[: int(count)] if colon else there
    frozen = tuple(name for names in chosen.values() for name in names)
    if len(frozen) == len(layers):
        raise UsageError(f"model.freeze {text} leaves nothing to train")
    return frozen


def freeze(model: SyncNet, names: Iterable[str]) -> None:
    """Keep layers as they are: neither weights nor the statistics of batch norm change."""
    layers = layers_of(model.name)
    modules = tuple(module for name in names for module in layers[name])
    for module in modules:
        for parameter in model.get_submodule(module).parameters(recurse=False):
            parameter.requires_grad = False
    model.frozen = modules
    model.train(model.training)


def parameters_of(model: SyncNet, names: Iterable[str]) -> list[nn.Parameter]:
    """The weights of layers, in the order of the names."""
    layers = layers_of(model.name)
    return [
        parameter
        for name in names
        for module in layers[name]
        for parameter in model.get_submodule(module).parameters(recurse=False)
    ]
