"""A clip of a remote shard: its own bytes are fetched, compared with its hash, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_tools import remote
from data_tools.__main__ import main
from data_tools.manifest import ShardError
from data_tools.mirror import LocalOptions, open_set
from data_tools.shards import Shard, open_shards
from data_tools.single_clip import read_clip
from data_tools.traffic import so_far
from servers import serving


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def opened(url: str, local: Path) -> Shard:
    """The first shard of a remote set's val split."""
    return open_shards(open_set(url, LocalOptions(str(local))), "val")[0]


def check_same(shard: Shard, other: Shard) -> None:
    """That both give the same last clip."""
    clip = len(shard) - 1
    (jpegs, features), (others, same) = (read_clip(each, clip, (0, 49)) for each in (shard, other))
    assert jpegs == others and len(jpegs) == 2
    assert features.dtype == np.float32 and np.array_equal(features, same)


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_a_clip_comes_by_itself(shards_folder: Path, tmp_path: Path, protocol: str) -> None:
    here = open_shards(shards_folder, "val")[0]

    def fault(method: str, name: str, before: int) -> str:
        return "503" if name == here.tar.name and not before else ""

    with serving(shards_folder, fault=fault) as web:
        shard = opened(web.url if protocol == "http" else f"file://{shards_folder}", tmp_path)
        before = so_far()
        check_same(shard, here)
    came = so_far().since(before)
    assert here.records[-1].bytes < came.bytes < 0.6 * here.tar_bytes
    assert came.retries == (protocol == "http")
    assert not list(tmp_path.rglob("*.tar"))


@pytest.mark.parametrize("lengths", [True, False])
def test_without_ranges_the_shard_comes_whole(
    shards_folder: Path, tmp_path: Path, lengths: bool
) -> None:
    with serving(shards_folder, ranges=False) as web:
        web.lengths = lengths
        shard = opened(web.url, tmp_path)
        check_same(shard, open_shards(shards_folder, "val")[0])
    assert [path.name for path in tmp_path.rglob("*.tar")] == [shard.tar.name]


def test_another_content_is_refused(shards_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(shards_folder, tmp_path / "source")
    shard = opened(f"file://{source}", tmp_path / "copies")
    tar = source / shard.tar.name
    content = bytearray(tar.read_bytes())
    content[int(shard.offset[3]) + 100] ^= 1
    tar.write_bytes(content)
    with pytest.raises(ShardError, match=rf"{tar.name} is not what its manifest says \(another"):
        read_clip(shard, 0, [0])
    assert len(read_clip(shard, 1, [0])[0]) == 1
    tar.write_bytes(bytes(len(content)))
    with pytest.raises(ShardError, match="another content"):
        read_clip(shard, 1, [0])


def test_a_picture_of_a_remote_set_needs_no_shard(shards_folder: Path, tmp_path: Path) -> None:
    argv = ["info", "--montage", str(tmp_path / "m.png"), "--clips", "1", "--frames", "1"]
    assert main([*argv, f"file://{shards_folder}", "--local", str(tmp_path / "copies")]) == 0
    assert (tmp_path / "m.png").exists() and not list(tmp_path.rglob("*.tar"))
