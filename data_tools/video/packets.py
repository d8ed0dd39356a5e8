"""The packets of each stream of a file: how many, how long, when (PyAV)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from data_tools.progress import still_alive
from data_tools.video.clock import is_cover
from data_tools.video.containers import open_container

_DISCARD_ALL = 48  # AVDISCARD_ALL


def kind_of(stream: Any) -> str:
    """Of which kind a stream is: video, cover, audio, subtitle, attachment, ..."""
    return "cover" if stream.type == "video" and is_cover(stream) else str(stream.type)


def pixel_aspect(stream: Any) -> Fraction:
    """Width of a pixel over its height; 1 where it is not said, and of what is no picture."""
    return (stream.sample_aspect_ratio or Fraction(1)) if stream.type == "video" else Fraction(1)


def time_code(container: Any) -> str:
    """Where a recording says that it begins, "01:00:00:00"; empty if it does not."""
    for metadata in (container.metadata, *(stream.metadata for stream in container.streams)):
        for key, value in metadata.items():
            if key.lower() == "timecode":  # Matroska shouts
                return str(value)
    return ""


def made_anew(stream: Any) -> bool:
    """Whether a stream is MP4's or MOV's track of the time code, or of the titles of chapters.

    Titles are told from other data by FFmpeg's reading them as chapters, not as a stream.
    """
    if stream.type != "data":
        return False
    passed_over = getattr(stream, "discard", 0) == _DISCARD_ALL  # which PyAV 14 does not tell
    return "timecode" in stream.metadata or (stream.name == "bin_data" and passed_over)


def read_packets(path: Path, **options: str) -> tuple[list[StreamPackets], float]:
    """The packets of each stream, and how many seconds the container says that it lasts."""
    with open_container(path, **options) as container:
        streams = [StreamPackets(kind_of(stream)) for stream in container.streams]
        for packet in container.demux():
            still_alive()
            if packet.size:
                streams[packet.stream.index].count(packet)
                streams[packet.stream.index].time(packet)
        return streams, (container.duration or 0) / 1_000_000


@dataclass
class StreamPackets:
    """The packets of one stream: of which kind, how many; when, of those that were written."""

    kind: str  # video, cover, audio, ...
    packets: int = 0
    size: int = 0  # bytes
    keyed: bool = False  # a key frame has come: nothing before it can be decoded
    unseen: int = 0  # packets since then that are not to be presented
    begins: array[float] = field(default_factory=lambda: array("d"))  # seconds, of each packet
    ends: array[float] = field(default_factory=lambda: array("d"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    shown: array[int] = field(default_factory=lambda: array("b"))  # 0: not to be presented
    decoded: int | None = None  # the last time of decoding, in the stream's own unit
    decoding: float = 0.0  # seconds, when that packet's time ends
    aspect: Fraction = Fraction(1)  # width of a pixel over its height, of what was sent

    def count(self, packet: Any) -> None:
        """One more packet was read."""
        self.packets += 1
        self.size += packet.size
        if packet.is_keyframe:
            self.keyed = True
        if self.keyed and packet.is_discard:
            self.unseen += 1

    def time(self, packet: Any) -> None:
        """A packet has its place in the copy."""
        tick = float(packet.time_base)
        stamp = (packet.dts if packet.pts is None else packet.pts) or 0
        self.begins.append(stamp * tick)
        self.ends.append((stamp + (packet.duration or 0)) * tick)
        self.sizes.append(packet.size)
        self.shown.append(not packet.is_discard)
        if packet.dts is not None:
            self.decoded = packet.dts
            self.decoding = (packet.dts + (packet.duration or 0)) * tick
