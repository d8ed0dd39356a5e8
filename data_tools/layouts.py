"""The trees of the field's data sets: who speaks in a video, which recording it was cut from.

A layout reads nothing but a video's path below its folder. Its patterns are regular expressions
with one group; what they do not match is not of that data set, which is said.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from data_tools.clips import SPLITS
from data_tools.errors import UsageError
from data_tools.names import listed, shown


@dataclass(frozen=True)
class Layout:
    """Where a data set has its videos.

    Attributes:
        tree: what a path looks like, in words.
        source: group 1, or the groups joined, is the recording that a video was cut from.
        speaker: group 1 is who speaks; None: it is not in the path.
        splits: the folder that stands for a split, by its name in the path.
        face_crops: whether the videos are crops of one face.
        own_folder: the folder given may be a speaker's own (of hdtf, a recording's): its name
            is put before a path below it that does not match alone.
    """

    tree: str
    source: str
    speaker: str | None = None
    splits: tuple[tuple[str, str], ...] = ()
    face_crops: bool = False
    own_folder: bool = False


LAYOUTS = {
    "voxceleb2": Layout(
        tree="[dev|test]/mp4/id00012/21Uxsk56VDQ/00001.mp4",
        source=r"(id\d+/[^/]+)/[^/]+$",
        speaker=r"(id\d+)/[^/]+/[^/]+$",
        splits=(("test", "test"),),
        face_crops=True,
        own_folder=True,
    ),
    "lrs2": Layout(
        tree="[main|pretrain]/6330311066473698535/00011.mp4",
        source=r"([^/]+)/[^/]+$",
        face_crops=True,
    ),
    "lrs3": Layout(
        tree="[pretrain|trainval|test]/0af00UcTOSc/50001.mp4",
        source=r"([^/]+)/[^/]+$",
        splits=(("test", "test"),),
        face_crops=True,
    ),
    "hdtf": Layout(
        tree="WDA_BarackObama_000.mp4, RD_Radio10_000.mp4, parts behind or below such a name",
        # A name may hold underscores, so a number of three digits ends it, if there is one. Digits
        # at the end of a person's name count recordings; those of a radio hour are other people.
        source=r"(?:^|/)((?:RD|WDA|WRA)_(?:[^/]+?_\d{3}|[^/]+?_\d+)(?!\d))",
        speaker=r"(?:^|/)(?:(RD_[^/]+?)_\d{3}(?!\d)|((?:WDA|WRA)_[^/]+?)_?\d*_\d{3}(?!\d)"
        r"|(RD_[^/]+?)_\d+(?!\d)|((?:WDA|WRA)_[^/]+?)_?\d*_\d+(?!\d))",
        own_folder=True,
    ),
    "grid": Layout(
        tree="s1/[video/mpg_6000/]bbaf2n.mpg",
        source=r"(s\d+(?:/|_)[^/]+|s\d+/.*[^/]+|[^/]+)$",
        speaker=r"(?:^|/)(s\d+)(?:/|_)",
        own_folder=True,
    ),
    "mead": Layout(
        tree="M003/video/front/angry/level_1/001.mp4, sound in M003/audio/angry/level_1/001.m4a",
        source=r"([MW]\d+)/video/[^/]+/(.+)$",  # one sentence, filmed from seven sides at once
        speaker=r"(?:^|/)([MW]\d+)/",
        own_folder=True,
    ),
    "crema-d": Layout(
        tree="VideoFlash/1001_DFA_ANG_XX.flv",
        source=r"(\d{4}_[^/]+)$",
        speaker=r"(?:^|/)(\d{4})_[^/]+$",
    ),
    "talkvid": Layout(
        tree="<video>-scene3_scene1.mp4 or <video>_1.mp4",
        source=r"([^/]+?)(?:-scene\d+.*|_\d+)?$",
    ),
    "folders": Layout(
        tree="<speaker>/[<source video>/]<clip>.mp4",
        source=r"^([^/]+/[^/]+)(?:/.*)?$",
        speaker=r"^([^/]+)/",
    ),
}


def matched(pattern: str, name: str) -> str | None:
    """The groups of a pattern that match in `name`, joined by slashes; None: it does not match."""
    match = _compiled(pattern).search(name)
    return "/".join(filter(None, match.groups())) or None if match else None


_compiled = cache(re.compile)


def in_layout(layout: Layout, name: str, path: str) -> tuple[str | None, str | None, str]:
    """Source and speaker of a video, and where its layout looked for them.

    That is `name`, or what is below the folder above it as well. A source that is None was not
    found; a speaker that is None is not known, or not found where the layout has one.

    Args:
        name: the path below the folder given, without its suffix.
        path: of the video's file.
    """
    source, speaker = _both(layout, name)
    if not layout.own_folder or (source and (speaker or not layout.speaker)):
        return source, speaker, name
    above = Path(path).absolute().parents
    depth = name.count("/")
    if depth >= len(above):
        return source, speaker, name
    below = f"{above[depth].name}/{name}"
    return *_both(layout, below), below


def _both(layout: Layout, name: str) -> tuple[str | None, str | None]:
    return matched(layout.source, name), layout.speaker and matched(layout.speaker, name)


def own_split(layout: Layout, name: str) -> str | None:
    """The split that the data set itself puts a video into, by its folder; None: it leaves it."""
    if not layout.splits:
        return None
    within = f"/{name}"
    return next((split for folder, split in layout.splits if f"/{folder}/" in within), None)


class OfficialLists:
    """Lists of a data set's videos, each of a split or of none.

    A line names a video by the end of its path, with or without a suffix; what stands behind a
    blank is passed over.

    Args:
        words: "[SPLIT=]FILE" each.

    Raises:
        UsageError: a list cannot be read, is of an unknown split, or names a video of another
            list's.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._split_of: dict[str, str | None] = {}
        for word in words:
            head, equals, rest = word.partition("=")
            split, file = (head, Path(rest)) if equals and head in SPLITS else (None, Path(word))
            if equals and split is None and not file.exists():
                allowed = ", ".join(SPLITS)
                raise UsageError(f"--list {shown(word)}: SPLIT must be one of {allowed}")
            try:
                names = listed(file, first_word=True)
            except OSError as error:
                why = error.strerror
                raise UsageError(f"cannot read the list {shown(file)}: {why}") from None
            for name in names:
                known = self._split_of.setdefault(_bare(name), split)
                if known != split:
                    raise UsageError(f"{shown(name)} is in the lists of {known} and of {split}")
        self._depths = sorted({name.count("/") + 1 for name in self._split_of})

    def find(self, name: str) -> tuple[bool, str | None]:
        """Whether a video called so is listed, and in which split."""
        parts = name.split("/")
        for depth in self._depths:
            end = "/".join(parts[-depth:])
            if depth <= len(parts) and end in self._split_of:
                return True, self._split_of[end]
        return False, None

    def missing(self, names: Iterable[str]) -> int:
        """How many listed videos are not among `names`."""
        found = set()
        for name in names:
            parts = name.split("/")
            found |= {"/".join(parts[-depth:]) for depth in self._depths}
        return len(self._split_of.keys() - found)


def _bare(word: str) -> str:
    """`a/b/c` of a list's "./a/b/c.mp4"."""
    name = word.removeprefix("./").strip("/")
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if re.fullmatch(r"\.[A-Za-z]\w{1,4}", path.suffix) else name
