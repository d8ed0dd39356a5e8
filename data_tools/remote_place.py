"""How far a transfer of a remote file has come, as fsspec tells of it."""

import os
from collections.abc import Callable
from typing import BinaryIO

from fsspec.callbacks import Callback

from data_tools import traffic


class Stopped(Exception):
    """Whoever wanted the file does so no more."""


class NoRanges(Exception):
    """All of a file comes instead of the part that was asked for."""


class Part(Callback):
    """Of a transfer of so many bytes: ends it as it begins, if others come instead, or more."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self._asked, self._came = asked, 0
        self._coming: int | None = None

    def set_size(self, size: int | None) -> None:
        """How many bytes come, where the server says so; those of an error, too."""
        self._coming = size

    def relative_update(self, inc: int = 1) -> None:
        """More was written."""
        self._came += inc
        if inc and (self._coming not in (None, self._asked) or self._came > self._asked):
            raise NoRanges


class Place(Callback):
    """How far a transfer has come; fsspec tells it of what is written to `stream`.

    Attributes:
        have: bytes so far, of `size`.
        asked: bytes that were asked for last.
    """

    def __init__(
        self,
        stream: BinaryIO,
        size: int,
        advance: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.stream, self.have, self.asked = stream, 0, size
        self._advance, self._stopped = advance, stopped
        self._coming: int | None = None
        self.size = size  # of the file: fsspec's own `size`, of what comes, is not needed
        if stream.tell() > size:
            stream.truncate(0)
        self._see()  # what was there before

    def set_size(self, size: int | None) -> None:
        """How many bytes come, where the server says so."""
        self._coming = size

    def relative_update(self, inc: int = 1) -> None:
        """More was written."""
        if inc and self.have and self._coming not in (None, self.asked):
            raise NoRanges
        self.tell()
        if self._stopped():
            raise Stopped

    def cut(self, size: int) -> None:
        """Keep so many bytes alone."""
        self.stream.truncate(size)
        self.tell()

    def tell(self) -> None:
        """See how much is there, and tell whoever wants to know."""
        traffic.count(max(0, self._see()))

    def _see(self) -> int:
        """The same; how much more it is than before."""
        self.stream.flush()
        have = self.stream.seek(0, os.SEEK_END)
        more, self.have = have - self.have, have
        self._advance(more)
        return more
