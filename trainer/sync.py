"""Is the sound in sync, and by how much is it off?

For every face track of every video: the offset in frames, milliseconds and words, and whether to
trust it. A positive offset means that the audio is early: it has to be delayed.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
import simplejpeg
import soundfile
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_tools.atomic import NO_ROOM, atomic_path, try_writing, write_json
from data_tools.clips import ClipError
from data_tools.errors import MissingPackage, UserError
from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, WINDOW_FRAMES
from data_tools.names import print_anything, shown
from data_tools.progress import progress
from trainer.model.syncnet import SyncNet
from trainer.model.weights import (
    Calibration,
    WeightsError,
    default_weights,
    load_model,
    read_calibration,
)
from trainer.score.embed import Samples, ahead, features, fold, lip_pieces, part_of, sound_pieces
from trainer.score.scoring import (
    TOLERANCE,
    Score,
    distances_in_pieces,
    in_frames,
    in_words,
    score_distances,
    score_distances_official,
)
from trainer.train.distributed import find_device

if TYPE_CHECKING:
    from data_tools.video.decode import Picture, Sound, Video

REACH = 15  # frames to either side, the official command line's
PARITY, MASKED = "parity", "masked"
MODES = (MASKED, PARITY)

MIN_WINDOWS = 21  # a second of video; fewer average too little
MIN_SPEECH = 0.1  # share of the sound
# Without a calibration: of random curves of 31 shifts the smallest value rarely lies 3 deviations
# below the others' mean.
MIN_CLEARNESS = 3.0
MIN_PROBABILITY = 0.8  # with one: wrong once in five is too often to mend by

COLUMNS = (
    *("video", "track", "start_seconds", "end_seconds", "offset_frames", "offset_ms", "meaning"),
    *("confidence", "lse_d", "lse_c", "clearness", "probability", "windows", "speech", "trusted"),
    *("doubts", "notes"),
)

_BEYOND = 400 - 160  # samples
_DECODED = 25  # frames a piece
_CLIP_SECONDS = 60.0  # of a track that are on disk as one piece, whatever its length
_WINDOWS = 256  # read back from disk at once
_DRAWN = 40  # tracks in one picture
_FARTHEST = 500  # frames of search: memory and time grow with it

_EXAMPLES = """\
examples:
  syncnet talk.mp4
      every face of talk.mp4: "+3 frames, +120 ms, audio is 120 ms early; delay it by 120 ms"
  syncnet *.mp4 --weights syncnet_v2.model --csv offsets.csv --plot curves.png
      many videos and other weights than the package's, one row a face track in offsets.csv
  syncnet talk.mp4 --fix mended.mp4
      a copy of talk.mp4 with its sound in place (nothing is encoded anew), measured again

the sign:
  offset > 0: the audio is early (heard before it is seen); the mend is to delay it
  offset < 0: the audio is late; the mend is to advance it
  a frame is 40 ms, whatever the rate of the video

trust: "not sure" says why: too short, hardly any speech, no clear minimum, or less than 90 % of the
pictures, of the sound or of the length that the file states could be used. What was left out, or
chosen among several, is noted below the table, in CSV and in JSON. Where the weights carry
a calibration, "chance" is the share of held-out videos with as clear a minimum whose offset was
right within a frame, and an offset below 80 % is not trusted. A calibration holds for the default
mode and search alone: with others an offset is trusted if its minimum lies 3 deviations deep.

