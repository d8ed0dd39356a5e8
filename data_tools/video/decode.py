"""Read a video once, as pictures at 25 a second and sound at 16 kHz on one clock, with PyAV.

Picture k of the result is what a viewer sees in the middle of the k-th 40 ms, by presentation
time, whatever the rate of the file; sound keeps its own presentation times. Neither is ever
counted: a variable rate, a dropped packet or a late start moves nothing against the other. Where
the file's clock restarts, picture and sound go on together as a new part (`clock`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.clips import ClipError
from data_tools.errors import MissingPackage, UsageError
from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.names import UNPLAIN, address, is_unplain, shown

try:
    import av
    from av.video.reformatter import VideoReformatter

    from data_tools.video.clock import Clock, demuxed, in_order, is_cover, lacks_presentation
    from data_tools.video.mono import Levels, Mixer
except ImportError as error:
    raise MissingPackage(
        f"{error.name} is not installed; reading videos needs: "
        "pip install 'syncnet-trainer[prepare]'"
    ) from None

STILL_SECONDS = 1  # a picture that stands longer than this is no talking face
_TOLERANCE = SAMPLE_RATE // 100  # sound moved by less than 10 ms is the rounding of timestamps
_CUT = (av.error.InvalidDataError, av.error.EOFError)  # what a file without its end may give
_NO_SUCH_STREAM = "no such audio stream"
_LONGEST_GAP = 3600  # seconds by which broken timestamps may make a video longer, in all


class VideoError(ClipError):
    """A video that cannot be used: `reason` is the class that reports count, `detail` the case."""


@dataclass(frozen=True)
class Picture:
    """Picture `index` of the 25 a second; `held` when it repeats the one before."""

    index: int
    frame: Any  # av.VideoFrame in the decoder's own format: half the memory of RGB
    held: bool
    after_still: bool  # the picture before it stood for longer than STILL_SECONDS
    part: int = 0  # how often the file's clock has restarted so far


@dataclass(frozen=True)
class _Part:
    """A part of the sound that has the same channels throughout."""

    channels: tuple[str, ...]
    first: int  # sample
    begin: int  # byte of the file

    @property
    def bytes(self) -> int:
        """Of the mix and every channel, a sample."""
        return 2 * (1 + len(self.channels))


class Sound:
    """Sound of one video, 16 kHz mono int16, on disk: its length does not show in memory.

    Beside the mix lie the channels (at most 16) that it was made of, one of which is taken instead
    where they cancel each other. That is decided from all that was appended, so read afterwards.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._samples = 0
        self._parts = [_Part((), 0, 0)]
        self._levels: dict[tuple[str, ...], Levels] = {}
        self.start: Fraction | None = None  # presentation time of the first sample, seconds
        self.filled = 0  # samples of silence put into gaps
        self.cut = 0  # samples left out because two packets claim one time
        self.not_finite = self.clipped = 0.0  # samples that were no number, or beyond full scale

    @property
    def heard(self) -> Fraction:
        """Seconds of sound so far, without the silence put into gaps."""
        return Fraction(self._samples - self.filled, SAMPLE_RATE)

    def append(
        self,
        samples: NDArray[np.int16],
        time: Fraction | None,
        channels: tuple[str, ...] = (),
    ) -> None:
        """Append `samples`, whose first is heard at `time` seconds (None: right after the last).

        samples: (n,) int16, or (n, 1 + channels): the mix, then each channel by the names given.

        Raises:
            VideoError: gaps add up to an hour more than the sound that there is.
        """
        samples = samples.reshape(len(samples), -1)
        if self.start is None:
            if time is not None:
                self.start = time - Fraction(self._samples, SAMPLE_RATE)
        elif time is not None:
            gap = round((time - self.start) * SAMPLE_RATE) - self._samples
            if gap > _TOLERANCE:
                filled = self.filled + gap
                if Fraction(filled, SAMPLE_RATE) > _LONGEST_GAP + self.heard:
                    raise VideoError(
                        "broken timestamps",
                        f"the sound's times leave {filled // SAMPLE_RATE} s without sound",
                    )
                self.filled = filled
                self._samples += gap
                # a hole, which takes no room
                self._file.seek(self._parts[-1].bytes * gap, os.SEEK_CUR)
            elif gap < -_TOLERANCE:
                self.cut += min(-gap, len(samples))
                samples = samples[-gap:]
        if channels != self._parts[-1].channels:
            self._parts.append(_Part(channels, self._samples, self._file.tell()))
        if channels not in self._levels:
            self._levels[channels] = Levels(channels)
        self._levels[channels].add(samples)
        self._file.write(samples.tobytes())
        self._samples += len(samples)

    def stand_ins(self) -> dict[str, int]:
        """The channels that are taken because the mix lacks the sound: name, and number from 1."""
        found = {channels: levels.stand_in() for channels, levels in self._levels.items()}
        return {channels[k]: k + 1 for channels, k in found.items() if k is not None}

    @property
    def length(self) -> int:
        """Samples, those of silence put into gaps among them."""
        return self._samples

    def close(self) -> None:
        """No more will be appended."""
        if self.start is None:
            self.start = Fraction(0)  # of no sound is it known when it is heard
        self._file.close()

    def span(self, origin: Fraction) -> tuple[int, int]:
        """First and one past the last picture that have sound for at least half their time.

        origin: presentation time of picture 0, seconds.
        """
        if self.start is None or self._samples == 0:
            return 0, 0
        begin = (self.start - origin) * FPS
        end = begin + Fraction(self._samples * FPS, SAMPLE_RATE)
        return _round_half_up(begin), _round_half_up(end)

    def read(self, first: int, pictures: int, origin: Fraction) -> NDArray[np.int16]:
        """The sound of `pictures` pictures from picture `first` on, (640 * pictures,) int16.

        What lies outside the recording is silence.
        """
        each = SAMPLE_RATE // FPS
        return self.samples(first * each, pictures * each, origin)

    def samples(self, first: int, length: int, origin: Fraction) -> NDArray[np.int16]:
        """(length,) int16 from sample `first`, counted from the beginning of picture 0."""
        assert self.start is not None
        if not self._file.closed:
            self._file.flush()
        begin = round((origin - self.start) * SAMPLE_RATE) + first
        out = np.zeros(length, np.int16)
        ends = [part.first for part in self._parts[1:]] + [self._samples]
        for part, end in zip(self._parts, ends, strict=True):
            inside = max(begin, part.first), min(begin + length, end)
            if inside[0] < inside[1]:
                out[inside[0] - begin : inside[1] - begin] = self._stored(part, *inside)
        return out

    def _stored(self, part: _Part, first: int, end: int) -> NDArray[np.int16]:
        tracks = 1 + len(part.channels)
        place = part.begin + part.bytes * (first - part.first)
        found = np.fromfile(self._path, np.int16, tracks * (end - first), offset=place)
        levels = self._levels.get(part.channels)
        channel = levels.stand_in() if levels is not None else None
        return found.reshape(-1, tracks)[:, 0 if channel is None else 1 + channel]


