"""Read a video once, as pictures at 25 a second and sound at 16 kHz on one clock, with PyAV.

Picture k of the result is what a viewer sees in the middle of the k-th 40 ms, by presentation
time, whatever the rate of the file; sound keeps its own presentation times. Neither is ever
counted: a variable rate, a dropped packet or a late start moves nothing against the other. Where
the file's clock restarts, picture and sound go on together as a new part (`clock`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from data_tools.errors import UsageError, not_prepared
from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.names import UNPLAIN, is_unplain, shown
from data_tools.video.beside import sound_beside

try:
    import av

    from data_tools.video.clock import Clock, demuxed, in_order, lacks_presentation
    from data_tools.video.containers import open_container
    from data_tools.video.deinterlace import Deinterlacer
    from data_tools.video.hdr import hdr_note
    from data_tools.video.mono import Mixer
    from data_tools.video.sound import LONGEST_GAP, TOLERANCE, Sound, VideoError
    from data_tools.video.streams import (
        NO_SUCH_STREAM,
        WantedSound,
        choose_picture,
        choose_sound,
        describe,
        language_of,
        promised_seconds,
    )
except ImportError as error:
    raise not_prepared(error.name, "reading videos") from None

STILL_SECONDS = 1  # a picture that stands longer than this is no talking face
_CUT = (av.error.InvalidDataError, av.error.EOFError)  # what a file without its end may give


@dataclass(frozen=True)
class Picture:
    """Picture `index` of the 25 a second; `held` when it repeats the one before."""

    index: int
    frame: Any  # av.VideoFrame in the decoder's own format: half the memory of RGB
    held: bool
    after_still: bool  # the picture before it stood for longer than STILL_SECONDS
    part: int = 0  # how often the file's clock has restarted so far


class Video:
    """A video file opened for one pass. Close it, or use it as a context manager.

    Args:
        threads: of the picture's decoder.
        audio_stream: which of the file's audio streams to hear: its number, from 0, or its
            language; None: the one that is meant for everybody, in the original.
        beside: of a file without sound, hear what lies beside it (`sound_beside`): both begin at
            once.

    Attributes:
        choice: what was chosen among several audio streams, in words.
        promised: seconds that the file says it lasts; 0 if it does not say.
        aspect: width of a stored pixel over its height.
        origin: presentation time of picture 0, seconds; None before there is one.
        bytes_read: so far.
        unread: share of the file that lies behind damage.
        undecodable: packets, of picture and sound.
        unheard: of them, packets of sound.
        packets_heard: packets of sound that were decoded.
        decoded: pictures of the file.
        backwards: pictures whose time lies before that of the one before.
        end: one past the last picture.
        stills: pictures [first, end) left out, because nothing moved.
        hdr: what is done with pictures of HDR, in words; "" of any other.

    Raises:
        VideoError: the file cannot be read, holds no moving picture or no sound.
    """

    def __init__(
        self,
        path: Path,
        threads: int = 1,
        audio_stream: WantedSound = None,
        beside: bool = False,
    ) -> None:
        self._container = _opened(path)
        self._apart: Any = None  # the container of sound in a file of its own
        try:
            file = sound_beside(path) if beside and not self._container.streams.audio else None
            self._picture = choose_picture(self._container, silent=file is not None)
            if file is not None:
                self._apart = _opened(file)
                if not self._apart.streams.audio:
                    raise VideoError("no audio stream", f"{shown(file.name)} holds no sound")
            if self._apart is None:
                self._sound = choose_sound(self._container, self._picture, audio_stream)
            else:
                self._sound = choose_sound(self._apart, None, audio_stream)
            for stream, what in ((self._picture, "picture"), (self._sound, "sound")):
                if stream.codec_context is None:
                    raise VideoError("unknown codec", f"no decoder is known for its {what}")
        except VideoError:
            self.close()
            raise
        self.choice = f"the sound is that of {shown(file.name)}" if file is not None else ""
        if not isinstance(audio_stream, int) and len(self._container.streams.audio) > 1:
            self.choice = (
                f"{len(self._container.streams.audio)} audio streams; took "
                f"{describe(self._container, self._sound)}"
                f"{'' if audio_stream else '; --audio-stream picks another'}"
            )
        self.promised = promised_seconds(self._container, self._picture, self._sound)
        self.aspect = Fraction(self._picture.sample_aspect_ratio or 1)
        self._clock = Clock(self._container)
        self._picture.thread_type = "AUTO"
        self._picture.codec_context.thread_count = threads
        self._counted: int | None = None  # the sound's next time if it is only counted, wrongly
        self._due = Fraction(0)  # the right one
        self.origin: Fraction | None = None
        self.bytes_read = 0
        self.unread = 0.0
        self._bytes = max(1, path.stat().st_size)
        self.undecodable = 0
        self.unheard = 0
        self.packets_heard = 0
        self.decoded = 0
        self.backwards = 0
        self.end = 0
        self.stills: list[tuple[int, int]] = []
        self.hdr = ""
        self._deinterlacer = Deinterlacer(threads)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def restarts(self) -> list[float]:
        """When the file's clock restarted, so far, in seconds from picture 0 on."""
        return [time - float(self.origin or 0) for time in self._clock.restarts]

    @property
    def interlaced(self) -> int:
        """Pictures that were deinterlaced, so far."""
        return self._deinterlacer.count

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        if self._apart is not None:
            self._apart.close()

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
        for frame in self._deinterlacer.run(frames):
            self.decoded += 1
            time = self._time(frame, since if shown is not None else None)
            next_part = self._clock.part(time)
            if shown is None:
                self.origin, part, self.hdr = time, next_part, hdr_note(frame)
            if self.origin:
                time -= self.origin
            if shown is not None:
                if time <= since:
                    self.backwards += 1
                    continue
                due = _first_slot(time)
                # The slot of `since` is `index`: of what stands so long the next is not due.
                if due > index + 1 and time - since > STILL_SECONDS:
                    yield Picture(index, shown, not fresh, after_still, part)
                    stood += due - index - 1
                    if stood > FPS * (LONGEST_GAP + sound.heard) + due - stood:
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
            stands = min(1 / Fraction(self._picture.average_rate or FPS), Fraction(STILL_SECONDS))
        last = max(_first_slot(since + stands), index + 1 if fresh else index)
        while index < last:
            yield Picture(index, shown, not fresh, after_still, part)
            index, fresh, after_still = index + 1, False, False
        self.end = last

    def _decode(self, sound: Sound) -> Iterator[Any]:
        mixer: Mixer | None = None
        heard: Any = None  # the format that the mixer was made for
        for packet in self._packets():
            self.bytes_read += packet.size
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.undecodable += 1
                if packet.stream is self._sound:
                    self.unheard += 1
                continue
            if packet.stream is self._picture:
                yield from frames
                continue
            if frames:
                self.packets_heard += 1
            for frame in frames:
                self._retime(frame)
                form = frame.sample_rate, frame.format.name, frame.layout.name
                if mixer is not None and form != heard:
                    _append(sound, mixer, None)
                    mixer = None
                if mixer is None:
                    mixer = Mixer(frame, self._sound.codec_context.codec.lossless)
                    heard = form
                _append(sound, mixer, frame)
        if mixer is not None:
            _append(sound, mixer, None)
        sound.close()

    def _packets(self) -> Iterator[Any]:
        if self._apart is not None:
            yield from self._packets_apart()
        yield from self._clock.run(self._demuxed())

    def _packets_apart(self) -> Iterator[Any]:
        """The packets of sound in a file of its own, which begins when the pictures do."""
        begin = (self._picture.start_time or 0) * self._picture.time_base
        begin -= (self._sound.start_time or 0) * self._sound.time_base
        try:
            for packet in self._apart.demux(self._sound):
                if packet.pts is not None:
                    packet.pts += round(begin / packet.time_base)
                yield packet
        except av.error.FFmpegError:
            self.undecodable += 1  # what was read so far is still good

    def _demuxed(self) -> Iterator[Any]:
        reached = 0

        def count() -> None:
            self.undecodable += 1

        streams = (self._picture,) if self._apart is not None else (self._picture, self._sound)
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
        unit = frame.time_base  # made anew at every look
        counted = frame.pts + frame.duration
        if frame.pts == self._counted:
            frame.pts = round(self._due / unit)
        lasts = frame.samples / frame.sample_rate
        said = frame.duration * unit.numerator / unit.denominator
        if abs(said - lasts) > TOLERANCE / SAMPLE_RATE:
            self._counted = counted
            self._due = Fraction(frame.pts) * unit + Fraction(lasts)
        else:
            self._counted = None

    def _time(self, frame: Any, since: Fraction | None) -> Fraction:
        if frame.pts is not None:
            unit = frame.time_base
            return Fraction(frame.pts * unit.numerator, unit.denominator)
        rate = self._picture.average_rate or self._picture.guessed_rate
        if not rate:
            raise VideoError("no timestamps", "the pictures carry neither times nor a rate")
        if since is None:
            return Fraction(0)
        return since + (self.origin or 0) + 1 / Fraction(rate)


