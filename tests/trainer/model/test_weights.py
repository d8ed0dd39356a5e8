"""Weights from every kind of file, and one sentence for every kind of bad one."""

import argparse
import json
import pickle
import random
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import hostile_weights as hostile
from benchmarks.official import stand_in_state
from trainer.model.calibration import Calibration
from trainer.model.formats import write_safetensors
from trainer.model.syncnet import SyncNet
from trainer.model.weights import (
    WeightsError,
    default_weights,
    load_model,
    public_state,
    read_calibration,
    read_crop,
)
from trainer.train import checkpoint


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


def test_a_flipped_bit_of_our_safetensors_is_found(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    model = SyncNet("small")
    write_safetensors(model, file, crop="mouth")
    whole = file.read_bytes()
    assert read_crop(file) == "mouth" and load_model(file).name == "small"
    for place in (whole.index(b"mouth"), len(whole) - 1000):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(WeightsError, match="differs from its hash"):
            load_model(file)


def test_safetensors_load(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = SyncNet("paper")
    safetensors.save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert load_model(tmp_path / "w.safetensors").name == "paper"
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:1000])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(tmp_path / "w.safetensors")


def test_safetensors_with_a_hash_of_others_load_and_ours_are_compared(tmp_path: Path) -> None:
    file, model = tmp_path / "w.safetensors", SyncNet("small")
    state = public_state(model)
    save_file(state, file, {"sha256": "0" * 64})
    assert load_model(file).name == "small"
    write_safetensors(model, file, crop="mouth")
    assert load_model(file).name == "small"
    with safe_open(file, "pt") as written:
        told = written.metadata()
    save_file(state, file, {**told, "crop": "face"})
    with pytest.raises(WeightsError, match="damaged, or was edited since it was written"):
        load_model(file)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_bad_files_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "w.pt"

    def refused(words: str) -> None:
        with warnings.catch_warnings(), pytest.raises(WeightsError, match=words) as error:
            warnings.simplefilter("error")
            load_model(file)
        assert "\n" not in str(error.value)

    refused("is no file")
    for content in (_Evil(), argparse.Namespace(a=1)):
        for protocol in (2, 4):
            file.write_bytes(pickle.dumps(content, protocol))
            refused("could execute code")
    torch.save({"a": _Evil()}, file)
    refused("could execute code")
    state = SyncNet("small").state_dict()
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:5000])
    refused("damaged or truncated")
    file.write_bytes(b"")
    refused("damaged or truncated")
    for text in (b"no weights at all", b"hello", b".", b"# title\n", b"\0\0\0\x1cftypisom"):
        file.write_bytes(text)
        refused("w.pt is no file of weights: give")
    torch.save([1, 2], file)
    refused("no state dict")
    torch.save(state | {"netfclip.0.weight": torch.zeros(3, 4)}, file)
    refused(r"nearest is small, where netfclip.0.weight is 3x4, not 96x96 \(1 tensors differ\)")
    torch.save({key: value for key, value in state.items() if key != "netfclip.0.bias"}, file)
    refused("netfclip.0.bias is missing")
    torch.save(state | {"netfclip.0.bias": torch.full((96,), torch.nan)}, file)
    refused("not finite, first in netfclip.0.bias")
    assert "executed" not in capsys.readouterr().out


