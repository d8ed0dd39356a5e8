"""Files appear whole or not at all, and what a killed process leaves is cleared away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_tools.atomic import (
    atomic_path,
    remove_partials,
    remove_partials_of,
    try_writing,
    write_json,
)

DIE_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from data_tools.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""

WRITE_TO_THE_OUTPUT = """
from pathlib import Path
from data_tools.atomic import write_json
print("before")
write_json(Path("/dev/fd/1"), 1)
print("after")
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


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    try_writing(pipe)  # and does not end what is read
    write_json(pipe, [1])
    reader.join(60)
    assert got == ["[\n 1\n]\n"]
    assert pipe.is_fifo() and names(tmp_path) == ["pipe.json"]


def test_a_device_is_written_to_and_named_in_errors(tmp_path: Path) -> None:
    full = tmp_path / "full.json"
    full.symlink_to("/dev/full")  # not itself: a fault would replace the machine's
    try_writing(full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/full.json'"):
        write_json(full, 1)
    assert full.is_char_device()


def test_the_own_output_is_written_to_in_turn(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", WRITE_TO_THE_OUTPUT], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "before\n1\nafter\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "it is a folder"),
        ("missing/a.json", "its folder is missing"),
        ("/proc/a.json", "its folder takes no file"),
        (f"{252 * 'a'}.json", "its folder takes no file .file name too long"),
    ],
)
def test_what_cannot_be_written_is_known_before(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(OSError, match=f"cannot be written: {words}"):
        try_writing(tmp_path / name)
    with pytest.raises(OSError) as error:
        write_json(tmp_path / name, 1)
    assert "partial" not in str(error.value)


def test_trying_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    try_writing(tmp_path / "a.bin")
    try_writing(tmp_path / "b.bin")
    assert names(tmp_path) == ["a.bin"] and (tmp_path / "a.bin").read_bytes() == b"old"


def test_equal_values_give_equal_json_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2, None]})
    write_json(tmp_path / "b.json", {"a": [2, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [2, None], "b": 1}


def test_json_has_no_nan_and_no_infinity(tmp_path: Path) -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5, (float("-inf"), 2)], "c": "NaN"}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 1.5, [None, 2]],
        "c": "NaN",
    }


def test_two_machines_with_the_same_process_number_do_not_mix_their_files(tmp_path: Path) -> None:
    out = tmp_path / "a.bin"
    with atomic_path(out) as one:
        with atomic_path(out) as other:
            one.write_bytes(b"one")
            other.write_bytes(b"other")
        assert out.read_bytes() == b"other"
    assert out.read_bytes() == b"one" and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name", ["a[1].mp4", "x" * 251 + ".mp4"])
def test_what_is_left_of_one_file_is_cleared_away(name: str, tmp_path: Path) -> None:
    manager = atomic_path(tmp_path / name)
    manager.__enter__().touch()
    manager.gen = iter(())  # type: ignore[attr-defined, assignment]  # killed
    (tmp_path / ".b.mp4.partial-1").touch()
    remove_partials_of(tmp_path / name)
    assert names(tmp_path) == [".b.mp4.partial-1"]
    remove_partials_of(tmp_path / "missing" / name)
