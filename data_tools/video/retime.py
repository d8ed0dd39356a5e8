"""A video's sound put in its place piece by piece, where no one shift does it (PyAV).

The sound is decoded, cut or padded with silence where its offset jumps, resampled where it drifts,
and encoded anew; the picture is copied. Drift is mended by resampling (`asetrate`, `aresample`),
which undoes a wrong clock, pitch and all; a change of tempo alone would leave the pitch off.

A jump is known to a part of a second only. Within that the sound is cut where it is quietest.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from data_tools.names import address
from data_tools.video.clock import Clock, demuxed, in_order, lacks_presentation
from data_tools.video.containers import open_container
from data_tools.video.course import Course, Line
from data_tools.video.remux_copy import RemuxError
from data_tools.video.sound import LONGEST_GAP, VideoError
from data_tools.video.streams import choose_picture

_HOP = 0.01  # seconds: loudness is taken over so long
_FAR_DB = 6.0  # quieter by so much a place must be to be taken at the end of what is possible
_SILENT = -70.0  # dB: below that all is silence
_FADE = 0.005  # seconds, against clicks
_PPM = 1_000_000  # rates are set to a millionth
_LOSSY_BITS = 96_000  # a second and channel, at least: it is encoded a second time
_MOST_BITS = 256_000  # the most that Opus allows; sound without loss may have more
_DOUBLE = ("s32", "s64", "dbl")  # more than a float holds
_ROUNDING = 0.01  # seconds: sound moved by less is the rounding of timestamps
_AROUND = 2  # hops to either side of a cut that are to be quiet as well

# Encoders by the codec of the source, where they bear another name; and by the container where
# there is none that it takes (FLAC loses nothing).
_ENCODERS = {"opus": "libopus", "mp3": "libmp3lame", "vorbis": "libopus"}
_OTHERWISE = {"mp4": "aac", "mov": "aac", "matroska": "flac", "webm": "libopus"}
_LOSSLESS = ("flac", "alac", "pcm_")


@dataclass(frozen=True)
class Piece:
    """A part of the sound that is kept.

    Attributes:
        begin, end: seconds of the source's sound; infinite at the ends.
        line: where it belongs.
    """

    begin: float
    end: float
    line: Line


@dataclass(frozen=True)
class Encoded:
    """How sound was put in its place.

    Attributes:
        words: how it was encoded, a line for each kind of stream.
        moments: seconds from the first picture on at which it was cut or padded.
    """

    words: tuple[str, ...]
    moments: tuple[float, ...]


def encode_sound(source: Path, out: Path, form: str, course: Course) -> Encoded:
    """Write all sound of a video, put in its place, to a file of its own.

    Args:
        form: of that file, as FFmpeg calls it: mp4, mov, matroska or webm.

    Raises:
        RemuxError: there is no picture or sound that can be decoded.
        av.error.FFmpegError, ValueError: of PyAV; no encoder takes such sound, for one.
    """
    origin = _origin(source)
    pieces = cut_up(course, _loudness(source), origin)
    with (
        open_container(source) as given,
        av.open(address(out), "w", format=form) as made,
    ):
        voices = [_Voice(stream, made, form, pieces, origin) for stream in given.streams.audio]
        for frame, number in _heard(given):
            for packet in voices[number].push(frame):
                made.mux(packet)
        for voice in voices:
            for packet in voice.finish():
                made.mux(packet)
    words = tuple(dict.fromkeys(voice.words for voice in voices))
    return Encoded(words, tuple(piece.line.seen(piece.end) for piece in pieces[:-1]))


def cut_up(course: Course, decibels: NDArray[np.float64], origin: float) -> list[Piece]:
    """The parts of the sound that are kept; each change lies where it is quietest.

    Args:
        decibels: of the sound every 10 ms, from 0 s of the file on.
        origin: seconds of the file at which the first picture is shown.
    """
    begin, pieces = -inf, []
    lines = list(zip(course.lines[:-1], course.lines[1:], course.changes, strict=True))
    for one, two, (first, last) in lines:
        middle = (first + last) / 2
        gap = one.at(middle) - two.at(middle)  # positive: so much of the sound is left out
        earliest, latest = first - max(one.at(middle), two.at(middle)), last - one.at(middle)
        places = np.arange(round(earliest / _HOP), round(latest / _HOP) + 1)
        hops = np.arange(-_AROUND, round(max(gap, 0.0) / _HOP) + _AROUND)
        at = places[:, None] + hops + round(origin / _HOP)
        inside = (at >= 0) & (at < len(decibels))
        loud = np.where(inside, decibels[np.where(inside, at, 0)], _SILENT).mean(1)
        far = np.abs(places - places.mean()) / max(len(places) / 2, 1)
        end = float(places[(loud + _FAR_DB * far).argmin()]) * _HOP
        pieces.append(Piece(begin, end, one))
        seen = one.seen(end)
        begin = max(end, seen - two.at(seen))
    return [*pieces, Piece(begin, inf, course.lines[-1])]


def _origin(source: Path) -> float:
    """When the first picture is shown, seconds of the file."""
    with open_container(source) as given:
        picture = _picture(given)
        packets = Clock(given, from_zero=True).run(demuxed(given, picture, *given.streams.audio))
        frames = (
            frame for packet in packets if packet.stream is picture for frame in _decoded(packet)
        )
        if lacks_presentation(picture):
            frames = (frame for frame, _ in in_order(frames, picture))
        first = next(frames, None)
        if first is None or first.pts is None:
            raise RemuxError("it holds no picture with a time")
        return float(first.pts * first.time_base)


def _loudness(source: Path) -> NDArray[np.float64]:
    """(T,) decibels of full scale of all audio streams together, every 10 ms from 0 s on."""
    power = np.zeros(1)
    until = 0.0  # seconds that were heard
    flat: dict[tuple[int, int, str, str], Any] = {}
    with open_container(source) as given:
        for frame, number in _heard(given):
            rate = frame.sample_rate
            key = (number, rate, frame.format.name, frame.layout.name)
            if key not in flat:
                flat[key] = av.AudioResampler("flt", "mono", rate)
            if frame.pts is None:
                continue
            begin = float(frame.pts * frame.time_base)
            for mono in flat[key].resample(frame):
                samples = mono.to_ndarray()[0].astype(np.float64)
                if not len(samples) or begin > until + LONGEST_GAP:
                    continue  # a stray time, which must not take hours of room
                until = max(until, begin + len(samples) / rate)
                hops = np.floor((begin + np.arange(len(samples)) / rate) / _HOP).astype(int)
                hops = np.maximum(hops, 0)
                first, end = hops[0], hops[-1] + 1
                if end > len(power):
                    power = np.pad(power, (0, 2 * end - len(power)))
                own = np.bincount(hops - first, np.nan_to_num(samples) ** 2)
                power[first:end] += own / (rate * _HOP)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (_SILENT / 10))))


def _picture(given: Any) -> Any:
    try:
        return choose_picture(given)
    except VideoError as error:
        raise RemuxError(str(error)) from None


def _heard(given: Any) -> Iterator[tuple[Any, int]]:
    """The sound of every audio stream, and which of them it is of."""
    numbers = {stream.index: number for number, stream in enumerate(given.streams.audio)}
    clock = Clock(given, from_zero=True)
    # The clock needs the picture as well.
    for packet in clock.run(demuxed(given, _picture(given), *given.streams.audio)):
        if packet.stream.index in numbers:
            for frame in _decoded(packet):
                yield frame, numbers[packet.stream.index]


def _decoded(packet: Any) -> Iterator[Any]:
    try:
        yield from packet.decode()
    except av.error.FFmpegError:
        return  # damaged: its place is left silent


class _Voice:
    """One audio stream on its way into the copy.

    Attributes:
        words: how it is encoded.
    """

    def __init__(
        self, stream: Any, made: Any, form: str, pieces: list[Piece], origin: float
    ) -> None:
        codec = stream.codec_context
        if codec is None or not codec.sample_rate:
            raise RemuxError(f"its audio stream {stream.index} cannot be decoded")
        before = codec.codec.canonical_name
        name = _encoder(before, form, made.supported_codecs)
        self._pieces, self._origin = list(pieces), origin
        self._rate, self._layout = codec.sample_rate, codec.layout.name
        if self._layout == f"{codec.layout.nb_channels} channels":
            # PCM need not say which they are; other encoders and MP4 must know.
            with suppress(ValueError):  # nothing is usual for so many
                self._layout = av.AudioLayout(f"{codec.layout.nb_channels}c").name
        precise = codec.format is not None and codec.format.packed.name in _DOUBLE
        self._format = "dbl" if precise else "flt"
        self._channels = codec.layout.nb_channels
        encoder = av.codec.Codec(name, "w")
        rates = encoder.audio_rates or [self._rate]
        rate = self._rate if self._rate in rates else max(rates)
        self._stream = made.add_stream(name, rate=rate, layout=self._layout)
        formats = [one.name for one in encoder.audio_formats or []]
        alike = [one for one in formats if precise == (one.rstrip("p") in _DOUBLE)]
        if formats:
            self._stream.codec_context.format = (alike or formats)[0]
        self.words = f"the sound was encoded anew ({before} to {encoder.canonical_name}"
        if not name.startswith(_LOSSLESS):
            bits = max(codec.bit_rate or 0, _LOSSY_BITS * self._channels)
            bits = min(bits, _MOST_BITS * self._channels)
            self._stream.bit_rate = bits
            self.words += f", {round(bits / 1000)} kb/s"
        self.words += "); the picture was copied"
        self._resampler: Any = None
        self._heard: tuple[str, str, int] | None = None  # the format that it was made for
        self._at: int | None = None  # samples of the source so far, from 0 s on
        self._out = 0  # of the copy
        self._skip = 0  # samples to come that were heard already
        self._playing = False  # some of the first piece was
        self._graph: Any = None

    def push(self, frame: Any) -> Iterator[Any]:
        """The next of the source; packets of the copy."""
        form = frame.format.name, frame.layout.name, frame.sample_rate
        if form != self._heard:
            yield from self._rest()
            self._resampler = av.AudioResampler(self._format, self._layout, self._rate)
            self._heard = form
        if frame.pts is not None:
            begin = round(frame.pts * frame.time_base * self._rate)
            if self._at is None:
                self._at = begin
            gap = begin - self._at
            if gap > (LONGEST_GAP * self._rate):
                raise RemuxError(f"its sound has a gap of {gap // self._rate} s")
            if gap > _ROUNDING * self._rate:
                yield from self._silence(gap)
            elif gap < -_ROUNDING * self._rate:
                self._skip = -gap
        elif self._at is None:
            self._at = 0
        frame.pts = None  # sound is counted from here on
        for part in self._resampler.resample(frame):
            yield from self._take(self._samples(part))

    def finish(self) -> Iterator[Any]:
        """Packets that are left."""
        yield from self._rest()
        yield from self._leave()
        yield from self._stream.encode(None)

    def _rest(self) -> Iterator[Any]:
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                yield from self._take(self._samples(part))

    def _samples(self, frame: Any) -> NDArray[np.floating]:
        """(samples, channels)."""
        array = frame.to_ndarray().reshape(-1, self._channels)[self._skip :]
        self._skip = max(0, self._skip - frame.samples)
        return np.nan_to_num(array, copy=False)

    def _silence(self, count: int) -> Iterator[Any]:
        while count > 0:
            part = min(count, self._rate)
            yield from self._take(np.zeros((part, self._channels), self._dtype))
            count -= part

    @property
    def _dtype(self) -> type[np.floating]:
        return np.float64 if self._format == "dbl" else np.float32

    def _take(self, array_TC: NDArray[np.floating]) -> Iterator[Any]:
        """Samples of the source, each to the piece that it belongs to."""
        while len(array_TC):
            assert self._at is not None
            piece = self._pieces[0]
            first, last = (self._sample(bound) for bound in (piece.begin, piece.end))
            before = int(np.clip(first - self._at, 0, len(array_TC)))
            own = array_TC[before : int(np.clip(last - self._at, before, len(array_TC)))]
            self._at += before
            if len(own):
                yield from self._play(piece, self._faded(own, first, last))
                self._at += len(own)
            array_TC = array_TC[before + len(own) :]
            if self._at >= last:
                yield from self._leave()

    def _sample(self, seconds: float) -> float:
        """Which sample of the source is heard so long after the first picture is seen."""
        return round((seconds + self._origin) * self._rate) if np.isfinite(seconds) else seconds

    def _faded(
        self, array_TC: NDArray[np.floating], first: float, last: float
    ) -> NDArray[np.floating]:
        """Without clicks where the piece begins and ends."""
        assert self._at is not None
        at = self._at + np.arange(len(array_TC))
        gain = np.minimum(at - first, last - at) / (_FADE * self._rate)
        return array_TC * np.clip(gain, 0, 1).astype(self._dtype)[:, None]

    def _play(self, piece: Piece, array_TC: NDArray[np.floating]) -> Iterator[Any]:
        """Samples of a piece, from `_at` of the source on."""
        assert self._at is not None
        if not self._playing:
            heard = self._at / self._rate - self._origin
            due = round((piece.line.seen(heard) + self._origin) * self._rate)
            if due < self._out - self._rate * _ROUNDING or due < 0:
                # It would be heard before the copy begins.
                early = min(
                    len(array_TC), max(1, round((self._out - due) * (1 - piece.line.growth)))
                )
                array_TC = array_TC[early:]
                if not len(array_TC):
                    return
                due = self._out
            while due > self._out:
                part = min(due - self._out, self._rate)
                yield from self._encode(np.zeros((part, self._channels), self._dtype))
            self._playing = True
            if piece.line.growth:
                self._graph = self._resampling(piece.line.growth)
        if self._graph is None:
            yield from self._encode(array_TC)
        else:
            self._graph.push(self._frame(array_TC))
            yield from self._pulled()

    def _resampling(self, growth: float) -> av.filter.Graph:
        """A filter after which the sound takes 1 / (1 - growth) times as long."""
        graph = av.filter.Graph()
        layout = self._layout
        chain = [
            graph.add_abuffer(
                sample_rate=self._rate,
                format=self._format,
                layout=layout,
                time_base=Fraction(1, self._rate),
            ),
            graph.add("asetrate", str(round(_PPM * (1 - growth)))),
            graph.add("aresample", str(_PPM)),
            graph.add("asetrate", str(self._rate)),
            graph.add("aformat", f"sample_fmts={self._format}"),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*chain).configure()
        return graph

    def _pulled(self) -> Iterator[Any]:
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield from self._encode(frame.to_ndarray().reshape(-1, self._channels))

    def _leave(self) -> Iterator[Any]:
        """The piece has ended."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pulled()
        self._graph, self._playing = None, False
        if len(self._pieces) > 1:
            del self._pieces[0]

    def _frame(self, array_TC: NDArray[np.floating]) -> Any:
        flat = np.ascontiguousarray(array_TC, self._dtype).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(flat, self._format, self._layout)
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        return frame

    def _encode(self, array_TC: NDArray[np.floating]) -> Iterator[Any]:
        frame = self._frame(array_TC)
        frame.pts = self._out
        self._out += len(array_TC)
        yield from self._stream.encode(frame)


def _encoder(codec: str, form: str, supported: Set[str]) -> str:
    """The name of an encoder for the sound of a copy: of the source's codec, if there is one.

    supported: the names of codecs and encoders that the container takes.
    """
    if form == "webm":
        return _OTHERWISE[form]
    name = _ENCODERS.get(codec, codec)
    try:
        experimental = av.codec.Codec(name, "w").experimental  # FFmpeg refuses to open it
    except ValueError:  # UnknownCodecError
        return _OTHERWISE[form]
    return _OTHERWISE[form] if experimental or name not in supported else name
