"""Tars that a source sends with an index and statistics that agree with them, or nearly."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from benchmarks.fuzz.shards import shards
from data_tools.mirror_check import content_fault
from data_tools.tar_index import format_idx, index_tar


def test_a_tar_of_other_clips_and_of_odd_names_is_told(tmp_path: Path) -> None:
    tar = shards(tmp_path)
    statistics = tar.with_suffix(".json")
    assert content_fault(tar, tar) is None
    told = json.loads(statistics.read_text())
    clips = len(told["clips"])
    statistics.write_text(json.dumps(told | {"clips": told["clips"][:1]}))
    assert content_fault(tar, tar) == f"{clips} clips instead of 1"
    with tarfile.open(tar, "w", encoding="utf-8", errors="surrogateescape") as archive:
        archive.addfile(tarfile.TarInfo("\udcff.json"), io.BytesIO())
    statistics.write_text(json.dumps(told | {"tar_bytes": tar.stat().st_size}))
    assert content_fault(tar, tar) == "another index"
    tar.with_suffix(".idx").write_bytes(format_idx(index_tar(tar)).encode(errors="surrogateescape"))
    assert content_fault(tar, tar) == f"1 clips instead of {clips}"
