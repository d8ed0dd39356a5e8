"""Make synthetic talking-head clips whose lips and speech agree, for tests and the demo.

    python -m data_tools synth OUT --clips 250 --seed 1 --size 96 --seconds 3 --offsync 0.2

writes OUT/<clip>/audio.wav (16 kHz mono, 16 bit), OUT/<clip>/frames/frame0.jpg ... (25 per second)
and OUT/truth.csv. Every clip is another person and another voice. Clip k depends only on the seed,
k, the size and the length (and, off sync, on its kind), so fewer clips are a prefix of more.
A run that was killed goes on where it stopped when started again with the same arguments.
"""

import csv
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import simplejpeg
import soundfile
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, remove_partials, write_json
from data_tools.cli import check_options
from data_tools.errors import UsageError
from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.records import RecordError, read_record
from data_tools.synth.face import render_face
from data_tools.synth.voice import Speech, render_voice, speak
from data_tools.workers import each_result, process_count

IN_SYNC, SHIFTED, DUBBED = "in_sync", "shifted", "dubbed"
MIN_SHIFT, MAX_SHIFT = 3, 12
TRUTH = "truth.csv"

# Raise when the same arguments come to mean other files.
_VERSION = 1
_JPEG_QUALITY = 90
# At the least, of a clip: its pictures hold 0.2 bytes a pixel, a file takes a block of the disk.
_BYTES_PER_PIXEL, _BLOCK = 0.2, 4096
_MAX_CLIP_BYTES = 1 << 30  # of a clip's pictures in memory
# Frames of timeline on each side of the picture: the largest shift, and one frame for filters.
_MARGIN = MAX_SHIFT + 2
_RECORD = "synth.json"


@dataclass(frozen=True)
class SynthOptions:
    """What decides the bytes of synthetic clips.

    Attributes:
        clips: How many clips.
        seed: Random seed.
        size: Side of the square pictures, in pixels.
        seconds: Length of each clip, rounded to whole frames of 40 ms.
        offsync: Share of clips put off sync: half shifted by 3 to 12 frames either way, half
            dubbed with another speaker.
    """

    clips: Annotated[int, Meta(ge=1, le=10_000_000)]
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    size: Annotated[int, Meta(ge=32, le=1024)] = 224
    seconds: Annotated[float, Meta(ge=1, le=300)] = 3.0
    offsync: Annotated[float, Meta(ge=0, le=1)] = 0.0


@dataclass(frozen=True)
class ClipTruth:
    """What is true of one clip; a positive offset means the audio is early (leads the picture)."""

    kind: str = IN_SYNC
    offset_frames: int = 0

    def row(self, name: str) -> list[str]:
        """The clip's line of truth.csv: clip, kind, offset_frames, audio_from."""
        offset = "" if self.kind == DUBBED else str(self.offset_frames)
        return [name, self.kind, offset, "another speaker" if self.kind == DUBBED else ""]


def synthesize(
    out: Path,
    clips: int,
    seed: int = SynthOptions.seed,
    size: int = SynthOptions.size,
    seconds: float = SynthOptions.seconds,
    offsync: float = SynthOptions.offsync,
    workers: int = 0,
    on_clip: Callable[[], None] | None = None,
) -> None:
    """Write `clips` synthetic clips and truth.csv into the folder `out`.

    The same arguments give byte-identical files, whatever `workers` is. Each clip folder appears
    whole or not at all; truth.csv comes last, so its presence means that the set is complete.

    Args:
        clips, seed, size, seconds, offsync: see `SynthOptions`; a clip's pictures may take 1 GB of
            memory.
        workers: processes; 0 is one per core, 1 is this process.
        on_clip: called in this process after each clip, also for one found already made.

    Raises:
        UsageError: an argument is out of range, `out` holds anything but an output (finished or
            not) of the same arguments, or the disk has no room for the clips.
        WorkerDied: a process was killed.
    """
    options = SynthOptions(clips, seed, size, float(seconds), float(offsync))
    _check_arguments(options)
    workers = process_count(workers)
    out = Path(out)
    _check_room(out, options)
    _claim(out, {"made_by": "data_tools synth", "version": _VERSION, **asdict(options)})
    done = on_clip or (lambda: None)
    missing = []
    for index in range(clips):
        if (out / clip_name(index)).is_dir():
            done()
        else:
            missing.append(index)
    for _ in each_result(partial(_write_clip, out, options), missing, workers, "rendering"):
        done()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["clip", "kind", "offset_frames", "audio_from"])
    for index in range(clips):
        writer.writerow(clip_truth(seed, index, offsync).row(clip_name(index)))
    with atomic_path(out / TRUTH) as unfinished:
        unfinished.write_text(table.getvalue(), encoding="utf-8")


def clip_name(index: int) -> str:
    """Folder name of clip `index`."""
    return f"clip_{index:05d}"


def frames_per_clip(seconds: float) -> int:
    """Video frames in a clip of `seconds`."""
    return round(seconds * FPS)


