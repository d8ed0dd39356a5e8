"""What could not be used of a video is said; too much of it is a doubt."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.video.decode import Video
from data_tools.video.left_out import doubts, notes
from data_tools.video.sound import Sound
from videos import write_video

COUNT = 100  # pictures, 4 s


def hum(seconds: float) -> np.ndarray:
    return (8000 * np.sin(np.arange(int(seconds * SAMPLE_RATE)) * 0.2)).astype(np.int16)


def moving(frames: int = COUNT) -> np.ndarray:
    levels = (np.arange(frames) * 8 % 208 + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (frames, 48, 64, 3)).copy()


def said(path: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Notes and doubts about a video."""
    sound = Sound(folder / "sound.raw")
    with Video(path) as video:
        list(video.pictures(sound))
        return notes(video, sound), doubts(video, sound)


def write_any(path: Path) -> Path:
    """100 pictures and 4 s of sound in a container of any kind."""
    if path.suffix == ".avi":  # a tick of it is a picture, so that their rate has to be 25
        with av.open(str(path), "w") as made:
            video, audio = made.add_stream("mpeg4", rate=FPS), made.add_stream("pcm_s16le", 16000)
            video.width, video.height = 64, 48
            audio.layout = "mono"
            for number, picture in enumerate(moving()):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts = number
                made.mux(video.encode(frame))
                step = SAMPLE_RATE // FPS
                part = hum(4)[None, number * step : (number + 1) * step]
                sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "s16", "mono")
                sound.sample_rate, sound.pts = SAMPLE_RATE, number * step
                made.mux(audio.encode(sound))
            made.mux(video.encode(None))
        return path
    if path.suffix == ".flv":
        wave = (8000 * np.sin(np.arange(4 * 44100) * 0.1)).astype(np.int16)
        return write_video(path, moving(), wave, sound_rate=44100)
    return write_video(path, moving(), hum(4))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov", "v.ts", "v.avi", "v.flv"])
def test_of_whole_files_nothing_is_doubted(name, tmp_path):
    assert said(write_any(tmp_path / name), tmp_path) == ([], [])


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".nut", ".mp4", ".ts"])
def test_a_file_promises_what_lies_behind_its_start(suffix, tmp_path):
    """Some containers count their length from 0, wherever their streams begin."""
    webm = {"codec": "libvpx", "sound_codec": "libopus"} if suffix == ".webm" else {}
    path = write_video(
        tmp_path / f"v{suffix}",
        moving(),
        hum(4),
        [Fraction(100) + Fraction(k, FPS) for k in range(COUNT)],
        sound_start=100.0,
        **webm,
    )
    assert said(path, tmp_path)[1] == []


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_streams_that_are_not_used_promise_nothing(suffix, tmp_path):
    path = tmp_path / f"v{suffix}"
    with (
        av.open(str(write_video(tmp_path / "one.mkv", moving(), hum(4)))) as one,
        av.open(str(write_video(tmp_path / "long.mkv", moving(), hum(9)))) as other,
        av.open(str(path), "w") as made,
    ):
        copies = {
            stream: made.add_stream_from_template(stream)
            for stream in (*one.streams, *other.streams.audio)
        }
        for packet in (*one.demux(), *other.demux(other.streams.audio)):
            if packet.size:
                packet.stream = copies[packet.stream]
                made.mux(packet)
    noted, doubted = said(path, tmp_path)
    assert doubted == [] and "2 audio streams" in noted[0]


def test_a_damaged_place_is_read_past(tmp_path):
    """More of nothing than libavformat looks through at once, between two recordings."""
    one = write_video(tmp_path / "one.ts", moving(), hum(4)).read_bytes()
    (tmp_path / "v.ts").write_bytes(one + bytes(188_000) + one)
    sound = Sound(tmp_path / "sound.raw")
    with Video(tmp_path / "v.ts") as video:
        parts = [picture.part for picture in video.pictures(sound)]
        assert len(video.restarts) == 1 and min(parts.count(0), parts.count(1)) >= COUNT - 1
        assert "1 damaged packets skipped" in notes(video, sound)
        assert doubts(video, sound) == []


def test_what_lies_behind_damage_without_end_is_doubted(tmp_path):
    one = write_video(tmp_path / "one.ts", moving(), hum(4)).read_bytes()
    (tmp_path / "v.ts").write_bytes(one + bytes(188 * 50_000))
    (doubted,) = said(tmp_path / "v.ts", tmp_path)[1]
    assert "of the recording could be used: the file is damaged, and" in doubted


