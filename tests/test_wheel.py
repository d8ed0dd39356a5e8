"""An installed copy holds what a checkout holds: modules, settings, weights, types."""

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "data_tools", "trainer")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of what git tracks: building leaves `build/` behind it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in tracked():
        copy = source / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((REPOSITORY / path).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--disable-pip-version-check", "-w", str(out)]
    done = subprocess.run(
        command, cwd=source, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def tracked() -> list[str]:
    """Paths of the packages and of what builds them."""
    found = [
        str(path.relative_to(REPOSITORY))
        for package in PACKAGES
        for path in sorted((REPOSITORY / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return [*found, "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]


def test_every_module_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    modules = {path for path in tracked() if path.endswith(".py")}
    assert len(modules) > 80
    assert modules - set(wheel.namelist()) == set()


def test_every_folder_of_modules_is_a_package() -> None:
    # `find:` takes folders with an __init__.py only
    for path in tracked():
        folder = (REPOSITORY / path).parent
        if path.endswith(".py"):
            assert (folder / "__init__.py").exists(), folder


def test_settings_weights_and_types_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    configs = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "trainer" / "configs").glob("*.yaml")
    }
    assert len(configs) >= 3
    assert configs - set(names) == set()
    assert "trainer/pretrained/README.md" in names
    assert {f"trainer/page/templates/{kind}" for kind in ("video.html", "page.js")} <= set(names)
    for name in ("trainer/py.typed", "data_tools/py.typed"):
        assert name in names
    networks = [f"trainer/pretrained/{name}.safetensors" for name in ("mouth", "mouth-grid")]
    for name in ("faces", "speech"):
        networks += [f"data_tools/video/{name}.{kind}" for kind in ("onnx", "LICENSE")]
    for weights in networks:
        assert wheel.read(weights) == (REPOSITORY / weights).read_bytes()


def test_tests_are_not_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_metadata_and_commands(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["Name"] == "syncnet-trainer"
    assert f"## {metadata['Version']}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert metadata.get_payload().startswith("# syncnet-trainer")
    commands = wheel.read(f"{info}/entry_points.txt").decode()
    for command in ("syncnet = trainer.sync:main", "syncnet-train = ", "syncnet-data = "):
        assert command in commands