def _first_slot(time: Fraction) -> int:
    # The first picture k whose middle, (2k + 1) / 50 s, comes after `time`.
    # `round_half_up(time * FPS)`, asked for every picture, in whole numbers.
    return (2 * FPS * time.numerator + time.denominator) // (2 * time.denominator)


def _append(sound: Sound, mixer: Mixer, frame: Any) -> None:
    before = mixer.not_finite, mixer.clipped
    for samples, time in mixer.resample(frame):
        sound.append(samples, time, mixer.channels)
    sound.not_finite += mixer.not_finite - before[0]
    sound.clipped += mixer.clipped - before[1]


def check_audio_stream(wanted: int | str, videos: Sequence[Path]) -> None:
    """Whether there can be such an audio stream; of one video alone, whether there is.

    Of several videos some may lack it, which is said of each when it is read.

    Raises:
        UsageError: no.
    """
    if isinstance(wanted, str) and not language_of(wanted):
        raise UsageError(
            "--audio-stream must be a number, from 0, or a language like en, eng or en-GB, not "
            f"{shown(wanted)[:40]}"
        )
    if isinstance(wanted, int) and wanted < 0:
        raise UsageError(f"--audio-stream counts from 0, so it cannot be {wanted}")
    if len(videos) == 1:
        try:
            Video(videos[0], audio_stream=wanted).close()
        except VideoError as error:
            if error.reason == NO_SUCH_STREAM:
                raise UsageError(error.detail) from None


def _opened(path: Path) -> Any:
    """The container at `path`.

    Raises:
        VideoError: it is none that can be read.
    """
    if is_unplain(path):
        raise VideoError("not a file", UNPLAIN)
    try:
        return open_container(path)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if os.path.isfile(path) and path.stat().st_size == 0:
            raise VideoError("empty file", "0 bytes") from None
        # also of an MP4 whose end is missing, which is where its index lies
        if isinstance(error, MemoryError):  # a size that the file claims, most often
            raise VideoError("not a readable video", "damaged: asks for too much memory") from None
        hint = " (truncated, or no video)" if isinstance(error, _CUT) else ""
        if isinstance(error, av.error.ArgumentError):
            hint = " (a list of other files, or no video)"
        raise VideoError("not a readable video", _words(error) + hint) from None


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
