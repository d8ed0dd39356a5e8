"""Shards say what their pictures show; training says where that is not what is expected."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from data_tools.manifest import read_manifest
from trainer.config.crops import crop_notes
from trainer.config.settings import Config
from trainer.model.formats import write_safetensors
from trainer.model.syncnet import SyncNet


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
