"""Clips in the seed's layout: `[<split>/]<clip>/{audio.wav, frames/frame0.jpg ...}`.

A folder that holds `frames/` is a clip. Its source video, which decides the split, is the "source"
in its `clip.json` where there is one, else the group of `--source-pattern`, else the folders above
it (`<video>/<clip>`), else the clip itself.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError  # numpy's, for a damaged header
from typing import Annotated, Any

import cv2
import numpy as np
import simplejpeg
import soundfile
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.mfcc import (
    CEPSTRA,
    COLUMNS_PER_FRAME,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    mfcc,
    stitch_bins,
    window_count,
)
from data_tools.records import read_record

SPLITS = ("train", "val", "test")
MAX_LENGTH_MISMATCH = 2  # frames
DEFAULT_QUALITY = 90
_LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)")


class ClipError(Exception):
    """A clip that cannot be used: `reason` is the class that reports count, `detail` the case."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process boundaries
        return type(self), (self.reason, self.detail)


class MissingPackage(RuntimeError):
    """A package of an extra is not installed: the run ends, whatever it works on."""


@dataclass(frozen=True)
class Described:
    """What we read of a clip.json; `prepare` writes more into it."""

    source: Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True)
class Clip:
    """Where a clip lies and which source video it was cut from."""

    name: str  # path below the root, split folder included
    path: Path
    split: str | None  # of the split folder it lies in, if any
    source: str


@dataclass(frozen=True)
class Conversion:
    """What `pack` may change about a frame; nothing by default, then JPEG bytes stay untouched."""

    size: int | None = None
    gray: bool = False
    quality: int | None = None

    @property
    def changes_frames(self) -> bool:
        """Whether frames are encoded anew."""
        return self.size is not None or self.gray or self.quality is not None


@dataclass(frozen=True)
class ClipData:
    """A clip read and checked."""

    jpegs: list[bytes]
    height: int
    width: int
    channels: int
    mfcc: NDArray[np.float32]  # (T, 13)
    audio: NDArray[np.int16] | None  # (samples,) at 16 kHz; None where only audio.npy exists


