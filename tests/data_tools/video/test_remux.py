"""The sound is moved, nothing else: every decoded picture and sound stays what it was."""

import os
import resource
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from data_tools.mfcc import FPS
from data_tools.video import remux
from data_tools.video.clock import Clock, is_cover
from data_tools.video.packets import time_code
from data_tools.video.remux import shift_sound, shifted
from data_tools.video.remux_copy import RemuxError
from videos import FLASHES, earliness, flashes, head, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rotated, with B-frames (negative first dts), AAC priming (negative first pts)."""
    pictures, sound = head(5, 60, 96)
    folder = tmp_path_factory.mktemp("video")
    return write_video(folder / "head.mp4", pictures, sound, rotation=90)


@pytest.fixture(scope="module")
def rich(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in Matroska, with subtitles, names, languages, chapters, dispositions."""
    folder = tmp_path_factory.mktemp("rich")
    lines = folder / "lines.srt"
    lines.write_text("1\n00:00:00,500 --> 00:00:01,000\nbin blue\n\n")
    out = folder / "rich.mkv"
    with (
        av.open(str(video)) as given,
        av.open(str(lines)) as text,
        av.open(str(out), "w") as made,
    ):
        made.metadata["title"] = "a talk"
        streams: dict[Any, Any] = {}
        for source in (given, text):
            for stream in source.streams:
                streams[stream] = made.add_stream_from_template(stream, opaque=True)
        for kind, language in (("audio", "deu"), ("subtitle", "eng")):
            copy = next(s for s in streams.values() if s.type == kind)
            copy.metadata["language"] = language
        of_sound = next(s for s in streams.values() if s.type == "audio")
        of_sound.disposition = av.stream.Disposition.default | av.stream.Disposition.original
        second = {"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000)}
        made.set_chapters([second | {"metadata": {"title": "first"}}])
        for source in (given, text):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream]
                    made.mux(packet)
    return out


def decoded(path: Path) -> tuple[dict[bytes, Fraction], dict[bytes, Fraction]]:
    """When each picture is seen and each sound is heard, by its contents."""
    seen, heard = {}, {}
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0], container.streams.audio[0]):
            for frame in packet.decode():
                array: NDArray[Any] = frame.to_ndarray()
                time = Fraction(frame.pts) * frame.time_base
                (seen if packet.stream.type == "video" else heard)[array.tobytes()] = time
    return seen, heard


def check_moved(source: Path, out: Path, seconds: Fraction, at_least: float) -> None:
    seen, heard = decoded(source)
    seen_after, heard_after = decoded(out)
    assert seen.keys() == seen_after.keys()
    pictures = np.array([float(seen_after[key] - seen[key]) for key in seen])
    same = heard.keys() & heard_after.keys()
    assert len(same) >= at_least * len(heard)
    sounds = np.array([float(heard_after[key] - heard[key]) for key in same])
    np.testing.assert_allclose(pictures, pictures[0], atol=0.0011)  # Matroska's milliseconds
    np.testing.assert_allclose(sounds - pictures[0], float(seconds), atol=0.0021)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("frames", [5, -7])
@pytest.mark.parametrize("kind", [".mp4", ".mkv"])
def test_the_sound_alone_moves_and_nothing_is_encoded(
    video: Path, tmp_path: Path, suffix: str, frames: int, kind: str
) -> None:
    source = video
    if kind == ".mkv":
        source = tmp_path / "source.mkv"
        shift_sound(video, source, Fraction(0))
    out = tmp_path / f"mended{suffix}"
    assert shift_sound(source, out, Fraction(frames, 25)) == []
    # An edit list hides the sound that would come before the picture.
    hidden = frames < 0 and suffix != ".mkv"
    check_moved(source, out, Fraction(frames, 25), at_least=0.8 if hidden else 1.0)
    assert sorted(tmp_path.glob(".*")) == []
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).rotation == 90


