"""Write a video anew with its sound moved, packet by packet (PyAV)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from heapq import merge
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from data_tools.errors import UserError
from data_tools.names import address
from data_tools.video.clock import Clock, demuxed, in_order, lacks_presentation
from data_tools.video.containers import open_container
from data_tools.video.packets import StreamPackets, kind_of, made_anew, pixel_aspect, time_code

_COVERS = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}


class RemuxError(UserError):
    """A file that cannot be copied with its sound shifted; says why in one sentence."""


class Unfit(RemuxError):
    """The container cannot hold the streams; another one perhaps can.

    Attributes:
        others: the suffixes of those.
    """

    def __init__(self, words: str, others: tuple[str, ...] = (".mkv",)) -> None:
        super().__init__(words)
        self.others = others


def copy_shifted(
    source: Path, out: Path, form: str, seconds: Fraction, sound: Path | None = None
) -> tuple[list[str], list[StreamPackets]]:
    """Copy `source` to `out` with the sound `seconds` later.

    Args:
        form: of the copy, as FFmpeg calls it: mp4, mov, matroska.
        sound: a file whose audio streams, as many and in the same order, take the place of the
            source's.

    Returns:
        What the copy lacks, in words, and the packets that were written, of each stream.

    Raises:
        RemuxError: the times of the source cannot be kept, or it holds no picture and sound.
        av.error.FFmpegError, ValueError: of PyAV.
    """
    with (
        open_container(source) as given,
        av.open(address(out), "w", format=form) as made,
        nullcontext() if sound is None else av.open(address(sound)) as apart,
    ):
        made.metadata.update(given.metadata)
        streams, sent, lacking = _open_streams(source, given, made, form, apart)
        if not {"video", "audio"} <= {sent[index].kind for index in streams}:
            raise Unfit("it holds no picture and sound that can be copied")
        made.set_chapters(given.chapters())
        shown = {
            index: _shown(source, index)
            for index in streams
            if lacks_presentation(given.streams[index])
        }
        made.start_encoding()  # from now on the streams have their units of time
        clock = Clock(given, from_zero=True)
        needed = demuxed(given, *(given.streams[index] for index in streams))
        packets = clock.run(_unpacked(_counted(needed, sent, apart is not None), given))
        for packet in packets if apart is None else _with_sound(packets, given, apart, sent):
            if packet.size == 0 and (
                packet.stream.type in ("video", "audio")  # the picture before once more
                or (packet.pts is None and packet.dts is None)  # the end of a stream
            ):
                continue
            index = _index(packet, given)
            if index in shown:
                packet.pts, packet.dts = shown[index](packet.pts)
            if packet.stream.type == "audio":
                _move(packet, seconds)
            _rescale(packet, streams[index].time_base)
            if sent[index].kind in ("video", "audio"):
                # Matroska keeps no times of decoding.
                _complete(packet, sent[index].decoded, apart=0 if form == "matroska" else 1)
            sent[index].time(packet)
            packet.stream = streams[index]
            made.mux(packet)
    if clock.restarts:
        _check_formats(source)
    return lacking, list(sent.values())


def _open_streams(
    source: Path, given: Any, made: Any, form: str, apart: Any
) -> tuple[dict[int, Any], dict[int, StreamPackets], list[str]]:
    """Give the copy its streams, by their index in the source; what it lacks, in words."""
    streams: dict[int, Any] = {}
    sent: dict[int, StreamPackets] = {}
    lacking = []
    for stream in given.streams:
        kind = kind_of(stream)
        if made_anew(stream):
            continue  # FFmpeg's writers make such tracks of what the container says
        if stream.codec_context is None:
            lacking.append(f"stream {stream.index} ({kind} of an unknown codec) is not copied")
        elif kind == "cover" and form == "matroska" and stream.codec_context.name in _COVERS:
            # as a stream it would be one more video there
            suffix, mime = _COVERS[stream.codec_context.name]
            name = stream.metadata.get("filename", f"cover.{suffix}")
            made.add_attachment(name, mime, _cover(source, stream.index))
            sent[stream.index] = StreamPackets(kind, packets=1)
        elif (
            kind in ("video", "audio", "subtitle")
            or (kind == "cover" and form == "mp4")
            or (kind == "attachment" and form == "matroska")
        ):
            sent[stream.index] = StreamPackets(kind, aspect=pixel_aspect(stream))
            # opaque: the decoder's parameters, since not every codec has an encoder
            template = stream
            if apart is not None and kind == "audio":
                template = apart.streams.audio[given.streams.audio.index(stream)]
            copy: Any = made.add_stream_from_template(template, opaque=True)
            if kind == "video":  # what the container says of it, which `opaque` leaves behind
                copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio or 0
                if _takes_tag(stream, given, form):
                    copy.codec_context.codec_tag = stream.codec_context.codec_tag
                if form != "matroska" and time_code(given) and stream.average_rate:
                    copy.codec_context.framerate = stream.average_rate  # which its track counts in
            copy.disposition = stream.disposition
            copy.metadata.update(stream.metadata)
            streams[stream.index] = copy
        else:
            lacking.append(f"stream {stream.index} ({kind}) is not copied")
    return streams, sent, lacking


def _takes_tag(stream: Any, given: Any, form: str) -> bool:
    """Whether MP4 or MOV may call a stream's codec what the source, one of them too, calls it.

    FFmpeg's own choice among several names is not always played: hev1 of HEVC not by QuickTime.
    """
    if form not in ("mp4", "mov") or form not in given.format.name.split(","):
        return False
    with av.open(BytesIO(), "w", format=form) as trial:
        copy = trial.add_stream_from_template(stream, opaque=True)
        copy.codec_context.codec_tag = stream.codec_context.codec_tag
        try:
            trial.start_encoding()
        except av.error.FFmpegError:
            return False
    return True


def _cover(source: Path, index: int) -> bytes:
    with open_container(source) as given:
        return bytes(next(given.demux(given.streams[index])))


def _unpacked(packets: Iterable[Any], given: Any) -> Iterator[Any]:
    """Pictures each in a packet of its own, which other containers than AVI need."""
    filters = {
        stream.index: BitStreamFilterContext("mpeg4_unpack_bframes", in_stream=stream)
        for stream in given.streams.video
        if stream.codec_context is not None
        and stream.codec_context.name == "mpeg4"
        and given.format.name == "avi"
    }
    for packet in packets:
        if packet.size and packet.stream.index in filters:
            for unpacked in filters[packet.stream.index].filter(packet):
                unpacked.stream = packet.stream
                yield unpacked
        else:
            yield packet


def _with_sound(
    packets: Iterable[Any], given: Any, apart: Any, sent: dict[int, StreamPackets]
) -> Iterator[Any]:
    """The packets with another file's sound instead of their own, in order of time."""
    pictures = (packet for packet in packets if packet.stream.type != "audio")
    yield from merge(pictures, _counted_apart(given, apart, sent), key=_decoding_time)


