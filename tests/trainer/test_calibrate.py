"""Weights with their calibration, by the command line."""

from pathlib import Path

import pytest
import torch

from trainer import calibrate
from trainer.model.syncnet import SyncNet
from trainer.model.weights import load_model, read_calibration
from trainer.score import calibration


def test_the_command_writes_weights_with_their_calibration(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    torch.manual_seed(0)
    torch.save(SyncNet("small").state_dict(), tmp_path / "w.pt")
    out = tmp_path / "w.safetensors"
    command = ["--weights", str(tmp_path / "w.pt"), "--data.shards", str(shards_folder)]
    assert calibrate.main([str(out), *command]) == 1
    assert "too few" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(calibration, "LENGTHS", (500,))  # no clip is so long
    assert calibrate.main([str(out), *command]) == 1
    assert "0 answers are too few" in capsys.readouterr().err
    monkeypatch.setattr(calibration, "LENGTHS", (4, 5, 8))
    assert calibrate.main([str(out), *command, "--half"]) == 0
    found = read_calibration(out)
    # random weights are hardly ever right, and half of the answers cannot be
    assert found is not None and max(found.share_right) < 0.6
    assert load_model(out).name == "small"
    assert out.stat().st_size < 0.6 * (tmp_path / "w.pt").stat().st_size
    capsys.readouterr()
    again = ["--weights", str(out), *command[2:]]
    for arguments, said in (
        ([str(tmp_path / "w.pt"), *command], "must end in .safetensors"),
        ([str(out), *again], "is the input, which is never overwritten"),
        ([str(tmp_path / "no" / "x.safetensors"), *command], "its folder is missing"),
    ):
        assert calibrate.main(arguments) == 2 and said in capsys.readouterr().err