class Video:
    """A video file opened for one pass. Close it, or use it as a context manager.

    audio_stream: which of the file's audio streams to hear, from 0; None: the one that is meant
        for everybody, in the original.

    Raises VideoError when the file cannot be read, holds no moving picture or no sound.
    """

    def __init__(self, path: Path, threads: int = 1, audio_stream: int | None = None) -> None:
        if is_unplain(path):
            raise VideoError("not a file", UNPLAIN)
        try:
            self._container = av.open(address(path), metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if path.is_file() and path.stat().st_size == 0:
                raise VideoError("empty file", "0 bytes") from None
            # also of an MP4 whose end is missing, which is where its index lies
            hint = " (truncated, or no video)" * isinstance(error, _CUT)
            raise VideoError("not a readable video", _words(error) + hint) from None
        pictures = [s for s in self._container.streams.video if not is_cover(s)]
        if not pictures or not self._container.streams.audio:
            self._container.close()
            missing = "audio" if pictures else "video"
            raise VideoError(f"no {missing} stream", f"the file has no {missing} stream")
        self._picture: Any = self._container.streams.best("video")
        if self._picture not in pictures:
            self._picture = pictures[0]
        try:
            self._sound = _choose(self._container, self._picture, audio_stream)
        except VideoError:
            self._container.close()
            raise
        for stream, what in ((self._picture, "picture"), (self._sound, "sound")):
            if stream.codec_context is None:
                self._container.close()
                raise VideoError("unknown codec", f"no decoder is known for its {what}")
        self.choice = ""  # what was chosen among several audio streams, in words
        if audio_stream is None and len(self._container.streams.audio) > 1:
            self.choice = (
                f"{len(self._container.streams.audio)} audio streams; took "
                f"{_describe(self._container, self._sound)}; --audio-stream picks another"
            )
        self.promised = _promised(self._container, self._picture, self._sound)  # seconds
        self.aspect = Fraction(self._picture.sample_aspect_ratio or 1)
        self._clock = Clock(self._container)
        self._picture.thread_type = "AUTO"
        self._picture.codec_context.thread_count = threads
        self._counted: int | None = None  # the sound's next time if it is only counted, wrongly
        self._due = Fraction(0)  # the right one
        self.origin: Fraction | None = None  # presentation time of picture 0, seconds
        self.bytes_read = 0
        self.unread = 0.0  # share of the file that lies behind damage
        self._bytes = max(1, path.stat().st_size)
        self.undecodable = 0  # packets
        self.unheard = 0  # of them, packets of sound
        self.packets_heard = 0
        self.decoded = 0  # pictures
        self.backwards = 0  # pictures whose time lies before that of the one before
        self.end = 0  # one past the last picture
        self.stills: list[tuple[int, int]] = []  # pictures [first, end) left out: nothing moved

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def restarts(self) -> list[float]:
        """When the file's clock restarted, so far, in seconds from picture 0 on."""
        return [time - float(self.origin or 0) for time in self._clock.restarts]

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def pictures(self, sound: Sound) -> Iterator[Picture]:
        """Decode the whole file once: yields the pictures, appends the sound to `sound`.

        Of a picture that stands for longer than a second only the first is yielded.

        Raises:
            VideoError: nothing can be decoded, or timestamps are missing, or they leave more than
                an hour of nothing beside what is seen and heard.
        """
        shown: Any = None  # the picture on the screen, and since when (seconds from picture 0)
        since = Fraction(0)
        index = part = stood = 0
        fresh = True  # `shown` has not been yielded yet
        after_still = False
        frames = self._decode(sound)
        if lacks_presentation(self._picture):
            frames = (frame for frame, _ in in_order(frames, self._picture))
        for frame in frames:
            self.decoded += 1
            time = self._time(frame, since if shown is not None else None)
            next_part = self._clock.part(time)
            if shown is None:
                self.origin, part = time, next_part
            time -= self.origin or 0
            if shown is not None:
                if time <= since:
                    self.backwards += 1
                    continue
                due = _first_slot(time)
                if time - since > STILL_SECONDS and due > index:
                    yield Picture(index, shown, not fresh, after_still, part)
                    stood += due - index - 1
                    if stood > FPS * (_LONGEST_GAP + sound.heard) + due - stood:
                        raise VideoError(
                            "broken timestamps",
                            f"the pictures' times leave {stood // FPS} s without picture or sound",
                        )
                    self.stills.append((index + 1, due))
                    index, after_still = due, True
                while index < due:
                    yield Picture(index, shown, not fresh, after_still, part)
                    index, fresh, after_still = index + 1, False, False
            shown, since, fresh, part = frame, time, True, next_part
        if shown is None:
            raise VideoError("no picture", "the video stream holds no picture that can be decoded")
        # The last picture stands as long as it says, by default for one frame.
        stands = Fraction(shown.duration or 0) * shown.time_base
        if not 0 < stands <= STILL_SECONDS:
            stands = 1 / Fraction(self._picture.average_rate or FPS)
        last = max(_first_slot(since + stands), index + fresh)
        while index < last:
            yield Picture(index, shown, not fresh, after_still, part)
            index, fresh, after_still = index + 1, False, False
        self.end = last

    def _decode(self, sound: Sound) -> Iterator[Any]:
        mixer: Mixer | None = None
        heard: Any = None  # the sound frame that the mixer was made for
        for packet in self._packets():
            self.bytes_read += packet.size
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.undecodable += 1
                self.unheard += packet.stream is self._sound
                continue
            if packet.stream is self._picture:
                yield from frames
                continue
            self.packets_heard += bool(frames)
            for frame in frames:
                self._retime(frame)
                if mixer is not None and not _same_format(frame, heard):
                    _append(sound, mixer, None)
                    mixer = None
                if mixer is None:
                    mixer = Mixer(frame, self._sound.codec_context.codec.lossless)
                    heard = frame
                _append(sound, mixer, frame)
        if mixer is not None:
            _append(sound, mixer, None)
        sound.close()

    def _packets(self) -> Iterator[Any]:
        return self._clock.run(self._demuxed())

    def _demuxed(self) -> Iterator[Any]:
        reached = 0

        def count() -> None:
            self.undecodable += 1

        streams = self._picture, self._sound
        try:
            for packet in demuxed(
                self._container, *streams, past=av.error.FFmpegError, on_damage=count
            ):
                reached = max(reached, (packet.pos or 0) + packet.size)
                yield packet
        except av.error.FFmpegError:
            # What was read so far is still good.
            self.unread = 1 - reached / self._bytes

    def _retime(self, frame: Any) -> None:
        """Where the sound's rate changes, libavformat counts on in packets of the former length."""
        if frame.pts is None:
            self._counted = None
            return
        counted = frame.pts + frame.duration
        if frame.pts == self._counted:
            frame.pts = round(self._due / frame.time_base)
        lasts = frame.samples / frame.sample_rate
        if abs(frame.duration * float(frame.time_base) - lasts) > _TOLERANCE / SAMPLE_RATE:
            self._counted = counted
            self._due = Fraction(frame.pts) * frame.time_base + Fraction(lasts)
        else:
            self._counted = None

    def _time(self, frame: Any, since: Fraction | None) -> Fraction:
        if frame.pts is not None:
            return Fraction(frame.pts) * frame.time_base
        rate = self._picture.average_rate or self._picture.guessed_rate
        if not rate:
            raise VideoError("no timestamps", "the pictures carry neither times nor a rate")
        if since is None:
            return Fraction(0)
        return since + (self.origin or 0) + 1 / Fraction(rate)


class Converter:
    """Turns decoded pictures into upright RGB arrays; keeps one scaler per size.

    aspect: width of a stored pixel over its height, as `Video.aspect`.
    """

    def __init__(self, aspect: Fraction = Fraction(1)) -> None:
        self._aspect = aspect
        self._scalers: dict[tuple[int, int], Any] = {}

    def short_side(self, frame: Any) -> int:
        """The shorter side of `frame` as it is to be shown, pixels."""
        return min(frame.height, max(1, round(frame.width * self._aspect)))

    def rgb(
        self, frame: Any, short_side: int | None = None, rough: bool = False
    ) -> NDArray[np.uint8]:
        """`frame` as (H, W, 3) RGB uint8, rotated and with square pixels as it is to be shown.

        short_side: scale down to this, if the picture is larger.
        rough: take single pixels instead of averaging, in a third of the time.
        """
        height, width = frame.height, max(1, round(frame.width * self._aspect))
        if short_side is not None and short_side < min(height, width):
            scale = short_side / min(height, width)
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
        scaler = self._scalers.setdefault((height, width), VideoReformatter())
        how = "POINT" if rough else "AREA" if height < frame.height else "BILINEAR"
        # One thread: the processes are the parallelism.
        small = scaler.reformat(frame, width, height, "rgb24", interpolation=how, threads=1)
        array = np.asarray(small.to_ndarray(), np.uint8)
        turns = round((frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def _first_slot(time: Fraction) -> int:
    # The first picture k whose middle, (2k + 1) / 50 s, comes after `time`.
    return _round_half_up(time * FPS)


def _round_half_up(value: Fraction) -> int:
    return int((value + Fraction(1, 2)) // 1)


def _append(sound: Sound, mixer: Mixer, frame: Any) -> None:
    before = mixer.not_finite, mixer.clipped
    for samples, time in mixer.resample(frame):
        sound.append(samples, time, mixer.channels)
    sound.not_finite += mixer.not_finite - before[0]
    sound.clipped += mixer.clipped - before[1]


def _same_format(one: Any, other: Any) -> bool:
    return bool(
        one.sample_rate == other.sample_rate
        and one.format.name == other.format.name
        and one.layout.name == other.layout.name
    )


def check_audio_stream(number: int, videos: Sequence[Path]) -> None:
    """Whether there can be an audio stream `number`; of one video alone, whether there is.

    Of several videos some may lack it, which is said of each when it is read.

    Raises:
        UsageError: no.
    """
    if number < 0:
        raise UsageError(f"--audio-stream counts from 0, so it cannot be {number}")
    if len(videos) == 1:
        try:
            Video(videos[0], audio_stream=number).close()
        except VideoError as error:
            if error.reason == _NO_SUCH_STREAM:
                raise UsageError(error.detail) from None


# Sound that is not what the lips say, or not it alone: commentaries, descriptions, dubbing.
_ASIDE = (
    av.stream.Disposition.comment
    | av.stream.Disposition.hearing_impaired
    | av.stream.Disposition.visual_impaired
    | av.stream.Disposition.dub
)


def _choose(container: Any, picture: Any, number: int | None) -> Any:
    """The audio stream to hear, which may be `number`."""
    streams = container.streams.audio
    if number is not None:
        if not 0 <= number < len(streams):
            known = "; ".join(_describe(container, stream) for stream in streams)
            raise VideoError(_NO_SUCH_STREAM, f"--audio-stream {number} is none of {known}")
        return streams[number]
    best = container.streams.best("audio", related=picture)
    plain = [stream for stream in streams if not stream.disposition & _ASIDE]
    if best in plain or not plain:
        return best
    return next((s for s in plain if s.disposition & av.stream.Disposition.default), plain[0])


def _layout(layout: Any) -> str:
    return "mono" if layout.nb_channels == 1 else str(layout.name)


# Their durations count from 0 on, wherever the streams begin.
_FROM_ZERO = ("matroska,webm", "nut", "asf")


def _promised(container: Any, picture: Any, sound: Any) -> float:
    """How many seconds a file says that picture and sound last together; 0 if it does not say."""
    form = container.format.name
    if form in ("mpegts", "mpeg"):
        return 0.0  # measured, by what there is, and wrongly where the clock restarts
    known = [seconds for stream in (picture, sound) if (seconds := _length(stream))]
    # That of the container is also that of streams that are not used.
    promised = max(known) if known else (container.duration or 0) / av.time_base
    if form in _FROM_ZERO:
        promised -= max(0, container.start_time or 0) / av.time_base
    if form == "avi" and picture.average_rate:
        # Of a file without its end the duration is estimated; the header still counts pictures.
        promised = max(promised, float(picture.frames / picture.average_rate))
    return max(0.0, promised)


def _length(stream: Any) -> float | None:
    """Seconds that a stream is said to last."""
    tag = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag:  # Matroska's, and what was made from it
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    return None if stream.duration is None else float(stream.duration * stream.time_base)


def _describe(container: Any, stream: Any) -> str:
    """Number, language, title, channels and purpose of an audio stream."""
    number = container.streams.audio.index(stream)
    title = shown(stream.metadata.get("title", ""))[:60]
    aside = stream.disposition & _ASIDE
    about = [
        shown(stream.metadata.get("language", ""))[:20],
        title and f'"{title}"',
        "" if stream.codec_context is None else _layout(stream.layout),
        aside.name if aside else "",
    ]
    return " ".join(filter(None, [str(number), f"({', '.join(filter(None, about))})"]))


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