def _counted_apart(given: Any, apart: Any, sent: dict[int, StreamPackets]) -> Iterator[Any]:
    for packet in demuxed(apart, *apart.streams.audio):
        if packet.size:
            sent[_index(packet, given)].count(packet)
            yield packet


def _decoding_time(packet: Any) -> float:
    """Seconds; those without a time come first."""
    stamp = packet.pts if packet.dts is None else packet.dts
    return float("-inf") if stamp is None else float(stamp * packet.time_base)


def _index(packet: Any, given: Any) -> int:
    """Of the stream of the source that a packet stands for, be it of a file of sound."""
    stream = packet.stream
    if stream.container is given:
        return int(stream.index)
    return int(given.streams.audio[stream.container.streams.audio.index(stream)].index)


def _counted(packets: Iterable[Any], sent: dict[int, StreamPackets], silent: bool) -> Iterator[Any]:
    """The same packets, counted; silent: but those of sound, which stay behind."""
    for packet in packets:
        if packet.size and not (silent and packet.stream.type == "audio"):
            sent[packet.stream.index].count(packet)
        yield packet


def _shown(source: Path, index: int) -> Callable[[int], tuple[int, int]]:
    """When pictures are shown and decoded, by their time in a stream that `lacks_presentation`.

    They are decoded for it, for nothing else tells in which order they are shown.
    """
    with open_container(source) as given:
        stream: Any = given.streams[index]
        stream.thread_type = "AUTO"
        clock = Clock(given, from_zero=True)
        shown: dict[int, int] = {}
        for frame, own in in_order(_decoded(clock, given, stream), stream):
            shown[own] = frame.pts
    # No picture is shown before it is decoded.
    delay = max((own - time for own, time in shown.items()), default=0)
    return lambda own: (shown.get(own, own), own - delay)


