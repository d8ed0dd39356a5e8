"""The sound of a clip: audio.wav, or audio.npy with the seed's MFCC."""

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from data_tools.clips import ClipError, open_file, read_file
from data_tools.mfcc import (
    CEPSTRA,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    WINDOW_COLUMNS,
    mfcc,
    stitch_bins,
)

MAX_LENGTH_MISMATCH = 2  # frames
_LOUDEST = 4.0  # of sound stored as float: 12 dB beyond full scale is clipped, as players do
_NPY_HEADER = 10_240  # bytes, with room for what numpy itself takes to be safe to parse


def read_audio(path: Path, frames: int) -> tuple[NDArray[np.int16] | None, NDArray[np.float32]]:
    """The sound of a clip of `frames` pictures; no more of it is read than they can need.

    Returns:
        (samples,) int16 at 16 kHz, None where only audio.npy exists; and (T, 13) float32 MFCC.

    Raises:
        ClipError: there is none, or it cannot be used.
    """
    wav, bins = path / "audio.wav", path / "audio.npy"
    most = frames + MAX_LENGTH_MISMATCH + 1
    if wav.exists():
        audio = _read_wav(wav, frames, most * SAMPLES_PER_FRAME)
        if len(audio) == 0:
            raise ClipError("no audio", "audio.wav holds no sample")
        return audio, _checked(mfcc(audio), "audio.wav")
    if bins.exists():
        content = read_file(bins, "audio.npy", _NPY_HEADER + 8 * most * WINDOW_COLUMNS * CEPSTRA)
        try:
            features = stitch_bins(read_npy(content))
        except ValueError as error:
            raise ClipError("unreadable audio", f"audio.npy: {error}") from None
        return None, _checked(features, "audio.npy")
    raise ClipError("no audio", "neither audio.wav nor audio.npy")


def read_npy(content: bytes) -> NDArray[Any]:
    """The plain numbers of a .npy file: a view of `content`, which bounds its size.

    Raises:
        ValueError: it is no .npy file, holds something else than real numbers, or fewer bytes than
            its header says.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, dtype = read(stream)
    except Exception as error:  # its parsers (ast, tokenize, dtype) have errors of many kinds
        raise ValueError(f"no .npy file of numbers ({type(error).__name__})") from None
    if dtype.kind not in "fiu":
        raise ValueError(f"holds {dtype.name[:40]}, not numbers")
    if any(type(size) is not int for size in shape):  # numpy's parser takes True for one
        raise ValueError(f"its header's shape, {shape}, is none")
    count, first = math.prod(shape), stream.tell()
    if any(size < 0 for size in shape) or count * dtype.itemsize > len(content) - first:
        raise ValueError(f"its header promises {count} numbers, which the file does not hold")
    array = np.frombuffer(content, dtype, count, first)
    return array.reshape(shape, order="F" if by_columns else "C")


def length_mismatch(frames: int, audio_frames: int) -> ClipError:
    """The error for a clip whose pictures and sound, both counted in frames, differ too much."""
    return ClipError(
        "length mismatch",
        f"{frames} frames of picture, {audio_frames} of sound; at most "
        f"{MAX_LENGTH_MISMATCH} may differ",
    )


def _read_wav(wav: Path, frames: int, most: int) -> NDArray[np.int16]:
    open_file(wav, "audio.wav").close()
    try:
        # soundfile refuses to encode a path that is no UTF-8
        with soundfile.SoundFile(os.fsencode(wav)) as sound:
            if (sound.samplerate, sound.channels) != (SAMPLE_RATE, 1):
                raise ClipError(
                    "audio is not 16 kHz mono",
                    f"audio.wav has {sound.channels} channels at {sound.samplerate} Hz; "
                    "convert it first",
                )
            # As FFmpeg does in `prepare`: integers lose their lower bits, floats are rounded.
            # (libsndfile's integer read of floats does not scale them: all would be silence.)
            whole = sound.subtype.startswith("PCM")
            if (sound.format, sound.subtype) == ("W64", "PCM_32"):
                # libsndfile takes the floats that FFmpeg writes for integers: loud noise
                raise ClipError(
                    "unreadable audio",
                    "audio.wav is Wave64 of 32 bits, integers or floats; store it as WAV",
                )
            samples = sound.read(most + 1, dtype="int16" if whole else "float64")
            if len(samples) > most:
                raise length_mismatch(frames, sound.frames // SAMPLES_PER_FRAME)
    except soundfile.SoundFileError as error:
        # libsndfile's own words, without the path
        words = getattr(error, "error_string", error)
        raise ClipError("unreadable audio", f"audio.wav: {words}") from None
    return samples if whole else _from_floats(samples)


def _from_floats(samples: NDArray[np.float64]) -> NDArray[np.int16]:
    """16 bit of sound whose full scale is 1; what lies beyond is clipped, as players do."""
    if not np.isfinite(samples).all():
        raise ClipError("audio levels", "audio.wav holds samples that are NaN or infinite")
    peak = np.abs(samples).max(initial=0.0)
    # Whole numbers are magnitudes of integers, however quiet: as floats they would be noise.
    if peak > _LOUDEST or (peak > 0 and (samples == np.rint(samples)).all()):
        raise ClipError(
            "audio levels",
            f"audio.wav is stored as floats, whose full scale is 1, and reaches {peak:g}: divide "
            "its samples by their full scale (32768 for those of 16 bit)",
        )
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _checked(features: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    if features.shape[1:] != (CEPSTRA,) or not np.isfinite(features).all():
        raise ClipError("bad MFCC", f"{name} gives values that are not finite")
    return features
