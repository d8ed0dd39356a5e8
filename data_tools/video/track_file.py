"""The crops of one track, on disk until it is known which of them are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


class TrackFile:
    """The crops of one track, as JPEGs one after the other in one file.

    Files of their own come only when it is known which are kept: making, linking and removing one
    costs a disk more time than cropping and encoding.

    Attributes:
        first: the track's first picture.
        next: the next picture to be cropped.
        sharpness: of some crops, by the picture.
        held: pictures that repeat the one before.
    """

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first
        self.next = first
        self.sharpness: dict[int, float] = {}
        self.held: list[int] = []
        self._ends: list[int] = []  # of each JPEG, bytes
        self._unwritten: list[bytes] = []

    def append(self, jpeg: bytes) -> None:
        """Take the crop of the next picture; `flush` writes it."""
        self._ends.append((self._ends[-1] if self._ends else 0) + len(jpeg))
        self._unwritten.append(jpeg)

    def flush(self) -> None:
        """Write what was appended."""
        with self.path.open("ab") as file:
            file.writelines(self._unwritten)
        self._unwritten.clear()

    def read(self, pictures: Iterable[int]) -> Iterator[bytes]:
        """The JPEGs of these pictures."""
        with self.path.open("rb") as file:
            for place in (picture - self.first for picture in pictures):
                begin = self._ends[place - 1] if place else 0
                file.seek(begin)
                yield file.read(self._ends[place] - begin)
