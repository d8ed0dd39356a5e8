"""Clips in the seed's layout: `[<split>/]<clip>/{audio.wav, frames/frame0.jpg ...}`.

A folder that holds `frames/` is a clip. Its source video, which decides the split, is the "source"
in its `clip.json` where there is one, else the group of `--source-pattern`, else the folders above
it (`<video>/<clip>`), else the clip itself.
"""

import errno
import hashlib
import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from msgspec import Meta

from data_tools.errors import UsageError, UserError
from data_tools.names import NotPlain, open_plain, real_path, shown
from data_tools.records import read_record

SPLITS = ("train", "val", "test")
MAX_FRAMES = 100_000  # of a clip: more than an hour
_OF_THE_CLIP = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
_LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)")


class ClipError(UserError):
    """A clip that cannot be used: `reason` is the class that reports count, `detail` the case."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process boundaries
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class Described:
    """What we read of a clip.json; `prepare` writes more into it."""

    source: Annotated[str, Meta(min_length=1)] | int
    crop: Any = None


@dataclass(frozen=True)
class Clip:
    """Where a clip lies and which source video it was cut from."""

    name: str  # path below the root, split folder included; bytes that are no UTF-8 escaped
    path: Path
    split: str | None  # of the split folder it lies in, if any
    source: str
    same_as: str | None = None  # name of the clip that this one is under another name
    crop: str | None = None  # what its clip.json says that the pictures show


def find_clips(root: Path, source_pattern: str | None = None) -> list[Clip]:
    """All clips below `root`, sorted by name (numbers in names by value).

    Links to folders are followed. A clip that is reached again by another name is listed under that
    name too, with `same_as`.

    Raises:
        UsageError: `root` is no folder, it holds no clip, or the pattern is no regular expression
            with one group.
        RecordError: a clip.json names no source.
        OSError: a folder cannot be read.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder of clips")
    pattern = _compile(source_pattern)
    folders, again = _clip_folders(root)
    clips: dict[Path, Clip] = {}
    names = set()
    for folder in folders:
        parts = _parts(folder, root)
        split = _split(parts)
        inner = parts[1:] if split else parts
        # Two splits may number their clips alike; that alone does not make them one source.
        own = parts if len(inner) == 1 else inner[:-1]
        name = "/".join(parts)
        if name in names:  # the escaped bytes of one are another's letters
            digest = hashlib.sha256(os.fsencode(folder.relative_to(root))).hexdigest()
            name = f"{name} ({digest[:16]})"
        names.add(name)
        source, crop = _source(folder, inner, own, pattern)
        clips[folder] = Clip(name, folder, split, source, crop=crop)
    if not clips:
        raise UsageError(
            f"{root} holds no clip: expected <clip>/audio.wav with <clip>/frames/frame0.jpg ..."
        )
    listed = list(clips.values())
    for folder, original in again:
        parts, first = _parts(folder, root), clips[original]
        listed.append(Clip("/".join(parts), folder, _split(parts), first.source, first.name))
    return sorted(listed, key=lambda clip: (natural_key(clip.name), clip.name))


def _clip_folders(root: Path) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """The folders that hold frames/, and other names by which links lead to them again.

    Each folder is entered once, so that loops and links to links end. Folders go before links: of
    two names the one without a link counts.
    """
    entered: dict[tuple[int, int], Path] = {}
    clip_folders: list[Path] = []
    repeats: list[tuple[Path, Path]] = []
    folders, links = [root], deque[Path]()
    while folders or links:
        here = folders.pop() if folders else links.popleft()
        lies = here.stat()
        known = entered.setdefault((lies.st_dev, lies.st_ino), here)
        if known is not here:
            repeats.append((here, known))
            continue
        with os.scandir(here) as entries:
            inside = [e for e in entries if not e.name.startswith(".") and _is_folder(e)]
        if here != root and any(entry.name == "frames" for entry in inside):
            clip_folders.append(here)
            continue
        inside.sort(key=lambda entry: entry.name)
        links += [here / entry.name for entry in inside if entry.is_symlink()]
        folders += [here / entry.name for entry in reversed(inside) if not entry.is_symlink()]
    again = []
    for here, known in repeats:
        above = real_path(here.parent)
        if real_path(known) in (above, *above.parents):
            continue  # a loop leads to no clip that it does not lie beside
        again += [
            (here / folder.relative_to(known), folder)
            for folder in clip_folders
            if folder.is_relative_to(known)
        ]
    return clip_folders, again


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself, or to what nobody may look at


