"""How fast do videos become clips, where does the time go?  python -m benchmarks.prepare_speed

Floor: decoding the same video and detecting faces in the same pictures, nothing else. Both
alternate in one run, in one process with one thread; the ratio is taken pair by pair. Then the
command itself, with a process a core, on several copies. The video is 720p with one face, synthetic
unless --video names another. Last, crops of faces straight to shards (`benchmarks.crop_speed`).
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import cv2
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type

from benchmarks import crop_speed
from benchmarks.markdown import table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from data_tools.errors import UserError

if TYPE_CHECKING:  # what cuts videos is an extra, which benchmarks.report does not need
    from data_tools.video.options import PrepareOptions


Seconds = restricted_number_type("Seconds", float, (">=", 1))


def decode_and_detect(video: Path, options: "PrepareOptions", folder: Path) -> float:
    """Seconds that decoding all of `video` and detecting in every Nth picture take."""
    from data_tools.video.convert import Converter
    from data_tools.video.decode import Video
    from data_tools.video.faces import open_detector
    from data_tools.video.sound import Sound

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
    from data_tools.engines import run_local
    from data_tools.prepare import prepare
    from data_tools.video.cut_clips import prepare_video
    from data_tools.video.options import PrepareOptions

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
            videos.append((str(folder / f"{number}.mp4"), str(number), ""))

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


def readme(result: dict[str, Any]) -> str:
    """Videos to clips: rate, cost against decoding and detecting alone, shares."""
    shares = ", ".join(
        f"{name} {share:.0%}"
        for name, share in sorted(result["shares"].items(), key=lambda entry: -entry[1])
        if share >= 0.005
    )
    rows = [
        [
            f"video seconds a second, {result['processes']} processes",
            f"{result['seconds_per_second_all_cores']:.1f}",
        ],
        [
            "the same, one process with one thread",
            f"{result['seconds_per_second_one_thread']:.1f}",
        ],
        [
            "cost against decoding and detecting alone, same run",
            f"{result['cost_over_floor']:.2f}",
        ],
        ["share of each stage", shares],
        *crop_speed.readme_rows(result),
    ]
    return table(["720p, one face, a detection every 5 frames", "measured"], rows)


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the video cannot be read."""
    parser = command_line("prepare_speed", __doc__)
    parser.add_argument("--video", type=Path, help="default: synthetic, 720p, one face")
    parser.add_argument("--seconds", type=Seconds, default=20.0, help="of the synthetic video")
    parser.add_argument("--rounds", type=AtLeastOne, default=7)
    parser.add_argument(
        "--copies", type=AtLeastOne, default=12, help="videos for the rate on all cores"
    )
    parser.add_argument("--detect-every", type=AtLeastOne, default=5)
    quick = {"seconds": 2.0, "rounds": 1, "copies": 2}
    return run("prepare_speed", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    from benchmarks.videos import synthetic_video

    cv2.setNumThreads(1)
    if args.video is not None and not args.video.is_file():
        raise UserError(f"{args.video} is no file")
    video = args.video or synthetic_video(args.cache, args.seconds)
    figures = measure(video, args.rounds, args.copies, args.detect_every)
    seconds, count = (2.0, 2) if args.quick else (32.0, 3)
    figures["crops"] = crop_speed.measure_crops(args.cache, args.rounds, seconds, count)
    report("prepare_speed", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
