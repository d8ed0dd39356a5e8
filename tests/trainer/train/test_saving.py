"""What a checkpoint says of its run: of which crop its pictures were, which clips are barred."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runs import command
from trainer import calibrate, evaluate, export, refine, run
from trainer.config.crops import crop_notes
from trainer.config.settings import Config
from trainer.model.network import load_network
from trainer.model.weights import read_crop
from trainer.train import checkpoint
from trainer.train.saving import barred


def cropped(shards: Path, folder: Path, crop: str) -> Path:
    """The same shards, said to hold that crop."""
    shutil.copytree(shards, folder)
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | {"crop": crop}))
    return folder


def test_a_clip_is_barred_from_the_first_step_that_any_process_met_its_fault_at() -> None:
    everyone = [{3: 7, 1: 4}, {}, {3: 5}, {3: 9, 2: 6}]
    opened: Any = SimpleNamespace(
        processes=SimpleNamespace(gather=lambda own: everyone),
        loader=SimpleNamespace(quarantine=everyone[0]),
        dataset=SimpleNamespace(name=str),
    )
    assert barred(opened) == {"3": 5, "1": 4, "2": 6}


def test_the_crop_of_the_shards_travels_with_the_weights(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face, mouth = (cropped(shards_folder, tmp_path / crop, crop) for crop in ("face", "mouth"))
    assert run.main(command(face, tmp_path / "run", "--train.steps", "2")) == 0
    best, last = tmp_path / "run" / "best.pt", tmp_path / "run" / "last.pt"
    assert read_crop(best) == read_crop(last) == load_network(best, "cpu").crop == "face"
    assert checkpoint.resume(last).progress.step == 2
    assert export.main([str(best), str(tmp_path / "w.safetensors")]) == 0
    assert read_crop(tmp_path / "w.safetensors") == "face"
    starting = replace(Config().model, init=str(last))
    config = replace(Config(), data=replace(Config().data, shards=str(mouth)), model=starting)
    (note,) = crop_notes(config)
    assert note.startswith(f"note: {mouth} holds mouth crops; model.init knows face crops")
    common = ["--weights", str(best), "--data.shards"]
    out = str(tmp_path / "w2.safetensors")
    line = f"note: {mouth} holds mouth crops; {best} was trained on face crops, and tells little"
    for main, shards, words, status in (
        (evaluate.main, mouth, ["--resamples", "5", "--out", str(tmp_path / "e")], 0),
        (evaluate.main, face, ["--resamples", "5", "--out", str(tmp_path / "e")], 0),
        (refine.main, mouth, ["--score-only", "--reject-share", "0", "--out", str(tmp_path)], 0),
        (calibrate.main, mouth, ["--split", "val", "--", out], 1),  # of too few clips
    ):
        capsys.readouterr()
        assert main([*common, str(shards), *words]) == status
        assert (line in capsys.readouterr().out) == (shards == mouth), main.__module__
