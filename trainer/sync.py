"""Is the sound in sync, and by how much is it off?  `python -m trainer.sync VIDEO... --weights W`

For every face track of every video: the offset in frames, milliseconds and words, and whether to
trust it. `--prepared` takes the whole picture as the crop of one face. `--fix OUT` writes a copy
whose sound is shifted into place, without encoding anything anew, and measures it again.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_tools.atomic import atomic_path, write_json
from data_tools.clips import MissingPackage
from data_tools.mfcc import FPS, SAMPLES_PER_FRAME, mfcc
from trainer.embed import ahead, embed_lips, embed_sound, features, fold
from trainer.model import SyncNet
from trainer.scoring import Score, in_words, score, score_official
from trainer.weights import WeightsError, load_model

REACH = 15  # frames to either side, the official command line's
PARITY, MASKED = "parity", "masked"
MODES = (MASKED, PARITY)

MIN_WINDOWS = 21  # a second of video; fewer average too little
MIN_SPEECH = 0.1  # share of the sound
# Of random curves of 31 shifts the smallest value rarely lies 3 deviations below the others' mean.
MIN_CLEARNESS = 3.0

_DECODED = 25  # frames a piece


class SyncError(Exception):
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
        doubts: why not to trust it, in words; empty if there is no reason.
    """

    video: str
    track: str
    start: float
    end: float
    windows: int
    speech: float
    score: Score
    doubts: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the offset."""
        return not self.doubts

    def row(self) -> dict[str, Any]:
        """Plain values, for CSV and JSON."""
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
            "windows": self.windows,
            "speech": round(self.speech, 3),
            "trusted": self.trusted,
            "doubts": "; ".join(self.doubts),
        }


def score_track(
    model: SyncNet,
    pieces: Iterable[NDArray[np.uint8]],
    audio: Any,
    reach: int = REACH,
    mode: str = MASKED,
    device: str = "cpu",
) -> Score:
    """Score one track: its crops against its sound.

    Args:
        model: in evaluation mode, folded or not, on `device`.
        pieces: crops in order as (n, H, W, C) uint8 of the model's size, RGB or gray; decoded by a
            thread of their own while the model computes.
        audio: (samples,) int16 at 16 kHz from the first crop on, or a function that gives them once
            the frames are known: number of frames -> samples.
        mode: "masked", or "parity" to score as the official code does.

    Raises:
        ValueError: too short to be scored.
    """
    lips = embed_lips(model, ahead(pieces), device)
    frames = len(lips) + 4 if len(lips) else 0
    samples = audio(frames) if callable(audio) else audio
    windows = min(frames, len(samples) // SAMPLES_PER_FRAME) - 4
    if mode == PARITY:
        windows -= 1  # the official code leaves out the last
    if windows < 1:
        raise ValueError("too short: a track needs at least five frames with sound")
    sound = embed_sound(model, (mfcc if mode == PARITY else features)(samples), device)
    count = min(windows, len(sound))
    how = score_official if mode == PARITY else score
    return how(lips[:count], sound[:count], reach)


def measure(
    path: Path,
    model: SyncNet,
    *,
    prepared: bool = False,
    crop: str | None = None,
    reach: int = REACH,
    mode: str = MASKED,
    device: str = "cpu",
) -> tuple[list[Found], list[str]]:
    """Every face track of a video, and why others were left out, in words.

    Args:
        path: any video that FFmpeg's libraries read, with sound.
        model: folded.
        prepared: the whole picture is the crop.
        crop: "face" or "mouth"; by default the face for the published network, else the mouth.

    Raises:
        SyncError: the video cannot be used at all.
        VideoError: it cannot be opened or has no sound.
        MissingPackage: the extra [prepare] is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="syncnet-") as folder:
        if prepared:
            return _measure_prepared(path, model, Path(folder), reach, mode, device)
        return _measure_tracks(path, model, Path(folder), crop, reach, mode, device)


