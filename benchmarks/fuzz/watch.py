"""What no input may bring about, seen by Python's own audit events: code run, files elsewhere.

The hook cannot be taken away again, so it belongs into a process that does nothing else. It forbids
what it sees, so that a finding does no harm.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_RUN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"),
    *("socket.gethostbyname", "ctypes.dlopen", "pickle.find_class", "webbrowser.open"),
)
_CHANGED = (
    *("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "os.mkfifo", "shutil.rmtree", "shutil.copyfile"),
)
_LINKED = ("os.rename", "os.link", "shutil.copyfile")  # events whose first two arguments are files
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """What an input was about to bring about. No `except Exception` on the way may hide it."""


class Watch:
    """Notes and forbids, from `begin` to `end`, what leaves a folder or runs code.

    Args:
        folder: the only one that may be written to.
        confined: whether files elsewhere may not even be read (Python's own may).
    """

    def __init__(self, folder: Path, confined: bool) -> None:
        self._folder = os.path.realpath(folder)
        self._below = f"{self._folder}/"
        places = (*sys.path, sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null")
        self._readable = tuple(os.path.realpath(place) for place in places if place)
        self._confined, self._on = confined, False
        self._known = {name.partition(".")[0] for name in sys.modules} | sys.stdlib_module_names
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def begin(self) -> None:
        """An input begins."""
        self.seen.clear()
        self._on = True

    def end(self) -> str | None:
        """The input is over; what it did that it may not, or None."""
        self._on = False
        return self.seen[0] if self.seen else None

    def _hook(self, event: str, given: Sequence[Any]) -> None:
        if not self._on or not (rule := _RULES.get(event)):
            return
        self._on = False  # looking at paths has events of its own
        try:
            wrong = rule(self, event, given)
        finally:
            self._on = True
        if wrong:
            self.seen.append(wrong)
            raise Forbidden(wrong)

    def _inside(self, file: Any) -> bool:
        if isinstance(file, int):
            return True
        # No link leads out of it: what makes links is watched.
        if type(file) is str and file.startswith(self._below) and ".." not in file:
            return True
        return _lies_in(os.path.realpath(os.fspath(file)), (self._folder,))

    def _run(self, event: str, given: Sequence[Any]) -> str:
        if event == "ctypes.dlopen" and given[0] is None:
            return ""  # this very process (data_tools.lost_pages): nothing is loaded
        if event == "ctypes.dlopen" and _lies_in(os.path.realpath(str(given[0])), self._readable):
            return ""
        return f"{event} {str(given[:1])[:200]}"

    def _imported(self, event: str, given: Sequence[Any]) -> str:
        known = str(given[0]).partition(".")[0] in self._known
        return "" if known else f"import of {str(given[0])[:100]}"

    def _opened(self, event: str, given: Sequence[Any]) -> str:
        file, mode, flags = given
        if self._inside(file):
            return ""
        writing = isinstance(mode, str) and set(mode) & set("wax+")
        if writing or (isinstance(flags, int) and flags & _WRITING):
            return f"writes to {str(file)[:200]!r}"
        if self._confined and not _lies_in(os.path.realpath(os.fspath(file)), self._readable):
            return f"reads {str(file)[:200]!r}"
        return ""

    def _changed(self, event: str, given: Sequence[Any]) -> str:
        files = given[:2] if event in _LINKED else given[:1]
        if event == "os.symlink":
            files = given[1:2]
        elsewhere = [file for file in files if not self._inside(file)]
        return f"{event} of {str(elsewhere[0])[:200]!r}" if elsewhere else ""


_RULES: dict[str, Callable[[Watch, str, Sequence[Any]], str]] = {
    **dict.fromkeys(_RUN, Watch._run),
    **dict.fromkeys(_CHANGED, Watch._changed),
    "import": Watch._imported,
    "open": Watch._opened,
}


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
