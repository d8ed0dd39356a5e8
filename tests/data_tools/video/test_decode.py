"""Reading videos: one clock for picture and sound, whatever the file's rates; damaged files."""

from __future__ import annotations

import os
import re
import socket
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.video.convert import Converter
from data_tools.video.decode import Video, check_audio_stream
from data_tools.video.sound import Sound, VideoError
from videos import FLASHES, earliness, flashes, write_video


def flat(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Gray pictures whose brightness tells their number."""
    levels = (np.arange(frames) * 8 % 208 + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (frames, height, width, 3)).copy()


def read(path: Path, tmp_path: Path) -> tuple[Video, Sound, list]:
    sound = Sound(tmp_path / "sound.raw")
    with Video(path) as video:
        return video, sound, list(video.pictures(sound))


def hum(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    return (8000 * np.sin(np.arange(int(seconds * rate)) * 0.2)).astype(np.int16)


RATES = {
    "23.976": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "59.94": Fraction(60000, 1001),
}


@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_shows_what_a_viewer_sees_in_the_middle_of_each_frame(rate, tmp_path):
    count = int(2 * rate)
    times = [k / rate for k in range(count)]
    path = write_video(tmp_path / "v.mp4", flat(count), hum(2), times)
    _, _, pictures = read(path, tmp_path)
    assert len(pictures) == pytest.approx(count / rate * FPS, abs=1)
    converter = Converter()
    for picture in pictures:
        middle = Fraction(2 * picture.index + 1, 2 * FPS)
        shown = max(k for k in range(count) if times[k] < middle)
        level = converter.rgb(picture.frame)[0, 0, 0]
        assert abs(int(level) - int(flat(count)[shown, 0, 0, 0])) <= 3, picture.index


def test_25_fps_is_taken_frame_by_frame(tmp_path):
    path = write_video(tmp_path / "v.mp4", flat(60), hum(2.4))
    _, sound, pictures = read(path, tmp_path)
    assert [p.index for p in pictures] == list(range(60))
    assert not any(p.held for p in pictures)
    assert sound.span(Fraction(0)) in ((0, 60), (0, 61))  # AAC pads its last packet


def test_a_picture_that_stands_still_is_left_out_and_ends_the_shot(tmp_path):
    times = [Fraction(k, 25) for k in range(25)] + [3 + Fraction(k, 25) for k in range(25)]
    path = write_video(tmp_path / "v.mp4", flat(50), hum(4), times)
    video, _, pictures = read(path, tmp_path)
    assert [p.index for p in pictures] == [*range(25), *range(75, 100)]
    assert video.stills == [(25, 75)]
    assert [p.index for p in pictures if p.after_still] == [75]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("container, codec", [("mp4", "aac"), ("mkv", "pcm_s16le"), ("mov", "aac")])
def test_sound_keeps_its_time(rate, container, codec, tmp_path):
    sound = np.zeros(2 * rate, np.int16)
    sound[rate : rate + rate // 100] = 20000
    path = write_video(
        tmp_path / f"v.{container}", flat(50), sound, sound_rate=rate, sound_codec=codec
    )
    video, heard, _ = read(path, tmp_path)
    samples = heard.read(0, 50, video.origin)
    begin = int(np.argmax(np.abs(samples.astype(int)) > 6000))
    assert begin == pytest.approx(SAMPLE_RATE, abs=32)  # 2 ms


def test_sound_that_begins_late_stays_late(tmp_path):
    path = write_video(
        tmp_path / "v.mkv", flat(75), hum(2), sound_start=0.62, sound_codec="pcm_s16le"
    )
    video, sound, _ = read(path, tmp_path)
    assert sound.span(video.origin) == (16, 66)  # 0.62 s is picture 15.5; half of it is enough
    samples = sound.read(0, 75, video.origin)
    assert len(samples) == 75 * SAMPLES_PER_FRAME
    assert int(np.argmax(samples != 0)) == pytest.approx(0.62 * SAMPLE_RATE, abs=20)


def measured(path: Path, tmp_path: Path) -> tuple[Video, Sound, list, list[float]]:
    """As `read`; and by how many seconds each beep is early."""
    sound, converter, bright, pictures = Sound(tmp_path / "sound.raw"), Converter(), {}, []
    with Video(path) as video:
        for picture in video.pictures(sound):
            bright[picture.index] = converter.rgb(picture.frame)[:32].mean()
            pictures.append(picture)
        seen = np.array([bright.get(index, 0) for index in range(max(bright) + 1)])
        heard = sound.samples(0, len(seen) * SAMPLES_PER_FRAME, video.origin)
        return video, sound, pictures, earliness(seen, heard)


@pytest.mark.parametrize("name", FLASHES)
def test_whatever_the_clock_every_picture_and_its_sync_are_kept(name, tmp_path):
    path = flashes(tmp_path / name, 0.2, **FLASHES[name])
    video, _, pictures, early = measured(path, tmp_path)
    assert [picture.index for picture in pictures] == list(range(75))
    assert not any(picture.held for picture in pictures) and not video.stills
    assert video.backwards == 0 and video.restarts == []
    assert early == pytest.approx([0.2, 0.2], abs=0.005)


@pytest.mark.parametrize("starts", [(5, 1), (5, 50_000), (50_000, 5), (5, 1, 60_000)])
def test_where_the_clock_restarts_the_next_part_is_read_in_its_own_sync(starts, tmp_path):
    given = [0.2, -0.12, 0.04][: len(starts)]
    whole = b"".join(
        flashes(tmp_path / "part.ts", early, Fraction(start), sound_rate=rate).read_bytes()
        for early, start, rate in zip(given, starts, (16_000, 48_000, 16_000), strict=False)
    )
    (tmp_path / "whole.ts").write_bytes(whole)
    video, sound, pictures, early = measured(tmp_path / "whole.ts", tmp_path)
    assert video.backwards == 0 and sound.cut == 0 and not video.stills
    assert sum(not picture.held for picture in pictures) == 75 * len(starts)
    assert len(video.restarts) == len(starts) - 1
    for part, seconds in enumerate(video.restarts, 1):
        assert seconds == pytest.approx(3.04 * part, abs=0.08)  # AAC's frames are longer
        first = next(picture.index for picture in pictures if picture.part == part)
        assert first / FPS == pytest.approx(seconds, abs=0.1)
    expected = [seconds for seconds in given for _ in range(2)]
    assert early == pytest.approx(expected, abs=0.5 / FPS + 0.005)


def test_a_single_stray_time_moves_nothing(tmp_path):
    path = flashes(tmp_path / "v.ts", 0.2, Fraction(100))
    _, _, whole, _ = measured(path, tmp_path)
    data = bytearray(path.read_bytes())
    # the headers of pictures with times of showing and of decoding, 5 bytes each from byte 9 on
    headers = [at for at in range(len(data)) if data[at : at + 4] == b"\0\0\1\xe0"]
    header = [at for at in headers if data[at + 7] & 0xC0 == 0xC0][10]
    for place in (9, 14):
        data[header + place] ^= 0x02  # 2^30 ticks, 3.3 hours
    path.write_bytes(data)
    video, sound, pictures, early = measured(path, tmp_path)
    assert video.restarts == [] and video.backwards == 0 and not video.stills
    assert [p.index for p in pictures] == [p.index for p in whole] and sound.filled == 0
    assert early == pytest.approx([0.2, 0.2], abs=0.005)


def test_nothing_that_broken_times_ask_for_grows_without_bound(tmp_path):
    # Each of the gaps is below an hour, as is what is seen and heard; together they are not.
    times = [Fraction(3000 * (k // 10)) + Fraction(k, 25) for k in range(30)]
    path = write_video(tmp_path / "v.mkv", flat(30), hum(1.2), times)
    with pytest.raises(VideoError, match=r"broken timestamps: .*6[0-9]{3} s without picture"):
        read(path, tmp_path)
    sound = Sound(tmp_path / "s.raw")
    sound.append(np.ones(16_000, np.int16), Fraction(0))
    sound.append(np.ones(16_000, np.int16), Fraction(3000))
    assert sound.filled == 2999 * SAMPLE_RATE
    with pytest.raises(VideoError, match=r"broken timestamps: .*5998 s without sound"):
        sound.append(np.ones(16_000, np.int16), Fraction(6000))
    sound.close()
    stored = os.fstat(sound._file.fileno())
    assert stored.st_blocks * 512 < 1_000_000 < stored.st_size  # silence is a hole
    assert sound.samples(2999 * SAMPLE_RATE, 16_001, Fraction(0))[-2:].tolist() == [0, 1]


def test_sound_without_a_first_time_is_placed_by_the_next_one(tmp_path):
    sound = Sound(tmp_path / "s.raw")
    sound.append(np.full(1600, 7, np.int16), None)
    sound.append(np.full(1600, 9, np.int16), Fraction(50_000))
    sound.close()
    assert sound.start == Fraction(50_000) - Fraction(1, 10)


@settings(max_examples=60, deadline=None)
@given(
    packets=st.lists(st.tuples(st.integers(-400, 4000), st.integers(1, 800)), max_size=12),
    origin=st.integers(-3000, 3000),
)
def test_every_sample_lands_at_its_time_or_within_ten_ms(packets, origin, tmp_path_factory):
    sound = Sound(tmp_path_factory.mktemp("sound") / "s.raw")
    sound.append(np.full(100, 1, np.int16), Fraction(0))
    end = 100
    for number, (gap, length) in enumerate(packets, 2):
        begin = max(end + gap, 0)
        sound.append(np.full(length, number, np.int16), Fraction(begin, SAMPLE_RATE))
        whole = sound.read(0, 1 + end // 640 + 12, Fraction(0))
        place = np.flatnonzero(whole == number)
        if len(place) == length:  # nothing of it was cut
            assert abs(place[0] - begin) <= SAMPLE_RATE // 100
        end = int(sound._samples)
    sound.close()
    time = Fraction(origin, SAMPLE_RATE)
    at_zero, moved = sound.read(0, 40, Fraction(0)), sound.read(0, 40, time)
    if origin >= 0:
        assert np.array_equal(moved[: len(moved) - origin], at_zero[origin:])
    else:
        assert np.array_equal(moved[-origin:], at_zero[:origin])


def test_gaps_in_the_sound_are_filled_with_silence_and_counted(tmp_path):
    sound = Sound(tmp_path / "s.raw")
    sound.append(np.full(1600, 7, np.int16), Fraction(0))
    sound.append(np.full(1600, 9, np.int16), Fraction(1, 2))
    sound.close()
    assert sound.filled == 6400
    samples = sound.read(0, 25, Fraction(0))
    assert (samples[:1600] == 7).all() and not samples[1600:8000].any()
    assert (samples[8000:9600] == 9).all()


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured(degrees, tmp_path):
    pictures = flat(10)
    pictures[:, :, :] = 30
    pictures[:, :24, :32] = 220  # the upper left quarter as stored
    path = write_video(tmp_path / "v.mp4", pictures, hum(0.4), rotation=degrees)
    _, _, found = read(path, tmp_path)
    upright = Converter().rgb(found[0].frame)
    # The file says by how many degrees, counter-clockwise, a player turns the picture.
    expected = np.rot90(pictures[0], degrees // 90)
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize("colours", [(2, 0), (1, 1), (5, 2)])
def test_a_smaller_picture_has_the_colours_of_the_larger_one(pixels, colours):
    frame = av.VideoFrame(256, 256, pixels)
    frame.colorspace, frame.color_range = colours
    waves = 128 + 80 * np.sin(np.arange(256) / np.array([[9], [13], [17]]))
    for plane, wave in zip(frame.planes, waves, strict=True):
        stored = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        stored[:, : plane.width] = np.round(wave[: plane.width]).astype(np.uint8)
    converter = Converter()
    small = converter.plain(frame, gray=False, side=224).astype(int)
    whole = cv2.resize(converter.plain(frame, gray=False), (224, 224), interpolation=cv2.INTER_AREA)
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(small - whole)[inside].mean() < 3


def test_pixels_that_are_not_square_become_so(tmp_path):
    path = write_video(tmp_path / "v.mp4", flat(10), hum(0.4), aspect=Fraction(4, 3))
    with Video(path) as video:
        picture = next(iter(video.pictures(Sound(tmp_path / "s.raw"))))
        assert video.aspect == Fraction(4, 3)
        assert Converter(video.aspect).rgb(picture.frame).shape == (48, 85, 3)
        assert Converter(video.aspect).rgb(picture.frame, 24).shape == (24, 42, 3)


def test_a_truncated_file_gives_what_it_holds(tmp_path):
    path = write_video(tmp_path / "v.mkv", flat(100), hum(4), sound_codec="pcm_s16le")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, _, pictures = read(cut, tmp_path)
    assert 0 < len(pictures) <= 100


def test_colours_that_cannot_be_converted_are_a_reason():
    frame = av.VideoFrame.from_ndarray(flat(1)[0], format="rgb24").reformat(format="yuv420p")
    frame.colorspace = 12  # to be derived from primaries, which it does not name
    with pytest.raises(VideoError, match="unknown colours: yuv420p in the colour space 12 cannot"):
        Converter().rgb(frame)


def test_a_last_picture_stands_for_a_second_at_most(tmp_path):
    kind = {"codec": "mpeg4", "sound_codec": "pcm_s16le", "tick": Fraction(1, FPS)}
    path = write_video(tmp_path / "v.avi", flat(1), hum(0.04), **kind)
    content = bytearray(path.read_bytes())
    scale = content.index(b"vids") + 20  # ticks of a picture: each stands for seventy years
    content[scale : scale + 4] = (1526726657).to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read(path, tmp_path)[2]) == FPS


def test_what_is_no_video_is_named(tmp_path):
    cases = {
        "empty file": b"",
        "not a readable video": b"This is a text, not a video.\n" * 50,
    }
    for reason, content in cases.items():
        path = tmp_path / "v.mp4"
        path.write_bytes(content)
        with pytest.raises(VideoError) as caught:
            Video(path)
        assert caught.value.reason == reason
    path.write_bytes(write_video(tmp_path / "whole.mp4", flat(50), hum(2)).read_bytes()[:-500])
    huge = bytearray((tmp_path / "whole.mp4").read_bytes())
    count = huge.rindex(b"stts") + 8  # of entries, sixteen bytes each when they are read
    huge[count : count + 4] = b"\xbc\x98\xb6\x51"
    (tmp_path / "huge.mp4").write_bytes(huge)
    with pytest.raises(VideoError, match="damaged: asks for too much memory"):
        Video(tmp_path / "huge.mp4")
    with pytest.raises(VideoError, match="truncated, or no video"):
        Video(path)
    silent = write_video(tmp_path / "silent.mp4", flat(10))
    with pytest.raises(VideoError, match="no audio stream"):
        Video(silent)
    with pytest.raises(VideoError, match="not a readable video"):
        Video(tmp_path / "absent.mp4")


# --- which sound


Streams = list[tuple[str, str, av.stream.Disposition]]  # language, title, disposition


def with_streams(path: Path, streams: Streams, folder: Path) -> Path:
    """A video whose audio stream k is a constant of 1000 * (k + 1)."""
    silent = write_video(folder / "silent.mkv", flat(25))
    with av.open(str(silent)) as given, av.open(str(path), "w") as made:
        copy = made.add_stream_from_template(given.streams.video[0])
        audio = []
        for language, title, disposition in streams:
            stream = made.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
            stream.disposition = disposition
            stream.metadata.update({"language": language, "title": title})
            audio.append(stream)
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = copy
                made.mux(packet)
        for number, stream in enumerate(audio, 1):
            constant = np.full((1, SAMPLE_RATE), 1000 * number, np.int16)
            frame = av.AudioFrame.from_ndarray(constant, "s16", "mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, 0
            made.mux(stream.encode(frame))
            made.mux(stream.encode(None))
    return path


KIND = av.stream.Disposition


@pytest.mark.parametrize(
    ("streams", "taken"),
    [
        ([("eng", "", KIND.default), ("deu", "", KIND(0))], 0),
        ([("eng", "", KIND(0)), ("deu", "", KIND.default)], 1),
        ([("eng", "Director", KIND.default | KIND.comment), ("eng", "", KIND(0))], 1),
        ([("eng", "", KIND.default | KIND.visual_impaired), ("eng", "", KIND(0))], 1),
        ([("eng", "", KIND.hearing_impaired), ("eng", "", KIND(0))], 1),
        ([("eng", "", KIND.dub | KIND.default), ("jpn", "", KIND.original)], 1),
        ([("eng", "", KIND.comment), ("eng", "", KIND.comment | KIND.default)], 1),
    ],
)
def test_the_sound_meant_for_everybody_is_taken(streams, taken, tmp_path):
    path = with_streams(tmp_path / "v.mkv", streams, tmp_path)
    video, sound, _ = read(path, tmp_path)
    assert (sound.read(0, 20, Fraction(0)) == 1000 * (taken + 1)).all()
    assert video.choice.startswith(f"2 audio streams; took {taken} ({streams[taken][0]}")
    for number in range(2):
        chosen = Sound(tmp_path / "chosen.raw")
        with Video(path, audio_stream=number) as video:
            list(video.pictures(chosen))
        assert (chosen.read(0, 20, Fraction(0)) == 1000 * (number + 1)).all()
        assert video.choice == ""


def test_a_stream_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    streams = [("eng", "", KIND.default), ("deu", "Kommentar\n", KIND.comment)]
    path = with_streams(tmp_path / "v.mkv", streams, tmp_path)
    words = re.escape(
        '--audio-stream 2 is none of 0 (eng, mono); 1 (deu, "Kommentar\\n", mono, comm'
    )
    with pytest.raises(VideoError, match=words):
        Video(path, audio_stream=2)
    with pytest.raises(ValueError, match=words):
        check_audio_stream(2, [path])
    with pytest.raises(ValueError, match="counts from 0, so it cannot be -1"):
        check_audio_stream(-1, [path, path])
    check_audio_stream(1, [path])
    check_audio_stream(2, [path, path])  # said of each of several


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [("en", 1), ("eng", 1), ("en-GB", 1), ("EN", 1), ("de", 2), ("deu", 2), ("ger", 2), (2, 2)],
)
def test_a_stream_is_taken_by_its_language(wanted, taken, tmp_path):
    streams = [
        ("eng", "Director", KIND.comment | KIND.default),
        ("eng", "", KIND(0)),
        ("ger", "", KIND(0)),
        ("", "", KIND(0)),
    ]
    path = with_streams(tmp_path / "v.mkv", streams, tmp_path)
    chosen = Sound(tmp_path / "chosen.raw")
    with Video(path, audio_stream=wanted) as video:
        list(video.pictures(chosen))
    assert (chosen.read(0, 20, Fraction(0)) == 1000 * (taken + 1)).all()
    said = f"4 audio streams; took {taken} ({streams[taken][0]}, mono)"
    assert video.choice == ("" if isinstance(wanted, int) else said)
    for absent in ("fr", "und", "mul"):
        with pytest.raises(VideoError, match=f"--audio-stream {absent} is none of 0 .eng"):
            Video(path, audio_stream=absent)
    for nonsense in ("klingon", "english", "1.5", "", "\n"):
        with pytest.raises(ValueError, match="a language like en, eng or en-GB"):
            check_audio_stream(nonsense, [path])


# --- what is no file


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_what_is_no_plain_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "v.mp4"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listening.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        with pytest.raises(VideoError, match="no plain file but a pipe, device, socket or folder"):
            Video(path)
