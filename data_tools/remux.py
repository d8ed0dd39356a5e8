"""Shift a video's sound against its picture without decoding either (PyAV)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from data_tools.atomic import atomic_path
from data_tools.clips import MissingPackage
from data_tools.names import address

try:
    import av
except ImportError as error:
    raise MissingPackage(
        f"{error.name} is not installed; rewriting videos needs: "
        "pip install 'syncnet-trainer[prepare]'"
    ) from None

# Containers that keep a time for every packet. AVI counts packets instead, MPEG transport and
# program streams lose rotation and some codecs: their contents fit into Matroska.
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


class RemuxError(Exception):
    """A file that cannot be copied with its sound shifted; says why in one sentence."""


def check_target(source: Path, out: Path) -> None:
    """Whether `shift_sound` may write `out`.

    Raises:
        ValueError: `out` is `source`, by whatever name, no plain file, or no container that keeps
            times.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out} is the input, which is never overwritten; name another file")
    if out.exists() and not out.is_file():
        raise ValueError(f"{out} is no plain file, which a video needs; name another")
    if out.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"{out} must end in {', '.join(_FORMATS)}: containers that keep a time for every packet"
        )


def shift_sound(source: Path, out: Path, seconds: Fraction) -> list[str]:
    """Copy `source` to `out` with all of its sound `seconds` later (negative: earlier).

    Nothing is encoded anew and the picture stays where it is. Sound that would come before the
    first picture is not played from MP4 and MOV (an edit list hides it); in Matroska everything
    else begins later instead. Where the sound begins later than the picture, FFmpeg's MP4 writer
    cannot also hide the encoder's priming (some 20 to 60 ms without content before the first
    sample): it is played, and what follows it is in its place.

    Returns:
        What the copy lacks, in words; empty if it has every stream.

    Raises:
        ValueError: as `check_target`.
        RemuxError: the file cannot be read or the container of `out` cannot hold its streams.
        OSError: `out` cannot be written.
    """
    check_target(source, out)
    try:
        with atomic_path(out) as partial:
            return _copy(source, partial, _FORMATS[out.suffix.lower()], seconds)
    except (av.error.ArgumentError, av.error.PatchWelcomeError) as error:
        why, unfit = error.strerror, True
    except av.error.FFmpegError as error:
        why, unfit = error.strerror or type(error).__name__, False
    except ValueError as error:  # of PyAV: 'mp4' format does not support 'vorbis' codec
        why, unfit = str(error), True
    hint = "; is a .mkv possible?" if unfit and out.suffix.lower() != ".mkv" else ""
    raise RemuxError(f"{source} cannot be copied to {out.name}: {why}{hint}")


def _copy(source: Path, out: Path, form: str, seconds: Fraction) -> list[str]:
    with (
        av.open(address(source), metadata_errors="replace") as given,
        av.open(address(out), "w", format=form) as made,
    ):
        made.metadata.update(given.metadata)
        streams: dict[int, Any] = {}
        lacking = []
        for stream in given.streams:
            attached = stream.type == "attachment" and form == "matroska"
            if stream.type not in ("video", "audio", "subtitle") and not attached:
                lacking.append(f"stream {stream.index} ({stream.type}) is not copied")
                continue
            # opaque: the decoder's parameters, since not every codec has an encoder
            copy: Any = made.add_stream_from_template(stream, opaque=True)
            copy.disposition = stream.disposition
            copy.metadata.update(stream.metadata)
            streams[stream.index] = copy
        made.set_chapters(given.chapters())
        for packet in given.demux([given.streams[index] for index in streams]):
            if packet.size == 0 and packet.pts is None and packet.dts is None:
                continue  # the end of a stream
            if packet.stream.type == "audio":
                ticks = round(seconds / packet.time_base)
                packet.dts = None if packet.dts is None else packet.dts + ticks
                packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.stream = streams[packet.stream.index]
            made.mux(packet)
    return lacking
