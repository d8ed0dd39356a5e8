"""The crops of a video's tracks, kept until it is known which of them are wanted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

_IN_MEMORY = 32 << 20  # bytes; a short clip never touches the disk

Place: TypeAlias = bytes | tuple[int, int]  # a JPEG, or where it begins in the file and its bytes


class CropStore:
    """JPEGs of one video: the first of them in memory, what is too much in one file.

    The file has no name, so that nothing is left of it when the process is killed.

    folder: where the file is made, should it be needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = 0  # bytes in memory
        self._file: Any = None
        self._end = 0  # of the file

    def append(self, jpeg: bytes) -> Place:
        """Take a JPEG; returns what `read` finds it by."""
        if self._held + len(jpeg) <= _IN_MEMORY:
            self._held += len(jpeg)
            return jpeg
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=os.fspath(self._folder))  # noqa: SIM115
        self._file.seek(self._end)
        self._file.write(jpeg)
        begin, self._end = self._end, self._end + len(jpeg)
        return begin, len(jpeg)

    def read(self, place: Place) -> bytes:
        """What was appended there."""
        if isinstance(place, bytes):
            return place
        self._file.seek(place[0])
        content: bytes = self._file.read(place[1])
        return content


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
        self._places: list[Place] = []  # of each JPEG

    def append(self, jpeg: bytes) -> None:
        """Take the crop of the next picture."""
        self._places.append(self._store.append(jpeg))

    def read(self, pictures: Iterable[int]) -> Iterator[bytes]:
        """The JPEGs of these pictures."""
        for picture in pictures:
            yield self._store.read(self._places[picture - self.first])
