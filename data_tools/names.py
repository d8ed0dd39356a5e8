"""Files by name: as FFmpeg opens them, as reports show them, and plain ones alone to read."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import sys
from pathlib import Path
from typing import BinaryIO

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_LONGEST_PATH = 4096  # characters; as Linux has it, bytes

UNPLAIN = "no plain file but a pipe, device, socket or folder"


class NotPlain(OSError):
    """What is no plain file: opening or reading it may never end."""


def address(path: Path) -> str:
    """`path` as FFmpeg's libraries open it, to read or to write: a file, whatever its name.

    They take `12:30.mp4` and `./http:x.mp4` for addresses of other protocols.
    """
    return f"file:{path.absolute()}"


def real_path(path: Path | str) -> Path:
    """`path` from the root, without links.

    As `Path.resolve`, which ends with a RuntimeError where a link leads to itself; here opening
    what lies there says so, in the system's words.
    """
    return Path(os.path.realpath(path))


def is_unplain(path: Path) -> bool:
    """Whether something lies at `path` that is no plain file: opening it may never return."""
    # Not pathlib's, which raise an error at a name that is too long.
    return os.path.exists(path) and not os.path.isfile(path)


def open_plain(path: Path) -> BinaryIO:
    """Open a file to read it, never waiting for what may come through a pipe.

    Raises:
        NotPlain: it is no plain file.
        OSError: it is missing or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a socket
            raise
    raise NotPlain(errno.EINVAL, f"it is {UNPLAIN}", str(path))


def shown(name: object) -> str:
    """`name` in one line of text that any report can hold.

    Bytes that are no UTF-8, and characters that end a line or command a terminal, are escaped.
    """
    text = str(name)
    if text.isascii() and text.isprintable():  # nearly all; a list may hold a million
        return text
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:  # JSON may hold what no file's name does: half a character
        encoded = text.encode("utf-8", "backslashreplace")
    text = encoded.decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def first_line(error: BaseException) -> str:
    """What an error says, in one line; a file's error as "name: no space left on device"."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return shown(f"{error.filename}: {error.strerror.lower()}")
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


def listed(file: Path, first_word: bool = False) -> list[str]:
    """The names in a list, a line each, but for empty lines and those that begin with #.

    Blanks around a name belong to it only if the file is called so; `./` names one that begins
    with #.

    first_word: a name ends at a blank; what stands behind it is passed over.

    Raises:
        OSError: the list cannot be read, or a line of it can be no name of a file.
    """
    lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    names = []
    for line in (line.removesuffix("\r") for line in lines):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if first_word:
            line = bare = bare.split(maxsplit=1)[0]
        # Whoever looks for patterns in names takes the square of the time for a longer one.
        if len(line) > _LONGEST_PATH or "\0" in line:
            raise OSError(errno.EINVAL, f"{shown(line[:40])!r} ... can be no name of a file")
        exact = line == bare or (file.parent / line).exists() or Path(line).exists()
        names.append(line if exact else bare)
    return names


def print_anything() -> None:
    """Let no message fail for a character that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
