"""Files that appear whole or not at all: temporary name, fsync, rename."""

import errno
import glob
import json
import math
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_tools.names import real_path, shown

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of an OSError: the disk or a limit is full

_LONGEST_NAME = 255  # bytes
_MARK = ".partial-"
_LONGEST_MARK = 32  # bytes of a temporary name: dot, mark, process, random


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is synced and renamed to `path`.

    If the body raises, the temporary file is removed and `path` is left as it was. A device, a
    pipe and what lies in /dev are never replaced: the finished bytes are written to them.

    Raises:
        OSError: `path`, which it names, cannot be written.
    """
    if not _replaceable(path):
        with tempfile.TemporaryDirectory() as folder:
            finished = Path(folder).absolute() / path.name
            with _naming(path, finished):
                yield finished
                _append(finished, path)
        return
    partial = _partial(path).absolute()
    try:
        with _naming(path, partial):
            yield partial
            sync(partial)
            os.replace(partial, path)
            sync(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def try_writing(path: Path) -> None:
    """Find out whether `atomic_path` can write `path`, before what takes long.

    Raises:
        OSError: it cannot; says why in one sentence.
    """
    try:
        if path.is_dir():
            why = "it is a folder"
        elif not path.parent.is_dir():
            why = "its folder is missing"
        elif _replaceable(path):
            partial = _partial(path)
            partial.touch(exist_ok=False)
            partial.unlink()
            return
        elif os.access(path if path.exists() else path.parent, os.W_OK):
            return
        else:
            why = "permission denied"
    except OSError as error:
        why = f"its folder takes no file ({str(error.strerror).lower()})"
    raise OSError(f"{shown(path)} cannot be written: {why}")


def try_folder(folder: Path) -> None:
    """Find out whether files can be written into `folder`, which may be still to be made.

    Raises:
        OSError: they cannot; says why in one sentence.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OSError(f"{nearest} is a file, not a folder")
    try_writing(nearest / "results")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, so that equal values give equal bytes.

    JSON knows no NaN and no infinity: such a number becomes null.
    """
    try:
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(value), indent=1, sort_keys=True, allow_nan=False)
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def remove_partials(folder: Path, *names: str) -> None:
    """Remove what a killed process left in `folder` under temporary names.

    names: patterns of the files that were to be written; all, if none is given.
    """
    for name in names or ("*",):
        for leftover in folder.glob(f".{name}{_MARK}*"):
            leftover.unlink(missing_ok=True)


def remove_partials_of(path: Path) -> None:
    """Remove what a killed process left of `path` under temporary names."""
    if path.parent.is_dir():
        remove_partials(path.parent, glob.escape(_shortened(path.name)))


def sync(path: Path) -> None:
    """fsync a file or a folder (the latter makes a rename in it last)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _partial(path: Path) -> Path:
    # Beside the process's number, which on other machines and in other containers others have, too.
    mark = f"{_MARK}{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{_shortened(path.name)}{mark}")


def _shortened(name: str) -> str:
    """As much of a name as leaves room for what a temporary one has more."""
    return os.fsdecode(os.fsencode(name)[: _LONGEST_NAME - _LONGEST_MARK])


def _replaceable(path: Path) -> bool:
    # /dev/stdout and /dev/fd/N lead to what somebody holds open, be it a plain file.
    folder = real_path(path.parent)
    if folder == Path("/dev") or (folder.is_relative_to("/proc") and folder.name == "fd"):
        return False
    return path.is_file() or path.is_dir() or not path.exists()


def _append(finished: Path, path: Path) -> None:
    sys.stdout.flush()
    # A file that our output is redirected to must not be opened anew: what the output prints next
    # would overwrite what is written here.
    own = next((number for number in (1, 2) if _leads_to(path, number)), None)
    with finished.open("rb") as source, open(path if own is None else os.dup(own), "ab") as target:
        shutil.copyfileobj(source, target)


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors that are about a temporary file name `path`, which the user knows."""
    try:
        yield
    except OSError as error:
        # FFmpeg's libraries name it as data_tools.names.address does.
        where = None if error.filename is None else os.fsdecode(error.filename)
        named = where is not None and Path(where.removeprefix("file:")).absolute() == temporary
        if named or (error.filename is None and error.errno in NO_ROOM):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
