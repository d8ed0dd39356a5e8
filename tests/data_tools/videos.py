"""Videos that the tests make themselves, with faces that a real detector finds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.synth import render_clip


def head(seed: int, frames: int, size: int = 160) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """A talking head: (frames, size, size, 3) RGB and its sound at 16 kHz."""
    return render_clip(np.random.default_rng(seed), frames, size)


def canvas(
    heads: list[NDArray[np.uint8]], height: int = 240, width: int = 320, background: int = 120
) -> NDArray[np.uint8]:
    """Heads side by side on gray: (frames, height, width, 3)."""
    out = np.full((len(heads[0]), height, width, 3), background, np.uint8)
    for place, pictures in enumerate(heads):
        size = pictures.shape[1]
        left = (2 * place + 1) * width // (2 * len(heads)) - size // 2
        top = (height - size) // 2
        out[:, top : top + size, left : left + size] = pictures
    return out


def write_video(
    path: Path,
    pictures: NDArray[np.uint8],
    sound: NDArray[np.int16] | None = None,
    times: list[Fraction] | None = None,
    sound_rate: int = SAMPLE_RATE,
    sound_start: float = 0.0,
    codec: str = "libx264",
    sound_codec: str = "aac",
    rotation: int = 0,
    aspect: Fraction | None = None,
) -> Path:
    """Encode pictures (frames, H, W, 3) shown from `times` (seconds) on, and mono sound."""
    times = times or [Fraction(k, FPS) for k in range(len(pictures))]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=60)
        stream.width, stream.height, stream.pix_fmt = (
            pictures.shape[2],
            pictures.shape[1],
            "yuv420p",
        )
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "12"}
        else:
            stream.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        audio = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=sound_rate, layout="mono")
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None and sound is not None:
            step = audio.codec_context.frame_size or 1024
            for begin in range(0, len(sound), step):
                part = np.ascontiguousarray(sound[None, begin : begin + step])
                if sound_codec == "aac":
                    samples = av.AudioFrame.from_ndarray(
                        (part / 32768).astype(np.float32), "fltp", "mono"
                    )
                else:
                    samples = av.AudioFrame.from_ndarray(part, "s16", "mono")
                samples.sample_rate = sound_rate
                samples.time_base = Fraction(1, sound_rate)
                samples.pts = begin + round(sound_start * sound_rate)
                container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return path
