"""How fast do videos become clips, where does the time go?  python -m benchmarks.prepare_speed

Floor: decoding the same video and detecting faces in the same pictures, nothing else. Both
alternate in one run, in one process with one thread; the ratio is taken pair by pair. Then the
command itself, with a process a core, on several copies. The video is 720p with one face, synthetic
unless --video names another.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import at_least, exit_status, report
from data_tools.atomic import atomic_path
from data_tools.engines import run_local
from data_tools.prepare import prepare
from data_tools.synth.clips import render_clip
from data_tools.video.cut_clips import PrepareOptions, prepare_video
from data_tools.video.decode import Converter, Sound, Video
from data_tools.video.faces import open_detector

_HEIGHT, _WIDTH, _HEAD = 720, 1280, 400


def synthetic_video(folder: Path, seconds: float) -> Path:
    """A talking head before a moving, noisy background, 720p, H.264 and AAC; made once."""
    path = folder / f"head-{seconds:g}s.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    heads, sound = render_clip(rng, round(25 * seconds), _HEAD)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (_HEIGHT, 2 * _WIDTH, 3), np.uint8), (0, 0), 3)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for number, head in enumerate(heads):
            picture = np.array(texture[:, number % _WIDTH :][:, :_WIDTH], np.uint8)
            top, left = (_HEIGHT - _HEAD) // 2, (_WIDTH - _HEAD) // 2
            picture[top : top + _HEAD, left : left + _HEAD] = head
            yield picture

    write_video(path, pictures(), sound, (_WIDTH, _HEIGHT))
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


def decode_and_detect(video: Path, options: PrepareOptions, folder: Path) -> float:
    """Seconds that decoding all of `video` and detecting in every Nth picture take."""
    detector, sound = open_detector(options.detector), Sound(folder / "sound.raw")
    start = time.perf_counter()
    with Video(video) as opened:
        converter = Converter(opened.aspect)
        for picture in opened.pictures(sound):
            if picture.index % options.detect_every == 0:
                detector.detect([converter.rgb(picture.frame, options.detect_size)])
    return time.perf_counter() - start


def measure(video: Path, rounds: int, copies: int, detect_every: int = 5) -> dict[str, Any]:
    """Shares of the stages, cost against the floor, and video seconds a second on all cores."""
    options = PrepareOptions(detect_every=detect_every)
    cores = len(os.sched_getaffinity(0))
    floors, wholes, stages = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(rounds + 1):
            floor = decode_and_detect(video, options, folder)
            took: dict[str, float] = {}
            start = time.perf_counter()
            record = prepare_video(video, "v", folder / "one", options, took=took)
            whole = time.perf_counter() - start
            if number:  # the first round loads models and the page cache
                floors.append(floor)
                wholes.append(whole)
                stages.append({key: value / whole for key, value in took.items()})
        many = folder / "many"
        many.mkdir()
        videos = []
        for number in range(copies):
            (folder / f"{number}.mp4").symlink_to(video.resolve())
            videos.append((folder / f"{number}.mp4", str(number), ""))

        start = time.perf_counter()
        prepare(videos, many, options, lambda f, tasks, count: run_local(f, tasks, cores, count))
        rate = copies * record.seconds / (time.perf_counter() - start)
    ratios = [whole / floor for whole, floor in zip(wholes, floors, strict=True)]
    return {
        "seconds_of_video": record.seconds,
        "detect_every": detect_every,
        "rounds": rounds,
        "clips": record.clips,
        "seconds_per_second_one_thread": round(record.seconds / median(wholes), 2),
        "seconds_per_second_all_cores": round(rate, 2),
        "processes": cores,
        "copies": copies,
        "cost_over_floor": round(median(ratios), 3),
        "cost_over_floor_min": round(min(ratios), 3),
        "cost_over_floor_max": round(max(ratios), 3),
        "shares": {
            key: round(median(share.get(key, 0.0) for share in stages), 3) for key in stages[0]
        },
    }


def main() -> int:
    """Command line; 2 wrong usage, 1 the video cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, help="default: synthetic, 720p, one face")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the synthetic video")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--copies", type=int, default=12, help="videos for the rate on all cores")
    parser.add_argument("--detect-every", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "syncnet-bench")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny: shows only that it works")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.rounds, args.copies = 2.0, 1, 2
    if "OMP_NUM_THREADS" not in os.environ:
        # The detector's threads: read once, when the first library with OpenMP is loaded.
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.prepare_speed", *sys.argv[1:]])
    cv2.setNumThreads(1)

    def work() -> None:
        at_least(args, rounds=1, copies=1, detect_every=1)
        if args.seconds < 1:
            raise ValueError(f"--seconds must be at least 1, not {args.seconds:g}")
        if args.video is not None and not args.video.is_file():
            raise FileNotFoundError(f"{args.video} is no file")
        video = args.video or synthetic_video(args.cache, args.seconds)
        figures = measure(video, args.rounds, args.copies, args.detect_every)
        report("prepare_speed", figures, args.json, args.rounds, quick=args.quick)

    return exit_status("prepare_speed", args.json, work)


if __name__ == "__main__":
    sys.exit(main())
