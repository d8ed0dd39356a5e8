"""How much of a set a cache of decoded frames may hold, which clips those are.

What fits is decided once, when a run begins: clips in the order of their content's hash, as many as
the room holds. That order is as good as any, and it is the same for every process, run and budget:
a smaller budget keeps a part of what a larger one keeps, and nothing is thrown out to let in what
was read last, which would be thrown out before it is read again. Clips that a keep.csv leaves out
are not read, and so not kept.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.cache_file import (
    FRAMES,
    MAP,
    Head,
    allocated,
    filled,
    frames_path,
    read_entries,
    read_head,
    remove,
)
from data_tools.cache_file import reserved as reserved_by
from trainer.data.dataset import Dataset

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


def which_fit(
    costs: NDArray[np.int64], hashes: Sequence[str], room: int, used: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(clips,) bool: the clips that are kept, by their hashes' order until the first too many.

    Args:
        costs: (clips,) bytes of each clip.
        hashes: of its content.
        room: bytes.
        used: (clips,) bool: which are read at all; no other is kept.
    """
    order = np.array(sorted(np.flatnonzero(used).tolist(), key=lambda clip: hashes[clip]), np.int64)
    kept = np.zeros(len(hashes), np.bool_)
    kept[order[np.cumsum(costs[order]) <= room]] = True
    return kept


def clip_costs(frames: NDArray[np.int64], frame_bytes: int) -> NDArray[np.int64]:
    """(clips,) bytes of the disk that clips' frames take at most, with their entries in the map."""
    return np.asarray(-(-frames * frame_bytes // BLOCK) * BLOCK + BLOCK + 8 * frames)


def kept_clips(
    folder: Path, heads: Sequence[Head], dataset: Dataset, costs: NDArray[np.int64], room: int
) -> NDArray[np.bool_]:
    """(clips,) bool: which clips a cache keeps.

    Frames that are there of clips that are no more kept, since the keep.csv is another, stay where
    the room holds them as well. Else the files with most of them go, unless a process uses them.

    Args:
        folder: of the cache, locked.
        heads: of the files of the dataset's shards.
        costs: of `clip_costs`.
        room: of `make_room`.
    """
    hashes = [each for shard in dataset.shards for each in shard.hashes]
    wanted = which_fit(costs, hashes, room, dataset.used)
    files = [frames_path(folder, head) for head in heads]
    if costs[wanted].sum() + sum(map(allocated, files)) <= room:
        return wanted
    there = _begun(files, heads, dataset.frames, dataset.shard)
    needless = np.bincount(dataset.shard, costs * (there & ~wanted), len(files))
    for number in np.argsort(-needless, kind="stable").tolist():
        if not needless[number] or costs[there | wanted].sum() <= room:
            break
        if remove(files[number]):
            there[dataset.shard == number] = False
    left = room - int(costs[there].sum())
    return which_fit(np.where(there, 0, costs), hashes, left, dataset.used)


def _begun(
    files: Sequence[Path],
    heads: Sequence[Head],
    frames: NDArray[np.int64],
    shard: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(clips,) bool: of which clips any frame is there."""
    found = np.zeros(len(frames), np.bool_)
    first = np.searchsorted(shard, np.arange(len(files) + 1))
    for number, (path, head) in enumerate(zip(files, heads, strict=True)):
        clips = slice(first[number], first[number + 1])
        entries = read_entries(path.with_suffix(MAP), head)
        if len(entries):
            begins = np.cumsum(frames[clips]) - frames[clips]
            found[clips] = np.logical_or.reduceat(filled(entries), begins)
    return found


def make_room(folder: Path, heads: Sequence[Head], budget: int, wanted: int) -> int:
    """Bytes that the files of `heads` may take together in a cache of `budget` bytes.

    What is stale, frames of a shard that has changed since, goes. Frames of other shards, or of
    another size, yield if they have to, those used longest ago first, but not while a process uses
    them. Nor do our own stay if they take more than there may be.

    Args:
        folder: of the cache, locked.
        wanted: bytes of all of the frames that are read.

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
