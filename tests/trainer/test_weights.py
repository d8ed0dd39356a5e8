"""Weights from every kind of file, and one sentence for every kind of bad one."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from official import stand_in_state

from trainer import checkpoint
from trainer.model import SyncNet
from trainer.weights import WeightsError, load_model


def test_the_published_layout_loads_without_counters(tmp_path: Path) -> None:
    state = stand_in_state()
    assert len(state) == 88 and sum(v.numel() for v in state.values()) > 13_631_616
    torch.save(state, tmp_path / "syncnet_v2.model")
    model = load_model(tmp_path / "syncnet_v2.model")
    assert model.name == "syncnet" and not model.training
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())


def test_a_checkpoint_of_ours_and_a_wrapped_model_load(tmp_path: Path) -> None:
    model = SyncNet("small")
    state = {"model": model.state_dict(), "optimizer": {}, "step": 1, "config": {}}
    checkpoint.save(tmp_path, state, keep=0, best=False)
    assert load_model(tmp_path / "last.pt").name == "small"
    wrapped = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save(wrapped, tmp_path / "wrapped.pt")
    assert load_model(tmp_path / "wrapped.pt").name == "small"


def test_safetensors_load(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = SyncNet("paper")
    safetensors.save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert load_model(tmp_path / "w.safetensors").name == "paper"
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:1000])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(tmp_path / "w.safetensors")


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_bad_files_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "w.pt"

    def refused(words: str) -> None:
        with pytest.raises(WeightsError, match=words) as error:
            load_model(file)
        assert "\n" not in str(error.value)

    refused("is no file")
    file.write_bytes(pickle.dumps(_Evil()))
    refused("could execute code")
    torch.save({"a": _Evil()}, file)
    refused("could execute code")
    state = SyncNet("small").state_dict()
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:5000])
    refused("damaged or truncated")
    file.write_bytes(b"")
    refused("damaged or truncated")
    file.write_bytes(b"no weights at all")
    refused("w.pt")
    torch.save([1, 2], file)
    refused("no state dict")
    torch.save(state | {"netfclip.0.weight": torch.zeros(3, 4)}, file)
    refused(r"nearest is small, where netfclip.0.weight is 3x4, not 96x96 \(1 tensors differ\)")
    torch.save({key: value for key, value in state.items() if key != "netfclip.0.bias"}, file)
    refused("netfclip.0.bias is missing")
    torch.save(state | {"netfclip.0.bias": torch.full((96,), torch.nan)}, file)
    refused("not finite, first in netfclip.0.bias")
    assert "executed" not in capsys.readouterr().out
