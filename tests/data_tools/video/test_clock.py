"""One clock for all streams: random recordings, joined, keep their length and their sync."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.video.clock import Clock, demuxed


class Stream(SimpleNamespace):
    """What the clock looks at of PyAV's streams."""

    disposition = 0
    codec_context = SimpleNamespace(name="h264")


class Packet(SimpleNamespace):
    """What the clock looks at and changes of PyAV's packets."""

    size = 1


def container(restarting: bool = True, starts: tuple[int, int] = (0, 0)) -> Any:
    flags = av.format.Flags.ts_discont.value if restarting else 0
    made = SimpleNamespace(format=SimpleNamespace(name="mpegts", flags=flags))
    made.streams = [
        Stream(index=0, type="video", container=made, start_time=starts[0], time_base=TICK),
        Stream(index=1, type="audio", container=made, start_time=starts[1], time_base=TICK),
    ]
    return made


TICK = Fraction(1, 1000)


def recording(file: Any, part: int, start: int, late: int, lag: int, seconds: int) -> list[Packet]:
    """Pictures every 40 ms; sound every 20 ms, `late` ms, lying `lag` ms behind in the file."""
    packets = [
        (stream, at) for stream, step in ((0, 40), (1, 20)) for at in range(0, seconds, step)
    ]
    made = []
    for stream, at in sorted(packets, key=lambda one: one[1] + (one[0] == 1) * lag):
        time = start + at + (stream == 1) * late
        one = Packet(pts=time, dts=time, duration=(40, 20)[stream], time_base=TICK)
        one.stream, one.part, one.at = file.streams[stream], part, at
        made.append(one)
    return made


PARTS = st.lists(
    st.tuples(
        st.integers(-90_000, 90_000_000),  # start
        st.integers(-400, 400),  # the sound is late
        st.integers(-900, 900),  # the sound lies later in the file
        st.integers(4000, 8000),  # length
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(parts=PARTS)
def test_parts_follow_one_another_each_in_its_own_sync(parts: list[tuple[int, ...]]) -> None:
    end = None
    for start, late, _, length in parts:
        if end is not None and -2000 < start - end < 12_000:
            return  # seen from the former part that is a gap, or a fault of its muxer
        end = start + max(late, 0) + length
    file = container()
    given = [packet for part, about in enumerate(parts) for packet in recording(file, part, *about)]
    clock = Clock(file)
    out = list(clock.run(given))
    assert sorted(map(id, out)) == sorted(map(id, given))
    assert len(clock.restarts) == len(parts) - 1
    end = parts[0][0] + min(0, parts[0][1])
    for part, (_, late, _, length) in enumerate(parts):
        own = [packet for packet in out if packet.part == part]
        seen, heard = ([p for p in own if p.stream.index == stream] for stream in (0, 1))
        shift = seen[0].pts - seen[0].at
        assert all(packet.pts == packet.at + shift for packet in seen)
        assert all(packet.pts == packet.at + shift + late for packet in heard)
        # It begins where the former ends: nothing overlaps, nothing is missing between them.
        begin = min(seen[0].pts, heard[0].pts)
        assert begin == pytest.approx(end, abs=1)
        end = max(seen[-1].pts + 40, heard[-1].pts + 20)
        assert all(clock.part(Fraction(packet.pts, 1000)) == part for packet in own)
        assert len(own) == len(range(0, length, 40)) + len(range(0, length, 20))


@given(
    stray=st.integers(1500, 90_000_000).flatmap(lambda by: st.sampled_from([by, -by])),
    place=st.integers(3, 150),
    restarting=st.booleans(),
)
def test_a_stray_time_is_put_where_its_packet_is_due(
    stray: int, place: int, restarting: bool
) -> None:
    file = container(restarting)
    packets = recording(file, 0, 1000, 0, 0, 4000)
    if 0 < stray < 11_000:
        return  # a gap, as far as can be told
    packets[place].pts += stray
    packets[place].dts += stray
    clock = Clock(file)
    out = list(clock.run(packets))
    assert clock.restarts == [] and len(out) == len(packets)
    assert all(abs(packet.pts - packet.at - 1000) <= 40 for packet in out)


def test_what_is_missing_is_no_restart() -> None:
    for restarting in (False, True):
        file = container(restarting)
        packets = recording(file, 0, 0, 0, 0, 60_000)
        # the pictures stop for 30 s while the sound goes on
        left = [p for p in packets if p.stream.index == 1 or not 10_000 < p.at < 40_000]
        clock = Clock(file)
        assert all(p.pts == p.at for p in clock.run(left)) and clock.restarts == []
    # in a container whose clock cannot be set anew both may stop
    file = container(False)
    packets = recording(file, 0, 0, 0, 0, 60_000)
    left = [p for p in packets if not 10_000 < p.at < 40_000]
    clock = Clock(file)
    assert all(p.pts == p.at for p in clock.run(left)) and clock.restarts == []


def test_the_beginning_moves_to_zero() -> None:
    for start in (50_000_000, -3000):
        file = container(starts=(start + 30, start))
        packets = recording(file, 0, start + 30, -30, 0, 4000)
        out = list(Clock(file, from_zero=True).run(packets))
        assert min(packet.pts for packet in out) == 0
        assert all(p.pts == p.at + 30 * (p.stream.index == 0) for p in out)
    # Matroska and MP4 mean times below zero: there lies what is not to be heard
    file = container(False, starts=(0, -20))
    out = list(Clock(file, from_zero=True).run(recording(file, 0, 0, -20, 0, 4000)))
    assert min(packet.pts for packet in out) == -20


class Stalling:
    """A container whose demuxer has no packet for now, so many times before each."""

    def __init__(self, times: int) -> None:
        self.stalls, self.times, self.coming = times, times, iter(range(3))

    def demux(self, *streams: Any) -> Any:
        assert streams == ("picture", "sound")
        while True:
            if self.stalls:
                self.stalls -= 1
                raise av.error.BlockingIOError(11, "Resource temporarily unavailable")
            self.stalls = self.times
            number = next(self.coming, None)
            if number is None:
                return
            yield number


def test_a_demuxer_without_a_packet_for_now_is_read_on() -> None:
    assert list(demuxed(Stalling(99), "picture", "sound")) == [0, 1, 2]
    with pytest.raises(av.error.BlockingIOError):
        list(demuxed(Stalling(100), "picture", "sound"))


class Growing:
    """A container in which a stream begins late: PyAV's `demux` looks for it at the end."""

    def demux(self, *streams: Any) -> Any:
        yield from range(3)
        yield [][0]


def test_a_stream_that_begins_late_does_not_end_the_others() -> None:
    assert list(demuxed(Growing(), "picture", "sound")) == [0, 1, 2]