def test_there_and_back_is_what_it_was(video: Path, tmp_path: Path) -> None:
    shift_sound(video, tmp_path / "there.mp4", Fraction(-7, 25))
    shift_sound(tmp_path / "there.mp4", tmp_path / "back.mp4", Fraction(7, 25))
    check_moved(video, tmp_path / "back.mp4", Fraction(0), at_least=1.0)


def test_everything_beside_picture_and_sound_survives(rich: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    assert shift_sound(rich, out, Fraction(3, 25)) == []
    with av.open(str(rich)) as given, av.open(str(out)) as made:
        assert made.metadata["title"] == "a talk"
        assert [s.type for s in made.streams] == [s.type for s in given.streams]
        for one, other in zip(given.streams, made.streams, strict=True):
            assert one.disposition == other.disposition
            assert one.metadata.get("language") == other.metadata.get("language")
        assert made.streams.audio[0].disposition & av.stream.Disposition.original
        assert made.streams.audio[0].metadata["language"] == "deu"
        assert [c["metadata"]["title"] for c in made.chapters()] == ["first"]
        before, after = (
            [(bytes(p), p.pts) for p in container.demux(subtitles=0) if p.size]
            for container in (given, made)
        )
        assert before == after and before[0][0] == b"bin blue"


def test_what_a_container_cannot_hold_is_said(rich: Path, tmp_path: Path) -> None:
    with pytest.raises(RemuxError, match=r"out.mp4: .*srt.*is a .mkv possible") as error:
        shift_sound(rich, tmp_path / "out.mp4", Fraction(1, 25))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"must end in .mp4"):
        shift_sound(rich, tmp_path / "out.avi", Fraction(1, 25))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(RemuxError, match=r"text.mp4 cannot be copied") as error:
        shift_sound(tmp_path / "text.mp4", tmp_path / "out.mp4", Fraction(1, 25))
    assert ".mkv" not in str(error.value)  # nothing that another container would help
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_a_size_that_no_memory_holds_is_said_in_our_words(video: Path, tmp_path: Path) -> None:
    content = bytearray(video.read_bytes())
    count = content.rindex(b"stts") + 8  # of entries, sixteen bytes each when they are read
    content[count : count + 4] = b"\xbc\x98\xb6\x51"
    (tmp_path / "huge.mp4").write_bytes(content)
    with pytest.raises(RemuxError, match="it is damaged: it asks for too much memory"):
        shift_sound(tmp_path / "huge.mp4", tmp_path / "out.mp4", Fraction(1, 25))


