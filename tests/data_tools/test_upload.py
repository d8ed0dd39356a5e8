"""Packing into a bucket: whole shards or none, gone on with on this machine or another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_tools.errors import UsageError
from data_tools.manifest import MANIFEST
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.remote import Remote, RemoteError
from data_tools.upload import Upload

OPTIONS = PackOptions(ratios=(60, 20, 20), shard_mb=1)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_pack_that_was_cut_off_goes_on_elsewhere(
    clips_folder: Path, many_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, remote = tmp_path / "bucket", Remote(f"file://{tmp_path}/bucket")
    honest, refused = Remote.put, "train-000001.idx"

    def put(self: Remote, file: Path, name: str) -> None:
        if name == refused:
            raise RemoteError("the network is gone")
        honest(self, file, name)

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put", put)
        with pytest.raises(RemoteError, match="gone"):
            here = tmp_path / "here"
            pack(clips_folder, here, OPTIONS, upload=Upload(remote, here))
    began = names(bucket)
    assert "train-000000.json" in began and "train-000001.tar" in began
    assert not {"train-000001.json", MANIFEST} & began

    there = tmp_path / "there"
    first = (bucket / "train-000000.tar").stat().st_mtime_ns
    manifest = pack(clips_folder, there, OPTIONS, upload=Upload(remote, there, most=900_000))
    assert (bucket / "train-000000.tar").stat().st_mtime_ns == first
    assert names(bucket) == names(many_shards)
    for path in many_shards.iterdir():
        assert (bucket / path.name).read_bytes() == path.read_bytes(), path.name
    here = sum(path.stat().st_size for path in there.glob("*.tar"))
    assert 0 < here <= 900_000  # what is in the bucket went from here as room ran out
    assert "train-000000.tar" not in names(there)
    assert len(manifest.shards) == 4


def test_what_cannot_be_packed_into_is_refused(clips_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only read"):
        Upload(Remote("https://host/set"), tmp_path / "copy")
    bucket = tmp_path / "bucket"
    shutil.copytree(clips_folder, bucket)
    (bucket / MANIFEST).write_text("{}")
    with pytest.raises(UsageError, match="unknown origin"):
        pack(clips_folder, tmp_path / "copy", OPTIONS,
             upload=Upload(Remote(f"file://{bucket}"), tmp_path / "copy"))  # fmt: skip
