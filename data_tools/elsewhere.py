"""Videos that are no files here, at a URL or on standard input: copied whole to be read."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit, urlunsplit

from data_tools.atomic import NO_ROOM
from data_tools.errors import UsageError, UserError
from data_tools.names import first_line, shown
from data_tools.progress import progress, still_alive
from data_tools.remote import Remote, RemoteResized, is_remote
from data_tools.remote_errors import without_secrets

STDIN = "-"
_PIECE = 1 << 20  # bytes


class ElsewhereError(UserError):
    """A video that cannot be fetched; says why in one sentence, and no credential."""


@dataclass(frozen=True)
class Elsewhere:
    """A video that is no file here. As text it is what may be shown of its name.

    Attributes:
        address: "-" or a URL; it may hold credentials.

    Raises:
        UsageError: the URL is none that can be read, or names no file.
    """

    address: str = field(repr=False)

    def __post_init__(self) -> None:
        if self.address == STDIN:
            return
        Remote(self.address)  # refuses what is none
        if not self._parted()[1]:
            raise UsageError(f"{self} names no file")

    def __str__(self) -> str:
        if self.address == STDIN:
            return "stdin"
        folder, name = self._parted()
        return without_secrets(Remote(folder).file(name)) if name else Remote(folder).shown

    @property
    def name(self) -> str:
        """The file's own name."""
        return "stdin" if self.address == STDIN else unquote(self._parted()[1])

    @property
    def remote(self) -> Remote:
        """The folder that it lies in."""
        return Remote(self._parted()[0])

    def _parted(self) -> tuple[str, str]:
        """The URL of its folder, with what signs it, and its name there."""
        if self.address.lower().startswith(("http://", "https://")):
            parts = urlsplit(self.address)
            folder, _, name = parts.path.rpartition("/")
            return urlunsplit((parts.scheme, parts.netloc, folder, parts.query, "")), name
        folder, _, name = self.address.rpartition("/")
        return (folder, name) if is_remote(folder) else (self.address, "")


def video_name(text: str) -> Path | Elsewhere:
    """A video as a command line names it: a file, "-" for standard input, or a URL.

    Raises:
        UsageError: no file can be meant; says why.
    """
    if not text:
        raise UsageError("VIDEO: a file name is empty")
    return Elsewhere(text) if text == STDIN or is_remote(text) else Path(text)


class Copies:
    """Copies of videos that lie elsewhere, in a temporary folder, one at a time.

    A context manager: what is there at its end is removed.
    """

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._held: Elsewhere | None = None
        self._path = Path()

    def __enter__(self) -> Copies:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop()

    def local(self, video: Path | Elsewhere) -> Path:
        """The file to read: itself, or a copy, which takes the place of the last one.

        Raises:
            UserError: it cannot be had; says why.
        """
        if isinstance(video, Path):
            return video
        if video != self._held:
            self._drop()
            self._folder = tempfile.TemporaryDirectory(prefix="syncnet-")
            try:
                self._path = Path(self._folder.name) / _safe(video.name)
                _fetch(video, self._path)
            except OSError as error:
                self._drop()
                words = first_line(error)
                if error.errno in NO_ROOM:
                    words = f"{tempfile.gettempdir()} has no room for a copy of it"
                    words += "; TMPDIR names another folder"
                raise ElsewhereError(f"{video} cannot be copied: {words}") from None
            except BaseException:
                self._drop()
                raise
            self._held = video
        return self._path

    def _drop(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = self._held = None


def _safe(name: str) -> str:
    """A file name for a copy, whatever a URL calls it."""
    return re.sub(r"[^\w. ()+,=@-]", "_", name)[-100:].lstrip(".") or "video"


def _fetch(video: Elsewhere, into: Path) -> None:
    """Copy all of a video.

    Raises:
        UserError: it cannot be had, or there is nothing; says why.
        OSError: it cannot be written.
    """
    if video.address == STDIN:
        _read_stdin(into)
    else:
        folder, name = video.remote, video._parted()[1]
        size = folder.size(name)
        if size is None:
            folder.fetch_unsized(name, into)
        else:
            with progress(f"{shown(video.name)}: fetching", max(1, size // 1000), "kB") as advance:
                try:
                    folder.fetch(name, size, into, _in_kb(advance))
                except RemoteResized:
                    raise ElsewhereError(
                        f"{video} was written to meanwhile; try again when it is complete"
                    ) from None
    if not into.exists() or into.stat().st_size == 0:
        raise ElsewhereError(f"{video} is empty")


def _in_kb(advance: Callable[[int], None]) -> Callable[[int], None]:
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        advance((done + count) // 1000 - done // 1000)
        done += count

    return on_bytes


def _read_stdin(into: Path) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise ElsewhereError(
            "- reads a video from standard input, which is a terminal: pipe one in"
        )
    with into.open("wb") as file:
        while piece := sys.stdin.buffer.read(_PIECE):
            file.write(piece)
            still_alive()


def check_videos(
    videos: list[Path | Elsewhere], audio_stream: int | str | None, batch: bool
) -> None:
    """Whether videos may be given together, and may have that audio stream.

    batch: they are measured by workers, which read files alone.

    Raises:
        UsageError: no.
        MissingPackage: the extra [prepare] is needed and not installed.
    """
    elsewhere = [video for video in videos if isinstance(video, Elsewhere)]
    if batch and elsewhere:
        raise UsageError(f"--out measures files: give {elsewhere[0]} without it, or fetch it first")
    folders = [each for each in videos if isinstance(each, Path) and each.is_dir()]
    if folders and not batch:
        raise UsageError(f"{shown(folders[0])} is a folder, which needs --out RESULTS")
    if sum(video.address == STDIN for video in elsewhere) > 1:
        raise UsageError("- can be given once: standard input holds one video")
    named: dict[str, Path | Elsewhere] = {}
    for video in videos if elsewhere else ():
        if named.setdefault(str(video), video) != video:
            raise UsageError(
                f"two videos would both be called {shown(video)}, since what follows a ? in a URL "
                "is not shown; measure them one by one"
            )
    if audio_stream is not None and not batch:
        from data_tools.video.decode import check_audio_stream

        check_audio_stream(audio_stream, [file for file in videos if isinstance(file, Path)])
