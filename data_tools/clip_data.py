"""A clip read into memory and checked: what cannot be trained on is a `ClipError`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.clips import Clip, ClipError, frame_files, read_file
from data_tools.jpeg import Conversion, convert, decode_jpeg
from data_tools.mfcc import COLUMNS_PER_FRAME, SAMPLES_PER_FRAME, WINDOW_FRAMES, mfcc, window_count
from data_tools.names import shown
from data_tools.sound import MAX_LENGTH_MISMATCH, length_mismatch, read_audio

_MAX_CLIP_BYTES = 2 << 30  # a clip is held in memory while it is packed
_MAX_JPEG_BYTES = 64 << 20  # more than a picture of MAX_SIDE takes at any quality
_UNCHANGED = Conversion()


@dataclass(frozen=True)
class ClipData:
    """A clip read and checked."""

    jpegs: list[bytes]
    height: int
    width: int
    channels: int
    mfcc: NDArray[np.float32]  # (T, 13)
    audio: NDArray[np.int16] | None  # (samples,) at 16 kHz; None where only audio.npy exists


def load_clip(clip: Clip, conversion: Conversion = _UNCHANGED) -> ClipData:
    """Read a clip, decode every frame once and check the sound against the picture.

    Raises:
        ClipError: with the reason, if the clip cannot be trained on.
    """
    if clip.same_as is not None:
        raise ClipError("same clip", f"the same as {clip.same_as} under another name")
    files = frame_files(clip)
    if len(files) < WINDOW_FRAMES:
        raise _too_short(len(files))
    audio, features = read_audio(clip.path, len(files))
    _check_sound(len(files), audio, features)
    jpegs, (height, width, channels) = _read_frames(files, conversion)
    return ClipData(jpegs, height, width, channels, features, audio)


def clip_of(jpegs: list[bytes], shape: tuple[int, int, int], audio: NDArray[np.int16]) -> ClipData:
    """A clip whose frames we encoded ourselves, checked as `load_clip` checks what it reads.

    The same as writing it into a folder and loading it, without decoding a frame.

    Args:
        shape: height, width and channels of every frame.
        audio: (640 * frames,) int16 at 16 kHz.

    Raises:
        ClipError: as `load_clip`.
    """
    if len(jpegs) < WINDOW_FRAMES:
        raise _too_short(len(jpegs))
    features = mfcc(audio)
    _check_sound(len(jpegs), audio, features)
    return ClipData(jpegs, *shape, features, audio)


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


def content_digest(clip: Clip) -> bytes | None:
    """sha256 of a clip's frames and sound as they are packed untouched; None: it is not usable."""
    digest = hashlib.sha256()
    try:
        files = frame_files(clip)
        digest.update(read_audio(clip.path, len(files))[1].tobytes())
        for file in files:
            jpeg = read_file(file, file.name, _MAX_JPEG_BYTES)
            digest.update(b"%d " % len(jpeg) + jpeg)
    except ClipError:
        return None  # load_clip says why
    return digest.digest()


def _too_short(frames: int) -> ClipError:
    return ClipError("too short for one window", f"{frames} frames; a window needs {WINDOW_FRAMES}")


def _check_sound(
    frames: int, audio: NDArray[np.int16] | None, features: NDArray[np.float32]
) -> None:
    """Refuse sound that is too short, of another length than the picture, or silent."""
    if window_count(frames, len(features)) < 1:
        raise ClipError(
            "too short for one window",
            f"{frames} frames and {len(features)} MFCC columns; a window needs 5 and 20",
        )
    audio_frames = (
        len(audio) // SAMPLES_PER_FRAME
        if audio is not None
        # T columns reach from 4 (frames) - 3 to 4 (frames) of the frames that they cover
        else -(-len(features) // COLUMNS_PER_FRAME)
    )
    if abs(audio_frames - frames) > MAX_LENGTH_MISMATCH:
        raise length_mismatch(frames, audio_frames)
    if (features == features[0]).all() or (
        audio is not None and -1 <= audio.min() <= audio.max() <= 1
    ):
        # Floats that were cast to integers without a scale end here as well.
        raise ClipError("silent", "no sample is above the last of 16 bits: nothing to go by")


def _read_frames(
    files: list[Path], conversion: Conversion
) -> tuple[list[bytes], tuple[int, int, int]]:
    """The JPEGs of all frames, converted, and the shape (H, W, C) that all have."""
    jpegs = []
    shapes: dict[tuple[int, int, int], str] = {}
    held = 0
    for file in files:
        name = shown(file.name)
        jpeg = read_file(file, f"frames/{name}", _MAX_JPEG_BYTES)
        held += len(jpeg)
        if held > _MAX_CLIP_BYTES:
            raise ClipError("too long", f"its frames take more than {_MAX_CLIP_BYTES >> 30} GB")
        pixels = decode_jpeg(jpeg, f"frames/{name}")
        height, width, channels = pixels.shape
        shapes.setdefault((height, width, channels), name)
        if len(shapes) > 1:
            (shape, first), (other, second) = shapes.items()
            raise ClipError("mixed sizes", f"{first} is {_size(shape)}, {second} is {_size(other)}")
        if conversion.changes_frames:
            pixels, jpeg = convert(pixels, conversion)
            height, width, channels = pixels.shape
        jpegs.append(jpeg)
    return jpegs, (height, width, channels)


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[0]} {'gray' if shape[2] == 1 else 'colour'}"
