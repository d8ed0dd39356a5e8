"""One clock for all streams of a file, whatever the times in it: late, negative, restarted (PyAV).

Works on packets, so that what reads a video and what copies one see the same times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import heappop, heappush
from math import inf
from typing import Any

import av

from data_tools.progress import still_alive

# Seconds. Decoding times never run backwards, but for the faults of a muxer. Forward they may jump
# where something is missing; in streams whose clock may be set anew (broadcasts, DVDs, Ogg) a jump
# as long as this counts as that, as it does for the ffmpeg command.
_BACKWARDS = 1.0
_FORWARDS = 10.0
_APART = 5.0  # how far streams may be interleaved; more packets than these are not held back
_MOST_HELD = 10_000
_MOST_FAILURES = 100  # in a row, to read on behind a damaged place
_REORDERED = 16  # pictures, the most that H.264 and HEVC allow

# Containers that have one time for a picture, in the order in which pictures are decoded;
# libavformat's guess at when they are shown is wrong for H.264 and for B-frames packed into another
# picture's packet. AVI counts pictures, so that the first is shown at 0; ASF's times are those of
# decoding.
_WITHOUT_PRESENTATION = ("avi", "asf")
_REORDERING = ("h264", "hevc", "vvc", "mpeg4")


def is_cover(stream: Any) -> bool:
    """Whether a video stream is a picture of the file, such as an album's cover."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def demuxed(
    container: Any,
    *streams: Any,
    past: type[Exception] = av.error.BlockingIOError,
    on_damage: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """The packets of a container, read on behind places where its demuxer fails.

    PyAV's `demux` ends there. BlockingIOError is what libavformat says of a stretch in which it
    finds no packet; the ffmpeg command reads on then as well.

    Args:
        past: the errors to read on behind.
        on_damage: called at each place.

    Raises:
        av.error.FFmpegError: any other error; or `past` 100 times in a row without a packet.
    """
    failures = 0
    while True:
        try:
            for packet in container.demux(*streams):
                failures = 0
                still_alive()
                yield packet
            return
        except IndexError:
            # PyAV's, at the end of a file in which a stream began late: all packets were there.
            return
        except past:
            if failures == 0:
                on_damage()
            failures += 1
            if failures == _MOST_FAILURES:
                raise


def lacks_presentation(stream: Any) -> bool:
    """Whether the times of a picture stream are those of decoding, though the orders differ."""
    return bool(
        stream.type == "video"
        and stream.container.format.name in _WITHOUT_PRESENTATION
        and stream.codec_context.name in _REORDERING
    )


def in_order(frames: Iterable[Any], stream: Any) -> Iterator[tuple[Any, int]]:
    """The decoded pictures of a stream that `lacks_presentation`, timed; and when each was decoded.

    The nth picture that is shown gets the nth smallest time: pictures come out in the order in
    which they are shown, and every time is that of some picture.
    """
    waiting: deque[Any] = deque()
    times: list[int] = []
    delay: int | None = 0 if stream.container.format.name == "avi" else None

    def first() -> tuple[Any, int]:
        nonlocal delay
        if delay is None:  # no picture is shown before it is decoded
            delay = max(
                frame.pts - time for frame, time in zip(waiting, sorted(times), strict=True)
            )
        frame = waiting.popleft()
        own, frame.pts = frame.pts, heappop(times) + delay
        return frame, own

    last = 0
    for frame in frames:
        last = frame.pts = last if frame.pts is None else frame.pts
        waiting.append(frame)
        heappush(times, last)
        if len(waiting) > _REORDERED:
            yield first()
    while waiting:
        yield first()


@dataclass
class _Line:
    """What is known of one stream; times in seconds."""

    tick: float
    unordered: bool  # `lacks_presentation`
    part: int = 0
    last: float | None = None  # time of the last packet in the file's clock
    step: float = 0.0  # to the next
    due: float = -inf  # when the next packet is to be decoded, on the one clock
    end: float = -inf  # when its last picture or sound ends, on the one clock


