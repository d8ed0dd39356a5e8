"""Make synthetic talking-head clips whose lips and speech agree, for tests and the demo.

    python -m data_tools synth OUT --clips 250 --seed 1 --size 96 --seconds 3 --offsync 0.2

writes OUT/<clip>/audio.wav (16 kHz mono, 16 bit), OUT/<clip>/frames/frame0.jpg ... (25 a second)
and OUT/truth.csv. Every clip is another person and another voice. Clip k depends only on the seed,
k, the size and the length (and, off sync, on its kind), so fewer clips are a prefix of more.
A run that was killed goes on where it stopped when started again with the same arguments.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import soundfile
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, remove_partials, write_json
from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.progress import progress
from data_tools.records import RecordError, read_record
from data_tools.synth.face import render_face
from data_tools.synth.voice import Speech, render_voice, speak
from data_tools.workers import MAX_WORKERS, process_count, worker_pool

IN_SYNC, SHIFTED, DUBBED = "in_sync", "shifted", "dubbed"
MIN_SHIFT, MAX_SHIFT = 3, 12
MAX_CLIPS, MAX_SECONDS, MAX_SEED = 10_000_000, 300, 2**63 - 1

# Raise when the same arguments come to mean other files.
_VERSION = 1
_JPEG_QUALITY = 90
# At the least, of a clip: its pictures hold 0.2 bytes a pixel, a file takes a block of the disk.
_BYTES_PER_PIXEL, _BLOCK = 0.2, 4096
_MAX_CLIP_BYTES = 1 << 30  # of a clip's pictures in memory
# Frames of timeline on each side of the picture: the largest shift, and one frame for filters.
_MARGIN = MAX_SHIFT + 2
_RECORD = "synth.json"
_TRUTH = "truth.csv"


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
    seed: int = 0,
    size: int = 224,
    seconds: float = 3.0,
    offsync: float = 0.0,
    workers: int = 0,
    on_clip: Callable[[], None] | None = None,
) -> None:
    """Write `clips` synthetic clips and truth.csv into the folder `out`.

    The same arguments give byte-identical files, whatever `workers` is. Each clip folder appears
    whole or not at all; truth.csv comes last, so its presence means that the set is complete.

    clips: at most MAX_CLIPS.
    size: side of the square pictures, pixels, 32..1024.
    seconds: length of each clip, 1..MAX_SECONDS, rounded to whole frames of 40 ms; a clip's
        pictures may take 1 GB of memory.
    offsync: chance 0..1 that a clip is off sync: half of those shifted by 3..12 frames either way,
        half dubbed with another speaker.
    workers: processes; 0 is one per core, 1 is this process.
    on_clip: called in this process after each clip, also for one found already made.

    Raises ValueError for an argument out of range, when `out` holds anything but an output
    (finished or not) of the same arguments, or when the disk has no room for the clips.
    """
    _check_arguments(clips, seed, size, seconds, offsync, workers)
    out = Path(out)
    frames = frames_per_clip(seconds)
    _check_room(out, clips, frames, size)
    record = {
        "made_by": "data_tools synth",
        "version": _VERSION,
        "clips": clips,
        "seed": seed,
        "size": size,
        "seconds": float(seconds),
        "offsync": float(offsync),
    }
    _claim(out, record)
    done = on_clip or (lambda: None)
    missing = []
    for index in range(clips):
        if (out / clip_name(index)).is_dir():
            done()
        else:
            missing.append(index)
    processes = min(process_count(workers), len(missing))
    if processes <= 1:
        for index in missing:
            _write_clip(out, seed, index, frames, size, offsync)
            done()
    else:
        _write_clips_in_pool(out, seed, missing, frames, size, offsync, processes, done)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["clip", "kind", "offset_frames", "audio_from"])
    for index in range(clips):
        writer.writerow(clip_truth(seed, index, offsync).row(clip_name(index)))
    with atomic_path(out / _TRUTH) as partial:
        partial.write_text(table.getvalue(), encoding="utf-8")


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m data_tools synth` to `parser`."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make (empty or not there)")
    parser.add_argument("--clips", type=int, required=True, metavar="N", help="how many clips")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="random seed (default 0)")
    parser.add_argument(
        "--size", type=int, default=224, metavar="PX", help="side of the pictures (default 224)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="T", help="length of a clip (default 3)"
    )
    parser.add_argument(
        "--offsync",
        type=float,
        default=0.0,
        metavar="P",
        help="share of clips put off sync, half shifted and half dubbed (default 0)",
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes (default: one per core)"
    )


def main(args: argparse.Namespace) -> int:
    """Run `python -m data_tools synth`; returns the exit status.

    Raises ValueError for the same reasons as `synthesize`.
    """
    started = time.monotonic()
    with progress("clips", args.clips, "clips") as advance:
        synthesize(
            args.out,
            clips=args.clips,
            seed=args.seed,
            size=args.size,
            seconds=args.seconds,
            offsync=args.offsync,
            workers=args.workers,
            on_clip=lambda: advance(1),
        )
    speech = args.clips * frames_per_clip(args.seconds) / FPS
    took = time.monotonic() - started
    print(f"{args.clips} clips ({speech:.0f} s of video) in {args.out}, made in {took:.1f} s")
    print(f"what is true of each clip: {args.out / _TRUTH}")
    return 0


def _check_arguments(
    clips: int, seed: int, size: int, seconds: float, offsync: float, workers: int
) -> None:
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"clips must be between 1 and {MAX_CLIPS}, not {clips}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be between 0 and {MAX_SEED}, not {seed}")
    if not 32 <= size <= 1024:
        raise ValueError(f"size must be between 32 and 1024 pixels, not {size}")
    if not 1 <= seconds <= MAX_SECONDS:
        raise ValueError(f"seconds must be between 1 and {MAX_SECONDS}, not {seconds:g}")
    if 3 * size**2 * frames_per_clip(seconds) > _MAX_CLIP_BYTES:
        raise ValueError(
            f"seconds must be at most {_MAX_CLIP_BYTES / (3 * size**2 * FPS):.1f} at {size} pixels "
            f"(a clip's pictures are held in memory), not {seconds:g}"
        )
    if not 0 <= offsync <= 1:
        raise ValueError(f"offsync must be between 0 and 1, not {offsync:g}")
    if not 0 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers must be between 0 (one per core) and {MAX_WORKERS}")


def _check_room(out: Path, clips: int, frames: int, size: int) -> None:
    """Refuse at once what would fill the disk after hours; what is there already needs no room."""
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        return  # _claim says so
    there = sum(1 for _ in out.glob("clip_*")) if nearest == out else 0
    one = frames * max(_BLOCK, _BYTES_PER_PIXEL * size**2) + 2 * frames * SAMPLES_PER_FRAME
    needed, free = max(0, clips - there) * one, shutil.disk_usage(nearest).free
    if needed > free:
        raise ValueError(
            f"{clips} clips would take about {needed / 1e9:,.1f} GB and the disk of {nearest} has "
            f"{free / 1e9:,.1f} GB free; make fewer, shorter or smaller ones"
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
        raise ValueError(f"{out} is not a folder")
    out.mkdir(parents=True, exist_ok=True)
    path = out / _RECORD
    if path.exists():
        try:
            found = read_record(path, dict[str, Any], "is damaged", "choose another folder")
        except RecordError:
            found = None
        if found != record:
            raise ValueError(f"{out} holds clips made with other arguments; choose another folder")
        remove_partials(out)
        return
    if any(not entry.name.startswith(f".{_RECORD}.") for entry in out.iterdir()):
        raise ValueError(f"{out} is not empty and was not made by synth; choose another folder")
    remove_partials(out)
    write_json(path, record)


def _write_clips_in_pool(
    out: Path,
    seed: int,
    indices: list[int],
    frames: int,
    size: int,
    offsync: float,
    processes: int,
    done: Callable[[], None],
) -> None:
    with worker_pool(processes) as pool:
        try:
            tasks = [
                pool.submit(_write_clip, out, seed, index, frames, size, offsync)
                for index in indices
            ]
            for task in as_completed(tasks):
                task.result()
                done()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_clip(out: Path, seed: int, index: int, frames: int, size: int, offsync: float) -> None:
    final = out / clip_name(index)
    partial = _partial(final)
    if partial.exists():
        shutil.rmtree(partial)
    cv2.setNumThreads(0)  # the processes are the parallelism
    rng = np.random.default_rng([seed, index])
    truth = _draw_truth(rng, offsync)
    pictures, audio = render_clip(rng, frames, size, truth)
    (partial / "frames").mkdir(parents=True)
    wav = os.fsencode(partial / "audio.wav")  # soundfile takes text of UTF-8 alone
    soundfile.write(wav, audio, SAMPLE_RATE, subtype="PCM_16")
    for number, picture in enumerate(pictures):
        jpeg = simplejpeg.encode_jpeg(picture, quality=_JPEG_QUALITY, colorspace="RGB")
        (partial / "frames" / f"frame{number}.jpg").write_bytes(jpeg)
    os.rename(partial, final)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
