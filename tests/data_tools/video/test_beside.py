"""Sound in a file of its own: found beside a silent video, heard on the same clock."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_tools.video.beside import sound_beside
from data_tools.video.convert import Converter
from data_tools.video.decode import Video
from data_tools.video.left_out import doubts, notes
from data_tools.video.sound import Sound, VideoError
from videos import earliness, write_video


@pytest.mark.parametrize("start", [Fraction(0), Fraction(3, 2)])
def test_sound_beside_a_silent_video_is_heard_with_it(start: Fraction, tmp_path: Path) -> None:
    pictures = np.full((75, 48, 64, 3), 60, np.uint8)
    pictures[[25, 50]] = 230
    # It is late by start: both begin together all the same.
    times = [start + Fraction(k, 25) for k in range(75)]
    path = write_video(tmp_path / "x.mkv", pictures, times=times)
    with pytest.raises(VideoError, match="no audio stream"):
        Video(path, beside=True)
    seconds = np.arange(3 * 48_000) / 48_000
    loud = sum((time <= seconds) & (seconds < time + 0.05) for time in (1, 2))
    beeps = 0.4 * loud * np.sin(2 * np.pi * 1000 * seconds)
    soundfile.write(tmp_path / "x.wav", np.stack([beeps, beeps], axis=1), 48_000)
    sound, converter, bright = Sound(tmp_path / "s"), Converter(), []
    with Video(path, beside=True) as video:
        for picture in video.pictures(sound):
            bright.append(float(converter.rgb(picture.frame).mean()))
        assert video.origin is not None
        heard = sound.read(0, 75, video.origin)
        assert notes(video, sound) == ["the sound is that of x.wav"]
        assert doubts(video, sound) == []
    assert earliness(np.array(bright), heard) == pytest.approx([0, 0], abs=0.005)
    with pytest.raises(VideoError, match="no audio stream"):
        Video(path)  # only who asks for it


def test_where_sound_may_lie(tmp_path: Path) -> None:
    mead = tmp_path / "M003" / "video" / "front" / "angry" / "level_1" / "001.mp4"
    sound = tmp_path / "M003" / "audio" / "angry" / "level_1" / "001.m4a"
    for file in (mead, sound, tmp_path / "a.b.mp4", tmp_path / "a.b.wav"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert sound_beside(mead) == sound
    assert sound_beside(tmp_path / "a.b.mp4") == tmp_path / "a.b.wav"
    assert sound_beside(tmp_path / "other.mp4") is None
