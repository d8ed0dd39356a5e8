"""Weights with their calibration, by the command line."""

from pathlib import Path

import pytest
import torch

from trainer import calibrate
from trainer.model.calibration import LogisticCalibration
from trainer.model.network import Network
from trainer.model.syncnet import SyncNet
from trainer.model.weights import load_model, read_calibration, read_crop
from trainer.score import answers
from trainer.score.speakers import speaker_finder


def test_the_command_writes_weights_with_their_calibration(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    torch.manual_seed(0)
    torch.save(SyncNet("small").state_dict(), tmp_path / "w.pt")
    out, picture = tmp_path / "w.safetensors", tmp_path / "r.png"
    command = ["--weights", str(tmp_path / "w.pt"), "--data.shards", str(shards_folder)]
    monkeypatch.setattr(answers, "LENGTHS", (500,))  # no clip is so long
    assert calibrate.main([str(out), *command]) == 1
    assert "0 answers are too few" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(answers, "LENGTHS", (4, 5, 8))
    more = ["--split", "all", "--relative", "--plot", str(picture), "--half"]
    assert calibrate.main([str(out), *command, *more]) == 0
    said = capsys.readouterr().out
    assert f"wrote {out}" in said and f"wrote {picture}" in said and "came true" in said
    found = read_calibration(out)
    assert isinstance(found, LogisticCalibration) and found.mode == "centred"
    assert found.windows[0] == 4 and found.reliability and found.speakers > 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert load_model(out).name == "small"
    assert read_crop(out) is None  # these shards do not say
    assert Network(load_model(out), "cpu", found).mode == "centred"
    assert out.stat().st_size < 0.6 * (tmp_path / "w.pt").stat().st_size
    again = ["--weights", str(out), *command[2:]]
    two = [*command, str(tmp_path / "x.safetensors")]  # as it has always been
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "LENGTHS", (500,))
        for order in (two, [*command, "--split", "val", two[-1]], [*two[2:], *two[:2]]):
            assert calibrate.main(order) == 1 and "too few" in capsys.readouterr().err
    for arguments, words in (
        (command, "OUT must be given"),
        ([*command, "--split", "some", two[-1]], "train, val, test or all, not 'some'"),
        ([str(tmp_path / "w.pt"), *command], "must end in .safetensors"),
        ([str(out), *again], "is the input, which is never overwritten"),
        ([str(tmp_path / "no" / "x.safetensors"), *command], "its folder is missing"),
        ([str(out), *command, "--plot", "r.jpg"], "must end in .png"),
        ([str(out), *command, "--split", "val", "test"], "2 given for 1 folders"),
        ([str(out), *command, "--speakers", "("], "no regular expression"),
        ([str(out), *command, "--speakers", "(a)(b)"], "one group at most"),
    ):
        assert calibrate.main(arguments) == 2 and words in capsys.readouterr().err


def test_speakers_are_told_by_the_names_of_sources() -> None:
    names = ["new/s26_bgbsza", "new/s26_lbbo3n", "new/sbia1a"]
    assert [speaker_finder(None)(name) for name in names] == names
    assert [speaker_finder("^old|s[0-9]+")(name) for name in names] == [
        "s26", "s26", "new/sbia1a",
    ]  # fmt: skip
    assert [speaker_finder("/s([0-9]+)_")(name) for name in names] == [
        "26", "26", "new/sbia1a",
    ]  # fmt: skip


def test_what_is_right_for_each_clip() -> None:
    keys, known = ["a", "b"], {"a": -2}
    assert calibrate._own_offsets(keys, None, False) == {"a": 0, "b": 0}
    assert calibrate._own_offsets(keys, None, True) == {"a": None, "b": None}
    assert calibrate._own_offsets(keys, known, False) == {"a": -2}
    assert calibrate._own_offsets(keys, known, True) == {"a": -2, "b": None}
