"""`import data_tools`: what it offers, and that it loads nothing before it is used."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import data_tools

ROOT = Path(__file__).parents[2]
FOLDER = Path(data_tools.__file__).parent
HEAVY = ("numpy", "torch", "cv2", "rich", "msgspec", "jsonargparse", "webdataset", "soundfile")


@pytest.mark.parametrize("words", ["import data_tools", "from data_tools import __version__"])
def test_import_alone_loads_no_library(words: str) -> None:
    code = f"{words}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "data_tools" in loaded
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("name", data_tools.__all__)
def test_every_public_name_is_there_and_no_module(name: str) -> None:
    assert name in dir(data_tools)
    assert getattr(data_tools, name) is not None
    # importing a module would put it in the name's place
    assert not {name, f"{name}.py"} & {path.name for path in FOLDER.iterdir()}


def test_all_lists_what_is_loaded_lazily() -> None:
    assert set(data_tools.__all__) == {*data_tools._MODULE_OF, "__version__"}


def test_version_is_that_of_the_distribution() -> None:
    assert data_tools.__version__ in (version("syncnet-trainer"), "0+unknown")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fly'"):
        data_tools.fly  # noqa: B018
    with pytest.raises(ImportError):
        from data_tools import fly  # noqa: F401


def test_pack_verify_and_open(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    from data_tools import PackOptions, load_clip, open_shards, pack, read_manifest, verify

    for number in range(2):
        make_clip(tmp_path / "clips" / f"c{number}", frames=6, seed=number)
    shards = tmp_path / "shards"
    manifest = pack(tmp_path / "clips", shards, PackOptions(split_by="clip", size=16))
    assert manifest.splits == read_manifest(shards).splits
    assert verify(shards) == []
    (shard,) = open_shards(shards, "train")
    (clip,) = (c for c in data_tools.find_clips(tmp_path / "clips") if c.name == shard.keys[0])
    features = load_clip(clip).mfcc
    assert (shard.mfcc(0) == features).all()


def test_options_made_in_python_are_checked(tmp_path: Path) -> None:
    with pytest.raises(data_tools.UsageError, match=r"^--size must be at least 16"):
        data_tools.pack(tmp_path, tmp_path / "out", data_tools.PackOptions(size=8))


def test_types_are_there_for_other_projects() -> None:
    assert (FOLDER / "py.typed").is_file()
