"""Bytes at random as a video: read, and copied with its sound shifted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from data_tools.video.convert import Converter
from data_tools.video.decode import Video
from data_tools.video.left_out import doubts, notes
from data_tools.video.remux import shift_sound
from data_tools.video.remux_copy import RemuxError
from data_tools.video.sound import Sound, VideoError

# The longest that broken times may make half a second, in pictures and samples: an hour and some.
MOST_PICTURES, MOST_SAMPLES = 25 * 3700, 16_000 * 3700


def check_video(content: bytes, suffix: str, folder: Path) -> None:
    """`content` as a video: pictures in order with sound of bounded length, or a VideoError."""
    file = folder / f"any{suffix}"
    file.write_bytes(content)
    sound = Sound(folder / "sound.raw")
    indices = []
    try:
        with Video(file) as video:
            converter = Converter(video.aspect)
            for picture in video.pictures(sound):
                indices.append(picture.index)
                if len(indices) < 3:
                    assert converter.rgb(picture.frame, 64).shape[2] == 3
    except VideoError as error:
        assert error.reason and "\n" not in error.detail
        return
    finally:
        sound.close()
    assert indices == sorted(set(indices)) and len(indices) <= MOST_PICTURES
    assert sound.length <= MOST_SAMPLES
    assert all("\n" not in words for words in (*notes(video, sound), *doubts(video, sound)))


def check_copy(content: bytes, suffix: str, folder: Path) -> None:
    """`content` as a video to mend: a copy that is proven, or one sentence and nothing left."""
    file, out = folder / f"any{suffix}", folder / "copy.mkv"
    file.write_bytes(content)
    before = {path.name for path in folder.iterdir()}
    try:
        shift_sound(file, out, Fraction(1, 5))
    except RemuxError as error:
        assert "\n" not in str(error)
    else:
        assert out.stat().st_size < 10 * len(content) + 100_000
        out.unlink()
    assert {path.name for path in folder.iterdir()} == before