def clip_truth(seed: int, index: int, offsync: float) -> ClipTruth:
    """Kind and offset of clip `index`, from the clip's own random stream."""
    return _draw_truth(np.random.default_rng([seed, index]), offsync)


def render_clip(
    rng: np.random.Generator, frames: int, size: int, truth: ClipTruth | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Render one clip, in sync unless `truth` says otherwise.

    Returns the pictures, RGB uint8 (frames, size, size, 3), and the audio, int16 (frames * 640,) at
    16 kHz. The pictures are the same whatever `truth` is.
    """
    # One stream each, so that the picture does not change with what is done to the sound.
    speech_rng, face_rng, voice_rng, other_rng = rng.spawn(4)
    speech = draw_timeline(speech_rng, frames)
    truth = truth or ClipTruth()
    pictures = render_face(face_rng, speech.frames(_MARGIN, frames), size)
    if truth.kind == DUBBED:
        speech = draw_timeline(other_rng, frames)
        voice_rng = other_rng
    # Early audio: the clip's sound begins with what the picture shows only offset_frames later.
    sound = render_voice(voice_rng, speech, _MARGIN + truth.offset_frames, frames)
    return pictures, np.rint(sound * 32767.0).astype(np.int16)


def draw_timeline(rng: np.random.Generator, frames: int) -> Speech:
    """Draw speech for a clip of `frames`, with room on both sides to cut shifted audio from."""
    return speak(rng, frames + 2 * _MARGIN)


def _check_arguments(options: SynthOptions) -> None:
    check_options(options)
    size, seconds = options.size, options.seconds
    if 3 * size**2 * frames_per_clip(seconds) > _MAX_CLIP_BYTES:
        raise UsageError(
            f"--seconds must be at most {_MAX_CLIP_BYTES / (3 * size**2 * FPS):.1f} at {size} "
            f"pixels (a clip's pictures are held in memory), not {seconds:g}"
        )


def _check_room(out: Path, options: SynthOptions) -> None:
    """Refuse at once what would fill the disk after hours; what is there already needs no room."""
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        return  # _claim says so
    there = sum(1 for _ in out.glob("clip_*")) if nearest == out else 0
    frames = frames_per_clip(options.seconds)
    pictures = frames * max(_BLOCK, _BYTES_PER_PIXEL * options.size**2)
    clip_bytes = pictures + 2 * frames * SAMPLES_PER_FRAME
    needed = max(0, options.clips - there) * clip_bytes
    free = shutil.disk_usage(nearest).free
    if needed > free:
        raise UsageError(
            f"{options.clips} clips would take about {needed / 1e9:,.1f} GB and the disk "
            f"of {nearest} has {free / 1e9:,.1f} GB free; make fewer, shorter or smaller ones"
        )


def _draw_truth(rng: np.random.Generator, offsync: float) -> ClipTruth:
    # Always three draws, so that what comes after them does not depend on the outcome.
    chance, half, place = rng.random(3)
    if chance >= offsync:
        return ClipTruth()
    if half < 0.5:
        return ClipTruth(DUBBED)
    span = MAX_SHIFT - MIN_SHIFT + 1
    step = int(place * 2 * span)
    size = MIN_SHIFT + step % span
    return ClipTruth(SHIFTED, size if step < span else -size)


def _claim(out: Path, record: dict[str, object]) -> None:
    """Make `out` and record the arguments in it, or check that it is theirs already."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder")
    out.mkdir(parents=True, exist_ok=True)
    path = out / _RECORD
    if path.exists():
        try:
            earlier = read_record(path, dict[str, Any], "is damaged", "choose another folder")
        except RecordError:
            earlier = None
        if earlier != record:
            raise UsageError(f"{out} holds clips made with other arguments; choose another folder")
        remove_partials(out)
        return
    if any(not entry.name.startswith(f".{_RECORD}.") for entry in out.iterdir()):
        raise UsageError(f"{out} is not empty and was not made by synth; choose another folder")
    remove_partials(out)
    write_json(path, record)


def _write_clip(out: Path, options: SynthOptions, index: int) -> None:
    final = out / clip_name(index)
    unfinished = _unfinished(final)
    if unfinished.exists():
        shutil.rmtree(unfinished)
    cv2.setNumThreads(0)  # the processes are the parallelism
    rng = np.random.default_rng([options.seed, index])
    truth = _draw_truth(rng, options.offsync)
    pictures, audio = render_clip(rng, frames_per_clip(options.seconds), options.size, truth)
    (unfinished / "frames").mkdir(parents=True)
    wav = os.fsencode(unfinished / "audio.wav")  # soundfile takes text of UTF-8 alone
    soundfile.write(wav, audio, SAMPLE_RATE, subtype="PCM_16")
    for number, picture in enumerate(pictures):
        jpeg = simplejpeg.encode_jpeg(picture, quality=_JPEG_QUALITY, colorspace="RGB")
        (unfinished / "frames" / f"frame{number}.jpg").write_bytes(jpeg)
    os.rename(unfinished, final)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
