"""The crops of a video's tracks, kept until it is known which of them are wanted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_IN_MEMORY = 32 << 20  # bytes; a short clip never touches the disk


class CropStore:
    """JPEGs of one video, one after the other: in memory while they are few, then in one file.

    The file has no name, so that nothing is left of it when the process is killed.

    folder: where the file is made, should it be needed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _IN_MEMORY, dir=os.fspath(folder)
        )
        self._end = 0

    def append(self, jpeg: bytes) -> int:
        """Take a JPEG; returns where it begins."""
        self._file.seek(self._end)
        self._file.write(jpeg)
        begin, self._end = self._end, self._end + len(jpeg)
        return begin

    def read(self, begin: int, size: int) -> bytes:
        """What was appended there."""
        self._file.seek(begin)
        return self._file.read(size)


class TrackFile:
    """The crops of one track, among those of others in a `CropStore`.

    Attributes:
        first: the track's first picture.
        next: the next picture to be cropped.
        sharpness: of some crops, by the picture.
        held: pictures that repeat the one before.
    """

    def __init__(self, store: CropStore, first: int) -> None:
        self.first = first
        self.next = first
        self.sharpness: dict[int, float] = {}
        self.held: list[int] = []
        self._store = store
        self._places: list[tuple[int, int]] = []  # of each JPEG: where it begins, bytes

    def append(self, jpeg: bytes) -> None:
        """Take the crop of the next picture."""
        self._places.append((self._store.append(jpeg), len(jpeg)))

    def read(self, pictures: Iterable[int]) -> Iterator[bytes]:
        """The JPEGs of these pictures."""
        for picture in pictures:
            yield self._store.read(*self._places[picture - self.first])
