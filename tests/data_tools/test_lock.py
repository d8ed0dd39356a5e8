"""Locks on real files and processes: one writer, until it ends, however it ends."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.lock import LOCK, InUse, locked, locked_file

REPOSITORY = Path(__file__).parents[2]

# Holds the lock, says so, and leaves a child and a forked grandchild behind that outlive it.
HOLD = """
import os, subprocess, sys, time
from pathlib import Path
from data_tools.lock import locked
with locked(Path(sys.argv[1]), "run"):
    spawned = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    heard, said = os.pipe()
    forked = os.fork()
    if forked == 0:
        os.close(1)
        os.write(said, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(heard, 1)  # until the fork has run, it holds what it inherited
    print(spawned.pid, forked, flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_is_refused_while_the_first_lives_and_children_hold_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        children = [int(word) for word in holder.stdout.readline().split()]
        said = f"another run is writing to .*/run; wait for it \\(process {holder.pid} on "
        with pytest.raises(InUse, match=said), locked(folder, "pack"):
            pass
        holder.kill()
        holder.wait()
        try:
            assert names(folder) == [LOCK]
            with locked(folder, "run"):
                (folder / "result").touch()
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
    assert names(folder) == ["result"]


def test_what_was_made_for_nothing_is_taken_away(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b", "run"):
        assert names(tmp_path / "a" / "b") == [LOCK]
    assert not names(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "mine", "run"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["mine"]


def test_one_who_waits_at_a_removed_lock_does_not_hold_it(tmp_path: Path) -> None:
    """Between opening the file and locking it the holder may remove it and another make it anew."""
    honest, calls = fcntl.flock, []

    def replaced(descriptor: int, operation: int) -> None:
        honest(descriptor, operation)
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / "lock").unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", replaced)
        with locked_file(tmp_path / "lock"):
            assert len(calls) == 2
            patch.undo()
            with pytest.raises(BlockingIOError), locked_file(tmp_path / "lock"):
                pass


def test_shared_locks_stand_beside_each_other_only(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    shared = locked_file(file, shared=True), locked_file(file, shared=True)
    with shared[0], shared[1], pytest.raises(BlockingIOError), locked_file(file):
        pass
    with locked_file(file), pytest.raises(BlockingIOError), locked_file(file, shared=True):
        pass


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: int,
) -> None:
    def refused(descriptor: int, operation: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", refused)
    with locked(tmp_path / "run", "run"):
        (tmp_path / "run" / "result").touch()
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1 and f"{tmp_path / 'run'} has no locks ({os.strerror(error)})" in said
    )
    assert names(tmp_path / "run") == ["result"]


def test_a_link_in_the_lock_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=LOCK), locked(tmp_path / "run", "run"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_full_disk_locks_as_well(
    small_disk: Callable[[int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = small_disk(100_000)
    with (disk / "ballast").open("wb", buffering=0) as stream, pytest.raises(OSError, match="left"):
        while True:
            stream.write(bytes(4096))
    with locked(disk, "run"), pytest.raises(InUse), locked(disk, "run"):
        pass
    assert names(disk) == ["ballast"] and not capsys.readouterr().err
