"""Which videos of strangers there are, who speaks in them, and what is known of their offsets.

`clips.csv` lists facts alone; the videos stay where they are. Offsets are in frames, positive: the
sound is early. Those of GRID (Cooke et al. 2006) are nought by definition: every other offset is
told against GRID's own zero. Those of the talking group were found by another network, a regression
of lip motion agreeing on most; of TalkVid (and one other) none is known. No network of this project
may be trained on any of these.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from benchmarks import mouths
from data_tools.errors import UserError

Group: TypeAlias = Literal["grid", "talking", "talkvid", "example"]
GROUPS: tuple[Group, ...] = get_args(Group)
WORDS: dict[Group, str] = {
    "grid": "GRID: a studio, new speakers",
    "talking": "talking: videos from the wild",
    "talkvid": "TalkVid: videos from the wild, several languages",
    "example": "the official network's demonstration clip",
}
JUDGED: tuple[Group, ...] = ("grid", "talking", "talkvid")  # "example" is for GRID's zero alone
# Another network put every clip of TalkVid within -5..+2 frames (one frame more is let pass): an
# answer beyond is wrong, however well it follows.
PLAUSIBLE: dict[Group, tuple[int, int]] = {"talkvid": (-6, 3)}
LISTED = Path(__file__).with_name("clips.csv")


@dataclass(frozen=True)
class Video:
    """A video of one stranger.

    Attributes:
        path: below the folder of the data.
        group: one of GROUPS.
        speaker: who speaks: the intervals are taken over speakers.
        offset: frames by which its sound is early; None where that is unknown.
    """

    path: Path
    group: Group
    speaker: str
    offset: int | None

    @property
    def name(self) -> str:
        """What its clips have as their source."""
        return self.path.stem

    def plausible(self, offset: int) -> bool:
        """Whether its sound may be early by so much; True where nothing is known."""
        least, most = PLAUSIBLE.get(self.group, (offset, offset))
        return least <= offset <= most


def listed(path: Path = LISTED) -> list[Video]:
    """The videos of a list.

    Raises:
        UserError: a group is unknown, an offset is no whole number, or a name is there twice.
    """
    videos: dict[str, Video] = {}
    with open(path, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            group = next((known for known in GROUPS if known == row["group"]), None)
            if group is None:
                raise UserError(f"{path}: {row['group']!r} is none of {', '.join(GROUPS)}")
            try:
                offset = int(row["offset_frames"]) if row["offset_frames"] else None
            except ValueError:
                raise UserError(f"{path}: {row['offset_frames']!r} is no offset") from None
            video = Video(Path(row["video"]), group, row["speaker"], offset)
            if video.name in videos:
                raise UserError(f"{path}: two videos are called {video.name}")
            videos[video.name] = video
    return list(videos.values())


def prepare(data: Path, videos: Sequence[Video], work: Path) -> tuple[Path, Path]:
    """The videos as clips of mouths and as shards, all in the test split; done once.

    A track stays whole up to a minute, and is kept from a second on.

    Returns:
        the folder of the clips, and that of the shards.

    Raises:
        UserError: a video is missing, or the preparation failed.
    """
    files = [data / video.path for video in videos]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(f"{missing[0]} is missing, and {len(missing) - 1} more of {len(files)}")
    shards = mouths.prepare(files, work, (0, 0, 100), "--min-frames", "25", "--max-clip", "60")
    return work / "clips", shards
