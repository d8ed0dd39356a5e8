"""Videos whose whole picture is the crop of one face already, read once and scored as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.names import first_line
from data_tools.progress import reading
from trainer.model.network import Network
from trainer.model.syncnet import Preset
from trainer.score.embed import Samples
from trainer.score.options import MeasureOptions
from trainer.score.track import CLIP_SECONDS, PIECE_FRAMES, TrackError, score_track
from trainer.score.trust import Doubt, SyncError, TrackResult, judge_track

if TYPE_CHECKING:
    from data_tools.video.decode import Picture, Video
    from data_tools.video.sound import Sound


def measure_prepared(
    path: Path, network: Network, options: MeasureOptions, work: Path
) -> tuple[list[TrackResult], list[str]]:
    """As `trainer.score.video.measure`, of a prepared crop; `work` is a folder for its sound."""
    from data_tools.video.decode import Video
    from data_tools.video.left_out import doubts, notes
    from data_tools.video.sound import Sound

    tracks: list[TrackResult] = []
    left_out: list[str] = []
    with (
        Video(path, torch.get_num_threads(), options.audio_stream) as video,
        reading(path) as advance,
    ):
        sound = Sound(work / "sound.raw")
        # Where the clock restarts another recording begins, which may be off by another offset.
        for number, pictures in groupby(video.pictures(sound), lambda picture: picture.part):
            part = _Part(video, sound, pictures, network.model.preset, advance)
            name = f"part {number + 1}"
            try:
                tracks.append(_measure_part(path, name, part, network, options))
            except TrackError as error:
                left_out.append(f"{name}: {error}")
        if not video.restarts:
            if left_out:
                raise SyncError(left_out[0].partition(": ")[2])
            tracks = [replace(track, track="") for track in tracks]
        # Only now is known what became of the whole video.
        noted = tuple(notes(video, sound))
        doubted = tuple(Doubt(words) for words in doubts(video, sound))
    return [
        replace(track, notes=noted, doubts=doubted + track.doubts) for track in tracks
    ], left_out


def _measure_part(
    path: Path, name: str, part: _Part, network: Network, options: MeasureOptions
) -> TrackResult:
    """Measure one recording.

    Raises:
        TrackError: it cannot be scored.
        SyncError: nor can the rest of the video.
    """
    mode = options.mode or network.mode
    score = score_track(
        network.model,
        part.pieces(),
        part.heard,
        options.max_shift,
        mode,
        network.device,
        options.precision,
    )
    speech = _speech(part.read, part.samples)
    start = part.begin / FPS
    span = start, start + part.samples / SAMPLE_RATE
    score = replace(score, fits_KS=None)  # one face alone: nobody asks who speaks
    return judge_track(str(path), name, span, speech, score, network.calibration, mode)


def _speech(read: Samples, samples: int) -> float:
    """Share of a sound that is speech; some of it in memory at once."""
    from data_tools.video.speech import speech_share

    step = round(CLIP_SECONDS * SAMPLE_RATE)
    parts = [(first, min(step, samples - first)) for first in range(0, samples, step)]
    return sum(count * speech_share(read(first, count)) for first, count in parts) / samples


def _fit(rgb: NDArray[np.uint8], preset: Preset) -> NDArray[np.uint8]:
    """A picture (H, W, 3) as a network takes it: (size, size, channels)."""
    size = preset.size
    if rgb.shape[:2] != (size, size):
        how = cv2.INTER_AREA if min(rgb.shape[:2]) > size else cv2.INTER_LINEAR
        rgb = np.asarray(cv2.resize(rgb, (size, size), interpolation=how), np.uint8)
    if preset.channels == 1:
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None], np.uint8)
    return rgb


class _Part:
    """One recording of a prepared crop, from the first of `pictures` to the last.

    Attributes:
        begin: number of its first picture, known once it is read.
        samples: of the sound beside its pictures, known once they are all read.
    """

    def __init__(
        self,
        video: Video,
        sound: Sound,
        pictures: Iterable[Picture],
        preset: Preset,
        advance: Callable[[int], None],
    ) -> None:
        self._video = video
        self._sound = sound
        self._pictures = pictures
        self._preset = preset
        self._advance = advance
        self.begin = self.samples = 0

    def pieces(self) -> Iterator[NDArray[np.uint8]]:
        """Its pictures as the network takes them, (n, size, size, channels) at a time.

        Raises:
            TrackError: a picture cannot be converted.
        """
        from data_tools.video.convert import Converter

        converter = Converter(self._video.aspect)
        held: list[NDArray[np.uint8]] = []
        first, told = True, self._video.bytes_read
        for picture in self._pictures:
            if first:
                self.begin, first = picture.index, False
            try:
                rgb = converter.rgb(picture.frame)
            except ValueError as error:  # of libswscale, for a format that it does not know
                raise TrackError(f"a picture cannot be converted: {first_line(error)}") from None
            held.append(_fit(rgb, self._preset))
            if len(held) == PIECE_FRAMES:
                yield np.stack(held)
                self._advance(self._video.bytes_read - told)
                held, told = [], self._video.bytes_read
        if held:
            yield np.stack(held)

    def read(self, first: int, count: int) -> NDArray[np.int16]:
        """Samples `first` to `first + count` of its sound, silence where there is none."""
        first += self.begin * SAMPLES_PER_FRAME
        return self._sound.samples(first, count, self._video.origin or Fraction(0))

    def heard(self, frames: int) -> tuple[Samples, int]:
        """Its sound as `score_track` takes it, once all `frames` pictures are read.

        Raises:
            SyncError: the picture stands still.
            TrackError: there is no sound beside the pictures.
        """
        begin = self.begin
        if any(first < begin + frames and begin < end for first, end in self._video.stills):
            raise SyncError(
                "the picture stands still for more than a second; without --prepared the "
                "parts that move are found"
            )
        first, end = self._sound.span(self._video.origin or Fraction(0))
        if end <= max(first, begin):
            raise TrackError("the audio stream holds no sound beside the picture")
        self.samples = min(frames, end - begin) * SAMPLES_PER_FRAME
        return self.read, self.samples
