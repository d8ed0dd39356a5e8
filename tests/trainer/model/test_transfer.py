"""What of a file fits a network, by layer; what is frozen stays as it is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_tools.errors import UsageError
from trainer.model.layers import freeze, frozen_layers, layers_of, parameters_of
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.model.transfer import Origin, start_from, told
from trainer.model.weights import PACKAGED, WeightsError, find_weights, forms_of


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_entry_of_a_network_is_of_one_layer(preset: str) -> None:
    modules = [module for layer in layers_of(preset).values() for module in layer]
    assert len(modules) == len(set(modules))
    assert {key.rpartition(".")[0] for key in forms_of(preset)} == set(modules)


def test_a_layer_is_a_convolution_or_linear_map_with_its_norm() -> None:
    layers = layers_of("medium")
    assert list(layers) == [f"{s} {n}" for s in ("lips", "sound") for n in range(1, 8)]
    assert layers["lips 2"] == ("netcnnlip.3", "netcnnlip.4")
    assert layers["sound 6"] == ("netfcaud.0", "netfcaud.1")
    assert layers["sound 7"] == ("netfcaud.3",)


def test_all_of_the_same_preset_is_loaded(weights: Path) -> None:
    start = start_from(weights, "small")
    state = torch.load(weights, weights_only=True)
    assert start.weights.keys() == forms_of("small").keys()
    assert all(torch.equal(value, state[key]) for key, value in start.weights.items())
    assert told(start.origin, "small") == "14 of 14 layers loaded"


def test_of_another_network_what_fits_is_loaded_and_the_rest_named(
    weights: Path, tmp_path: Path
) -> None:
    state = torch.load(weights, weights_only=True)
    state["netcnnlip.0.weight"] = torch.zeros(24, 3, 5, 5, 5)  # colour
    del state["netcnnaud.4.running_var"]  # half of a norm is none
    state["netcnnlip.99.weight"] = torch.zeros(3)
    path = tmp_path / "other.pt"
    torch.save(state, path)
    start = start_from(path, "small")
    left = [name for name in layers_of("small") if name not in start.origin.layers]
    assert left == ["lips 1", "sound 2"]
    assert not any(key.startswith(("netcnnlip.0.", "netcnnlip.1.")) for key in start.weights)
    assert not any(key.startswith(("netcnnaud.3.", "netcnnaud.4.")) for key in start.weights)
    assert "12 of 14 layers loaded; lips 1, sound 2 did not fit" in told(start.origin, "small")
    few = Origin("0" * 64, ("lips 1",))
    assert "1 of 14 layers loaded; lips 2, lips 3, lips 4, lips 5 and 9 more" in told(few, "small")


def test_nothing_that_fits_is_refused_with_the_remedy(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it is of small: add --model\.name small"):
        start_from(weights, "medium")
    path = tmp_path / "none.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="no layer has its name and shape"):
        start_from(path, "small")
    state = torch.load(weights, weights_only=True)
    state["netfclip.0.bias"][0] = torch.nan
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(WeightsError, match=r"not finite, first in netfclip\.0\.bias"):
        start_from(tmp_path / "nan.pt", "small")


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_names_of_the_package_are_files(name: str) -> None:
    path = find_weights(name)
    assert path.is_file() and path.name == PACKAGED[name]
    assert len(start_from(path, "medium").origin.layers) == 14


def test_all_else_is_a_file_and_a_missing_one_lists_the_names() -> None:
    assert find_weights("./mouth") == Path("mouth")  # as given, not of the package
    assert find_weights(Path("runs/x/best.pt")) == Path("runs/x/best.pt")
    with pytest.raises(UsageError, match="empty"):
        find_weights("")
    with pytest.raises(WeightsError, match=r"moth is no file.*of the package: mouth"):
        start_from(find_weights("moth"), "small")


@pytest.mark.parametrize(
    ("text", "frozen"),
    [
        ("lips", [f"lips {n}" for n in range(1, 8)]),
        ("sound:2", ["sound 1", "sound 2"]),
        ("lips:1, sound:2", ["lips 1", "sound 1", "sound 2"]),
        ("sound,lips:1", [*(f"sound {n}" for n in range(1, 8)), "lips 1"]),
    ],
)  # fmt: skip
def test_what_freeze_names(text: str, frozen: list[str]) -> None:
    assert list(frozen_layers(text, "small")) == frozen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eyes", "'eyes' is no stream"),
        ("lips,lips:2", "'lips' is named twice"),
        ("lips:8", "layers 1 to 7, not '8'"),
        ("lips:0", "layers 1 to 7"),
        ("lips:", "layers 1 to 7"),
        ("lips:\u0664", "layers 1 to 7"),  # a digit, but not one of ours
        ("lips,", "'' is no stream"),
        ("lips,sound:7", "leaves nothing to train"),
    ],
)
def test_what_freeze_refuses(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        frozen_layers(text, "small")


def test_frozen_layers_keep_their_statistics_whoever_calls_train() -> None:
    model = SyncNet("small")
    freeze(model, ["lips 1", "sound 7"])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()
    model.train()
    noise = torch.randint(0, 256, (2, 6, 64, 64, 1), dtype=torch.uint8)
    model(noise, torch.randn(2, 24, 13))
    changed = {key for key, v in model.state_dict().items() if not torch.equal(v, before[key])}
    assert "netcnnlip.4.running_mean" in changed
    assert not any(key.startswith("netcnnlip.1.") for key in changed)
    still = {id(p) for p in parameters_of(model, ["lips 1", "sound 7"])}
    assert {id(p) for p in model.parameters() if not p.requires_grad} == still
