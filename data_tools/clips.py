"""Clips in the seed's layout: `[<split>/]<clip>/{audio.wav, frames/frame0.jpg ...}`.

A folder that holds `frames/` is a clip. Its source video, which decides the split, is the "source"
in its `clip.json` where there is one, else the group of `--source-pattern`, else the folders above
it (`<video>/<clip>`), else the clip itself.
"""

import errno
import hashlib
import io
import math
import os
import re
import struct
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import cv2
import numpy as np
import simplejpeg
import soundfile
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.errors import UsageError, UserError
from data_tools.mfcc import (
    CEPSTRA,
    COLUMNS_PER_FRAME,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    WINDOW_COLUMNS,
    WINDOW_FRAMES,
    mfcc,
    stitch_bins,
    window_count,
)
from data_tools.names import NotPlain, open_plain, shown
from data_tools.records import read_record

SPLITS = ("train", "val", "test")
MAX_LENGTH_MISMATCH = 2  # frames
DEFAULT_QUALITY = 90
MAX_SIDE = 4096  # pixels, of a frame
MAX_FRAMES = 100_000  # of a clip: more than an hour
_MAX_CLIP_BYTES = 2 << 30  # a clip is held in memory while it is packed
_MAX_JPEG_BYTES = 64 << 20  # more than a picture of MAX_SIDE takes at any quality
_MAX_SCANS = 100  # of a progressive JPEG: each costs a pass over the whole picture; ten are usual
_LOUDEST = 4.0  # of sound stored as float: 12 dB beyond full scale is clipped, as players do
_NPY_HEADER = 10_240  # bytes, with room for what numpy itself takes to be safe to parse
_OF_THE_CLIP = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
_LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)")


