"""Which videos a command names, and what their clips are to be called."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from data_tools.clips import SPLITS
from data_tools.errors import UsageError
from data_tools.heap import no_collecting
from data_tools.names import listed, shown

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4"),
        *("mpeg", "mpg", "mts", "mxf", "ogv", "ts", "vob", "webm", "wmv"),
    )
)
SAME_FILE = "the same file as"  # how a refusal of one begins
_LONGEST_NAME = 251  # bytes
# Nearly all names: parts of printable ASCII, none of them "." or too long.
_ORDINARY = re.compile(r"(?:(?!\./)[ -.0-~]{1,251}/)*(?!\.\Z)[ -.0-~]{1,251}")
# What lies in a folder of clips besides them.
_SPECIAL = re.compile(rf"\.|report|montage(?:/|\Z)|(?:{'|'.join(SPLITS)})\Z")


def find_videos(inputs: list[Path]) -> tuple[list[tuple[str, str]], int]:
    """The files of videos that `inputs` name, with the names that their clips get, sorted by name.

    Those are as in `find_named_videos`, made fit for folders of clips. Also returns how many files
    of the folders are no videos by their suffix.

    Raises:
        UsageError: as `find_named_videos`.
    """
    videos, others = find_named_videos(inputs)
    return [(path, name) for path, name, _ in videos], others


@no_collecting()
def find_named_videos(inputs: list[Path]) -> tuple[list[tuple[str, str, str]], int]:
    """As `find_videos`, each with its own name besides.

    A DIR's videos are called by their path below it, a LIST's as listed, each without the suffix.

    Raises:
        UsageError: an input does not exist, a folder is named twice, or there is no video at all.
    """
    videos: list[tuple[str, str]] = []
    others = 0
    folders: dict[object, Path] = {}
    for given in inputs:
        if os.path.isdir(given):  # pathlib's raise an error at a name that is too long
            first = folders.setdefault(same_file_key(given), given)
            if first is not given:
                raise UsageError(
                    f"{shown(given)} is the same folder as {shown(first)}: name it once"
                )
            inside, more = _videos_below(given)
            videos += inside
            others += more
        elif given.suffix.lower() == ".txt":
            videos += _listed_videos(given)
        elif os.path.exists(given):
            videos.append((os.fspath(given), given.stem))
        else:
            raise UsageError(f"{shown(given)} does not exist")
    if not videos:
        raise UsageError(
            "no video found; known by suffix in folders are " + ", ".join(sorted(SUFFIXES))
        )
    named = [(path, _folder_name(name), name) for path, name in videos]
    return sorted(named, key=itemgetter(1, 0)), others


def _videos_below(folder: Path) -> tuple[list[tuple[str, str]], int]:
    """The videos below a folder, each with its name, and how many other files there are.

    All of it as text: for a million videos pathlib would take a minute.
    """
    videos: list[tuple[str, str]] = []
    others = 0
    top = os.fspath(folder)
    inside, seen = os.path.realpath(top), {same_file_key(top)}
    for base, below_it, files in os.walk(top, followlinks=True):
        below_it[:] = [each for each in sorted(below_it) if _is_new(f"{base}/{each}", inside, seen)]
        below = base[len(top) :].strip("/")
        prefix = f"{below}/" if below else ""
        parent = os.path.join(base, "").removeprefix("./")
        for file in files:
            stem, dot, suffix = file.rpartition(".")
            if file.startswith("."):
                continue
            if stem and f"{dot}{suffix.lower()}" in SUFFIXES:
                videos.append((parent + file, prefix + stem))
            else:
                others += 1
    return videos, others


def _is_new(folder: str, inside: str, seen: set[object]) -> bool:
    """Whether a folder is to be entered: links are followed, but to no folder twice.

    inside: the folder that all of it lies below: what a link leads to within is found without it,
        and what lies above was not asked for.
    seen: which are entered; this one is added.
    """
    if os.path.islink(folder):
        leads_to = os.path.realpath(folder)
        longer, shorter = sorted((f"{leads_to}/", f"{inside}/"), key=len, reverse=True)
        if longer.startswith(shorter.replace("//", "/")):
            return False
    key = same_file_key(folder)
    new = key not in seen
    seen.add(key)
    return new


def _listed_videos(file: Path) -> list[tuple[str, str]]:
    """The videos of a LIST, each with its name."""
    try:
        names = listed(file)
    except OSError as error:
        raise UsageError(f"cannot read the list {shown(file)}: {error.strerror}") from None
    videos = []
    base = os.path.join(file.parent, "").removeprefix("./")
    for name in names:
        beside = os.path.join(base, name)
        parts = [part for part in name.split("/") if part not in ("", "..", ".")]
        if not parts:
            raise UsageError(f"{shown(file)} lists {name}, which is a folder")
        path = beside if os.path.exists(beside) else name
        if "./" in path or "//" in path:  # else it is as pathlib has it
            path = os.fspath(Path(path))
        stem, _, suffix = parts[-1].rpartition(".")
        if stem and suffix:
            parts[-1] = stem
        videos.append((path, "/".join(parts)))
    return videos


@no_collecting()
def settle_names(videos: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Each file with its name and, where another video stands in its way, why and which.

    A file that is reached by two names (links, a folder and a file in it) is one video.

    Decided from all names alone, so that it is the same for every part of a run and every resume.
    A name that is refused is made unlike any other by the file's path.
    """
    first: dict[str, str] = {}
    files: dict[object, str] = {}
    settled = []
    folder, above = "", list[str]()
    for path, name in videos:
        same = files.setdefault(same_file_key(path), path)
        if same is not path:
            why = f"{SAME_FILE} {shown(same)}"
            settled.append((path, f"{name} ({shown(path)})", why))
            continue
        if name.rpartition("/")[0] != folder:  # else no folder above it has been named since
            folder = name.rpartition("/")[0]
            above = [each for each in _folders(name) if each in first]
        why = ""
        if name in first:
            why = f"{shown(first[name])} has the same name; rename one of them"
        elif above:
            other = shown(first[above[0]])
            why = f"its clips would lie among those of {other}; rename one of them"
        first.setdefault(name, path)
        settled.append((path, f"{name} ({shown(path)})" if why else name, why))
    return settled


def _folders(name: str) -> Iterator[str]:
    """The folders above a name, the nearest first."""
    end = name.rfind("/")
    while end > 0:
        yield name[:end]
        end = name.rfind("/", 0, end)


def _folder_name(name: str) -> str:
    """`name` as a folder of clips may be called beside report, montage and splits."""
    if _ORDINARY.fullmatch(name):
        return f"_{name}" if _SPECIAL.match(name) else name
    parts = [_fitting(part) for part in shown(name).split("/") if part not in ("", ".")]
    head, *rest = parts or ["."]
    named = "/".join((head, *rest))
    return f"_{named}" if _SPECIAL.match(named) else named


def same_file_key(path: Path | str) -> object:
    """What is the same for all names of a file."""
    try:
        status = os.stat(path)
    except OSError:
        return path  # is missing, which is said later
    return status.st_dev, status.st_ino


def _fitting(part: str) -> str:
    # The escapes of `shown` make a name longer; its montage ends in .jpg.
    encoded = part.encode()
    if len(encoded) <= _LONGEST_NAME:
        return part
    mark = hashlib.sha1(encoded).hexdigest()[:10]
    return f"{encoded[: _LONGEST_NAME - 11].decode(errors='ignore')}~{mark}"
