"""Shift a video's sound against its picture without decoding either (PyAV)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from data_tools.atomic import atomic_path
from data_tools.clips import MissingPackage

try:
    import av
except ImportError as error:
    raise MissingPackage(
        f"{error.name} is not installed; rewriting videos needs: "
        "pip install 'syncnet-trainer[prepare]'"
    ) from None


class RemuxError(Exception):
    """A file that cannot be copied with its sound shifted; says why in one sentence."""


def shift_sound(source: Path, out: Path, seconds: Fraction) -> None:
    """Copy `source` to `out` with its sound `seconds` later (negative: earlier) than it was.

    Nothing is encoded anew, so that nothing is lost. Sound that must come earlier is left where it
    is and everything else comes later: players disagree about times before zero.

    Raises:
        ValueError: `out` is `source`.
        RemuxError: the file cannot be read or the container of `out` cannot hold its streams.
    """
    if out.exists() and out.samefile(source):
        raise ValueError(f"{out} is the input, which is never overwritten; name another file")
    if not out.suffix:
        raise ValueError(f"{out} has no suffix to tell its container by; for example {out}.mp4")
    try:
        with atomic_path(out) as partial:
            _copy(source, partial, out.suffix, seconds)
    except av.error.FFmpegError as error:
        raise RemuxError(f"{source} cannot be copied to {out.name}: {error.strerror}") from None


def _copy(source: Path, out: Path, suffix: str, seconds: Fraction) -> None:
    formats = {".mkv": "matroska", ".m4v": "mp4", ".ts": "mpegts", ".mpg": "mpeg"}
    name = formats.get(suffix.lower(), suffix.lower().removeprefix("."))
    with av.open(str(source)) as given, av.open(str(out), "w", format=name) as made:
        kept = [s for s in given.streams if s.type in ("video", "audio", "subtitle")]
        streams: dict[int, Any] = {s.index: made.add_stream_from_template(s) for s in kept}
        for packet in given.demux(kept):
            if packet.dts is None:
                continue  # the end of a stream
            later = seconds if packet.stream.type == "audio" else -seconds
            if later > 0:
                ticks = round(later / packet.time_base)
                packet.dts += ticks
                if packet.pts is not None:
                    packet.pts += ticks
            packet.stream = streams[packet.stream.index]
            made.mux(packet)