class ClipError(UserError):
    """A clip that cannot be used: `reason` is the class that reports count, `detail` the case."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process boundaries
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class Described:
    """What we read of a clip.json; `prepare` writes more into it."""

    source: Annotated[str, Meta(min_length=1)] | int


@dataclass(frozen=True)
class Clip:
    """Where a clip lies and which source video it was cut from."""

    name: str  # path below the root, split folder included; bytes that are no UTF-8 escaped
    path: Path
    split: str | None  # of the split folder it lies in, if any
    source: str
    same_as: str | None = None  # name of the clip that this one is under another name


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

    Links to folders are followed. A clip that is reached again by another name is listed under that
    name too, with `same_as`.

    Raises:
        UsageError: `root` is no folder, it holds no clip, or the pattern is no regular expression
            with one group.
        RecordError: a clip.json names no source.
        OSError: a folder cannot be read.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder of clips")
    pattern = _compile(source_pattern)
    found, again = _clip_folders(root)
    clips: dict[Path, Clip] = {}
    names = set()
    for folder in found:
        parts = _parts(folder, root)
        split = _split(parts)
        inner = parts[1:] if split else parts
        # Two splits may number their clips alike; that alone does not make them one source.
        own = parts if len(inner) == 1 else inner[:-1]
        name = "/".join(parts)
        if name in names:  # the escaped bytes of one are another's letters
            digest = hashlib.sha256(os.fsencode(folder.relative_to(root))).hexdigest()
            name = f"{name} ({digest[:16]})"
        names.add(name)
        clips[folder] = Clip(name, folder, split, _source(folder, inner, own, pattern))
    if not clips:
        raise UsageError(
            f"{root} holds no clip: expected <clip>/audio.wav with <clip>/frames/frame0.jpg ..."
        )
    listed = list(clips.values())
    for folder, original in again:
        parts, first = _parts(folder, root), clips[original]
        listed.append(Clip("/".join(parts), folder, _split(parts), first.source, first.name))
    return sorted(listed, key=lambda clip: (natural_key(clip.name), clip.name))


def _clip_folders(root: Path) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """The folders that hold frames/, and other names by which links lead to them again.

    Each folder is entered once, so that loops and links to links end. Folders go before links: of
    two names the one without a link counts.
    """
    entered: dict[tuple[int, int], Path] = {}
    found: list[Path] = []
    repeats: list[tuple[Path, Path]] = []
    folders, links = [root], deque[Path]()
    while folders or links:
        here = folders.pop() if folders else links.popleft()
        lies = here.stat()
        known = entered.setdefault((lies.st_dev, lies.st_ino), here)
        if known is not here:
            repeats.append((here, known))
            continue
        with os.scandir(here) as entries:
            inside = [e for e in entries if not e.name.startswith(".") and _is_folder(e)]
        if here != root and any(entry.name == "frames" for entry in inside):
            found.append(here)
            continue
        inside.sort(key=lambda entry: entry.name)
        links += [here / entry.name for entry in inside if entry.is_symlink()]
        folders += [here / entry.name for entry in reversed(inside) if not entry.is_symlink()]
    again = []
    for here, known in repeats:
        above = here.parent.resolve()
        if known.resolve() in (above, *above.parents):
            continue  # a loop leads to no clip that it does not lie beside
        again += [
            (here / folder.relative_to(known), folder)
            for folder in found
            if folder.is_relative_to(known)
        ]
    return found, again


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself, or to what nobody may look at


def _parts(folder: Path, root: Path) -> tuple[str, ...]:
    return tuple(shown(part) for part in folder.relative_to(root).parts)


def _split(parts: tuple[str, ...]) -> str | None:
    return parts[0] if parts[0] in SPLITS and len(parts) > 1 else None


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
    if len(files) > MAX_FRAMES:
        raise ClipError("too long", f"{len(files)} frames; cut it into clips of {MAX_FRAMES}")
    numbered: dict[int, Path] = {}
    for file in files:
        found = _LAST_NUMBER.search(file.stem)
        if found is None:
            raise ClipError("frame without a number", f"frames/{shown(file.name)}")
        number = int(found[1])
        if number in numbered:
            raise ClipError(
                "frame doubled",
                f"frames/{shown(file.name)} and {shown(numbered[number].name)}",
            )
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
    if clip.same_as is not None:
        raise ClipError("same clip", f"the same as {clip.same_as} under another name")
    files = frame_files(clip)
    if len(files) < WINDOW_FRAMES:
        raise ClipError(
            "too short for one window", f"{len(files)} frames; a window needs {WINDOW_FRAMES}"
        )
    audio, features = _read_audio(clip.path, len(files))
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
        raise _mismatch(len(files), sound_frames)
    if (features == features[0]).all() or (
        audio is not None and -1 <= audio.min() <= audio.max() <= 1
    ):
        # Floats that were cast to integers without a scale end here as well.
        raise ClipError("silent", "no sample is above the last of 16 bits: nothing to go by")
    jpegs = []
    shapes: dict[tuple[int, int, int], str] = {}
    held = 0
    for file in files:
        name = shown(file.name)
        jpeg = _read(file, f"frames/{name}", _MAX_JPEG_BYTES)
        held += len(jpeg)
        if held > _MAX_CLIP_BYTES:
            raise ClipError("too long", f"its frames take more than {_MAX_CLIP_BYTES >> 30} GB")
        pixels = decode_jpeg(jpeg, f"frames/{name}")
        shapes.setdefault(pixels.shape, name)
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


def content_digest(clip: Clip) -> bytes | None:
    """sha256 of a clip's frames and sound as they are packed untouched; None: it is not usable."""
    digest = hashlib.sha256()
    try:
        files = frame_files(clip)
        digest.update(_read_audio(clip.path, len(files))[1].tobytes())
        for file in files:
            jpeg = _read(file, file.name, _MAX_JPEG_BYTES)
            digest.update(b"%d " % len(jpeg) + jpeg)
    except ClipError:
        return None  # load_clip says why
    return digest.digest()


