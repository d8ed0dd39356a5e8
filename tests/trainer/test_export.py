"""Exports compute what the network does, or are not written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.official import stand_in_state
from trainer import export
from trainer.model import formats
from trainer.model.network import load_network
from trainer.model.syncnet import SyncNet
from trainer.model.weights import (
    Calibration,
    WeightsError,
    load_model,
    read_calibration,
    read_crop,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = SyncNet("small")
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    torch.save({"model": model.state_dict(), "step": 1}, path)
    return path


def test_the_published_layout_is_written_to_the_letter(tmp_path: Path) -> None:
    state = stand_in_state()
    torch.save(state, tmp_path / "given.model")
    outs = [tmp_path / name for name in ("a.model", "b.safetensors")]
    assert export.main([str(tmp_path / "given.model"), *map(str, outs)]) == 0
    written = torch.load(outs[0], weights_only=True)
    assert written.keys() == state.keys() and len(written) == 88
    assert all(torch.equal(written[key], value) for key, value in state.items())
    with safe_open(outs[1], "pt") as file:
        assert set(file.keys()) == set(state)
        told = file.metadata()
        assert told.pop("syncnet_sha256") and told == {"model": "syncnet"}
    assert outs[1].stat().st_mode == outs[0].stat().st_mode


def test_a_calibration_goes_along(weights: Path, tmp_path: Path) -> None:
    calibration = Calibration((1.0, 4.0), (0.2, 0.95))
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    formats.write_safetensors(load_model(weights), first, calibration)
    assert export.main([str(first), str(second)]) == 0
    assert read_calibration(second) == calibration


def test_the_crop_goes_along(weights: Path, tmp_path: Path) -> None:
    first, second, other = (tmp_path / f"{name}.safetensors" for name in "abc")
    assert export.main([str(weights), str(first)]) == 0
    assert read_crop(first) is None and load_network(first).crop == "mouth"
    assert export.main([str(weights), str(first), "--crop", "face"]) == 0
    assert export.main([str(first), str(second)]) == 0
    assert read_crop(second) == "face" and load_network(second).crop == "face"
    assert export.main([str(weights), str(tmp_path / "d.safetensors"), "--crop", "ear"]) == 2
    save_file(load_file(first), other, {"crop": "ear"})
    with pytest.raises(WeightsError, match="its crop must be one of face, mouth, whole, not ear"):
        load_network(other)


def test_torchscript_and_onnx_compute_the_same(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    outs = [tmp_path / "x.torchscript", tmp_path / "x.onnx"]
    assert export.main([str(weights), *map(str, outs)]) == 0
    names = ["x-lips.onnx", "x-sound.onnx", "x.torchscript"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    said = capsys.readouterr()
    assert all(f"wrote {tmp_path / name}" in said.out for name in names)
    model = load_model(weights)
    frames = torch.randint(0, 256, (2, 9, 64, 64, 1), dtype=torch.uint8)
    mfcc = torch.randn(3, 31, 13)
    with torch.inference_mode():
        wanted = model.lips(frames), model.sound(mfcc)
        loaded = torch.jit.load(str(outs[0]))
        for one, other in zip((loaded.lips(frames), loaded.sound(mfcc)), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for name, argument, given, other in (
        ("lips", "frames", frames, wanted[0]),
        ("sound", "mfcc", mfcc, wanted[1]),
    ):
        session = onnxruntime.InferenceSession(str(tmp_path / f"x-{name}.onnx"))
        (one,) = session.run(["embeddings"], {argument: given.numpy()})
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".torchscript", ".onnx"])
def test_an_export_that_differs_is_not_written(
    weights: Path,
    tmp_path: Path,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxscript")
    real = formats.fold

    def wrong(model: SyncNet) -> SyncNet:
        folded = real(model)
        folded.netfcaud[-1].bias += 0.1
        return folded

    monkeypatch.setattr(formats, "fold", wrong)
    out = tmp_path / f"x{suffix}"
    assert export.main([str(weights), str(out)]) == 1
    assert "differs from the network by" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} <= {"x-lips.onnx"}  # the lips are right


def test_bad_usage_is_one_sentence(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(arguments: list[str]) -> tuple[int, str]:
        status = export.main(arguments)
        return status, capsys.readouterr().err.splitlines()[-1]

    assert said([str(weights), "x.h5"]) == (2, said([str(weights), "x.h5"])[1])
    assert "must end in .model" in said([str(weights), "x.h5"])[1]
    assert "never overwritten" in said([str(weights), str(weights)])[1]
    assert "cannot be written" in said([str(weights), str(tmp_path / "no" / "x.pt")])[1]
    status, words = said([str(weights), "/proc/x.model"])
    assert status == 2 and "/proc/x.model cannot be written" in words
    status, words = said([str(tmp_path / "missing.pt"), str(tmp_path / "x.pt")])
    assert status == 1 and "missing.pt is no file" in words
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    status, words = said([str(tmp_path / "foreign.safetensors"), str(tmp_path / "x.pt")])
    assert status == 1 and "fits no SyncNet" in words


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    small_disk: Callable[[int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(SyncNet("small").state_dict(), tmp_path / "w.pt")  # 1.8 MB
    disk = small_disk(1_000_000)
    for name in ("x.model", "x.safetensors", "x.torchscript"):
        assert export.main([str(tmp_path / "w.pt"), str(disk / name)]) == 1
        error = capsys.readouterr().err
        assert "no space left on device" in error and name in error and error.count("\n") == 1
        assert not list(disk.iterdir())
