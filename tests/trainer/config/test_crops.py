"""Shards say what their pictures show; training says where that is not what is expected."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_tools.manifest import ShardError, read_manifest
from trainer.config.crops import crop_notes, crop_of, measured_notes
from trainer.config.settings import Config
from trainer.model.formats import write_safetensors
from trainer.model.syncnet import SyncNet
from trainer.model.weights import WeightsError, read_crop


def test_other_crops_than_expected_are_said(shards_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shards_folder, tmp_path / "shards")
    config = Config()
    config = replace(config, data=replace(config.data, shards=str(folder)))
    assert list(crop_notes(config)) == []  # clips made otherwise do not say
    content = json.loads((folder / "manifest.json").read_text())
    for crop, words in (("mouth", None), ("face", "--crop face"), ("whole", "--prepared")):
        (folder / "manifest.json").write_text(json.dumps(content | {"crop": crop}))
        assert read_manifest(folder).crop == crop
        notes = list(crop_notes(config))
        assert [words in note for note in notes if words] == ([True] if words else [])
        assert len(notes) == (words is not None)
    starting = replace(config, model=replace(config.model, init="mouth"))
    (note,) = crop_notes(starting)
    assert "model.init knows mouth crops" in note  # the package's weights say so
    network = SyncNet("small")
    for crop, words in (
        ("whole", "measure with --prepared"),
        (None, "is taken to know mouth"),
        ("face", "knows face"),
    ):
        write_safetensors(network, tmp_path / "w.safetensors", crop=crop)
        own = replace(config, model=replace(config.model, init=str(tmp_path / "w.safetensors")))
        (note,) = crop_notes(own)
        assert words in note


def told(shards: Path, folder: Path, *crops: str | None) -> list[Path]:
    """Folders with the manifest of these shards, each said to hold one of the crops."""
    for crop in crops:
        (folder / str(crop)).mkdir()
        content = read_manifest(shards).as_dict() | {"crop": crop}
        (folder / str(crop) / "manifest.json").write_text(json.dumps(content))
    return [folder / str(crop) for crop in crops]


def test_weights_know_the_crop_of_the_shards_if_it_is_one(
    shards_folder: Path, tmp_path: Path
) -> None:
    face, mouth, silent = told(shards_folder, tmp_path, "face", "mouth", None)
    assert crop_of([face, face]) == "face"
    assert crop_of([face, mouth]) is None is crop_of([face, silent])


def test_weights_are_compared_with_shards_where_both_say(
    shards_folder: Path, tmp_path: Path
) -> None:
    folders = told(shards_folder, tmp_path, "face", "mouth", "whole", None)
    state = {"model": SyncNet("small").state_dict(), "crop": "mouth"}
    path = tmp_path / "best.pt"
    torch.save(state, path)
    assert [note.split()[3:5] for note in measured_notes(path, folders)] == [
        ["face", "crops;"], ["whole", "crops;"],
    ]  # fmt: skip
    for silent in ({"model": state["model"]}, state["model"]):  # as before, and a bare state dict
        torch.save(silent, path)
        assert read_crop(path) is None and list(measured_notes(path, [tmp_path / "none"])) == []
    with pytest.raises(WeightsError, match="is no file; give the file"):
        list(measured_notes(tmp_path / "gone.pt", folders))
    for wrong, words in (("ear", "not ear"), (5, "not another kind of value")):
        torch.save(state | {"crop": wrong}, path)
        with pytest.raises(WeightsError, match=f"must be one of face, mouth, whole, {words}"):
            read_crop(path)
    torch.save(state, path)
    with pytest.raises(ShardError, match="is missing: not a folder of shards"):
        list(measured_notes(path, [tmp_path / "none"]))