def test_sound_before_the_first_picture_is_noted(tmp_path):
    times = [Fraction(k, FPS) for k in range(50, COUNT)]
    path = write_video(tmp_path / "v.mkv", moving()[50:], hum(4), times)
    assert said(path, tmp_path) == (
        ["sound begins 2.00 s before the first picture that can be shown"],
        [],
    )


def test_small_losses_are_noted_and_trusted(tmp_path):
    path = write_video(
        tmp_path / "v.mkv", moving(), hum(3.7), sound_start=0.12, sound_codec="pcm_s16le"
    )
    noted, doubted = said(path, tmp_path)
    assert noted[0] == "sound begins 0.12 s after the picture" and doubted == []


@pytest.mark.parametrize("name", ["v.mkv", "v.avi", "v.flv"])
def test_a_file_that_ends_before_its_time_is_doubted(name, tmp_path):
    path = write_any(tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    noted, (doubt,) = said(path, tmp_path)
    assert any("the file says that it lasts 4." in note for note in noted)
    assert doubt.startswith("only ") and "% of the recording could be used" in doubt


def test_a_clock_that_starts_anew_is_said(tmp_path):
    path = tmp_path / "twice.ts"
    parts = [
        write_video(tmp_path / f"{k}.ts", moving(), hum(4), sound_codec="mp2", sound_rate=16000)
        for k in range(2)
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    noted, doubted = said(path, tmp_path)
    used = read_pictures(path, tmp_path)
    assert any("backwards" in note or "restarts" in note for note in noted)
    assert used > 1.8 * COUNT or any(
        "% of the pictures could be used: " in doubt for doubt in doubted
    )


def read_pictures(path: Path, folder: Path) -> int:
    with Video(path) as video:
        return len(list(video.pictures(Sound(folder / "more.raw"))))


def video_of(tmp_path: Path) -> Video:
    return Video(write_video(tmp_path / "whole.mkv", moving(), hum(4), sound_codec="pcm_s16le"))


@pytest.mark.parametrize(
    ("missing", "doubted"), [(0.02, False), (0.3, False), (0.5, True), (2.0, True)]
)
def test_silence_in_gaps_is_doubted_beyond_a_tenth(missing, doubted, tmp_path):
    sound = Sound(tmp_path / "sound.raw")
    with video_of(tmp_path) as video:
        list(video.pictures(Sound(tmp_path / "other.raw")))
        sound.append(hum(1), Fraction(0))
        sound.append(hum(3 - missing), Fraction(1) + Fraction(missing))
        sound.close()
        words = f"{missing:.2f} s missing in the sound are silence"
        assert notes(video, sound) == [words]
        share = int(100 * (1 - missing / 4))
        expected = [f"only {share} % of the sound could be used: {words}"]
        assert doubts(video, sound) == expected * doubted


def test_doubled_sound_and_damaged_pictures_are_doubted(tmp_path):
    sound = Sound(tmp_path / "sound.raw")
    with video_of(tmp_path) as video:
        list(video.pictures(Sound(tmp_path / "other.raw")))
        sound.append(hum(4), Fraction(0))
        sound.append(hum(1), Fraction(2))
        sound.close()
        video.undecodable = 25
        found = doubts(video, sound)
    assert found == [
        "only 80 % of the pictures could be used: 25 damaged packets skipped",
        "only 80 % of the sound could be used: 1.00 s of doubled sound left out",
    ]


@pytest.mark.parametrize(("share", "doubted"), [(0.001, False), (0.2, True)])
def test_floats_that_are_no_numbers_are_said(share, doubted, tmp_path):
    path = tmp_path / "v.mkv"
    wave = hum(4).astype(np.float32) / 32768
    wave[: int(share * len(wave))] = np.nan
    silent = write_video(tmp_path / "silent.mkv", moving())
    with av.open(str(silent)) as given, av.open(str(path), "w") as made:
        copy = made.add_stream_from_template(given.streams.video[0])
        audio = made.add_stream("pcm_f32le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = copy
                made.mux(packet)
        made.mux(audio.encode(frame))
        made.mux(audio.encode(None))
    noted, doubts_of_it = said(path, tmp_path)
    assert any("are no numbers (NaN or infinite), taken as silence" in note for note in noted)
    assert len(doubts_of_it) == doubted
