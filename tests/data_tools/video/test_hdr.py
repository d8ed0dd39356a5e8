"""HDR videos, as ordinary screens show them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from data_tools.video.convert import Converter
from data_tools.video.decode import Video
from data_tools.video.left_out import notes
from data_tools.video.patches import Patches
from data_tools.video.sound import Sound

PQ, HLG, ORDINARY = 16, 18, 1


def write(path: Path, transfer: int, level: float) -> Path:
    """A second of gray in 10 bit; level: of the signal, 0..1."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        audio: Any = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number in range(25):
            frame = av.VideoFrame(64, 48, "yuv420p10le")
            for plane, value in zip(frame.planes, (64 + 876 * level, 512, 512), strict=True):
                np.frombuffer(plane, np.uint16)[:] = round(value)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", "mono")
        sound.sample_rate, sound.pts = 16000, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize(
    ("transfer", "level", "gray", "words"),
    [
        (PQ, 0.58, (180, 205), "tone-mapped"),  # diffuse white, 203 cd/m2
        (PQ, 0.44, (115, 145), "tone-mapped"),  # skin, 50 cd/m2
        (PQ, 0.0, (0, 3), "tone-mapped"),
        (PQ, 1.0, (255, 255), "tone-mapped"),
        (HLG, 0.75, (188, 194), "read as ordinary ones"),
        (ORDINARY, 0.5, (125, 130), ""),
    ],
)
def test_hdr_becomes_ordinary(
    transfer: int, level: float, gray: tuple[int, int], words: str, tmp_path: Path
) -> None:
    sound = Sound(tmp_path / "sound.raw")
    with Video(write(tmp_path / "v.mkv", transfer, level)) as video:
        converter = Converter(video.aspect)
        first = next(iter(video.pictures(sound))).frame
        rgb, luma = converter.rgb(first), converter.plain(first, gray=True)
        part = Patches(converter).rgb(first, [(32.0, 24.0, 20.0)])
        list(video.pictures(sound))
        told = [note for note in notes(video, sound) if "HDR" in note]
    assert gray[0] <= int(rgb[24, 32, 0]) <= gray[1] and np.ptp(rgb[24, 32].astype(int)) <= 3
    assert abs(int(luma[24, 32]) - int(rgb[24, 32, 0])) <= 4
    assert (part[24, 32] == rgb[24, 32]).all()
    assert len(told) == bool(words) and words in "".join(told)