def test_a_calibration_is_read_and_interpolated(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    file, state = tmp_path / "w.safetensors", SyncNet("small").state_dict()

    def write(calibration: object) -> None:
        text = calibration if isinstance(calibration, str) else json.dumps(calibration)
        safetensors.save_file(state, file, {"calibration": text})

    safetensors.save_file(state, file)
    assert read_calibration(file) is None
    assert read_calibration(tmp_path / "best.pt") is None
    write({"clearness": [2, 4], "share_right": [0.5, 0.9]})
    found = read_calibration(file)
    assert isinstance(found, Calibration)
    chances = [found.probability(x) for x in (0, 2, 3, 9)]
    assert chances == pytest.approx([0.5, 0.5, 0.7, 0.9])
    for bad, words in (
        ("no json", "cannot be read"),
        ({"clearness": [1]}, "cannot be read"),
        ([1, 2], "cannot be read"),
        ({"clearness": [1, 1], "share_right": [0, 1]}, "increasing"),
        ({"clearness": [1, 2], "share_right": [0]}, "as many"),
        ({"clearness": [1, 2], "share_right": [0, 1.1]}, r"0\.\.1"),
        ({"clearness": [], "share_right": []}, "increasing"),
        ('{"clearness": [1, NaN], "share_right": [0, 1]}', "increasing"),
        ({"version": 3}, "version 3, which this program does not know"),
        ({"version": 2, "mode": "centred"}, "cannot be read"),
    ):
        write(bad)
        with pytest.raises(WeightsError, match=words):
            read_calibration(file)


def test_weights_of_the_package_are_the_default() -> None:
    found = default_weights()
    assert found is not None and load_model(found).name == "medium"


def test_what_is_no_weights_of_floats_is_refused(tmp_path: Path) -> None:
    state = SyncNet("small").state_dict()
    bias, file = state["netfclip.0.bias"], tmp_path / "w.pt"
    for value, words in (
        (bias.long(), "netfclip.0.bias holds int64, not float"),
        (bias > 0, "netfclip.0.bias holds bool, not float"),
        (torch.full((96,), 1e300, dtype=torch.float64), "not finite, first in netfclip.0.bias"),
        (torch.zeros(1).expand(10**5, 10**5), "more numbers than the file holds"),
        (bias.requires_grad_(), ""),
        (bias.double(), ""),
        (bias.bfloat16(), ""),
    ):
        torch.save(state | {"netfclip.0.bias": value}, file)
        said = hostile.refused(lambda: load_model(file), WeightsError)
        assert (words in said) if said is not None and words else said is None and not words, said
    # counters, which nothing here reads, may be anything
    torch.save(state | {"netfclip.1.num_batches_tracked": torch.zeros(3)}, file)
    assert load_model(file).name == "small"
    for average, words in ((5, "average"), ({5: 5}, "average"), ({"module.x": 5}, "no state dict")):
        torch.save({"model": state, "average": average}, file)
        with pytest.raises(WeightsError, match=words):
            load_model(file)
    torch.save({"x\x1b[2J\n" * 999: torch.zeros(1)}, file)
    with pytest.raises(WeightsError) as error:
        load_model(file)
    assert str(error.value).isprintable() and len(str(error.value)) < 500


def test_safetensors_that_lie_are_refused(tmp_path: Path) -> None:
    whole, file = hostile.small_safetensors(), tmp_path / "w.safetensors"
    for content, words in (
        (b"", "its header does not fit"),
        (struct.pack("<Q", 2**63) + whole[8:], "its header does not fit"),
        (struct.pack("<Q", 1 << 21) + bytes(1 << 21), "its header does not fit"),
        (struct.pack("<Q", 10**5) + b"[" * 10**5, "damaged or no safetensors"),
        (whole[:-1], "damaged or no safetensors"),
        (whole.replace(b'"F32"', b'"I32"'), "holds int32, not float"),
        (whole.replace(b'"shape":[96]', b'"shape":[95]'), "damaged or no safetensors"),
    ):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=words) as error:
            load_model(file)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**5,
        "1" * 10**5,
        '{"clearness": ["1", "2"], "share_right": [0, 1]}',
        '{"clearness": [true, 2], "share_right": [0, 1]}',
        json.dumps({"clearness": [10**400, 1], "share_right": [0, 1]}),
        json.dumps({"clearness": [*range(10**5)], "share_right": [0.5] * 10**5}),
    ],
    ids=["nested", "long", "text", "true", "immense", "many"],
)
def test_a_calibration_of_other_things_is_refused(text: str, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    file = tmp_path / "w.safetensors"
    safetensors.save_file({"a": torch.zeros(1)}, file, {"calibration": text})
    with hostile.bounded(), pytest.raises(WeightsError) as error:
        read_calibration(file)
    assert len(str(error.value)) < 500


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_safetensors_crash_or_take_room(rng: random.Random) -> None:
    hostile.check_safetensors(hostile.mutated_safetensors(rng))


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_state_dict_crashes_or_takes_room(rng: random.Random) -> None:
    hostile.check_weights(hostile.mutated_weights(rng))


def test_what_a_library_says_commands_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    text = json.dumps({"a": {"dtype": "\x1b[2J", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_model(path)
    assert str(caught.value).isprintable()
