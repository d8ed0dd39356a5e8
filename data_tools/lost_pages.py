"""A mapped file that is cut short while it is read: one sentence and exit status 1, not SIGBUS.

The kernel has nothing to give for pages behind the end of a file (or where the disk fails), and
ends the process by a signal of which Python only hears when the access is over, which is never. So
a handler in C is asked, which calls back: it says which file it was, and ends the process.
"""

import ctypes
import os
import signal
import threading
from pathlib import Path
from typing import Any

from data_tools.names import shown

_mapped: dict[Path, int] = {}  # their sizes as they were mapped
_handler: Any = None  # kept, for C only has its address
_lock = threading.Lock()


def watch(path: Path, size: int) -> None:
    """Name `path`, of which `size` bytes are mapped, if it is cut short while it is read.

    A handler of SIGBUS that somebody else has set (faulthandler) stays.
    """
    global _handler
    _mapped[path] = size
    with _lock:
        if _handler is not None:
            return
        _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)
        set_handler = ctypes.CDLL(None).signal
        set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
        before = set_handler(signal.SIGBUS, ctypes.cast(_handler, ctypes.c_void_p))
        if before is not None:  # None: the default
            set_handler(signal.SIGBUS, before)


def _end(number: int) -> None:
    """Say what happened, and end: the access cannot be gone on with."""
    try:
        # Of a file that is gone the pages are still there. Maps may have gone as well, of which
        # nobody told; those made last are asked first.
        cut = (
            path
            for path, size in reversed(list(_mapped.items()))
            if _size(path) not in (None, size)
        )
        changed = next(cut, None)
        words = (
            "a file that is mapped cannot be read any more: its disk fails, or it was cut short"
            if changed is None
            else f"{shown(changed)} was changed while in use; start again"
        )
        os.write(2, os.fsencode(f"{words}\n"))
    finally:  # ctypes passes over what is raised, and the access would be tried again, for ever
        os._exit(1)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