def _parts(folder: Path, root: Path) -> tuple[str, ...]:
    return tuple(shown(part) for part in folder.relative_to(root).parts)


def _split(parts: tuple[str, ...]) -> str | None:
    return parts[0] if parts[0] in SPLITS and len(parts) > 1 else None


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key under which `frame10` comes after `frame9`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def frame_files(clip: Clip) -> list[Path]:
    """The clip's JPEG files in the order of the number in their names, without gaps.

    Raises:
        ClipError: there are none, or a number is missing, doubled or absent.
    """
    files = [f for f in (clip.path / "frames").iterdir() if f.suffix.lower() in (".jpg", ".jpeg")]
    if not files:
        raise ClipError("no frames", "frames/ holds no .jpg file")
    if len(files) > MAX_FRAMES:
        raise ClipError("too long", f"{len(files)} frames; cut it into clips of {MAX_FRAMES}")
    numbered: dict[int, Path] = {}
    for file in files:
        match = _LAST_NUMBER.search(file.stem)
        if match is None:
            raise ClipError("frame without a number", f"frames/{shown(file.name)}")
        number = int(match[1])
        if number in numbered:
            raise ClipError(
                "frame doubled",
                f"frames/{shown(file.name)} and {shown(numbered[number].name)}",
            )
        numbered[number] = file
    first = min(numbered)
    for number in range(first, first + len(numbered)):
        if number not in numbered:
            # Closing the gap would shift every later frame against the sound.
            raise ClipError("frame missing", f"no frame {number} of {first}..{max(numbered)}")
    return [numbered[number] for number in sorted(numbered)]


def open_file(file: Path, name: str) -> BinaryIO:
    """Open a clip's file for reading; what is no plain file would hang or never end.

    Raises:
        ClipError: it is no plain file, missing or may not be read.
        OSError: the disk fails.
    """
    try:
        return open_plain(file)
    except NotPlain:
        raise ClipError("not a file", f"{name} is a folder, pipe or device") from None
    except OSError as error:
        if error.errno not in _OF_THE_CLIP:
            raise
        raise ClipError("unreadable file", f"{name}: {str(error.strerror).lower()}") from None


def read_file(file: Path, name: str, limit: int) -> bytes:
    """The bytes of a clip's file of at most `limit`; `name` is how an error calls it.

    Raises:
        ClipError: as `open_file`; or it is larger.
    """
    with open_file(file, name) as stream:
        content = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)
    if len(content) > limit:
        raise ClipError("file too large", f"{name} has more than {limit:,} bytes")
    return content


def _source(
    path: Path, inner: tuple[str, ...], default: tuple[str, ...], pattern: re.Pattern[str] | None
) -> tuple[str, str | None]:
    """The source of a clip, and what its clip.json says that the pictures show."""
    described = path / "clip.json"
    if described.exists():
        about = read_record(
            described,
            Described,
            'is not JSON with a "source"',
            "mend it or take it away",
            as_python=True,  # it is other programs', of which many are in Python
        )
        return shown(about.source), about.crop if isinstance(about.crop, str) else None
    if pattern is not None:
        match = pattern.search("/".join(inner))
        if match is None or match[1] is None:
            raise UsageError(f"--source-pattern matches nothing in {'/'.join(inner)!r}")
        return match[1], None
    return "/".join(default), None


def _compile(source_pattern: str | None) -> re.Pattern[str] | None:
    if source_pattern is None:
        return None
    try:
        pattern = re.compile(source_pattern)
    except re.error as error:
        raise UsageError(f"--source-pattern is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise UsageError("--source-pattern needs exactly one group, the source's name")
    return pattern