def decode_jpeg(jpeg: bytes, name: str) -> NDArray[np.uint8]:
    """Decode strictly: (H, W, 1) for a gray JPEG, else (H, W, 3) RGB, uint8.

    Raises:
        ClipError: the JPEG is truncated, corrupt or no JPEG, a side is longer than MAX_SIDE, or it
            is one that decoders show differently.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(jpeg)
        if max(height, width) > MAX_SIDE:
            raise ClipError(
                "picture too large",
                f"{name} is {width}x{height}; a side may have {MAX_SIDE} pixels at most",
            )
        if jpeg.count(b"\xff\xda") > _MAX_SCANS:
            raise ClipError("corrupt JPEG", f"{name} has more than {_MAX_SCANS} scans")
        if colours in ("CMYK", "YCCK"):
            raise ClipError("colours for print", f"{name} is {colours}; convert it to RGB")
        turned = _orientation(jpeg)
        if 2 <= turned <= 8:
            raise ClipError(
                "turned picture",
                f"{name} is to be turned by its EXIF orientation {turned}; store it upright",
            )
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            jpeg, "GRAY" if colours == "Gray" else "RGB", fastdct=False, fastupsample=False
        )
        return pixels
    except ClipError:
        raise
    except Exception as error:  # whatever a decoder may meet in bytes from outside
        truncated = "remature end" in str(error)
        raise ClipError(
            "truncated JPEG" if truncated else "corrupt JPEG", f"{name}: {error}"
        ) from None


def jpeg_size(jpeg: NDArray[np.uint8]) -> tuple[int, int, int] | None:
    """Height, width and the number of bytes up to them; None: no JPEG.

    `jpeg`: (bytes,) uint8. Markers are read as libjpeg reads them, in order and without searching,
    so that whatever begins with the same bytes is of the same size.
    """
    head = jpeg.data
    end = len(head)
    if bytes(head[:2]) != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= end and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # have no length
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return head[at + 5] << 8 | head[at + 6], head[at + 7] << 8 | head[at + 8], at + 9
        elif marker in (0x00, 0xD8, 0xD9, 0xDA):
            return None
        else:
            at += 2 + (head[at + 2] << 8 | head[at + 3])
    return None


def _orientation(jpeg: bytes) -> int:
    """How EXIF says that a picture is to be turned; 1: it stands upright."""
    at = jpeg.find(b"Exif\0\0", 0, 1 << 16)
    tiff = jpeg[at + 6 : at + (1 << 16)] if at >= 0 else b""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        pass  # damaged; decoders pass over it as well
    return 1


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


def _open(file: Path, name: str) -> BinaryIO:
    """Open a clip's file for reading; what is no plain file would hang or never end."""
    try:
        return open_plain(file)
    except NotPlain:
        raise ClipError("not a file", f"{name} is a folder, pipe or device") from None
    except OSError as error:
        if error.errno not in _OF_THE_CLIP:
            raise
        raise ClipError("unreadable file", f"{name}: {str(error.strerror).lower()}") from None


def _read(file: Path, name: str, limit: int) -> bytes:
    with _open(file, name) as stream:
        content = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)
    if len(content) > limit:
        raise ClipError("file too large", f"{name} has more than {limit:,} bytes")
    return content


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


def _read_audio(path: Path, frames: int) -> tuple[NDArray[np.int16] | None, NDArray[np.float32]]:
    """The sound of a clip of `frames` pictures; no more of it is read than they can need."""
    wav, bins = path / "audio.wav", path / "audio.npy"
    most = frames + MAX_LENGTH_MISMATCH + 1
    if wav.exists():
        audio = _read_wav(wav, frames, most * SAMPLES_PER_FRAME)
        if len(audio) == 0:
            raise ClipError("no audio", "audio.wav holds no sample")
        return audio, _checked(mfcc(audio), "audio.wav")
    if bins.exists():
        content = _read(bins, "audio.npy", _NPY_HEADER + 8 * most * WINDOW_COLUMNS * CEPSTRA)
        try:
            features = stitch_bins(read_npy(content))
        except ValueError as error:
            raise ClipError("unreadable audio", f"audio.npy: {error}") from None
        return None, _checked(features, "audio.npy")
    raise ClipError("no audio", "neither audio.wav nor audio.npy")


def _read_wav(wav: Path, frames: int, most: int) -> NDArray[np.int16]:
    _open(wav, "audio.wav").close()
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
                raise _mismatch(frames, sound.frames // SAMPLES_PER_FRAME)
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


def _mismatch(frames: int, sound_frames: int) -> ClipError:
    return ClipError(
        "length mismatch",
        f"{frames} frames of picture, {sound_frames} of sound; at most "
        f"{MAX_LENGTH_MISMATCH} may differ",
    )


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
            described,
            Described,
            'is not JSON with a "source"',
            "mend it or take it away",
            as_python=True,  # it is other programs', of which many are in Python
        )
        return shown(about.source)
    if pattern is not None:
        found = pattern.search("/".join(inner))
        if found is None or found[1] is None:
            raise UsageError(f"--source-pattern matches nothing in {'/'.join(inner)!r}")
        return found[1]
    return "/".join(default)


def _compile(source_pattern: str | None) -> re.Pattern[str] | None:
    if source_pattern is None:
        return None
    try:
        pattern = re.compile(source_pattern)
    except re.error as error:
        raise UsageError(f"--source-pattern is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise UsageError("--source-pattern needs exactly one group, the source's name")
    return pattern


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[0]} {'gray' if shape[2] == 1 else 'colour'}"
