"""Videos of any kind: each face is followed, cut out and scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
import soundfile
import torch
from numpy.typing import NDArray

from data_tools.mfcc import SAMPLES_PER_FRAME, WINDOW_FRAMES
from data_tools.names import shown
from data_tools.progress import progress, reading
from trainer.model.network import Network
from trainer.score.embed import Samples
from trainer.score.options import MeasureOptions
from trainer.score.speaking import overlapping, tell_speakers
from trainer.score.track import CLIP_SECONDS, PIECE_FRAMES, TrackError, score_track
from trainer.score.trust import Doubt, SyncError, TrackResult, judge_track

if TYPE_CHECKING:
    from data_tools.video.record import Row


def measure_faces(
    path: Path, network: Network, options: MeasureOptions, work: Path
) -> tuple[list[TrackResult], list[str]]:
    """As `trainer.score.video.measure`, of the faces that are found; `work`: a folder for them."""
    from data_tools.video.cut_clips import prepare_video
    from data_tools.video.options import PrepareOptions

    preset = network.model.preset
    cut = PrepareOptions(
        crop=options.crop or network.crop,
        size=preset.size,
        gray=preset.channels == 1,
        quality=95,
        max_clip=CLIP_SECONDS,
        min_frames=WINDOW_FRAMES,
        audio_stream=options.audio_stream,
    )
    with reading(path) as advance:
        record = prepare_video(path, "video", work, cut, torch.get_num_threads(), on_bytes=advance)
    rows = record.rows
    if not rows[0].kept:
        raise SyncError(f"{rows[0].reason}: {rows[0].detail}")
    left_out = [
        f"{row.item}: {row.detail or row.reason}"
        for row in rows
        if row.level == "track" and not row.kept
    ]
    noted, doubted = tuple(record.notes), tuple(Doubt(words) for words in record.doubts)
    clips = [row for row in rows if row.level == "clip" and row.kept]
    frames = sum(row.frames for row in clips)
    # A long track lies on disk in clips that follow one another.
    parts = [(name, list(own)) for name, own in groupby(clips, lambda row: row.item.split("-")[0])]
    beside = overlapping([(own[0].start_seconds, own[-1].end_seconds) for _, own in parts])
    tracks = []
    with progress(f"{shown(path.name)}: scoring", frames, "frames") as done:
        for (name, own), is_beside in zip(parts, beside, strict=True):
            try:
                track = _measure_track(path, name, own, network, options, work, done)
            except TrackError as error:
                left_out.append(f"track {name}: {error}")
                continue
            if not is_beside:  # of no other face is it asked which of them speaks
                track = replace(track, score=replace(track.score, fits_KS=None))
            place = record.faces.get(int(name))
            tracks.append(replace(track, notes=noted, doubts=doubted + track.doubts, face=place))
    return tell_speakers(tracks), left_out


def _measure_track(
    path: Path,
    name: str,
    rows: list[Row],
    network: Network,
    options: MeasureOptions,
    work: Path,
    done: Callable[[int], None],
) -> TrackResult:
    """Measure one track, which lies in the clips of `rows`.

    Raises:
        TrackError: it cannot be scored.
    """
    clips = [StoredClip(work / "video" / row.item, row.frames) for row in rows]
    mode = options.mode or network.mode
    score = score_track(
        network.model,
        stored_frames(clips, network.model.preset.channels, done),
        stored_sound(clips),
        options.max_shift,
        mode,
        network.device,
        options.precision,
    )
    frames = sum(row.frames for row in rows)
    speech = sum(row.frames * _speech(row) for row in rows) / frames
    span = rows[0].start_seconds, rows[-1].end_seconds
    return judge_track(str(path), name, span, speech, score, network.calibration, mode)


def _speech(row: Row) -> float:
    """Share of a clip's sound that is speech: a missing one would read as silence."""
    if row.speech is None:
        raise ValueError(f"{row.item} was prepared without its share of speech")
    return row.speech


@dataclass(frozen=True)
class StoredClip:
    """A part of a track on disk: a folder with frames/ and audio.wav, and its frames."""

    folder: Path
    frames: int


def stored_frames(
    clips: list[StoredClip], channels: int, done: Callable[[int], None]
) -> Iterator[NDArray[np.uint8]]:
    """The crops of clips that follow one another, (n, H, W, channels) at a time.

    Args:
        channels: 1: gray, 3: RGB.
        done: told of the number of crops as they are decoded.
    """
    colour = "GRAY" if channels == 1 else "RGB"
    for clip in clips:
        for first in range(0, clip.frames, PIECE_FRAMES):
            names = [
                clip.folder / "frames" / f"frame{number}.jpg"
                for number in range(first, min(first + PIECE_FRAMES, clip.frames))
            ]
            yield np.stack([simplejpeg.decode_jpeg(name.read_bytes(), colour) for name in names])
            done(len(names))


def stored_sound(clips: list[StoredClip]) -> Callable[[int], tuple[Samples, int]]:
    """The sound of clips that follow one another, as `score_track` takes it."""

    def read(first: int, count: int) -> NDArray[np.int16]:
        parts, begin = [], 0
        for clip in clips:
            end = begin + clip.frames * SAMPLES_PER_FRAME
            low, high = max(first, begin), min(first + count, end)
            if low < high:
                wav = os.fsencode(clip.folder / "audio.wav")  # soundfile takes UTF-8 text alone
                audio, _ = soundfile.read(wav, start=low - begin, stop=high - begin, dtype="int16")
                parts.append(audio)
            begin = end
        return np.concatenate(parts)

    return lambda frames: (read, frames * SAMPLES_PER_FRAME)