def test_what_cannot_be_written_is_said_of_the_copy(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(OSError, match=r"File too large: '.*/out.mp4'"):
            shift_sound(video, out, Fraction(1, 25))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    os.mkfifo(out)
    with pytest.raises(ValueError, match="no plain file"):
        shift_sound(video, out, Fraction(1, 25))


def test_the_input_is_never_overwritten(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(video.read_bytes())
    (tmp_path / "soft.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "./below/../a.mp4", "soft.mp4", "hard.mp4", str(source)):
        with pytest.raises(ValueError, match="never overwritten"):
            shift_sound(source, Path(name), Fraction(1, 25))
    assert source.read_bytes() == video.read_bytes()


def played(path: Path) -> tuple[int, float, float, list[float]]:
    """Of a copy, by PyAV alone: pictures, first time, length, by how much each beep is early."""
    bright: dict[float, float] = {}
    with av.open(str(path)) as container:
        lasts = (container.duration or 0) / av.time_base
        for frame in container.decode(video=0):
            bright[float(frame.pts * frame.time_base)] = float(frame.to_ndarray()[:32].mean())
    assert list(bright) == sorted(bright)
    first = min(bright)
    sound = np.zeros(16_000 * 12, np.int16)  # from the first picture on
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", 16_000)
        for given in container.decode(audio=0):
            for frame in resampler.resample(given):
                begin = round((float(frame.pts * frame.time_base) - first) * 16_000)
                samples = frame.to_ndarray()[0][max(0, -begin) :]
                sound[max(0, begin) :][: len(samples)] = samples
    seen = np.zeros(12 * FPS)
    for time, level in bright.items():
        seen[round((time - first) * FPS)] = level
    return len(bright), first, lasts, earliness(seen, sound)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("name", FLASHES)
def test_whatever_the_clock_of_the_source_a_copy_is_whole_and_begins_at_zero(
    name: str, suffix: str, tmp_path: Path
) -> None:
    source, out = flashes(tmp_path / name, 0.2, **FLASHES[name]), tmp_path / f"out{suffix}"
    shift_sound(source, out, Fraction(4, FPS))
    pictures, first, lasts, early = played(out)
    assert pictures == 75
    assert early == pytest.approx([0.2 - 0.16] * 2, abs=0.006)
    assert 0 <= first <= 0.1 and 3 <= lasts < 3.4
    with av.open(str(out)) as container:
        times = [p.dts for p in container.demux(video=0) if p.size and p.dts is not None]
        assert times == sorted(set(times)) and len(times) >= 72  # Matroska leaves the first ones


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_copy_goes_on_where_the_clock_restarts(suffix: str, tmp_path: Path) -> None:
    parts = [(0.2, 50_000, 16_000), (0.12, 7, 16_000)]
    source, out = tmp_path / "whole.ts", tmp_path / f"out{suffix}"
    source.write_bytes(
        b"".join(
            flashes(tmp_path / "part.ts", early, Fraction(start), sound_rate=rate).read_bytes()
            for early, start, rate in parts
        )
    )
    shift_sound(source, out, Fraction(-3, FPS))
    pictures, first, lasts, early = played(out)
    assert pictures == 150 and 0 <= first < 0.3 and 6 <= lasts < 6.4
    assert early == pytest.approx([0.32, 0.32, 0.24, 0.24], abs=0.5 / FPS + 0.005)


def test_sound_that_changes_where_the_clock_restarts_is_not_copied(tmp_path: Path) -> None:
    source, out = tmp_path / "whole.ts", tmp_path / "out.mp4"
    source.write_bytes(
        b"".join(
            flashes(tmp_path / "part.ts", 0.2, sound_rate=rate).read_bytes()
            for rate in (16_000, 48_000)
        )
    )
    with pytest.raises(RemuxError, match="sound changes from 16000 Hz mono to 48000 Hz mono"):
        shift_sound(source, out, Fraction(1, FPS))
    assert not out.exists()


def test_a_copy_that_is_not_what_was_sent_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = flashes(tmp_path / "late.ts", 0.2, Fraction(50_000))
    folder = tmp_path / "out"
    folder.mkdir()
    run = Clock.run

    def faulty(change: Any) -> None:
        monkeypatch.setattr(Clock, "run", lambda self, coming: change(run(self, coming)))

    def without_some(packets: Any) -> Any:
        return (
            p for n, p in enumerate(packets) if n % 20 or p.stream.type != "video" or not p.size
        )

    def from_where_it_was(packets: Any) -> Any:
        for packet in packets:
            if packet.size:
                packet.pts, packet.dts = packet.pts + 90_000 * 3600, packet.dts + 90_000 * 3600
            yield packet

    def backwards(packets: Any) -> Any:
        for number, packet in enumerate(packets):
            if packet.size and number > 90:
                packet.pts, packet.dts = packet.pts - 90_000, packet.dts - 90_000
            yield packet

    def while_it_grows(packets: Any) -> Any:
        yield from packets
        with source.open("ab") as file:
            file.write(bytes(188))

    for change, wrong in (
        (without_some, r"the copy would have [67]\d of 75 pictures"),
        (from_where_it_was, r"the copy would begin at 3600\.\d s"),
        (backwards, r"times of stream [01] run backwards by 0\.\d\d s"),
        (while_it_grows, "written to meanwhile"),
    ):
        faulty(change)
        for before in (False, True):
            for suffix in (".mkv", ".mp4"):
                out = folder / f"out{suffix}"
                if before:
                    out.write_bytes(b"dear")
                with pytest.raises(
                    RemuxError, match=f"late.ts cannot be copied to .*{wrong}"
                ) as said:
                    shift_sound(source, out, Fraction(1, FPS))
                assert "\n" not in str(said.value)
                assert not before or out.read_bytes() == b"dear"
                out.unlink(missing_ok=True)
                assert list(folder.iterdir()) == []


def test_a_copy_gets_its_name_only_when_all_is_well(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(KeyError), shifted(video, out, Fraction(1, FPS)) as (copy, _):
        assert copy.exists() and not out.exists()
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_uncompressed_sound_is_compared_by_its_bytes(tmp_path: Path) -> None:
    source = flashes(tmp_path / "pcm.mkv", 0.2, sound_codec="pcm_s16le")
    for frames in (5, -5):
        for suffix in (".mov", ".mp4", ".mkv"):
            out = tmp_path / f"out{suffix}"
            shift_sound(source, out, Fraction(frames, FPS))
            pictures, *_, early = played(out)
            assert pictures == 75
            assert early == pytest.approx([0.2 - frames / FPS] * 2, abs=0.006)


def test_a_cover_stays_one_or_is_said_to_be_missing(tmp_path: Path) -> None:
    plain, source = flashes(tmp_path / "plain.mkv", 0.2), tmp_path / "cover.mkv"
    cover = simplejpeg.encode_jpeg(np.full((32, 32, 3), 99, np.uint8))
    with av.open(str(plain)) as given, av.open(str(source), "w") as made:
        streams = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        made.add_attachment("front.jpg", "image/jpeg", cover)
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    for suffix, lacking in (
        (".mkv", []),
        (".mp4", []),
        (".mov", ["stream 2 (cover) is not copied"]),
    ):
        out = tmp_path / f"out{suffix}"
        assert shift_sound(source, out, Fraction(1, FPS)) == lacking
        with av.open(str(out)) as container:
            covers = [s for s in container.streams.video if is_cover(s)]
            assert len(container.streams.video) == 1 + len(covers)
            assert [bytes(next(container.demux(s))) for s in covers] == [cover] * (not lacking)
        assert played(out)[0] == 75


def rewritten(source: Path, out: Path, change: Any) -> Path:
    """A copy of a file whose packets of each stream are what `change` makes of their list."""
    with av.open(str(source)) as given, av.open(str(out), "w") as made:
        packets: list[Any] = []
        for stream in given.streams:
            copy = made.add_stream_from_template(stream, opaque=True)
            given.seek(0)
            for packet in change(stream.type, [p for p in given.demux(stream) if p.size]):
                packet.stream = copy
                packets.append(packet)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            made.mux(packet)
    return out


def early(seconds: Fraction) -> Any:
    def change(kind: str, packets: list[Any]) -> list[Any]:
        for packet in packets:
            ticks = round(seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
        return packets

    return change


SUFFIXES = (".mp4", ".mov", ".mkv")


def test_a_trimmed_video_begins_where_its_edit_list_says(tmp_path: Path) -> None:
    """The packets from the key frame on are there, but hidden: they have times before zero."""
    whole = flashes(tmp_path / "whole.mp4", 0.2)
    for name in ("cut.mp4", "cut.mov"):
        source = rewritten(whole, tmp_path / name, early(Fraction(33, 25)))
        with av.open(str(source)) as container:
            assert min(p.pts for p in container.demux(video=0) if p.size) < 0
        assert played(source)[:2] == (42, 0)
        for frames in (5, -5):
            for suffix in SUFFIXES:
                out = tmp_path / f"out{suffix}"
                shift_sound(source, out, Fraction(frames, FPS))
                pictures, first, _, was = played(out)
                # Matroska hides nothing: it begins with the key frame, or the sound before that.
                assert pictures == (75 if suffix == ".mkv" else 42)
                assert 0 <= first <= (0.3 if suffix == ".mkv" else 0)
                flashed = 2 if suffix == ".mkv" else 1
                assert was == pytest.approx([0.2 - frames / FPS] * flashed, abs=0.006)


@pytest.mark.parametrize("name", ["a.mkv", "late.nut"])
def test_uncompressed_sound_in_packets_of_any_length_is_advanced(name: str, tmp_path: Path) -> None:
    """MP4 and MOV make packets of their own length, and keep those that an edit list hides."""
    start = Fraction(name == "late.nut")
    plain = flashes(tmp_path / "plain.mov", 0.2, start, sound_codec="pcm_s16le", sound_rate=48_000)

    def joined(kind: str, packets: list[Any]) -> list[Any]:
        if kind == "video":
            return packets
        made = []
        for begin in range(0, len(packets), 3):
            three = packets[begin : begin + 3]
            made.append(av.Packet(b"".join(bytes(p) for p in three)))
            made[-1].pts = made[-1].dts = three[0].pts
            made[-1].duration = sum(p.duration for p in three)
            made[-1].time_base = three[0].time_base
        return made

    source = rewritten(plain, tmp_path / name, joined)
    for frames in (5, -5):
        for suffix in SUFFIXES:
            out = tmp_path / f"out{suffix}"
            shift_sound(source, out, Fraction(frames, FPS))
            pictures, *_, was = played(out)
            assert pictures == 75
            assert was == pytest.approx([0.2 - frames / FPS] * 2, abs=0.006)


@pytest.mark.parametrize("bframes", [0, 3])
def test_a_last_picture_that_stands_long_keeps_its_time(bframes: int, tmp_path: Path) -> None:
    pictures, sound = head(5, 60, 96)
    times = [Fraction(k, FPS) for k in range(59)] + [Fraction(8)]
    source = write_video(tmp_path / "a.mp4", pictures, sound, times, bframes=bframes)
    for frames in (5, -5):
        for suffix in SUFFIXES:
            out = tmp_path / f"out{suffix}"
            shift_sound(source, out, Fraction(frames, FPS))
            with av.open(str(out)) as container:
                seen = [float(f.pts * f.time_base) for f in container.decode(video=0)]
            late = seen[0]  # Matroska has nothing before zero
            assert [one - late for one in seen] == pytest.approx([*map(float, times)], abs=0.002)


def test_packets_shorter_than_the_clocks_tick_may_share_a_time(tmp_path: Path) -> None:
    """As of TrueHD in Matroska, which counts milliseconds and has 0.83 ms in a packet."""
    plain = flashes(tmp_path / "plain.mov", 0.2, sound_codec="pcm_s16le", sound_rate=48_000)

    def split(kind: str, packets: list[Any]) -> list[Any]:
        if kind == "video":
            return packets
        samples, made = b"".join(bytes(p) for p in packets), []
        for begin in range(0, len(samples), 80):
            made.append(av.Packet(samples[begin : begin + 80]))
            made[-1].pts = made[-1].dts = begin // 2
            made[-1].duration, made[-1].time_base = 40, Fraction(1, 48_000)
        return made

    source = rewritten(plain, tmp_path / "short.mkv", split)
    with av.open(str(source)) as container:
        times = [packet.pts for packet in container.demux(audio=0) if packet.size]
    assert len(times) == 3600 and len(set(times)) <= 3001
    for frames in (5, -5):
        for suffix in SUFFIXES:
            out = tmp_path / f"out{suffix}"
            shift_sound(source, out, Fraction(frames, FPS))
            assert played(out)[3] == pytest.approx([0.2 - frames / FPS] * 2, abs=0.006)


def test_a_recording_may_begin_between_key_frames(tmp_path: Path) -> None:
    content = flashes(tmp_path / "a.ts", 0.2, Fraction(50), gop=20).read_bytes()
    source = tmp_path / "cut.ts"
    for cut in (10, 20, 30, 40):  # packets of 188 bytes; the first tell what is in the file
        source.write_bytes(content[: 3 * 188] + content[cut * 188 :])
        with av.open(str(source)) as container:
            assert not next(p for p in container.demux(video=0) if p.size).is_keyframe
        for frames in (5, -5):
            for suffix in SUFFIXES:
                out = tmp_path / f"out{suffix}"
                shift_sound(source, out, Fraction(frames, FPS))
                assert 50 < played(out)[0] < 75


def test_the_picture_may_begin_later_than_the_sound(tmp_path: Path) -> None:
    """Matroska has no times of decoding, and what libavformat takes for them runs backwards."""
    whole = flashes(tmp_path / "a.ts", 0.2, Fraction(50), gop=20)
    source = rewritten(
        whole, tmp_path / "late.ts", lambda kind, packets: packets[20 * (kind == "video") :]
    )
    for frames in (5, -5):
        for suffix in SUFFIXES:
            out = tmp_path / f"out{suffix}"
            shift_sound(source, out, Fraction(frames, FPS))
            assert played(out)[0] == 55
            assert played(out)[3][1:] == pytest.approx([0.2 - frames / FPS], abs=0.006)


def test_vorbis_in_mp4_begins_within_half_a_picture_of_its_place(tmp_path: Path) -> None:
    plain, source = flashes(tmp_path / "plain.mkv", 0.2), tmp_path / "vorbis.mkv"
    with av.open(str(plain)) as given, av.open(str(source), "w") as made:
        picture = made.add_stream_from_template(given.streams.video[0], opaque=True)
        sound = made.add_stream("vorbis", 48_000, options={"strict": "-2"}, layout="stereo")
        resampler = av.AudioResampler("fltp", "stereo", 48_000)
        for packet in given.demux():
            if packet.stream.type == "video" and packet.size:
                packet.stream = picture
                made.mux(packet)
            elif packet.stream.type == "audio":
                for frame in packet.decode():
                    for samples in resampler.resample(frame):
                        made.mux(sound.encode(samples))
        made.mux(sound.encode(None))
    for frames in (5, -5):
        for suffix in (".mp4", ".mkv"):
            out = tmp_path / f"out{suffix}"
            shift_sound(source, out, Fraction(frames, FPS))
            assert played(out)[3] == pytest.approx([0.2 - frames / FPS] * 2, abs=0.03)


@pytest.mark.parametrize("sound_codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("frames", [5, -5])
def test_sound_moved_by_one_picture_too_much_is_seen(
    sound_codec: str, frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = flashes(tmp_path / "a.mkv", 0.2, sound_codec=sound_codec, sound_rate=48_000)
    copy = remux.copy_shifted
    for wrong in (Fraction(1, FPS), Fraction(-1, FPS)):

        def moved(given: Path, out: Path, form: str, seconds: Fraction, _: None) -> Any:
            said = copy(given, out.with_name("right"), form, seconds)
            out.with_name("right").unlink()
            copy(given, out, form, seconds + wrong)  # noqa: B023
            return said

        monkeypatch.setattr(remux, "copy_shifted", moved)
        for suffix in SUFFIXES:
            with pytest.raises(RemuxError, match=r"packets of sound would be 0.0[34]. s") as said:
                shift_sound(source, tmp_path / f"out{suffix}", Fraction(frames, FPS))
            assert str(said.value).endswith("is a .mkv possible?") == (suffix != ".mkv")
    assert list(tmp_path.iterdir()) == [source]


def wide_by_its_container(source: Path, out: Path, aspect: Fraction) -> Path:
    """The same H.264, whose own headers say square pixels, in a container that says otherwise."""
    with av.open(str(source)) as given, av.open(str(out), "w") as made:
        streams = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        streams[0].codec_context.sample_aspect_ratio = aspect
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    return out


def test_the_shape_of_pixels_that_the_container_alone_states_is_kept_or_refused(
    video: Path, tmp_path: Path
) -> None:
    wide = Fraction(64, 45)
    for suffix in (".mp4", ".mov"):
        source = wide_by_its_container(video, tmp_path / f"wide{suffix}", wide)
        out = tmp_path / f"out{suffix}"
        assert shift_sound(source, out, Fraction(-5, FPS)) == []
        with av.open(str(out)) as container:
            assert container.streams.video[0].sample_aspect_ratio == wide
    with pytest.raises(RemuxError, match=r"another shape \(pixels of 1:1, not 64:45\)") as said:
        shift_sound(source, tmp_path / "out.mkv", Fraction(-5, FPS))
    assert str(said.value).endswith("; is a .mp4 or .mov possible?")


@pytest.mark.parametrize(
    ("codec", "suffix", "pixels", "tag"),
    [("libx265", ".mp4", "yuv420p", "hvc1"), ("prores_ks", ".mov", "yuv422p10le", "apcs")],
)
def test_a_codec_is_called_what_the_source_calls_it(
    codec: str, suffix: str, pixels: str, tag: str, tmp_path: Path
) -> None:
    """Players go by it: QuickTime takes no hev1, and editors ask it for the kind of ProRes."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    sound = flashes(tmp_path / "sound.mp4", 0.2)
    source, out = tmp_path / f"source{suffix}", tmp_path / f"out{suffix}"
    with av.open(str(sound)) as given, av.open(str(source), "w") as made:
        picture = made.add_stream(codec, FPS, width=64, height=64, pix_fmt=pixels)
        picture.options = {"x265-params": "log-level=none"} if tag == "hvc1" else {"profile": "1"}
        picture.codec_context.codec_tag = tag
        audio = made.add_stream_from_template(given.streams.audio[0], opaque=True)
        for number in range(75):
            frame = av.VideoFrame(64, 64, pixels)
            frame.pts = number
            made.mux(picture.encode(frame))
        made.mux(picture.encode(None))
        for packet in given.demux(audio=0):
            if packet.size:
                packet.stream = audio
                made.mux(packet)
    assert shift_sound(source, out, Fraction(-5, FPS)) == []
    for path in (source, out):
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.codec_tag == tag


def test_a_name_that_the_container_does_not_take_is_left_to_ffmpeg(tmp_path: Path) -> None:
    source = flashes(tmp_path / "a.mp4", 0.2, codec="mpeg2video", tick=Fraction(1, FPS))
    with av.open(str(source)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "mp4v"  # no tag of MOV's
    assert shift_sound(source, tmp_path / "out.mov", Fraction(-5, FPS)) == []


def test_the_tracks_of_time_code_and_chapters_are_made_anew_or_said_to_be_lost(
    tmp_path: Path,
) -> None:
    plain = flashes(tmp_path / "plain.mp4", 0.2, tick=Fraction(1, FPS))
    for code, suffix, lacking in (
        ("01:00:00:00", ".mov", []),
        ("01:00:00:00", ".mkv", []),
        ("01:00:00;02", ".mov", ["the time code 01:00:00;02 is lost"]),  # not at 25 a second
    ):
        source, out = tmp_path / f"source{'.mov' if ':00:00:' in code else '.mkv'}", tmp_path / "o"
        with av.open(str(plain)) as given, av.open(str(source), "w") as made:
            streams = [made.add_stream_from_template(s, opaque=True) for s in given.streams]
            streams[0].codec_context.framerate = FPS
            streams[0].metadata["timecode"] = code
            chapter = {"id": 1, "start": 0, "end": 1000, "time_base": Fraction(1, 1000)}
            made.set_chapters([chapter | {"metadata": {"title": "first"}}])
            for packet in given.demux():
                if packet.size:
                    packet.stream = streams[packet.stream.index]
                    made.mux(packet)
        assert shift_sound(source, out.with_suffix(suffix), Fraction(-5, FPS)) == lacking
        with av.open(str(source)) as given, av.open(str(out.with_suffix(suffix))) as made:
            if source.suffix == ".mov":
                assert [s.type for s in given.streams][2:] == ["data", "data"]
            kept = [s.type for s in made.streams][2:]
            assert kept == ["data"] * (0 if suffix == ".mkv" else 1 if lacking else 2)
            assert (time_code(made) == code) != bool(lacking)
            assert len(made.chapters()) == 1
