"""Files appear whole or not at all, and what a killed process leaves is cleared away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.atomic import atomic_path, remove_partials, write_json

DIE_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from data_tools.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_under_its_name_only_at_the_end(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.bin") as partial:
        partial.write_bytes(b"content")
        assert not (tmp_path / "a.bin").exists()
        assert partial.name.startswith(".a.bin.partial-")
    assert names(tmp_path) == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"content"


def test_old_file_is_kept_when_the_body_raises(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a.bin") as partial:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_killed_process_leaves_the_old_file_and_a_partial_that_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / ".hidden").touch()
    subprocess.run([sys.executable, "-c", DIE_WHILE_WRITING, str(tmp_path / "a.bin")])
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert len(names(tmp_path)) == 3
    remove_partials(tmp_path)
    assert names(tmp_path) == [".hidden", "a.bin"]


def test_equal_values_give_equal_json_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2, None]})
    write_json(tmp_path / "b.json", {"a": [2, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [2, None], "b": 1}
