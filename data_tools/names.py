"""Names of files: as FFmpeg opens them and as a terminal or a report shows them."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

UNPLAIN = "no plain file but a pipe, device, socket or folder"


def address(path: Path) -> str:
    """`path` as FFmpeg's libraries open it, to read or to write: a file, whatever its name.

    They take `12:30.mp4` and `./http:x.mp4` for addresses of other protocols.
    """
    return f"file:{path.absolute()}"


def is_unplain(path: Path) -> bool:
    """Whether something lies at `path` that is no plain file: opening it may never return."""
    return path.exists() and not path.is_file()


def shown(name: object) -> str:
    """`name` in one line of text that any report can hold.

    Bytes that are no UTF-8 and characters that move a terminal's cursor are written as escapes.
    """
    text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_anything() -> None:
    """Let no message fail for a character that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
