"""Room for copies of remote shards: what is used longest ago and is safe at its source goes."""

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from data_tools.lock import locked_file, waiting_lock
from data_tools.remote import RemoteError

OWN: Final = ".mirror"  # in the folder of a copy: where it came from, beginnings, locks
SOURCE: Final = "source.json"
_PART = re.compile(r"(?P<tar>.+\.tar)\.(?P<size>\d+)\.part")
_POLL = 0.05  # seconds between two looks for room
_PATIENCE = 60.0  # seconds for room to become free


class Evicting(Protocol):
    """What can tell whether a shard may go."""

    def evict(self, name: str) -> int:
        """Remove a tar unless it is in use or its source lacks it; returns the bytes won."""


class Room:
    """The bytes that all copies in a folder may take.

    Args:
        folder: of the folders of copies.
        most: bytes; 0: no limit.
        mirror_of: what fetched the copy in a folder; None: that is not known.
    """

    def __init__(
        self, folder: Path, most: int, mirror_of: Callable[[Path], Evicting | None]
    ) -> None:
        self.folder, self.most = folder, most
        self._mirror_of = mirror_of
        self._lock = folder / ".room.lock"

    def take(self, part: Path, size: int, evict: bool) -> bool:
        """Make the beginning of a shard, `part`, which holds its room; whether there was some.

        Args:
            evict: make room; wait for it, if all that is there is in use.

        Raises:
            RemoteError: none became free.
        """
        if not self.most:
            part.touch()
            return True
        deadline = math.inf
        while True:
            with waiting_lock(self._lock):
                if part.exists() or self._evict_until(size, evict):
                    part.touch()
                    return True
            if not evict:
                return False
            # from the first look on: the lock may be long in coming, behind a slow server
            deadline = min(deadline, time.monotonic() + _PATIENCE)
            if time.monotonic() > deadline:
                raise RemoteError(
                    f"{self.folder} has no room for {part.name.split('.tar')[0]}.tar: all of "
                    f"local_gb {self.most / 1e9:g} is in use, or no longer at its source"
                )
            time.sleep(_POLL)

    def trim(self) -> None:
        """Evict until what is there fits, or no more can be."""
        if self.most:
            with waiting_lock(self._lock):
                self._evict_until(0, evict=True)

    def _evict_until(self, size: int, evict: bool) -> bool:
        """Make room for so many bytes beside what is there; whether it is so."""
        taken, tars = 0, []
        for own in self.folder.glob(f"*/{OWN}"):
            taken += sum(map(_promised, own.glob("*.part")))
            for tar in own.parent.glob("*.tar"):
                with suppress(FileNotFoundError):
                    status = tar.stat()
                    taken += status.st_size
                    tars.append((status.st_atime_ns, tar))
        if taken + size > self.most and evict:
            taken -= sum(map(_promised, self._left_behind()))
        known: dict[Path, Evicting | None] = {}
        for _, tar in sorted(tars):
            if taken + size <= self.most or not evict:
                break
            if tar.parent not in known:
                known[tar.parent] = self._mirror_of(tar.parent)
            mirror = known[tar.parent]
            taken -= 0 if mirror is None else mirror.evict(tar.name)
        return taken + size <= self.most

    def _left_behind(self) -> Iterator[Path]:
        """Beginnings of shards that nobody is fetching, each removed."""
        for part in self.folder.glob(f"*/{OWN}/*.part"):
            if (match := _PART.fullmatch(part.name)) is None:
                continue
            lock = part.with_name(f"{match['tar']}.lock")
            with suppress(BlockingIOError, FileNotFoundError), locked_file(lock):
                part.unlink()
                yield part


def _promised(part: Path) -> int:
    """Bytes of the whole shard of which this is the beginning."""
    match = _PART.fullmatch(part.name)
    return int(match["size"]) if match else 0
