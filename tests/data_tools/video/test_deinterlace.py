"""Interlaced videos, whose pictures each hold two moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from data_tools.video.convert import Converter
from data_tools.video.decode import Video
from data_tools.video.left_out import notes
from data_tools.video.sound import Sound


def write(path: Path, interlaced: bool, count: int = 50) -> Path:
    """A bar that moves from field to field."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.options = {"crf": "10", "preset": "ultrafast"}
        if interlaced:
            stream.options |= {"x264-params": "tff=1"}
        audio: Any = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number in range(count):
            picture = np.full((96, 128, 3), 60, np.uint8)
            for field in (0, 1):
                x = 2 * (2 * number + field) % 100
                picture[field::2, x : x + 24] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 640 * count), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts = 16000, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def combs(rgb: NDArray[np.uint8]) -> float:
    """How unlike neighbouring lines are."""
    lines = rgb[:, :, 0].astype(int)
    return float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean())


@pytest.mark.parametrize("interlaced", [True, False])
def test_interlaced_pictures_are_made_whole(interlaced: bool, tmp_path: Path) -> None:
    sound = Sound(tmp_path / "sound.raw")
    with Video(write(tmp_path / "v.mkv", interlaced)) as video:
        converter = Converter(video.aspect)
        seen = [(p.index, p.frame.time, converter.rgb(p.frame)) for p in video.pictures(sound)]
        told = notes(video, sound)
    assert [index for index, _, _ in seen] == list(range(50))
    assert [time for _, time, _ in seen] == pytest.approx(np.arange(50) / 25, abs=1e-3)
    worst = max(combs(rgb) for _, _, rgb in seen)
    words = "50 interlaced pictures were deinterlaced"
    assert (worst < 1, words in told) == (interlaced, interlaced)
    # and the bar is where it was when the picture was taken
    middle = np.flatnonzero(seen[10][2][40, :, 0] > 140)
    assert middle.mean() == pytest.approx(40 + 12, abs=3)