exit status: 0 every video gave an offset (trusted or not), 1 one did not or --fix failed,
2 wrong usage
"""


class SyncError(UserError):
    """A video whose sync cannot be measured or mended; says why in one sentence."""


@dataclass(frozen=True)
class Found:
    """What was found about one face track.

    Attributes:
        video, track: names; track is "" for a prepared crop.
        start, end: seconds of the video.
        windows: five-frame windows that were scored.
        speech: share of the sound that is speech.
        score: its offset and what led to it.
        probability: chance that the offset is right within a frame; None without a calibration.
        doubts: why not to trust it, in words; empty if there is no reason.
        notes: what happened to the video that its user should know, in words.
    """

    video: str
    track: str
    start: float
    end: float
    windows: int
    speech: float
    score: Score
    probability: float | None
    doubts: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the offset."""
        return not self.doubts

    def row(self) -> dict[str, Any]:
        """Plain values, for CSV and JSON, by the names in COLUMNS."""
        found = self.score
        return {
            "video": self.video,
            "track": self.track,
            "start_seconds": round(self.start, 3),
            "end_seconds": round(self.end, 3),
            "offset_frames": found.offset,
            "offset_ms": 1000 * found.offset // FPS,
            "meaning": in_words(found.offset),
            "confidence": round(found.confidence, 4),
            "lse_d": round(found.distance, 4),
            "lse_c": round(found.confidence, 4),
            "clearness": round(found.clearness, 2),
            "probability": None if self.probability is None else round(self.probability, 3),
            "windows": self.windows,
            "speech": round(self.speech, 3),
            "trusted": self.trusted,
            "doubts": "; ".join(self.doubts),
            "notes": "; ".join(self.notes),
        }


@dataclass(frozen=True)
class How:
    """What decides how videos are measured, besides the weights.

    Attributes:
        prepared: the whole picture is the crop of one face.
        crop: "face" or "mouth", to be cut or, if prepared, what the picture is; None: what
            `crop_of` says.
        reach: largest shift, frames.
        mode: "masked", or "parity" to score as the official code does.
        device: where the model is.
        bf16: compute in bfloat16 on a CPU, too.
        calibration: of the weights; holds for the masked mode over +-15 frames alone.
        audio_stream: which of a video's audio streams to measure, from 0; None: the one meant for
            everybody.
    """

    prepared: bool = False
    crop: str | None = None
    reach: int = REACH
    mode: str = MASKED
    device: str = "cpu"
    bf16: bool = False
    calibration: Calibration | None = None
    audio_stream: int | None = None

    def probability(self, score: Score) -> float | None:
        """Chance that the offset is right within a frame, where that was measured."""
        if self.calibration is None or (self.mode, self.reach) != (MASKED, REACH):
            return None
        return self.calibration.probability(score.clearness)


def crop_of(model: SyncNet) -> str:
    """The crop that a network is taken to be trained on; weights do not say."""
    return "face" if model.name == "syncnet" else "mouth"


def crop_note(model: SyncNet, how: How) -> str:
    """One line where the pictures may be other crops than the network needs; empty otherwise."""
    needed = crop_of(model)
    if how.crop == needed or (how.crop is None and not how.prepared):
        return ""
    note = (
        f"note: these weights take {needed} crops, unless they were trained on others; of any "
        "other crop the offset is wrong"
    )
    return note if how.crop else f"{note}; if the picture is one, say so with --crop {needed}"