def _measure_prepared(
    path: Path, model: SyncNet, work: Path, reach: int, mode: str, device: str
) -> tuple[list[Found], list[str]]:
    from data_tools.video import Converter, Sound, Video

    with Video(path) as video:
        sound = Sound(work / "sound.raw")
        converter = Converter(video.aspect)
        kept: dict[str, Any] = {}

        def pieces() -> Iterator[NDArray[np.uint8]]:
            held = []
            for picture in video.pictures(sound):
                held.append(_fit(converter.rgb(picture.frame), model))
                if len(held) == _DECODED:
                    yield np.stack(held)
                    held = []
            if held:
                yield np.stack(held)

        def audio(frames: int) -> NDArray[np.int16]:
            if video.stills:
                raise SyncError(
                    f"{path}: the picture stands still for more than a second; without "
                    "--prepared the moving parts are found"
                )
            if video.origin is None or sound.start is None:
                raise SyncError(f"{path} has an audio stream without sound")
            kept["audio"] = sound.read(0, frames, video.origin)
            found: NDArray[np.int16] = kept["audio"]
            return found

        try:
            result = score_track(model, pieces(), audio, reach, mode, device)
        except ValueError as error:
            raise SyncError(f"{path}: {error}") from None
    audio_found = kept["audio"]
    return [_found(str(path), "", 0.0, len(audio_found), audio_found, result)], []


def _measure_tracks(
    path: Path,
    model: SyncNet,
    work: Path,
    crop: str | None,
    reach: int,
    mode: str,
    device: str,
) -> tuple[list[Found], list[str]]:
    from data_tools.prepare_video import PrepareOptions, prepare_video

    options = PrepareOptions(
        crop=crop or ("face" if model.name == "syncnet" else "mouth"),
        size=model.preset.size,
        gray=model.preset.channels == 1,
        quality=95,
        max_clip=1e9,  # a track is scored as a whole
        min_frames=5,
    )
    record = prepare_video(path, "video", work, options)
    dropped = [
        f"{row['item'] or 'video'}: {row['detail'] or row['reason']}"
        for row in record["rows"]
        if not row["kept"] and row["level"] in ("video", "track")
    ]
    results = []
    for row in record["rows"]:
        if row["level"] != "clip" or not row["kept"]:
            continue
        folder = work / "video" / row["item"]
        audio, _ = soundfile.read(folder / "audio.wav", dtype="int16")
        try:
            result = score_track(
                model, _stored(folder, row["frames"], model), audio, reach, mode, device
            )
        except ValueError as error:
            dropped.append(f"track {row['item']}: {error}")
            continue
        track = row["item"].split("-")[0]
        results.append(_found(str(path), track, row["start_seconds"], len(audio), audio, result))
    return results, dropped


def _stored(folder: Path, frames: int, model: SyncNet) -> Iterator[NDArray[np.uint8]]:
    colour = "GRAY" if model.preset.channels == 1 else "RGB"
    for first in range(0, frames, _DECODED):
        yield np.stack(
            [
                simplejpeg.decode_jpeg(
                    (folder / "frames" / f"frame{number}.jpg").read_bytes(), colour
                )
                for number in range(first, min(first + _DECODED, frames))
            ]
        )


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
    samples: int,
    audio: NDArray[np.int16],
    result: Score,
) -> Found:
    from data_tools.speech import speech_share

    speech, windows = speech_share(audio), len(result.frames_K)
    doubts = []
    if windows < MIN_WINDOWS:
        doubts.append(f"too short ({windows + 4} frames)")
    if speech < MIN_SPEECH:
        doubts.append(f"hardly any speech ({speech:.0%} of the sound)")
    if result.clearness < MIN_CLEARNESS:
        doubts.append(f"no clear minimum ({result.clearness:.1f} of {MIN_CLEARNESS:g} deviations)")
    if abs(result.offset) == result.reach:
        doubts.append("the minimum lies at the edge of the search: try a larger --max-shift")
    seconds = samples / SAMPLES_PER_FRAME / FPS
    return Found(video, track, start, start + seconds, windows, speech, result, tuple(doubts))


def fix(path: Path, out: Path, found: list[Found]) -> int:
    """Write a copy of the video with its sound in place; returns the frames it was moved by.

    Raises:
        SyncError: no track can be trusted, or trusted tracks disagree by more than a frame.
        ValueError: `out` is the input.
    """
    from data_tools.remux import shift_sound

    trusted = [one.score for one in found if one.trusted]
    if not trusted:
        raise SyncError(f"{path}: no offset can be trusted, so nothing was written")
    offsets = [one.offset for one in trusted]
    if max(offsets) - min(offsets) > 1:
        raise SyncError(
            f"{path}: its tracks are off by {min(offsets)} to {max(offsets)} frames, which no one "
            "shift mends; cut the video first"
        )
    best = max(trusted, key=lambda one: one.clearness).offset
    shift_sound(path, out, Fraction(best, FPS))
    return best


