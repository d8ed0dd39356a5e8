"""What --fix makes of a track whose offset changes: mended through files, and measured again."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.planted import Take, measure
from data_tools.errors import UserError
from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.video.course import Course
from data_tools.video.remux import retimed
from trainer.model.network import Network
from trainer.score.course import plan_mend
from trainer.score.mend import not_seen_again, still_off
from trainer.score.scoring import TOLERANCE
from trainer.score.trust import TrackResult

_SIZE = 16  # pixels: the pictures of the files are never looked at


@dataclass
class Mends:
    """What became of tracks with one kind of change.

    Attributes:
        planted: how many there are.
        written: of how many the copy measured within a frame throughout, and so was given.
        refused: of the others, how many for which reason.
        within: of each copy, the share of its time that is within a frame by what was planted.
    """

    planted: int = 0
    written: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    within: list[float] = field(default_factory=list)

    def add(self, other: "Mends") -> None:
        """Count those of another group as well."""
        self.planted += other.planted
        self.written += other.written
        self.refused += other.refused
        self.within += other.within

    def figures(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "planted": self.planted,
            "written": self.written,
            "refused": dict(self.refused.most_common()),
            "truly_within_a_frame": {
                "median": round(float(np.median(self.within)), 4),
                "least": round(min(self.within), 4),
            }
            if self.within
            else None,
        }

    def mend(
        self, take: Take, track: TrackResult, network: Network, early_T: NDArray[np.floating]
    ) -> None:
        """Mend a track and measure it again.

        Args:
            track: what was measured of it.
            early_T: frames by which its sound truly is early beside each picture.
        """
        self.planted += 1
        try:
            plan = plan_mend([track])
        except UserError as error:
            self.refused["not certain: " + _without_figures(str(error))] += 1
            return
        if not isinstance(plan, Course):
            self.refused["no change was told"] += 1
            return
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "a.mp4", Path(folder) / "b.mp4"
            write_take(take, source)
            with retimed(source, out, plan) as (copy, _, encoded):
                sound = _sound(copy, len(take.audio))
        again = measure(replace(take, audio=sound), network)
        if against := still_off([again]) or not_seen_again([track], [again]):
            self.refused[_without_figures(against)] += 1
            return
        self.written += 1
        times = np.arange(len(early_T)) / FPS
        piece = np.searchsorted(encoded.moments, times, side="right")
        moved = np.array([plan.lines[k].at(t) * FPS for k, t in zip(piece, times, strict=True)])
        self.within.append(float((np.abs(early_T - moved) <= TOLERANCE).mean()))


def _without_figures(words: str) -> str:
    """The reason alone."""
    return " ".join(word for word in words.split() if not any(map(str.isdigit, word)))[:70]


def write_take(take: Take, path: Path) -> None:
    """A file with the sound of a track (AAC), and black pictures."""
    black = np.zeros((_SIZE, _SIZE, 3), np.uint8)
    with av.open(str(path), "w") as made:
        video: Any = made.add_stream("libx264", rate=FPS)
        video.width = video.height = _SIZE
        video.pix_fmt = "yuv420p"
        video.options = {"preset": "ultrafast"}
        sound: Any = made.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for number in range(len(take.frames_NHW)):
            picture = av.VideoFrame.from_ndarray(black, "rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            made.mux(video.encode(picture))
            begin = number * SAMPLES_PER_FRAME
            part = np.ascontiguousarray(take.audio[None, begin : begin + SAMPLES_PER_FRAME])
            samples = av.AudioFrame.from_ndarray(part, "s16", "mono")
            samples.sample_rate, samples.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            samples.pts = begin
            made.mux(sound.encode(samples))
        made.mux(video.encode(None))
        made.mux(sound.encode(None))


def _sound(path: Path, count: int) -> NDArray[np.int16]:
    """(count,) the sound of a file from 0 s on."""
    out = np.zeros(count, np.int16)
    with av.open(str(path)) as given:
        flat = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        at = None
        for frame in given.decode(given.streams.audio[0]):
            assert frame.pts is not None and frame.time_base is not None
            if at is None:
                at = round(float(frame.pts * frame.time_base) * SAMPLE_RATE)
            for part in flat.resample(frame):
                samples = part.to_ndarray()[0]
                first, last = max(at, 0), min(at + len(samples), count)
                if last > first:
                    out[first:last] = samples[first - at : last - at]
                at += len(samples)
    return out