def find_clips(root: Path, source_pattern: str | None = None) -> list[Clip]:
    """All clips below `root`, sorted by name (numbers in names by value).

    Raises:
        ValueError: `root` is no folder, it holds no clip, or the pattern is no regular expression
            with one group.
        RecordError: a clip.json names no source.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder of clips")
    pattern = _compile(source_pattern)
    clips = []
    for folder, inside, _ in os.walk(root, followlinks=True):
        parts = Path(folder).relative_to(root).parts
        inside[:] = [name for name in inside if not name.startswith(".")]
        if "frames" not in inside or not parts:
            continue
        inside.clear()  # thousands of frames, no clip among them
        split = parts[0] if parts[0] in SPLITS and len(parts) > 1 else None
        inner = parts[1:] if split else parts
        # Two splits may number their clips alike; that alone does not make them one source.
        own = parts if len(inner) == 1 else inner[:-1]
        source = _source(Path(folder), inner, own, pattern)
        clips.append(Clip("/".join(parts), Path(folder), split, source))
    if not clips:
        raise ValueError(
            f"{root} holds no clip: expected <clip>/audio.wav with <clip>/frames/frame0.jpg ..."
        )
    return sorted(clips, key=lambda clip: natural_key(clip.name))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key under which `frame10` comes after `frame9`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def frame_files(clip: Clip) -> list[Path]:
    """The clip's JPEG files in the order of the number in their names, without gaps.

    Raises:
        ClipError: there are none, or a number is missing, doubled or absent.
    """
    files = [f for f in (clip.path / "frames").iterdir() if f.suffix.lower() in (".jpg", ".jpeg")]
    if not files:
        raise ClipError("no frames", "frames/ holds no .jpg file")
    numbered: dict[int, Path] = {}
    for file in files:
        found = _LAST_NUMBER.search(file.stem)
        if found is None:
            raise ClipError("frame without a number", f"frames/{file.name}")
        number = int(found[1])
        if number in numbered:
            raise ClipError("frame doubled", f"frames/{file.name} and {numbered[number].name}")
        numbered[number] = file
    first = min(numbered)
    for number in range(first, first + len(numbered)):
        if number not in numbered:
            # Closing the gap would shift every later frame against the sound.
            raise ClipError("frame missing", f"no frame {number} of {first}..{max(numbered)}")
    return [numbered[number] for number in sorted(numbered)]


def load_clip(clip: Clip, conversion: Conversion = Conversion()) -> ClipData:
    """Read a clip, decode every frame once and check the sound against the picture.

    Raises:
        ClipError: with the reason, if the clip cannot be trained on.
    """
    audio, features = _read_audio(clip.path)
    files = frame_files(clip)
    if window_count(len(files), len(features)) < 1:
        raise ClipError(
            "too short for one window",
            f"{len(files)} frames and {len(features)} MFCC columns; a window needs 5 and 20",
        )
    sound_frames = (
        len(audio) // SAMPLES_PER_FRAME
        if audio is not None
        # T columns reach from 4 (frames) - 3 to 4 (frames) of the frames that they cover
        else -(-len(features) // COLUMNS_PER_FRAME)
    )
    if abs(sound_frames - len(files)) > MAX_LENGTH_MISMATCH:
        raise ClipError(
            "length mismatch",
            f"{len(files)} frames of picture, {sound_frames} of sound; at most "
            f"{MAX_LENGTH_MISMATCH} may differ",
        )
    jpegs = []
    shapes: dict[tuple[int, int, int], str] = {}
    for file in files:
        jpeg = file.read_bytes()
        pixels = decode_jpeg(jpeg, f"frames/{file.name}")
        shapes.setdefault(pixels.shape, file.name)
        if len(shapes) > 1:
            (one, first), (other, second) = shapes.items()
            raise ClipError("mixed sizes", f"{first} is {_size(one)}, {second} is {_size(other)}")
        if conversion.changes_frames:
            pixels, jpeg = _convert(pixels, conversion)
        jpegs.append(jpeg)
    height, width, channels = pixels.shape
    return ClipData(jpegs, height, width, channels, features, audio)


def realign(data: ClipData, offset: int) -> ClipData:
    """A clip whose audio is early by `offset` frames (late if negative), cut so that both fit.

    Raises:
        ClipError: no window is left.
    """
    frames = len(data.jpegs) - abs(offset)
    # Sound that is early by k frames: what frame k shows is heard at once, so pictures go.
    jpegs = data.jpegs[max(0, offset) :][: max(0, frames)]
    silent = max(0, -offset)
    audio, features = None, data.mfcc[COLUMNS_PER_FRAME * silent :][: COLUMNS_PER_FRAME * frames]
    if frames > 0 and data.audio is not None:
        audio = data.audio[SAMPLES_PER_FRAME * silent :][: SAMPLES_PER_FRAME * frames]
        features = mfcc(audio) if len(audio) else features[:0]
    if frames < 1 or window_count(len(jpegs), len(features)) < 1:
        raise ClipError(
            "too short to be realigned",
            f"{len(data.jpegs)} frames whose audio is off by {offset:+d} leave no window",
        )
    return ClipData(jpegs, data.height, data.width, data.channels, features, audio)


def decode_jpeg(jpeg: bytes, name: str) -> NDArray[np.uint8]:
    """Decode strictly: (H, W, 1) for a gray JPEG, else (H, W, 3) RGB, uint8.

    Raises:
        ClipError: the JPEG is truncated, corrupt or no JPEG.
    """
    try:
        gray = simplejpeg.decode_jpeg_header(jpeg)[2] == "Gray"
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            jpeg, "GRAY" if gray else "RGB", fastdct=False, fastupsample=False
        )
        return pixels
    except ValueError as error:
        truncated = "remature end" in str(error)
        raise ClipError(
            "truncated JPEG" if truncated else "corrupt JPEG", f"{name}: {error}"
        ) from None


def _convert(pixels: NDArray[np.uint8], conversion: Conversion) -> tuple[NDArray[np.uint8], bytes]:
    if conversion.gray and pixels.shape[2] == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], np.uint8)
    if conversion.size is not None and pixels.shape[:2] != (conversion.size, conversion.size):
        shrinking = conversion.size < max(pixels.shape[:2])
        resized = cv2.resize(
            pixels,
            (conversion.size, conversion.size),
            interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC,
        )
        pixels = np.asarray(resized, np.uint8).reshape(conversion.size, conversion.size, -1)
    pixels = np.ascontiguousarray(pixels)
    colorspace = "GRAY" if pixels.shape[2] == 1 else "RGB"
    subsampling = "Gray" if pixels.shape[2] == 1 else "420"
    jpeg = simplejpeg.encode_jpeg(
        pixels, conversion.quality or DEFAULT_QUALITY, colorspace, subsampling, fastdct=False
    )
    return pixels, jpeg


def _read_audio(path: Path) -> tuple[NDArray[np.int16] | None, NDArray[np.float32]]:
    wav, bins = path / "audio.wav", path / "audio.npy"
    if wav.exists():
        try:
            audio, rate = soundfile.read(wav, dtype="int16", always_2d=True)
        except soundfile.SoundFileError as error:
            raise ClipError("unreadable audio", f"audio.wav: {error}") from None
        if rate != SAMPLE_RATE or audio.shape[1] != 1:
            raise ClipError(
                "audio is not 16 kHz mono",
                f"audio.wav has {audio.shape[1]} channels at {rate} Hz; convert it first",
            )
        if len(audio) == 0:
            raise ClipError("no audio", "audio.wav holds no sample")
        return audio[:, 0], _checked(mfcc(audio[:, 0]), "audio.wav")
    if bins.exists():
        try:
            with open(bins, "rb") as stream:  # np.load would take a zip as well
                features = stitch_bins(np.lib.format.read_array(stream, allow_pickle=False))
        except (ValueError, OSError, EOFError, TokenError) as error:
            raise ClipError("unreadable audio", f"audio.npy: {error}") from None
        return None, _checked(features, "audio.npy")
    raise ClipError("no audio", "neither audio.wav nor audio.npy")


def _checked(features: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    if features.shape[1:] != (CEPSTRA,) or not np.isfinite(features).all():
        raise ClipError("bad MFCC", f"{name} gives values that are not finite")
    return features


def _source(
    path: Path, inner: tuple[str, ...], default: tuple[str, ...], pattern: re.Pattern[str] | None
) -> str:
    described = path / "clip.json"
    if described.exists():
        about = read_record(
            described, Described, 'is not JSON with a "source"', "mend it or take it away"
        )
        return about.source
    if pattern is not None:
        found = pattern.search("/".join(inner))
        if found is None or found[1] is None:
            raise ValueError(f"--source-pattern matches nothing in {'/'.join(inner)!r}")
        return found[1]
    return "/".join(default)


def _compile(source_pattern: str | None) -> re.Pattern[str] | None:
    if source_pattern is None:
        return None
    try:
        pattern = re.compile(source_pattern)
    except re.error as error:
        raise ValueError(f"--source-pattern is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise ValueError("--source-pattern needs exactly one group, the source's name")
    return pattern


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[0]} {'gray' if shape[2] == 1 else 'colour'}"
