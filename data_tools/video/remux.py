"""Shift a video's sound against its picture without decoding either (PyAV)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.atomic import NO_ROOM, atomic_path
from data_tools.errors import MissingPackage, UsageError, UserError
from data_tools.names import address

try:
    import av
    from av.bitstream import BitStreamFilterContext

    from data_tools.video.clock import Clock, demuxed, in_order, is_cover, lacks_presentation
except ImportError as error:
    raise MissingPackage(
        f"{error.name} is not installed; rewriting videos needs: "
        "pip install 'syncnet-trainer[prepare]'"
    ) from None

# Containers that keep a time for every packet. AVI counts packets instead, MPEG transport and
# program streams lose rotation and some codecs: their contents fit into Matroska.
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_COVERS = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}
_ROUNDING = 0.003  # seconds: Matroska counts milliseconds
_CUT = 0.02  # seconds: where an edit list cuts sound, Vorbis begins up to a packet from its place
_SLACK = 1.0  # seconds that edit lists, priming and last packets may add to a length


class RemuxError(UserError):
    """A file that cannot be copied with its sound shifted; says why in one sentence."""


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
    every picture and every packet of sound is there, and what is presented is at its time but for
    the shift (Vorbis that an edit list of MP4 cuts: within 20 ms).

    Raises:
        UsageError: as `check_target`.
        RemuxError: the file cannot be read, the container of `out` cannot hold its streams, or the
            copy is not what it should be.
        OSError: `out` cannot be written.
    """
    check_target(source, out)
    with atomic_path(out) as partial:
        form = _FORMATS[out.suffix.lower()]
        try:
            before = _state(source)
            lacking, sent = _copy(source, partial, form, seconds)
            if _state(source) != before:
                raise RemuxError("it was written to meanwhile; try again when it is complete")
            why, unfit = _differs(partial, form, sent, seconds), True
        except RemuxError as error:
            why, unfit = str(error), False
        except (
            av.error.ArgumentError,
            av.error.PatchWelcomeError,
            av.error.ExperimentalError,
        ) as error:
            why, unfit = str(error.strerror), True
        except av.error.FFmpegError as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            why, unfit = error.strerror or type(error).__name__, False
        except ValueError as error:  # of PyAV: 'mp4' format does not support 'vorbis' codec
            why, unfit = str(error), True
        if not why:
            yield partial, lacking
            return
        hint = "; is a .mkv possible?" if unfit and out.suffix.lower() != ".mkv" else ""
        raise RemuxError(f"{source} cannot be copied to {out.name}: {why}{hint}")


def shift_sound(source: Path, out: Path, seconds: Fraction) -> list[str]:
    """Write the copy that `shifted` gives; returns what it lacks.

    Raises:
        UsageError, RemuxError, OSError: as `shifted`.
    """
    with shifted(source, out, seconds) as (_, lacking):
        return lacking


@dataclass
class _Line:
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

    def count(self, packet: Any) -> None:
        self.packets += 1
        self.size += packet.size
        self.keyed |= packet.is_keyframe
        self.unseen += self.keyed and packet.is_discard

    def time(self, packet: Any) -> None:
        tick = float(packet.time_base)
        stamp = (packet.dts if packet.pts is None else packet.pts) or 0
        self.begins.append(stamp * tick)
        self.ends.append((stamp + (packet.duration or 0)) * tick)
        self.sizes.append(packet.size)
        self.shown.append(not packet.is_discard)
        if packet.dts is not None:
            self.decoded = packet.dts
            self.decoding = (packet.dts + (packet.duration or 0)) * tick


def _copy(source: Path, out: Path, form: str, seconds: Fraction) -> tuple[list[str], list[_Line]]:
    """Write the copy; what it lacks, and what was written, a line a stream."""
    with (
        av.open(address(source), metadata_errors="replace") as given,
        av.open(address(out), "w", format=form) as made,
    ):
        made.metadata.update(given.metadata)
        streams: dict[int, Any] = {}
        lines: dict[int, _Line] = {}
        lacking = []
        for stream in given.streams:
            kind = _kind(stream)
            if stream.codec_context is None:
                lacking.append(f"stream {stream.index} ({kind} of an unknown codec) is not copied")
                continue
            if kind == "cover" and form == "matroska" and stream.codec_context.name in _COVERS:
                # as a stream it would be one more video there
                suffix, mime = _COVERS[stream.codec_context.name]
                name = stream.metadata.get("filename", f"cover.{suffix}")
                made.add_attachment(name, mime, _cover(source, stream.index))
                lines[stream.index] = _Line(kind, packets=1)
                continue
            if not (
                kind in ("video", "audio", "subtitle")
                or (kind == "cover" and form == "mp4")
                or (kind == "attachment" and form == "matroska")
            ):
                lacking.append(f"stream {stream.index} ({kind}) is not copied")
                continue
            lines[stream.index] = _Line(kind)
            # opaque: the decoder's parameters, since not every codec has an encoder
            copy: Any = made.add_stream_from_template(stream, opaque=True)
            copy.disposition = stream.disposition
            copy.metadata.update(stream.metadata)
            streams[stream.index] = copy
        if not {"video", "audio"} <= {lines[index].kind for index in streams}:
            raise ValueError("it holds no picture and sound that can be copied")
        made.set_chapters(given.chapters())
        shown = {
            index: _shown(source, index)
            for index in streams
            if lacks_presentation(given.streams[index])
        }
        made.start_encoding()  # from now on the streams have their units of time
        clock = Clock(given, from_zero=True)
        packets = demuxed(given, *(given.streams[index] for index in streams))
        for packet in clock.run(_unpacked(_counted(packets, lines), given)):
            if packet.size == 0 and (
                packet.stream.type in ("video", "audio")  # the picture before once more
                or (packet.pts is None and packet.dts is None)  # the end of a stream
            ):
                continue
            index = packet.stream.index
            if index in shown:
                packet.pts, packet.dts = shown[index](packet.pts)
            if packet.stream.type == "audio":
                ticks = round(seconds / packet.time_base)
                packet.dts = None if packet.dts is None else packet.dts + ticks
                packet.pts = None if packet.pts is None else packet.pts + ticks
            _rescale(packet, streams[index].time_base)
            if lines[index].kind in ("video", "audio"):
                # Matroska keeps no times of decoding.
                _complete(packet, lines[index].decoded, apart=0 if form == "matroska" else 1)
            lines[index].time(packet)
            packet.stream = streams[index]
            made.mux(packet)
    if clock.restarts:
        _check_formats(source)
    return lacking, list(lines.values())