@dataclass
class _Joint:
    """A part of the file that may begin: packets wait until every stream has come to it."""

    part: int
    leader: _Line  # the stream that came first
    former: int  # the part that it came from
    ahead: bool  # it came by a jump forwards
    before: list[Any] = field(default_factory=list)  # packets of former parts
    after: list[tuple[Any, _Line]] = field(default_factory=list)


class Clock:
    """The times of one container, made continuous.

    Where the clock of the file restarts, in all streams at once or nearly, one part ends and the
    next begins: all of its streams are moved by the same time, to where the longest stream of the
    former part ends, so that nothing overlaps and each part keeps its sync. A single stray time
    is put where the packet is due. Packets without any time keep none; where a picture stream
    `lacks_presentation`, `pts` is made `dts`, for `in_order`.

    from_zero: move the beginning of the file to 0 s. Times below zero of a container that means
        them to be skipped (MP4, Matroska: encoders' priming) stay.

    Attributes:
        restarts: seconds at which the second and later parts begin, so far.
    """

    def __init__(self, container: Any, from_zero: bool = False) -> None:
        self.restarts: list[float] = []
        self._restarting = bool(container.format.flags & av.format.Flags.ts_discont.value)
        self._offsets = [0.0]  # of each part, seconds
        self._lines: dict[int, _Line] = {}  # of picture and sound, by the stream's index
        self._now = 0.0  # on the one clock
        self._joint: _Joint | None = None
        if from_zero:
            starts = [
                float(stream.start_time * stream.time_base)
                for stream in container.streams
                if _counts(stream) and stream.start_time is not None
            ]
            start = min(starts, default=0.0)
            if start > 0 or self._restarting:
                self._offsets[0] = -start

    def part(self, time: Fraction) -> int:
        """Which part of the file, from 0 on, is shown at `time` seconds."""
        return bisect_right(self.restarts, float(time) + 1e-3) if self.restarts else 0

    def run(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The same packets with times of the one clock; nearly in the same order.

        An error of `packets` is raised once all that came before is through.
        """
        coming = iter(packets)
        failure: Exception | None = None
        while True:
            try:
                packet = next(coming, None)
            except av.error.FFmpegError as error:
                failure, packet = error, None
            if packet is None:
                break
            if packet.dts is None and packet.pts is None and packet.size == 0:
                yield from self._join()  # the end of a stream
                yield packet
            else:
                yield from self._place(packet)
        yield from self._join()
        if failure is not None:
            raise failure

    def _place(self, packet: Any) -> Iterator[Any]:
        stamp = packet.pts if packet.dts is None else packet.dts
        index = packet.stream.index
        line = self._lines.get(index)
        if line is None:
            part = self._nearest(stamp, packet.time_base)
            if not _counts(packet.stream):
                yield self._moved(packet, part)
                return
            line = _Line(float(packet.time_base), lacks_presentation(packet.stream), part)
            self._lines[index] = line
        if line.unordered and packet.dts is not None:
            packet.pts = packet.dts
        if stamp is not None:
            time = stamp * line.tick
            part = self._part_of(line, time)
            if part == len(self._offsets):
                yield from self._join()
                ahead = line.last is not None and time > line.last
                self._joint = _Joint(part, line, line.part, ahead)
                self._offsets.append(line.due - time)  # until all have come
            elif self._joint and line is self._joint.leader and part != self._joint.part:
                # It went back: what it had jumped to were stray times.
                stray, self._joint = self._joint, None
                yield from stray.before
                yield from (self._moved(held, other.part) for held, other in stray.after)
            self._advance(line, packet, time, part)
        joint = self._joint
        if joint is None:
            yield self._moved(packet, line.part)
        elif line.part != joint.part:
            joint.before.append(self._moved(packet, line.part))
        else:
            joint.after.append((packet, line))
            if self._complete(joint):
                yield from self._join()

    def _part_of(self, line: _Line, time: float) -> int:
        """The part that a packet belongs to; one more than there are if it may begin one."""
        if line.last is None:
            return line.part
        jump = time - line.last - line.step
        joint = self._joint
        if joint and line is joint.leader and line.part == joint.part:
            back = abs(time + self._offsets[joint.former] - line.due)
            return joint.former if back < abs(jump) else line.part
        if -_BACKWARDS <= jump <= _FORWARDS:
            return line.part
        if any(
            other is not line
            and other.part == line.part
            and other.last is not None
            and abs(time - other.last) < min(_FORWARDS, abs(jump) / 2)
            for other in self._lines.values()
        ):
            return line.part  # it was away and comes back to where the others are
        # Others may have come to the next part already.
        distances = {
            part: abs(time + self._offsets[part] - line.due)
            for part in range(line.part + 1, len(self._offsets))
        }
        near = [part for part, distance in distances.items() if distance < _FORWARDS]
        return min(near, key=distances.__getitem__, default=len(self._offsets))

    def _advance(self, line: _Line, packet: Any, time: float, part: int) -> None:
        if packet.duration:
            line.step = packet.duration * line.tick
        elif line.last is not None and part == line.part and 0 < time - line.last < _BACKWARDS:
            line.step = time - line.last
        line.part, line.last = part, time
        if self._joint is None or part != self._joint.part:
            shown = time if packet.pts is None else packet.pts * line.tick
            self._reach(line, time, shown)

    def _reach(self, line: _Line, time: float, shown: float) -> None:
        offset = self._offsets[line.part]
        line.due = max(line.due, time + offset + line.step)
        line.end = max(line.end, shown + offset + line.step)
        self._now = line.due

    def _complete(self, joint: _Joint) -> bool:
        first = joint.after[0][0]
        began = (first.pts if first.dts is None else first.dts) * joint.leader.tick
        return (
            all(line.part == joint.part for line in self._lines.values())
            or (joint.leader.last or began) - began > _APART
            or len(joint.after) + len(joint.before) > _MOST_HELD
        )

    def _join(self) -> Iterator[Any]:
        """Where the part that waits begins is certain: let its packets go."""
        joint, self._joint = self._joint, None
        if joint is None:
            return
        times = []  # of decoding and of showing
        for packet, line in joint.after:
            stamps = [stamp for stamp in (packet.dts, packet.pts) if stamp is not None]
            times.append((stamps[0] * line.tick, stamps[-1] * line.tick) if stamps else None)
        known = [(line, time) for (_, line), time in zip(joint.after, times, strict=True) if time]
        if joint.ahead and not self._restarting:
            offset = self._offsets[joint.former]  # something is missing there
        else:
            begin = min(shown for _, (_, shown) in known)
            offset = max(line.end for line in self._lines.values()) - begin
            offset = max(offset, *(line.due - decoded for line, (decoded, _) in known))
            self.restarts.append(begin + offset)
        self._offsets[joint.part] = offset
        for line, (decoded, shown) in known:
            self._reach(line, decoded, shown)
        yield from joint.before
        yield from (self._moved(packet, line.part) for packet, line in joint.after)

    def _nearest(self, stamp: int | None, time_base: Fraction) -> int:
        """The part in which a time lies nearest to what is read now."""
        if stamp is None:
            return len(self._offsets) - 1
        time = float(stamp * time_base)
        return min(
            range(len(self._offsets)), key=lambda part: abs(time + self._offsets[part] - self._now)
        )

    def _moved(self, packet: Any, part: int) -> Any:
        if offset := self._offsets[part]:
            ticks = round(offset / packet.time_base)
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks
        return packet


def _counts(stream: Any) -> bool:
    """Whether a stream's times tell how those of the file run."""
    return stream.type == "audio" or (stream.type == "video" and not is_cover(stream))