def score_track(
    model: SyncNet,
    pieces: Iterable[NDArray[np.uint8]],
    audio: NDArray[np.int16] | Callable[[int], tuple[Samples, int]],
    reach: int = REACH,
    mode: str = MASKED,
    device: str = "cpu",
    bf16: bool = False,
) -> Score:
    """Score one track: its crops against its sound. Memory does not depend on its length.

    T frames with sound give T - 4 windows, in parity mode T - 5.

    Args:
        model: in evaluation mode, folded or not, on `device`.
        pieces: crops in order as (n, H, W, C) uint8 of the model's size, RGB or gray; decoded by a
            thread of their own while the model computes.
        audio: (samples,) int16 at 16 kHz from the first crop on; or what gives, once all crops are
            through, for their number, a reader of any part of it and how many samples there are.
        mode: "masked", or "parity" to score as the official code does.

    Raises:
        ValueError: too short to be scored.
    """
    with tempfile.TemporaryFile() as stored:
        windows = 0
        for found in lip_pieces(model, ahead(pieces), device, bf16):
            stored.write(found.numpy().tobytes())
            windows += len(found)
        frames = windows + WINDOW_FRAMES - 1 if windows else 0
        read, samples = audio(frames) if callable(audio) else (part_of(audio), len(audio))
        frames = min(frames, samples // SAMPLES_PER_FRAME)
        count = frames - (WINDOW_FRAMES - 1)
        if mode == PARITY:
            count -= 1  # the official code leaves out the last
        if count < 1:
            raise ValueError("too short: a track needs at least five frames with sound")
        if mode == MASKED:
            # The last window's last column, 25 ms long every 10 ms, reaches beyond the last frame.
            read, samples = _lengthened(read, samples), frames * SAMPLES_PER_FRAME + _BEYOND
        heard = sound_pieces(model, features(read, samples), device, bf16)
        seen = _stored_windows(stored, model.preset.embedding)
        distances = distances_in_pieces(_first(count, seen), _first(count, heard), reach, count)
    return score_distances_official(distances) if mode == PARITY else score_distances(distances)


def _lengthened(read: Samples, samples: int) -> Samples:
    """The same sound, with silence behind its end."""

    def longer(first: int, count: int) -> NDArray[np.int16]:
        found = read(first, max(0, min(count, samples - first)))
        return np.pad(found, (0, count - len(found)))

    return longer


def _stored_windows(file: BinaryIO, width: int) -> Iterator[torch.Tensor]:
    file.seek(0)
    while read := file.read(4 * width * _WINDOWS):
        yield torch.frombuffer(bytearray(read), dtype=torch.float32).view(-1, width)


def _first(count: int, pieces: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def measure(path: Path, model: SyncNet, how: How) -> tuple[list[Found], list[str]]:
    """Every face track of a video, and what was left out and why, in words.

    Args:
        path: any video that FFmpeg's libraries read, with sound.
        model: folded, on the device.

    Raises:
        SyncError: the video cannot be used at all.
        VideoError: it cannot be opened or has no sound.
        MissingPackage: the extra [prepare] is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="syncnet-") as folder:
        return (_measure_prepared if how.prepared else _measure_tracks)(
            path, model, Path(folder), how
        )


def _measure_prepared(
    path: Path, model: SyncNet, work: Path, how: How
) -> tuple[list[Found], list[str]]:
    from data_tools.video.decode import Sound, Video
    from data_tools.video.left_out import doubts, notes

    results: list[Found] = []
    dropped: list[str] = []
    with (
        Video(path, torch.get_num_threads(), how.audio_stream) as video,
        _reading(path) as advance,
    ):
        sound = Sound(work / "sound.raw")
        # Where the clock restarts another recording begins, which may be off by another offset.
        for part, pictures in groupby(video.pictures(sound), lambda picture: picture.part):
            track = f"part {part + 1}"
            try:
                results.append(
                    _measure_part(path, track, pictures, video, sound, model, how, advance)
                )
            except ValueError as error:
                dropped.append(f"{track}: {error}")
        if not video.restarts:
            if dropped:
                raise SyncError(dropped[0].partition(": ")[2])
            results = [replace(one, track="") for one in results]
        # Only now is known what became of the whole video.
        noted, doubted = tuple(notes(video, sound)), tuple(doubts(video, sound))
    return [replace(one, notes=noted, doubts=doubted + one.doubts) for one in results], dropped


def _measure_part(
    path: Path,
    track: str,
    pictures: Iterable[Picture],
    video: Video,
    sound: Sound,
    model: SyncNet,
    how: How,
    advance: Callable[[int], None],
) -> Found:
    """Measure a prepared crop from the first of `pictures` to the last.

    Raises:
        ValueError: it cannot be scored.
        SyncError: nor can the rest of the video.
    """
    from data_tools.video.decode import Converter

    converter = Converter(video.aspect)
    begin = length = 0  # the first picture; samples beside the pictures

    def pieces() -> Iterator[NDArray[np.uint8]]:
        nonlocal begin
        held: list[NDArray[np.uint8]] = []
        first, told = True, video.bytes_read
        for picture in pictures:
            if first:
                begin, first = picture.index, False
            held.append(_fit(converter.rgb(picture.frame), model))
            if len(held) == _DECODED:
                yield np.stack(held)
                advance(video.bytes_read - told)
                held, told = [], video.bytes_read
        if held:
            yield np.stack(held)

    def read(first: int, count: int) -> NDArray[np.int16]:
        first += begin * SAMPLES_PER_FRAME
        return sound.samples(first, count, video.origin or Fraction(0))

    def heard(frames: int) -> tuple[Samples, int]:
        nonlocal length
        if any(first < begin + frames and begin < end for first, end in video.stills):
            raise SyncError(
                "the picture stands still for more than a second; without --prepared the "
                "parts that move are found"
            )
        first, end = sound.span(video.origin or Fraction(0))
        if end <= max(first, begin):
            raise ValueError("the audio stream holds no sound beside the picture")
        length = min(frames, end - begin) * SAMPLES_PER_FRAME
        return read, length

    result = score_track(model, pieces(), heard, how.reach, how.mode, how.device, how.bf16)
    start, seconds = begin / FPS, length / SAMPLE_RATE
    speech = _speech(read, length)
    return _found(str(path), track, start, start + seconds, speech, result, how)


def _speech(read: Samples, samples: int) -> float:
    from data_tools.video.speech import speech_share

    step = round(_CLIP_SECONDS * SAMPLE_RATE)
    parts = [(first, min(step, samples - first)) for first in range(0, samples, step)]
    return sum(count * speech_share(read(first, count)) for first, count in parts) / samples


def _measure_tracks(
    path: Path, model: SyncNet, work: Path, how: How
) -> tuple[list[Found], list[str]]:
    from data_tools.video.cut_clips import PrepareOptions, prepare_video

    options = PrepareOptions(
        crop=how.crop or crop_of(model),
        size=model.preset.size,
        gray=model.preset.channels == 1,
        quality=95,
        max_clip=_CLIP_SECONDS,
        min_frames=WINDOW_FRAMES,
        audio_stream=how.audio_stream,
    )
    with _reading(path) as advance:
        record = prepare_video(
            path, "video", work, options, torch.get_num_threads(), on_bytes=advance
        )
    rows = record.rows
    if not rows[0].kept:
        raise SyncError(f"{rows[0].reason}: {rows[0].detail}")
    dropped = [
        f"{row.item}: {row.detail or row.reason}"
        for row in rows
        if row.level == "track" and not row.kept
    ]
    said = tuple(record.notes), tuple(record.doubts)
    clips = [row for row in rows if row.level == "clip" and row.kept]
    results = []
    with progress(
        f"{shown(path.name)}: scoring", sum(row.frames for row in clips), "frames"
    ) as done:
        # A long track lies on disk in clips that follow one another.
        for track, own in groupby(clips, lambda row: row.item.split("-")[0]):
            own_rows = list(own)
            parts = [(work / "video" / row.item, row.frames) for row in own_rows]
            try:
                result = score_track(
                    model,
                    _stored_frames(parts, model, done),
                    _stored_sound(parts),
                    how.reach,
                    how.mode,
                    how.device,
                    how.bf16,
                )
            except ValueError as error:
                dropped.append(f"track {track}: {error}")
                continue
            frames = sum(row.frames for row in own_rows)
            speech = sum(row.frames * (row.speech or 0.0) for row in own_rows) / frames
            start, end = own_rows[0].start_seconds, own_rows[-1].end_seconds
            results.append(_found(str(path), track, start, end, speech, result, how, *said))
    return results, dropped


@contextmanager
def _reading(path: Path) -> Iterator[Callable[[int], None]]:
    """Progress over a file, for which it is told of the bytes as they are read."""
    size = path.stat().st_size if path.is_file() else 0
    with progress(f"{shown(path.name)}: reading", max(1, size // 1000), "kB") as advance:
        read = 0

        def on_bytes(count: int) -> None:
            nonlocal read
            advance((read + count) // 1000 - read // 1000)
            read += count

        yield on_bytes


def _stored_frames(
    clips: list[tuple[Path, int]], model: SyncNet, done: Callable[[int], None]
) -> Iterator[NDArray[np.uint8]]:
    colour = "GRAY" if model.preset.channels == 1 else "RGB"
    for folder, frames in clips:
        for first in range(0, frames, _DECODED):
            names = [
                folder / "frames" / f"frame{number}.jpg"
                for number in range(first, min(first + _DECODED, frames))
            ]
            yield np.stack([simplejpeg.decode_jpeg(name.read_bytes(), colour) for name in names])
            done(len(names))


def _stored_sound(clips: list[tuple[Path, int]]) -> Callable[[int], tuple[Samples, int]]:
    """The sound of clips that follow one another, as `score_track` takes it."""

    def read(first: int, count: int) -> NDArray[np.int16]:
        parts, begin = [], 0
        for folder, frames in clips:
            end = begin + frames * SAMPLES_PER_FRAME
            low, high = max(first, begin), min(first + count, end)
            if low < high:
                wav = os.fsencode(folder / "audio.wav")  # soundfile takes text of UTF-8 alone
                audio, _ = soundfile.read(wav, start=low - begin, stop=high - begin, dtype="int16")
                parts.append(audio)
            begin = end
        return np.concatenate(parts)

    return lambda frames: (read, frames * SAMPLES_PER_FRAME)


def _fit(rgb: NDArray[np.uint8], model: SyncNet) -> NDArray[np.uint8]:
    size = model.preset.size
    if rgb.shape[:2] != (size, size):
        how = cv2.INTER_AREA if min(rgb.shape[:2]) > size else cv2.INTER_LINEAR
        rgb = np.asarray(cv2.resize(rgb, (size, size), interpolation=how), np.uint8)
    if model.preset.channels == 1:
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None], np.uint8)
    return rgb


def _found(
    video: str,
    track: str,
    start: float,
    end: float,
    speech: float,
    result: Score,
    how: How,
    notes: tuple[str, ...] = (),
    video_doubts: tuple[str, ...] = (),
) -> Found:
    windows, probability = len(result.frames_K), how.probability(result)
    doubts = list(video_doubts)
    if windows < MIN_WINDOWS:
        doubts.append(f"too short ({windows + WINDOW_FRAMES - 1} frames)")
    if speech < MIN_SPEECH:
        doubts.append(f"hardly any speech ({_percent(speech)} of the sound)")
    if probability is None and result.clearness < MIN_CLEARNESS:
        deviations = int(10 * result.clearness) / 10  # rounded down, as percentages are
        doubts.append(
            f"no clear minimum ({deviations} deviations, below the {MIN_CLEARNESS:g} needed)"
        )
    if probability is not None and probability < MIN_PROBABILITY:
        doubts.append(
            f"no clear minimum (chance of being right: {_percent(probability)}, below the "
            f"{_percent(MIN_PROBABILITY)} needed)"
        )
    if abs(result.offset) == result.reach:
        doubts.append("the minimum lies at the edge of the search: try a larger --max-shift")
    return Found(
        video, track, start, end, windows, speech, result, probability, tuple(doubts), notes
    )


def _percent(share: float) -> str:
    # rounded down, so that what is below a bound does not read as the bound
    return f"{int(100 * share + 1e-6)} %"


def mend(found: list[Found]) -> int:
    """Frames by which the sound of a video is to be moved, by its tracks that can be trusted.

    Raises:
        SyncError: there is none, or they disagree by more than a frame.
    """
    if not found:
        raise SyncError("nothing was measured, so nothing was written")
    trusted = [one.score for one in found if one.trusted]
    if not trusted:
        raise SyncError("no offset can be trusted, so nothing was written")
    offsets = [one.offset for one in trusted]
    if max(offsets) - min(offsets) > TOLERANCE:
        raise SyncError(
            f"its tracks are off by {min(offsets)} to {max(offsets)} frames, which no one shift "
            "mends, so nothing was written; cut the video first"
        )
    return max(trusted, key=lambda one: one.clearness).offset


def still_off(again: list[Found]) -> str:
    """What a second measurement after the mend says against it; empty if nothing."""
    if not again:
        return "the copy could not be measured again"
    trusted = [one for one in again if one.trusted]
    if not trusted:
        return "measured again, no offset can be trusted"
    worst = max(trusted, key=lambda one: abs(one.score.offset)).score.offset
    if abs(worst) > TOLERANCE:
        return f"measured again, it is still off: {in_words(worst)}"
    return ""


def table(found: list[Found]) -> Table:
    """For the terminal."""
    chances = any(one.probability is not None for one in found)
    drawn = Table("video", "track", "seconds", "offset", "meaning")
    drawn.add_column("LSE-C\n(confidence)")
    drawn.add_column("LSE-D\n(distance)")
    if chances:
        drawn.add_column("chance of\nbeing right")
    drawn.add_column("trust")
    for one in found:
        chance = [] if one.probability is None else [_percent(one.probability)]
        drawn.add_row(
            shown(Path(one.video).name),
            one.track,
            f"{one.start:.1f}-{one.end:.1f}",
            f"{in_frames(one.score.offset)}, {1000 * one.score.offset // FPS:+d} ms",
            in_words(one.score.offset),
            f"{one.score.confidence:.2f}",
            f"{one.score.distance:.2f}",
            *(chance or [""] * chances),
            "yes" if one.trusted else "not sure: " + "; ".join(one.doubts),
        )
    return drawn


def note_lines(found: list[Found]) -> list[str]:
    """What happened to each video that its user should know, a line each."""
    lines = [f"{shown(Path(one.video).name)}: {note}" for one in found for note in one.notes]
    return list(dict.fromkeys(lines))  # its tracks all say the same


def write_csv(found: list[Found], left_out: dict[str, list[str]], path: Path) -> None:
    """One row a track; one for everything left out, without an offset, the reason in `doubts`."""
    rows = [one.row() for one in found]
    rows += [
        {"video": video, "trusted": False, "doubts": reason}
        for video, reasons in left_out.items()
        for reason in reasons
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")


def as_json(found: list[Found]) -> list[dict[str, Any]]:
    """Every track with its curves."""
    return [
        one.row()
        | {
            "mean_distance_by_shift": {
                str(shift - one.score.reach): None if not np.isfinite(value) else float(value)
                for shift, value in enumerate(one.score.means_S)
            },
            "frame_confidence": [
                None if np.isnan(value) else round(float(value), 4) for value in one.score.frames_K
            ],
        }
        for one in found
    ]


def plot(found: list[Found], path: Path) -> None:
    """Distance over shift and confidence over time, one line of pictures a track, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.8 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), 2, squeeze=False)
    for (left, right), one in zip(grid, found, strict=True):
        reach = one.score.reach
        # drawn over the offset, whose sign is opposite to the shift's
        offsets = reach - np.arange(2 * reach + 1)
        left.plot(offsets, one.score.means_S, "o-", ms=3)
        left.axvline(one.score.offset, color="#c8452f", lw=1)
        name = f"{shown(Path(one.video).name)} {one.track}".strip()
        left.set_title(f"{name}: {in_words(one.score.offset)}", parse_math=False)
        left.set(xlabel="offset, frames (positive: audio early)", ylabel="mean distance")
        times = one.start + (np.arange(len(one.score.frames_K)) + 2) / FPS
        right.plot(times, one.score.frames_K, lw=1)
        right.axhline(0, color="#888", lw=0.8)
        right.set(title="confidence over time", xlabel="seconds", ylabel="confidence")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=100, format="png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.sync",
        usage="%(prog)s VIDEO [VIDEO ...] [options]",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Not "+": those behind a "--" are added in `main`.
    parser.add_argument(
        "videos", nargs="*", type=_path, metavar="VIDEO", help="any video with sound"
    )
    parser.add_argument(
        "--weights",
        type=_path,
        help="best.pt of a run, syncnet_v2.model or .safetensors (default: those of the package)",
    )
    parser.add_argument(
        "--prepared",
        action="store_true",
        help="the whole picture is the crop of one face already, as the weights need it: the mouth "
        "for those of the package, the face for syncnet_v2.model",
    )
    parser.add_argument(
        "--crop",
        choices=("face", "mouth"),
        help="the crop to take or, with --prepared, the one that it is (default: face for syncnet, "
        "mouth for the others)",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=MASKED,
        help="masked (default): only sound that exists counts, every window; parity: as the "
        "official code scores, zeros beyond the ends and the last window left out",
    )
    parser.add_argument(
        "--max-shift", type=int, default=REACH, metavar="N", help="frames to search (default 15)"
    )
    parser.add_argument(
        "--device", default="auto", help="auto (default: a GPU if there is one), cpu or cuda[:n]"
    )
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="compute in bfloat16 on a CPU, too: faster where it has AVX512-BF16 or AMX",
    )
    parser.add_argument(
        "--audio-stream",
        type=int,
        metavar="N",
        help="measure audio stream N, counted from 0 as in FFmpeg's a:N (default: the one meant "
        "for everybody, no commentary, description or dubbing); --fix moves all of them",
    )
    parser.add_argument("--json", type=_path, help="write everything, curves included")
    parser.add_argument("--csv", type=_path, help="write a row for each track")
    parser.add_argument("--plot", type=_path, metavar="PNG", help="draw the curves")
    parser.add_argument(
        "--fix",
        type=_path,
        metavar="OUT",
        help="write a copy of the one video, its sound in place; nothing where it is in sync",
    )
    parser.add_argument(
        "--force", action="store_true", help="let --fix overwrite an existing file, never its input"
    )
    return parser


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a file name is empty")
    return Path(text)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 measured, 1 a video gave nothing or could not be mended, 2 wrong usage."""
    print_anything()
    parser = _parser()
    args = _parse(parser, sys.argv[1:] if argv is None else argv)
    try:
        weights = _check(args)
        args.device = find_device(args.device, "--device")
    except MissingPackage as error:
        print(f"sync: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        parser.error(_first_line(error))
    try:
        return _run(args, weights)
    except (WeightsError, OSError, RuntimeError) as error:
        # RuntimeError: a package is missing, or torch's own, out of memory for one
        print(f"sync: {_first_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sync: interrupted", file=sys.stderr)
        return 130


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    # parse_intermixed_args allows options among the videos, but forgets what a "--" means.
    end = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_intermixed_args(argv[:end])
    try:
        args.videos += [_path(name) for name in argv[end + 1 :]]
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument VIDEO: {error}")
    if not args.videos:
        parser.error("the following arguments are required: VIDEO")
    return args


def _check(args: argparse.Namespace) -> Path:
    """Which weights to take, if the arguments make sense together and outputs can be written."""
    weights = args.weights or default_weights()
    if not 1 <= args.max_shift <= _FARTHEST:
        raise ValueError(
            f"--max-shift must be at least 1 and at most {_FARTHEST} (20 s), not {args.max_shift}"
        )
    if weights is None:
        raise ValueError("--weights is needed: this package comes without any; train or give some")
    if args.fix and len(args.videos) > 1:
        raise ValueError("--fix takes one video")
    if args.audio_stream is not None:
        from data_tools.video.decode import check_audio_stream

        check_audio_stream(args.audio_stream, args.videos)
    taken = {"a video": args.videos, "the weights": [weights]}
    for option in ("json", "csv", "plot", "fix"):
        out: Path | None = getattr(args, option)
        if out is None:
            continue
        for what, files in taken.items():
            if any(_same(out, file) for file in files):
                raise ValueError(f"--{option}: {shown(out)} is {what}, which is never overwritten")
        try:
            try_writing(out)
        except OSError as error:
            raise ValueError(f"--{option}: {error}") from None
        if option == "fix" and os.path.lexists(out) and not args.force:
            raise ValueError(
                f"--fix: {shown(out)} exists; name another file, or give --force as well"
            )
        taken[f"what --{option} writes"] = [out]
    if args.plot and args.plot.suffix.lower() != ".png":
        raise ValueError(f"--plot: {shown(args.plot)} must end in .png, which is what is drawn")
    if args.fix:
        from data_tools.video.remux import check_target

        check_target(args.videos[0], args.fix)
    return Path(weights)


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)  # also by links
    return one.resolve() == other.resolve()


def _run(args: argparse.Namespace, weights: Path) -> int:
    console = Console(
        width=None if sys.stdout.isatty() else 160, markup=False, highlight=False, emoji=False
    )
    model = fold(load_model(weights)).to(args.device)
    how = How(
        args.prepared,
        args.crop,
        args.max_shift,
        args.mode,
        args.device,
        args.bf16,
        read_calibration(weights),
        args.audio_stream,
    )
    if note := crop_note(model, how):
        print(f"sync: {note}", file=sys.stderr)
    found: list[Found] = []
    left_out: dict[str, list[str]] = {}
    status = 0
    for path in args.videos:
        own, dropped = _try(path, model, how)
        found += own
        if not own:
            status = 1
        if dropped:
            left_out[str(path)] = dropped
        for line in dropped:
            print(f"{shown(path.name)}: left out: {line}", file=sys.stderr)
    if found:
        _print(found, console)
    result: dict[str, Any] = {
        "mode": args.mode,
        "tracks": as_json(found),
        "left_out": left_out,
    }
    written = []
    if args.fix:
        try:
            result["fix"], against = _fix(args.videos[0], args.fix, found, model, how, console)
        except (SyncError, OSError) as error:
            against = _first_line(error)
        else:
            if result["fix"].get("written"):
                written.append(args.fix)
        if against:
            print(f"sync: --fix: {against}", file=sys.stderr)
            status = 1
    if args.json:
        write_json(args.json, result)
        written.append(args.json)
    if args.csv:
        write_csv(found, left_out, args.csv)
        written.append(args.csv)
    if args.plot and found:
        plot(found[:_DRAWN], args.plot)
        written.append(args.plot)
    elif args.plot:
        print(f"sync: nothing to draw, so {shown(args.plot)} was not written", file=sys.stderr)
        if len(found) > _DRAWN:
            console.print(f"--plot: the first {_DRAWN} of {len(found)} tracks are drawn")
    for path in written:
        console.print(f"wrote {shown(path)}", soft_wrap=True)
    return status


def _print(found: list[Found], console: Console) -> None:
    console.print(table(found))
    for line in note_lines(found):
        console.print(line, soft_wrap=True)


def _try(path: Path, model: SyncNet, how: How) -> tuple[list[Found], list[str]]:
    """As `measure`, but a video that cannot be used is one more reason."""
    try:
        return measure(path, model, how)
    except MissingPackage:
        raise  # every video would say so
    except (SyncError, ClipError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            folder = tempfile.gettempdir()
            return [], [f"{folder} has no room for temporary files; TMPDIR names another folder"]
        return [], [_first_line(error)]


def _fix(
    path: Path, out: Path, found: list[Found], model: SyncNet, how: How, console: Console
) -> tuple[dict[str, Any], str]:
    """Mend a video and measure the copy, which appears only if that finds it in sync.

    Returns what was done, and what speaks against the copy.
    """
    from data_tools.video.remux import RemuxError, shifted

    moved = mend(found)
    if moved == 0:
        console.print("--fix: in sync, nothing to mend, so nothing was written")
        return {"moved_frames": 0}, ""
    done: dict[str, Any] = {}
    try:
        with shifted(path, out, Fraction(moved, FPS)) as (copy, lacking):
            again, dropped = _try(copy, model, how)
            again = [replace(one, video=str(out)) for one in again]
            how_far = f"{abs(moved) * 1000 // FPS} ms {'later' if moved > 0 else 'earlier'}"
            console.print(
                f"{shown(out)}: the sound is {how_far} ({in_frames(moved)}); measured again:"
            )
            if again:
                _print(again, console)
            for line in lacking + dropped:
                print(f"{shown(out.name)}: {line}", file=sys.stderr)
            done = {"moved_frames": moved, "lacking": lacking, "tracks": as_json(again)}
            if against := still_off(again):
                raise SyncError(f"{against}; so {out} was not written")
    except RemuxError as error:
        raise SyncError(str(error)) from None
    except SyncError as error:
        return done | {"written": False}, str(error)
    return done | {"written": True}, ""


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return shown(f"{error.filename}: {error.strerror.lower()}")
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