def _cover(source: Path, index: int) -> bytes:
    with av.open(address(source)) as given:
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


def _counted(packets: Iterable[Any], lines: dict[int, _Line]) -> Iterator[Any]:
    for packet in packets:
        if packet.size:
            lines[packet.stream.index].count(packet)
        yield packet


def _shown(source: Path, index: int) -> Callable[[int], tuple[int, int]]:
    """When pictures are shown and decoded, by their time in a stream that `lacks_presentation`.

    They are decoded for it, for nothing else tells in which order they are shown.
    """
    with av.open(address(source)) as given:
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
    with av.open(address(source)) as given:
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


def _differs(copy: Path, form: str, sent: list[_Line], seconds: Fraction) -> str:
    """How a copy differs from what was sent to it, in words; empty if it does not."""
    found, lasts = _read(copy)
    # In MP4 and MOV sound before the picture is there, but an edit list hides it.
    whole = _read(copy, ignore_editlist="1")[0] if form in ("mp4", "mov") else found
    for kind in ("video", "audio", "cover", "subtitle", "attachment"):
        # A stream without a packet is none in some containers.
        wanted = sum(
            line.kind == kind and (line.packets > 0 or kind == "attachment") for line in sent
        )
        if (there := sum(line.kind == kind for line in found)) < wanted:
            return f"the copy would have {there} of {wanted} {kind} streams"
    later: float | None = None  # all of the copy may be: in Matroska nothing lies before zero
    for kind, words in (("video", "pictures"), ("audio", "packets of sound")):
        lines = (
            [line for line in those if line.kind == kind and line.packets]
            for those in (sent, found, whole)
        )
        for one, now, complete in zip(*lines, strict=True):
            same = complete.packets == one.packets
            if not same and complete.size != one.size:
                if complete.packets > one.packets:
                    return f"the copy would have {complete.size} of {one.size} bytes of {kind}"
                return f"the copy would have {complete.packets} of {one.packets} {words}"
            if kind == "video" and now.unseen > one.unseen:
                return f"{now.unseen - one.unseen} of the copy's {words} would not be shown"
            due, cut = _expected(one, now, same)
            begins = np.asarray(now.begins)
            if later is None:
                later = float(begins[0] - due[0])
            rounding = _CUT if kind == "audio" and now.unseen else _ROUNDING
            if not same:
                rounding += _longest(one) + _longest(now)
            off = np.abs(begins - due - later)[np.asarray(now.shown) != 0].max(initial=0)
            if off > rounding:
                return f"the copy's {words} would be {off:.3f} s away from where they belong"
            if cut + later > rounding:
                return f"the copy's {words} would be missing up to {cut + later:.3f} s"
    shown = [line for line in found if any(line.shown)]
    start = min(min(compress(line.begins, line.shown)) for line in shown)
    if not -_SLACK <= start <= abs(seconds) + _SLACK:
        return f"the copy would begin at {start:.1f} s"
    end = max(max(compress(line.ends, line.shown)) for line in shown)
    # MP4 says how long its packets are decoded, which is less where the last picture stands long.
    decoding = min(end, max(line.decoding for line in shown))
    least, most = (time - max(0.0, start) for time in (decoding, end))
    spare = abs(seconds) + _SLACK
    if not least - spare <= lasts <= most + spare:
        return f"the copy would last {lasts:.1f} s instead of {end:.1f} s"
    return ""


def _expected(sent: _Line, found: _Line, same: bool) -> tuple[NDArray[np.float64], float]:
    """When each packet found was sent to be; and when what lies before all presented ones ended.

    An edit list may leave out the first packets, so both are counted from the end: in packets if
    they are the same, in bytes if the container makes packets of another length (of PCM).
    """
    places = [
        -np.cumsum(np.ones(len(line.sizes)) if same else np.asarray(line.sizes)[::-1])[::-1]
        for line in (sent, found)
    ]
    wanted = np.interp(places[1], places[0], np.asarray(sent.begins))
    first = places[1][np.asarray(found.shown) != 0].min(initial=0)
    lost = (places[0] < first) & (np.asarray(sent.shown) != 0)
    return wanted, np.asarray(sent.ends)[lost].max(initial=-np.inf)


def _longest(line: _Line) -> float:
    return float((np.asarray(line.ends) - np.asarray(line.begins)).max())


def _read(path: Path, **options: str) -> tuple[list[_Line], float]:
    """The packets of each stream, and how many seconds the container says that it lasts."""
    with av.open(address(path), container_options=options) as container:
        lines = [_Line(_kind(stream)) for stream in container.streams]
        for packet in container.demux():
            if packet.size:
                lines[packet.stream.index].count(packet)
                lines[packet.stream.index].time(packet)
        return lines, (container.duration or 0) / 1_000_000


def _kind(stream: Any) -> str:
    return "cover" if stream.type == "video" and is_cover(stream) else str(stream.type)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # opening it says why
    return found.st_size, found.st_mtime_ns