def table(found: list[Found]) -> Table:
    """For the terminal."""
    shown = Table("video", "track", "seconds", "offset", "meaning", "confidence", "LSE-D", "trust")
    for one in found:
        shown.add_row(
            Path(one.video).name,
            one.track,
            f"{one.start:.1f}-{one.end:.1f}",
            f"{one.score.offset:+d} frames, {1000 * one.score.offset // FPS:+d} ms",
            in_words(one.score.offset),
            f"{one.score.confidence:.2f}",
            f"{one.score.distance:.2f}",
            "yes" if one.trusted else "not sure: " + "; ".join(one.doubts),
        )
    return shown


def write_csv(found: list[Found], path: Path) -> None:
    """One row a track."""
    text = io.StringIO()
    names = list(found[0].row()) if found else ["video"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.row() for one in found)
    with atomic_path(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def as_json(found: list[Found], left_out: dict[str, list[str]], mode: str) -> dict[str, Any]:
    """Everything, with the curves."""
    tracks = [
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
    return {"mode": mode, "tracks": tracks, "left_out": left_out}


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
        name = f"{Path(one.video).name} {one.track}".strip()
        left.set(
            title=f"{name}: {in_words(one.score.offset)}",
            xlabel="offset, frames (positive: audio early)",
            ylabel="mean distance",
        )
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
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="best.pt of a run, syncnet_v2.model, or .safetensors",
    )
    parser.add_argument(
        "--prepared", action="store_true", help="the whole picture is the crop of one face"
    )
    parser.add_argument(
        "--crop", choices=("face", "mouth"), help="default: face for syncnet, mouth for the others"
    )
    parser.add_argument(
        "--mode", choices=MODES, default=MASKED, help="parity: score as the official code does"
    )
    parser.add_argument(
        "--max-shift", type=int, default=REACH, metavar="N", help="frames to search (default 15)"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--json", type=Path, help="write everything, curves included")
    parser.add_argument("--csv", type=Path, help="write one row a track")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the curves")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write a mended copy of the video")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 measured, 1 a video gave nothing, 2 wrong usage."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.max_shift < 1:
        parser.error(f"--max-shift must be at least 1, not {args.max_shift}")
    if args.fix and len(args.videos) > 1:
        parser.error("--fix takes one video")
    if args.fix and _same(args.fix, args.videos[0]):
        parser.error(f"--fix: {args.fix} is the input, which is never overwritten")
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        model = fold(load_model(args.weights)).to(args.device)
    except (WeightsError, MissingPackage, RuntimeError) as error:
        print(f"sync: {error}", file=sys.stderr)
        return 1
    how = {
        "prepared": args.prepared,
        "crop": args.crop,
        "reach": args.max_shift,
        "mode": args.mode,
        "device": args.device,
    }
    found: list[Found] = []
    left_out: dict[str, list[str]] = {}
    empty = False
    for path in args.videos:
        try:
            own, dropped = measure(path, model, **how)
        except MissingPackage as error:
            print(f"sync: {error}", file=sys.stderr)
            return 1
        except (ClipError, OSError) as error:
            own, dropped = [], [str(error)]
        found += own
        empty |= not own
        if dropped:
            left_out[str(path)] = dropped
        for line in dropped:
            print(f"{path.name}: left out: {line}", file=sys.stderr)
    if found:
        console.print(table(found))
    written = []
    if args.json:
        write_json(args.json, as_json(found, left_out, args.mode))
        written.append(args.json)
    if args.csv:
        write_csv(found, args.csv)
        written.append(args.csv)
    if args.plot and found:
        plot(found, args.plot)
        written.append(args.plot)
    status = 1 if empty else 0
    if args.fix and found:
        try:
            moved = fix(args.videos[0], args.fix, found)
            written.append(args.fix)
            again, _ = measure(args.fix, model, **how)
            console.print(f"moved the sound by {moved:+d} frames; measured again:")
            console.print(table(again))
        except (ClipError, ValueError, OSError) as error:
            print(f"sync: --fix: {error}", file=sys.stderr)
            status = 1
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)
    return status


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


if __name__ == "__main__":
    sys.exit(main())
