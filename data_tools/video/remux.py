"""Put a video's sound in its place: shifted as it is, or anew piece by piece (PyAV)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from data_tools.atomic import NO_ROOM, atomic_path
from data_tools.errors import UsageError, not_prepared
from data_tools.video.course import Course

try:
    import av

    from data_tools.video.remux_check import difference, lost, reshaped
    from data_tools.video.remux_copy import RemuxError, Unfit, copy_shifted
    from data_tools.video.retime import Encoded, encode_sound
except ImportError as error:
    raise not_prepared(error.name, "rewriting videos") from None

# Containers that keep a time for every packet. AVI counts packets instead, MPEG transport and
# program streams lose rotation and some codecs: their contents fit into Matroska.
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


def check_target(source: Path, out: Path) -> None:
    """Whether `shift_sound` may write `out`.

    Raises:
        UsageError: `out` is `source`, by whatever name, no plain file, or no container that keeps
            times.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"{out} is the input, which is never overwritten; name another file")
    if out.exists() and not out.is_file():
        raise UsageError(f"{out} is no plain file, which a video needs; name another")
    if out.suffix.lower() not in _FORMATS:
        raise UsageError(
            f"{out} must end in {', '.join(_FORMATS)}: containers that keep a time for every packet"
        )


@contextmanager
def shifted(source: Path, out: Path, seconds: Fraction) -> Iterator[tuple[Path, list[str]]]:
    """A copy of `source` with all of its sound `seconds` later (negative: earlier).

    Yields the copy under a temporary name, and what it lacks, in words (empty if it has every
    stream). It becomes `out` when the body ends; if the body raises, it is removed and `out` stays
    as it was.

    Nothing is encoded anew and the picture stays where it is, but that the copy begins at 0 s
    whenever the source does, and goes on where the clock of the source restarts. Sound that would
    come before the first picture is not played from MP4 and MOV (an edit list hides it); in
    Matroska everything else begins later instead. Where the sound begins later than the picture,
    FFmpeg's MP4 writer cannot also hide the encoder's priming (some 20 to 60 ms without content
    before the first sample): it is played, and what follows it is in its place.

    Before it is yielded the copy is read again and compared with what was read of the source:
    every picture and every packet of sound is there, pictures keep their shape, and what is
    presented is at its time but for the shift (Vorbis that an edit list of MP4 cuts: within 20 ms).

    Raises:
        UsageError: as `check_target`.
        RemuxError: the file cannot be read, the container of `out` cannot hold its streams, or the
            copy is not what it should be.
        OSError: `out` cannot be written.
    """
    with _written(source, out, seconds) as (partial, lacking, _):
        yield partial, lacking


@contextmanager
def retimed(source: Path, out: Path, course: Course) -> Iterator[tuple[Path, list[str], Encoded]]:
    """A copy of `source` whose sound is put in its place piece by piece, and so encoded anew.

    As `shifted`, but also yields how the sound was encoded and where it was cut. What would be
    heard before 0 s is left out.

    Args:
        course: how early the sound is all along.

    Raises:
        UsageError, RemuxError, OSError: as `shifted`; RemuxError also where the sound cannot be
            decoded or encoded.
    """
    with _written(source, out, Fraction(0), course) as (partial, lacking, encoded):
        assert encoded is not None
        yield partial, lacking, encoded


@contextmanager
def _written(
    source: Path, out: Path, seconds: Fraction, course: Course | None = None
) -> Iterator[tuple[Path, list[str], Encoded | None]]:
    """The copy, what it lacks, and how its sound was encoded, if it was."""
    check_target(source, out)
    with atomic_path(out) as partial:
        try:
            lacking, encoded = _proven_copy(
                source, partial, _FORMATS[out.suffix.lower()], seconds, course
            )
        except RemuxError as error:
            others = error.others if isinstance(error, Unfit) else ()
            fits_elsewhere = others and out.suffix.lower() not in others
            hint = f"; is a {' or '.join(others)} possible?" if fits_elsewhere else ""
            raise RemuxError(f"{source} cannot be copied to {out.name}: {error}{hint}") from None
        yield partial, lacking, encoded


def shift_sound(source: Path, out: Path, seconds: Fraction) -> list[str]:
    """Write the copy that `shifted` gives; returns what it lacks.

    Raises:
        UsageError, RemuxError, OSError: as `shifted`.
    """
    with shifted(source, out, seconds) as (_, lacking):
        return lacking


def _proven_copy(
    source: Path, out: Path, form: str, seconds: Fraction, course: Course | None
) -> tuple[list[str], Encoded | None]:
    """Write the copy and read it again; what it lacks, and how its sound was encoded.

    Raises:
        RemuxError: there is no such copy; says why.
        OSError: the disk is full.
    """
    before = _state(source)
    try:
        with tempfile.TemporaryDirectory(prefix="syncnet-") as folder:
            sound, encoded = None, None
            if course is not None:
                sound = Path(folder) / "sound"
                encoded = encode_sound(source, sound, form, course)
            lacking, sent = copy_shifted(source, out, form, seconds, sound)
        if _state(source) != before:
            raise RemuxError("it was written to meanwhile; try again when it is complete")
        if wrong := reshaped(out, sent):  # PyAV does not let Matroska be told of it
            raise Unfit(wrong, (".mp4", ".mov"))
        wrong = difference(out, form, sent, seconds)
        lacking += lost(source, out)
    except (
        av.error.ArgumentError,
        av.error.PatchWelcomeError,
        av.error.ExperimentalError,
    ) as error:
        raise Unfit(str(error.strerror)) from None
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        if isinstance(error, MemoryError):  # a size that the file claims, most often
            raise RemuxError("it is damaged: it asks for too much memory") from None
        raise RemuxError(error.strerror or type(error).__name__) from None
    except ValueError as error:  # of PyAV: 'mp4' format does not support 'vorbis' codec
        raise Unfit(str(error)) from None
    if wrong:
        raise Unfit(wrong)
    return lacking, encoded


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # opening it says why
    return status.st_size, status.st_mtime_ns
