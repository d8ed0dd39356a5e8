"""Which videos a batch measures, and where their mended copies are to lie."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from data_tools.errors import UsageError
from data_tools.inputs import find_named_videos, same_file_key
from data_tools.names import real_path, shown

_MENDABLE = (".mp4", ".m4v", ".mov", ".mkv", ".webm")  # as `data_tools.video.remux`


@dataclass(frozen=True)
class BatchVideo:
    """A video of a batch.

    Attributes:
        path: its file.
        target: where its mended copy is to be; None without --fix-dir.
        clash: why it cannot be there, in words; empty if it can.
    """

    path: Path
    target: Path | None = None
    clash: str = ""


def batch_videos(
    given: list[Path], out: Path, fix_dir: Path | None
) -> tuple[list[BatchVideo], list[str]]:
    """The videos that folders, patterns, lists and names give, each file once, sorted by name.

    Also what else was found, in words: files that are no videos by their suffix, and second names
    of one video, of which that is taken which is no link. What lies below `out` or `fix_dir` is not
    taken: those are results of this very batch. A copy lies in `fix_dir` as its video lies below
    the folder that was given, x.avi as x.avi.mkv; decided from all names, so that it is the same
    for every part of a run and every resume.

    Raises:
        UsageError: one does not exist, a pattern fits nothing, or there is no video at all.
    """
    for option, folder in (("--out", out), ("--fix-dir", fix_dir)):
        if folder is not None and any(same_file_key(folder) == same_file_key(g) for g in given):
            raise UsageError(f"{option}: {shown(folder)} is where the videos are; name another")
        if folder is not None and (inside := [g for g in given if _below(g, folder)]):
            raise UsageError(f"{option}: {shown(folder)} holds {shown(inside[0])}; name another")
    found, others = find_named_videos([path for name in given for path in _expanded(name)])
    ours = [real_path(folder) for folder in (out, fix_dir) if folder is not None]
    videos: list[BatchVideo] = []
    targets: dict[Path, Path] = {}
    outside = [
        (Path(file), name)
        for file, _, name in found
        if not any(real_path(file).is_relative_to(folder) for folder in ours)
    ]
    names: dict[object, Path] = {}
    for path, _ in outside:
        first = names.setdefault(same_file_key(path), path)
        if os.path.islink(first) and not os.path.islink(path):
            names[same_file_key(path)] = path
    for path, name in outside:
        if names[same_file_key(path)] is not path:
            continue
        if fix_dir is None:
            videos.append(BatchVideo(path))
            continue
        # Matroska takes what other containers hold, and keeps a time for every packet.
        suffix = path.suffix if path.suffix.lower() in _MENDABLE else f"{path.suffix}.mkv"
        target = fix_dir / f"{name}{suffix}"
        first = targets.setdefault(target, path)
        clash = "" if first is path else f"{shown(first)} has the same name; rename one of them"
        videos.append(BatchVideo(path, target, clash))
    if not videos:
        raise UsageError("no video found but those that this batch wrote itself")
    notes = [f"{others} files were not taken for videos, by their suffix"] if others else []
    if again := len(outside) - len(videos):
        notes.append(f"{again} names lead to videos that are taken by another name (links)")
    return videos, notes


def _below(name: Path, folder: Path) -> bool:
    return os.path.exists(name) and real_path(name).is_relative_to(real_path(folder))


def _expanded(name: Path) -> list[Path]:
    """What a pattern fits, sorted; a name that is there, or is no pattern, as it is.

    Raises:
        UsageError: it fits nothing.
    """
    if os.path.exists(name) or not glob.has_magic(str(name)):
        return [name]
    fitting = sorted(Path(found) for found in glob.iglob(str(name), recursive=True))
    if not fitting:
        raise UsageError(f"{shown(name)} fits no file")
    return fitting
