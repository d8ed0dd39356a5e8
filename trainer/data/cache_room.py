"""How much of a set a cache of decoded frames may hold, which clips those are.

What fits is decided once, when a run begins: clips in the order of their content's hash, as many as
the room holds. That order is as good as any, and it is the same for every process, run and budget:
a smaller budget keeps a part of what a larger one keeps, and nothing is thrown out to let in what
was read last, which would be thrown out before it is read again.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.cache_file import FRAMES, MAP, Head, allocated, frames_path, read_head, remove
from data_tools.cache_file import reserved as reserved_by

LEFT_FREE = 10**9  # bytes of the disk that are never taken
BLOCK = 4096  # of a file system: a clip's frames may touch one more at either end


def available_memory() -> int:
    """Bytes that programs may take, page cache included (Linux's MemAvailable), in this container.

    The smaller of what the machine and the control group (version 2) have left.
    """
    left = 2**62
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            left = 1024 * int(line.split()[1])
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return left
    if limit.isdigit():
        left = min(left, max(0, int(limit) - used + int(stat.get("file", 0))))
    return left


def free_bytes(folder: Path) -> int:
    """Bytes left to this user on the disk of a folder that may be still to be made."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(nearest).free


def which_fit(costs: Sequence[int], hashes: Sequence[str], room: int) -> NDArray[np.bool_]:
    """(clips,) bool: the clips that are kept, by their hashes' order until the first too many.

    Args:
        costs: bytes of each clip.
        hashes: of its content.
        room: bytes.
    """
    order = sorted(range(len(hashes)), key=lambda clip: hashes[clip])
    kept = np.zeros(len(hashes), np.bool_)
    if order:
        fits = np.cumsum(np.array(costs, np.int64)[order]) <= room
        kept[np.array(order)[fits]] = True
    return kept


def clip_cost(frames: int, frame_bytes: int) -> int:
    """Bytes of the disk that a clip's frames take at most, with their entries in the map."""
    return -(-frames * frame_bytes // BLOCK) * BLOCK + BLOCK + 8 * frames


def make_room(folder: Path, heads: Sequence[Head], budget: int, wanted: int) -> int:
    """Bytes that the files of `heads` may take together in a cache of `budget` bytes.

    What is stale, frames of a shard that has changed since, goes. Frames of other shards, or of
    another size, yield if they have to, those used longest ago first, but not while a process uses
    them. Nor do our own stay if they take more than there may be.

    Args:
        folder: of the cache, locked.
        wanted: bytes of all of the frames.

    Raises:
        OSError: the folder cannot be read.
    """
    ours = {frames_path(folder, head) for head in heads}
    newest = {(head.shard, head.look) for head in heads}
    others = []
    for frames in _all(folder) - ours:
        head = read_head(frames.with_suffix(MAP))
        stale = head is None or (head.shard, head.look) in newest
        if not (stale and remove(frames)):
            others.append(frames)
    others.sort(key=_last_used)
    own = {frames: allocated(frames) for frames in ours}
    wanted = max(min(wanted, budget), sum(own.values()))
    taken = {frames: _taken(frames) for frames in others}
    for frames in others:
        if sum(taken.values()) + wanted <= budget:
            break
        if remove(frames):
            del taken[frames]
    room = max(0, budget - sum(taken.values()))
    for frames in sorted(own, key=lambda path: -own[path]):
        if sum(own.values()) <= room:
            break
        if remove(frames):
            own[frames] = 0
    return max(0, min(room, sum(own.values()) + free_bytes(folder) - LEFT_FREE))


def _all(folder: Path) -> set[Path]:
    return {each.with_suffix(FRAMES) for end in (FRAMES, MAP) for each in folder.glob(f"*{end}")}


def _last_used(frames: Path) -> float:
    try:
        return frames.with_suffix(MAP).stat().st_mtime
    except OSError:
        return 0.0


def _taken(frames: Path) -> int:
    # A process that fills the file at this moment may still fill what it has reserved.
    return max(allocated(frames), reserved_by(frames.with_suffix(MAP)))
