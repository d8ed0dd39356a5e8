"""Calibration: rising, never certain, in the file, and refused where it rests on too little."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import calibrate
from trainer.model.syncnet import SyncNet
from trainer.model.weights import load_model, read_calibration


def test_the_curve_rises_with_the_share_of_right_answers() -> None:
    rng = np.random.default_rng(0)
    clearness = rng.uniform(1, 8, 3000)
    chance = (clearness - 1) / 7
    own = np.ones(3000, np.bool_)
    found = calibrate.calibrate(clearness, rng.uniform(size=3000) < chance, own)
    assert (np.diff(found.clearness) > 0).all() and (np.diff(found.share_right) >= 0).all()
    for at in (2.5, 4.5, 6.5):
        assert found.probability(at) == pytest.approx((at - 1) / 7, abs=0.1)
    assert found.share_right[0] > 0 and found.share_right[-1] < 1


def test_ever_right_answers_are_not_called_certain() -> None:
    every = np.ones(120, np.bool_)
    found = calibrate.calibrate(np.linspace(1, 9, 120), every, every)
    assert max(found.share_right) < 0.95


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(calibrate.CalibrationError, match="too few"):
        calibrate.calibrate(np.ones(10), np.ones(10, np.bool_), np.ones(10, np.bool_))


def test_unrelated_sound_weighs_as_often_as_it_is_met() -> None:
    own = np.arange(2000) % 2 == 0  # half of the answers, but a fifth of the weight
    found = calibrate.calibrate(np.random.default_rng(0).uniform(1, 2, 2000), own, own)
    assert found.probability(1.5) == pytest.approx(1 - calibrate.UNRELATED, abs=0.05)


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
    monkeypatch.setattr(calibrate, "LENGTHS", (500,))  # no clip is so long
    assert calibrate.main([str(out), *command]) == 1
    assert "0 answers are too few" in capsys.readouterr().err
    monkeypatch.setattr(calibrate, "LENGTHS", (4, 5, 8))
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
        with pytest.raises(SystemExit) as left:
            calibrate.main(arguments)
        assert left.value.code == 2 and said in capsys.readouterr().err
