"""Sound that is cut, padded or resampled lies where its course says; the picture is copied."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from data_tools.video import retime
from data_tools.video.course import Course, Line
from data_tools.video.remux import retimed
from data_tools.video.remux_copy import RemuxError
from data_tools.video.retime import cut_up
from videos import write_video

RATE = 16_000
SECONDS = 12


@pytest.fixture(scope="module")
def beeps() -> NDArray[np.int16]:
    """Half a second of sound each second."""
    times = np.arange(SECONDS * RATE) / RATE
    return (8000 * np.sin(2 * np.pi * 440 * times) * (times % 1 < 0.5)).astype(np.int16)


@pytest.fixture(scope="module")
def source(beeps: NDArray[np.int16], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = np.zeros((SECONDS * 25, 48, 64, 3), np.uint8)
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", pictures, beeps, bframes=2)


def begins(path: Path) -> tuple[NDArray[np.float64], str]:
    """When each beep begins, seconds from 0 on, and the codec."""
    parts, first = [], None
    with av.open(str(path)) as given:
        stream = given.streams.audio[0]
        for frame in given.decode(stream):
            if first is None:
                assert frame.pts is not None and frame.time_base is not None
                first = float(frame.pts * frame.time_base)
            parts.append(frame.to_ndarray().reshape(-1).astype(float))
        codec = stream.codec_context.name
    sound = np.concatenate(parts)
    loud = np.flatnonzero(np.abs(sound) > np.abs(sound).max() / 4)
    assert first is not None
    return first + loud[np.diff(loud, prepend=-RATE) > RATE / 5] / RATE, codec


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as given:
        return [bytes(packet) for packet in given.demux(given.streams.video[0]) if packet.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_jumps_are_cut_and_padded_in_the_pauses(source: Path, suffix: str, tmp_path: Path) -> None:
    out, given = tmp_path / f"out{suffix}", tmp_path / "given.mp4"
    content = source.read_bytes()
    assert b"Lavf" in content
    given.write_bytes(content.replace(b"Lavf", b"L\xffvf"))  # a tag that is no UTF-8
    course = Course((Line(0.12), Line(-0.08), Line(0.2)), ((4.3, 5.3), (8.4, 9.2)))
    with retimed(given, out, course) as (partial, lacking, encoded):
        assert partial != out and lacking == [] and not out.exists()
    found, codec = begins(out)
    due = np.arange(SECONDS) + np.repeat([0.12, -0.08, 0.2], [5, 4, 3])
    np.testing.assert_allclose(found, due, atol=0.004)
    assert codec == "aac" and len(encoded.words) == 1 and "aac" in encoded.words[0]
    one, two = encoded.moments
    assert 4.5 < one < 5.0 and 8.3 < two < 9.0
    if suffix == ".mp4":
        assert pictures(out) == pictures(source)


def test_drift_is_resampled_pitch_and_all(
    beeps: NDArray[np.int16], source: Path, tmp_path: Path
) -> None:
    given, out = tmp_path / "a.mkv", tmp_path / "out.mkv"
    write_video(given, np.zeros((300, 48, 64, 3), np.uint8), beeps, sound_codec="flac")
    line = Line(-0.01, 0.004)
    with retimed(given, out, Course((line,))) as (_, _, encoded):
        assert "flac to flac" in encoded.words[0] and encoded.moments == ()
    found, codec = begins(out)
    assert codec == "flac"
    due = [line.seen(second) for second in range(1, SECONDS)]
    np.testing.assert_allclose(found[1:], due, atol=0.001)
    with av.open(str(out)) as made:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in made.decode(audio=0)])
    at = round(due[3] * RATE)
    wave = sound[at + 800 : at + 800 + RATE // 4].astype(float)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 18))
    assert spectrum.argmax() * RATE / (1 << 18) == pytest.approx(440 * (1 - 0.004), abs=0.2)


def test_what_cannot_be_encoded_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("dear")

    def broken(*_: Any) -> Any:
        raise ValueError("no encoder takes such sound")

    course = Course((Line(0.1, 0.001),))
    with monkeypatch.context() as patch:
        patch.setattr("data_tools.video.remux.encode_sound", broken)
        with pytest.raises(RemuxError, match="no encoder takes"), retimed(source, out, course):
            pass
    with pytest.raises(KeyError), retimed(source, out, course):
        raise KeyError
    assert out.read_text() == "dear" and list(tmp_path.iterdir()) == [out]


def test_what_the_container_or_the_encoder_refuses_is_encoded_otherwise(
    beeps: NDArray[np.int16], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, out = tmp_path / "a.mkv", tmp_path / "out.mp4"
    write_video(given, np.zeros((300, 48, 64, 3), np.uint8), beeps, sound_codec="pcm_u8")
    with retimed(given, out, Course((Line(0.1, 0.001),))) as (_, _, encoded):
        assert "pcm_u8 to aac" in encoded.words[0]
    monkeypatch.delitem(retime._ENCODERS, "vorbis")  # FFmpeg's own is experimental
    assert retime._encoder("vorbis", "matroska", {"vorbis"}) == "flac"
    assert retime._encoder("alac", "mp4", {"alac"}) == "alac"


def test_loudness_is_known_by_time_and_one_stray_time_takes_no_room(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = retime._loudness(source)
    seconds = usual[: SECONDS * 100].reshape(SECONDS, 100)
    assert (seconds[:, 5:45] > -25).all() and (seconds[:, 55:95] < -50).all()
    heard = retime._heard

    def stray(given: Any) -> Iterator[tuple[Any, int]]:
        for frame, number in heard(given):
            yield frame, number
        frame.pts = 100 * 3600 * RATE
        yield frame, number

    monkeypatch.setattr(retime, "_heard", stray)
    np.testing.assert_array_equal(retime._loudness(source), usual)


def test_a_cut_lies_where_it_is_quietest() -> None:
    decibels = np.full(1000, -20.0)
    decibels[520:530] = -60
    course = Course((Line(0.0), Line(0.2)), ((4.5, 5.5),))
    one, two = cut_up(course, decibels, 0.0)
    assert one.end == two.begin == pytest.approx(5.25, abs=0.06)
    late = Course((Line(0.0), Line(-0.2)), ((4.5, 5.5),))
    one, two = cut_up(late, np.full(1000, -20.0), 0.0)
    assert one.end == pytest.approx(5.0, abs=0.02)  # nothing is quieter: the likeliest moment
    assert two.begin - one.end == pytest.approx(0.2)
    one, two = cut_up(late, decibels, 1.0)  # the first picture is shown at 1 s
    assert 4.49 < one.end < 5.51
