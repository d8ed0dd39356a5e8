"""Maps of caches that another hand has written: none of ours, and nothing is allocated for them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from data_tools.cache_file import HEAD, Head, Look, count_filled, read_head


@pytest.mark.parametrize("content", [b'{"shard": "\xff"}', b'{"shard": ' + b"[" * 4000, b"", b"5"])
def test_what_is_no_head_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.map"
    path.write_bytes(content.ljust(HEAD, b"\0"))
    assert read_head(path) is None


def test_a_map_shorter_than_it_says_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.map"
    head = Head("a.tar", "0" * 32, 2**53, Look(16, 3, "turbo"))
    path.write_bytes(msgspec.json.encode(head).ljust(HEAD + 80, b"\0"))
    found = read_head(path)
    assert found == head and count_filled(path, found) == 0
