"""The sound of one video at 16 kHz, on disk if it is long, by its presentation times."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.clips import ClipError
from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.video.mono import Levels

LONGEST_GAP = 3600  # seconds by which broken timestamps may make a video longer, in all
_IN_MEMORY = 16 << 20  # bytes; the sound of a short clip never touches the disk
TOLERANCE = SAMPLE_RATE // 100  # sound moved by less than 10 ms is the rounding of timestamps


class VideoError(ClipError):
    """A video that cannot be used: `reason` is the class that reports count, `detail` the case."""


@dataclass(frozen=True)
class _Part:
    """A part of the sound that has the same channels throughout."""

    channels: tuple[str, ...]
    first: int  # sample
    begin: int  # byte of the file

    @property
    def bytes(self) -> int:
        """Of the mix and every channel, a sample."""
        return 2 * (1 + len(self.channels))


class Sound:
    """Sound of one video, 16 kHz mono int16: what is longer than some minutes lies on disk.

    Beside the mix lie the channels (at most 16) that it was made of, one of which is taken instead
    where they cancel each other. That is decided from all that was appended, so read afterwards.
    """

    def __init__(self, path: Path) -> None:
        # It has no name, so that nothing is left of it when the process is killed.
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            _IN_MEMORY, dir=os.fspath(path.parent)
        )
        self._end = 0  # bytes, holes included
        self._samples = 0
        self._parts = [_Part((), 0, 0)]
        self._levels: dict[tuple[str, ...], Levels] = {}
        self.start: Fraction | None = None  # presentation time of the first sample, seconds
        self.filled = 0  # samples of silence put into gaps
        self.cut = 0  # samples left out because two packets claim one time
        self.not_finite = self.clipped = 0.0  # samples that were no number, or beyond full scale

    @property
    def heard(self) -> Fraction:
        """Seconds of sound so far, without the silence put into gaps."""
        return Fraction(self._samples - self.filled, SAMPLE_RATE)

    def append(
        self,
        samples: NDArray[np.int16],
        time: Fraction | None,
        channels: tuple[str, ...] = (),
    ) -> None:
        """Append `samples`, whose first is heard at `time` seconds (None: right after the last).

        samples: (n,) int16, or (n, 1 + channels): the mix, then each channel by the names given.

        Raises:
            VideoError: gaps add up to an hour more than the sound that there is.
        """
        samples = samples.reshape(len(samples), -1)
        if self.start is None:
            if time is not None:
                self.start = time - Fraction(self._samples, SAMPLE_RATE)
        elif time is not None:
            gap = round((time - self.start) * SAMPLE_RATE) - self._samples
            if gap > TOLERANCE:
                filled = self.filled + gap
                if Fraction(filled, SAMPLE_RATE) > LONGEST_GAP + self.heard:
                    raise VideoError(
                        "broken timestamps",
                        f"the sound's times leave {filled // SAMPLE_RATE} s without sound",
                    )
                self.filled = filled
                self._samples += gap
                # a hole, which takes no room on disk
                self._end += self._parts[-1].bytes * gap
                if self._end > _IN_MEMORY:
                    self._file.rollover()
            elif gap < -TOLERANCE:
                self.cut += min(-gap, len(samples))
                samples = samples[-gap:]
        if channels != self._parts[-1].channels:
            self._parts.append(_Part(channels, self._samples, self._end))
        if channels not in self._levels:
            self._levels[channels] = Levels(channels)
        self._levels[channels].add(samples)
        self._file.seek(self._end)
        self._file.write(samples.tobytes())
        self._end += samples.nbytes
        self._samples += len(samples)

    def stand_ins(self) -> dict[str, int]:
        """The channels that are taken because the mix lacks the sound: name, and number from 1."""
        chosen = {
            channels: levels.stand_in()
            for channels, levels in self._levels.items()
            if levels.centre() is None
        }
        return {channels[k]: k + 1 for channels, k in chosen.items() if k is not None}

    def centres(self) -> list[int]:
        """Of surround sound whose centre alone is taken: how many channels there are."""
        return [len(names) for names, levels in self._levels.items() if levels.centre() is not None]

    @property
    def length(self) -> int:
        """Samples, those of silence put into gaps among them."""
        return self._samples

    def close(self) -> None:
        """No more will be appended."""
        if self.start is None:
            self.start = Fraction(0)  # of no sound is it known when it is heard

    def span(self, origin: Fraction) -> tuple[int, int]:
        """First and one past the last picture that have sound for at least half their time.

        origin: presentation time of picture 0, seconds.
        """
        if self.start is None or self._samples == 0:
            return 0, 0
        begin = (self.start - origin) * FPS
        end = begin + Fraction(self._samples * FPS, SAMPLE_RATE)
        return round_half_up(begin), round_half_up(end)

    def read(self, first: int, pictures: int, origin: Fraction) -> NDArray[np.int16]:
        """The sound of `pictures` pictures from picture `first` on, (640 * pictures,) int16.

        What lies outside the recording is silence.
        """
        each = SAMPLE_RATE // FPS
        return self.samples(first * each, pictures * each, origin)

    def samples(self, first: int, length: int, origin: Fraction) -> NDArray[np.int16]:
        """(length,) int16 from sample `first`, counted from the beginning of picture 0."""
        assert self.start is not None
        begin = round((origin - self.start) * SAMPLE_RATE) + first
        out = np.zeros(length, np.int16)
        ends = [part.first for part in self._parts[1:]] + [self._samples]
        for part, end in zip(self._parts, ends, strict=True):
            inside = max(begin, part.first), min(begin + length, end)
            if inside[0] < inside[1]:
                out[inside[0] - begin : inside[1] - begin] = self._stored(part, *inside)
        return out

    def _stored(self, part: _Part, first: int, end: int) -> NDArray[np.int16]:
        tracks = 1 + len(part.channels)
        place = part.begin + part.bytes * (first - part.first)
        self._file.seek(place)
        stored = np.frombuffer(self._file.read(part.bytes * (end - first)), np.int16)
        levels = self._levels.get(part.channels)
        channel = levels.chosen() if levels is not None else None
        return stored.reshape(-1, tracks)[:, 0 if channel is None else 1 + channel]


def round_half_up(value: Fraction) -> int:
    """The nearest whole number, the larger one of two."""
    # Asked for every picture: in whole numbers it takes a tenth of the time.
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)
