"""Videos that the tests make themselves, with faces that a real detector finds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.synth.clips import render_clip


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
    bframes: int = 0,
    tick: Fraction = Fraction(1, 90_000),
    gop: int = 250,
) -> Path:
    """Encode pictures (frames, H, W, 3) shown from `times` (seconds) on, and mono sound.

    tick: unit of the pictures' times; AVI, which counts pictures, takes that of one picture.
    gop: pictures from one key frame to the next, at most.
    """
    times = times or [Fraction(k, FPS) for k in range(len(pictures))]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=min(60, 1 / tick))
        stream.width, stream.height, stream.pix_fmt = (
            pictures.shape[2],
            pictures.shape[1],
            "yuv420p",
        )
        stream.time_base = stream.codec_context.time_base = tick
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "12", "bf": str(bframes)}
        else:
            stream.bit_rate = 4_000_000
            stream.codec_context.max_b_frames = bframes
        stream.codec_context.gop_size = gop
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        audio = None
        if sound is not None:
            audio = container.add_stream(sound_codec, rate=sound_rate, layout="mono")
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(time / tick), tick
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


def flashes(
    path: Path,
    early: float,
    start: Fraction = Fraction(0),
    sound_start: float = 0.0,
    codec: str = "libx264",
    sound_codec: str = "aac",
    sound_rate: int = 16_000,
    tick: Fraction = Fraction(1, 90_000),
    gop: int = 250,
) -> Path:
    """Three seconds, with a flash at 1 s and at 2 s and with each a beep, `early` seconds before.

    With B-frames; picture and sound begin at `start` seconds, the sound `sound_start` later.
    """
    pictures = np.full((75, 48, 64, 3), 60, np.uint8)
    pictures[[25, 50]] = 230
    # Something that moves, so that there is a use for B-frames.
    for number, picture in enumerate(pictures):
        picture[40:, number % 48 : number % 48 + 16] = 120
    times = np.arange(round((3 - sound_start) * sound_rate)) / sound_rate + sound_start
    loud = sum((time - early <= times) & (times < time - early + 0.05) for time in (1, 2))
    beeps = (12_000 * loud * np.sin(2 * np.pi * 1000 * times)).astype(np.int16)
    return write_video(
        path,
        pictures,
        beeps,
        [start + Fraction(k, FPS) for k in range(75)],
        sound_rate=sound_rate,
        sound_start=float(start) + sound_start,
        codec=codec,
        sound_codec=sound_codec,
        bframes=3 if codec == "libx264" else 2,
        tick=tick,
        gop=gop,
    )


# What `flashes` takes, for files whose clocks give trouble, by their names.
WRAP = Fraction(2**33, 90_000)  # of MPEG-TS
FLASHES: dict[str, dict[str, Any]] = {
    "late.ts": {"start": Fraction(50_000)},
    "wraps.ts": {"start": WRAP - 1},
    "late_sound.ts": {"start": Fraction(3000), "sound_start": 0.6},
    "h264.avi": {"tick": Fraction(1, FPS), "sound_codec": "pcm_s16le"},
    "mpeg4.avi": {"tick": Fraction(1, FPS), "sound_codec": "pcm_s16le", "codec": "mpeg4"},
    "h264.asf": {},
    "h264.flv": {},
    "negative.nut": {"start": Fraction(-1)},
    "late.mp4": {"start": Fraction(2)},
    "program.mpg": {"codec": "mpeg2video", "sound_codec": "mp2", "tick": Fraction(1, FPS)},
}


def earliness(bright: NDArray[np.float64], sound: NDArray[np.int16]) -> list[float]:
    """By how many seconds each beep is heard before its flash.

    bright: of each picture at 25 a second; sound: 16 kHz from the first picture on.
    """
    lit = bright > 150
    seen = np.flatnonzero(lit & ~np.r_[False, lit[:-1]]) / FPS
    loud = np.abs(sound.astype(int)) > 4000
    begins = np.flatnonzero(loud) / SAMPLE_RATE
    heard = [begins[np.abs(begins - time) < 0.5].min(initial=np.inf) for time in seen]
    return [float(one - other) for one, other in zip(seen, heard, strict=True)]
