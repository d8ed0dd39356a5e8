"""A tar that we write ourselves is that of the libraries, byte for byte."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import webdataset

from data_tools.manifest import ClipRecord
from data_tools.shard_writer import _header, writing_shard
from data_tools.tar_index import format_idx, index_tar


def record(key: str) -> ClipRecord:
    return ClipRecord(key, key, key, 5, 20, 4, 4, 3, 0, "0" * 64)


@pytest.mark.parametrize("clips", [1, 30])
def test_a_shard_is_what_webdataset_writes(tmp_path: Path, clips: int) -> None:
    tar, reference = tmp_path / "train-000000.tar", io.BytesIO()
    samples = [
        (f"clip-{n}", [("json", b"{}"), ("mfcc.npy", bytes(n)), ("00000.jpg", bytes(512 * n))])
        for n in range(clips)
    ]
    with writing_shard(tar) as shard:
        for key, members in samples:
            shard.add(record(key), members)
    with webdataset.TarWriter(reference, user="", group="", mtime=0, encoder=False) as writer:
        for key, members in samples:
            for extension, content in members:
                writer.write({"__key__": key, extension: content})
        writer.tarstream.close()
        assert tar.read_bytes() == reference.getvalue()
    assert tar.with_suffix(".idx").read_text() == format_idx(index_tar(tar))


@pytest.mark.parametrize("name", ["a", "clip_000-00.00000.jpg", "x" * 100, "x" * 101, "é.jpg"])
@pytest.mark.parametrize("size", [0, 1, 12_345, 8**11 - 1, 8**11])
def test_a_header_is_that_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    assert _header(name, size) == info.tobuf(tarfile.PAX_FORMAT)