def _decoded(clock: Clock, given: Any, stream: Any) -> Iterator[Any]:
    for packet in clock.run(demuxed(given, stream)):
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue  # it stays in the copy, as damaged as it is


def _move(packet: Any, seconds: Fraction) -> None:
    """Have a packet presented and decoded `seconds` later."""
    ticks = round(seconds / packet.time_base)
    packet.dts = None if packet.dts is None else packet.dts + ticks
    packet.pts = None if packet.pts is None else packet.pts + ticks


def _rescale(packet: Any, tick: Fraction) -> None:
    """State the times of a packet in another unit."""
    scale = packet.time_base / tick
    packet.pts = None if packet.pts is None else round(packet.pts * scale)
    packet.dts = None if packet.dts is None else round(packet.dts * scale)
    packet.duration = round((packet.duration or 0) * scale)
    packet.time_base = tick


def _complete(packet: Any, decoded: int | None, apart: int) -> None:
    """Give a packet the times that it lacks, and none of decoding before the last one's.

    apart: by how many units times of decoding must grow at least.
    """
    index = packet.stream.index
    if packet.dts is None and packet.pts is None:
        if decoded is None or not packet.duration:
            raise RemuxError(f"stream {index} has packets without a time")
        packet.dts = decoded + packet.duration
    if packet.pts is None:
        if packet.stream.type == "video" and packet.stream.codec_context.has_b_frames:
            raise RemuxError(f"stream {index} does not say when its pictures are shown")
        packet.pts = packet.dts
    if packet.dts is None or decoded is None:
        return
    if packet.dts < decoded + apart:
        back = decoded - packet.dts
        if back > (packet.duration or 0):
            seconds = float(back * packet.time_base)
            raise RemuxError(f"the times of stream {index} run backwards by {seconds:.2f} s")
        packet.dts = decoded + apart
        packet.pts = max(packet.pts, packet.dts)
    if not packet.duration:
        packet.duration = packet.dts - decoded  # MP4 would not show a last picture that lasts 0 s


def _check_formats(source: Path) -> None:
    """Of a file of several recordings: a copy describes each sound stream once."""
    formats: dict[int, tuple[int, str]] = {}
    with open_container(source) as given:
        for frame, index in _sound(given):
            form = formats.setdefault(index, (frame.sample_rate, frame.layout.name))
            if form != (frame.sample_rate, frame.layout.name):
                raise RemuxError(
                    f"the sound changes from {form[0]} Hz {form[1]} to {frame.sample_rate} Hz "
                    f"{frame.layout.name} where its clock restarts; cut the video there first"
                )


def _sound(given: Any) -> Iterator[tuple[Any, int]]:
    if not given.streams.audio:
        return
    for packet in demuxed(given, *given.streams.audio):
        try:
            for frame in packet.decode():
                yield frame, packet.stream.index
        except av.error.FFmpegError:
            continue
