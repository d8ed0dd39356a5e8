"""Videos of synthetic heads, for benchmarks that begin with a file."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from data_tools.atomic import atomic_path
from data_tools.mfcc import FPS, SAMPLES_PER_FRAME
from data_tools.synth.clips import render_clip

_HEIGHT, _WIDTH, _HEAD = 720, 1280, 400


def synthetic_video(folder: Path, seconds: float, early: int = 0) -> Path:
    """A talking head before a moving, noisy background, 720p, H.264 and AAC; made once.

    Args:
        early: frames by which the sound is early.
    """
    path = folder / f"head-{seconds:g}s{f'-early-{early}' if early else ''}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    frames = round(FPS * seconds)
    heads, sound = render_clip(rng, frames + early, _HEAD)
    heads, sound = heads[:frames], sound[early * SAMPLES_PER_FRAME :]
    texture = cv2.GaussianBlur(rng.integers(0, 256, (_HEIGHT, 2 * _WIDTH, 3), np.uint8), (0, 0), 3)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for number, head in enumerate(heads):
            picture = np.array(texture[:, number % _WIDTH :][:, :_WIDTH], np.uint8)
            top, left = (_HEIGHT - _HEAD) // 2, (_WIDTH - _HEAD) // 2
            picture[top : top + _HEAD, left : left + _HEAD] = head
            yield picture

    write_video(path, pictures(), sound, (_WIDTH, _HEIGHT))
    return path


def small_video(folder: Path, seconds: float, seed: int) -> Path:
    """A talking head of 200 pixels on gray, 360p, H.264 and AAC; made once."""
    path = folder / f"small-head-{seed}-{seconds:g}s.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    heads, sound = render_clip(np.random.default_rng(seed), round(FPS * seconds), 200)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        picture = np.full((360, 640, 3), 120, np.uint8)
        for head in heads:
            picture[80:280, 220:420] = head
            yield picture

    write_video(path, pictures(), sound, (640, 360))
    return path


def write_video(
    path: Path, pictures: Iterable[NDArray[np.uint8]], sound: NDArray[np.int16], size: Any
) -> None:
    """Encode RGB pictures of `size` (width, height), 25 a second, and 16 kHz sound as MP4."""
    with atomic_path(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        audio: Any = container.add_stream("aac", rate=16000, layout="mono")
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
        for begin in range(0, len(sound), 1024):
            part = sound[None, begin : begin + 1024].astype(np.float32) / 32768
            frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, begin, Fraction(1, 16000)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
