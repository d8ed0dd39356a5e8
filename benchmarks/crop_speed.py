"""How fast do crops of faces become shards, and how much of it is reading and encoding alone?

A part of `benchmarks.prepare_speed`. The videos are synthetic faces of 224 pixels, as VoxCeleb2 has
them. Floor: reading the same videos (picture and sound on one clock) and encoding the same pictures
as JPEG, nothing else. Both alternate in one process with one thread. Told are CPU seconds, which
other work on the machine hardly changes. Short clips, of 1.2 s, are compared with long ones.
"""

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.markdown import Row
from data_tools.atomic import atomic_path
from data_tools.mfcc import FPS
from data_tools.synth.clips import render_clip

if TYPE_CHECKING:  # what cuts videos is an extra
    from data_tools.video.options import PrepareOptions
    from data_tools.video_plan import PlannedVideo

_SIDE = 224
_TURNS = 3  # in which the rates of all cores are measured, one after the other


def face_videos(folder: Path, seconds: float, count: int) -> list["PlannedVideo"]:
    """`count` videos of one synthetic face each, 224 x 224, made once."""
    from benchmarks.videos import write_video
    from data_tools.video_plan import ShardOptions, planned_videos

    folder = folder / f"faces-{seconds:g}s"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            rng = np.random.default_rng(number)
            pictures, sound = render_clip(rng, round(FPS * seconds), _SIDE)
            with atomic_path(path) as partial:
                write_video(partial, pictures, sound, (_SIDE, _SIDE))
    return planned_videos([(str(path), path.stem, "") for path in paths], ShardOptions())


def read_and_encode(videos: list["PlannedVideo"], folder: Path) -> float:
    """CPU seconds that reading all videos and encoding their pictures take."""
    import simplejpeg

    from data_tools.video.convert import Converter
    from data_tools.video.decode import Video
    from data_tools.video.sound import Sound

    start = time.process_time()
    for planned in videos:
        sound = Sound(folder / "sound.raw")
        with Video(planned.path) as video:
            converter = Converter(video.aspect)
            for picture in video.pictures(sound):
                pixels = converter.plain(picture.frame, gray=False, side=_SIDE)
                simplejpeg.encode_jpeg(pixels, 90, "RGB", "420", fastdct=False)
    return time.process_time() - start


def to_shard(
    videos: list["PlannedVideo"], folder: Path, options: "PrepareOptions", took: dict[str, float]
) -> float:
    """CPU seconds that making one shard of all videos takes."""
    from data_tools.sharding import ShardTask, make_shard
    from data_tools.video_plan import VideoShard

    shard = VideoShard("train-000000.tar", "train", tuple(videos))
    start = time.process_time()
    make_shard(ShardTask(folder, shard, options, False, 1, 0.0, took=took), None)
    return time.process_time() - start


def rate_of_all_cores(videos: list["PlannedVideo"], options: "PrepareOptions") -> float:
    """Videos a second with a process a core, each with six shards of all of them; start included.

    The start takes a process more than a second, which of a data set is nothing.
    """
    from data_tools.engines import run_local
    from data_tools.sharding import prepare_shards
    from data_tools.video_plan import VideoShard

    cores = len(os.sched_getaffinity(0))
    shards = [VideoShard(f"train-{n:06d}.tar", "train", tuple(videos)) for n in range(6 * cores)]
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        prepare_shards(
            shards, Path(name), options, False, lambda f, t, count: run_local(f, t, cores, count)
        )
        return len(shards) * len(videos) / (time.perf_counter() - start)


def measure_crops(
    cache: Path, rounds: int, seconds: float = 32.0, count: int = 3
) -> dict[str, Any]:
    """Rates of whole pictures and of mouths found once a clip, cost over the floor, shares.

    `whole_bare` is the whole picture without looking for cuts and without the share of speech.
    What is of one thread is told in CPU seconds.

    Args:
        seconds: of a long video; a short one has 1.2.
        count: long videos; of short ones there are as many seconds.
    """
    from data_tools.video.options import PrepareOptions

    whole = PrepareOptions(crop="whole", min_frames=20)
    bare = PrepareOptions(crop="whole", no_shots=True, no_speech=True, min_frames=20)
    mouth = PrepareOptions(crop="mouth", face_crops=True, gray=True, size=64, min_frames=20)
    long = face_videos(cache, seconds, count)
    short = face_videos(cache, 1.2, max(2, round(count * seconds / 1.2)))
    lengths = {"long": seconds * len(long), "short": 1.2 * len(short)}
    floors, wholes, bares, shorts, mouths, short_mouths, shares = [], [], [], [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(rounds + 1):
            floor = read_and_encode(long, folder)
            took: dict[str, float] = {}
            own = to_shard(long, folder, whole, took)
            plain = to_shard(long, folder, bare, {})
            brief = to_shard(short, folder, whole, {})
            lips = to_shard(long, folder, mouth, {})
            brief_lips = to_shard(short, folder, mouth, {})
            if number:  # the first round loads models and the page cache
                floors.append(floor)
                wholes.append(own)
                bares.append(plain)
                shorts.append(brief)
                mouths.append(lips)
                short_mouths.append(brief_lips)
                shares.append({stage: value / sum(took.values()) for stage, value in took.items()})
    kinds = {"whole": whole, "mouth": mouth, "bare": bare}
    turns = [
        {kind: seconds * rate_of_all_cores(long, options) for kind, options in kinds.items()}
        for _ in range(min(_TURNS, rounds))
    ]
    rates = {kind: round(median(turn[kind] for turn in turns), 2) for kind in kinds}
    return {
        "videos": count,
        "seconds": seconds,
        "whole_one_thread": round(lengths["long"] / median(wholes), 2),
        "mouth_one_thread": round(lengths["long"] / median(mouths), 2),
        "whole_all_cores": rates["whole"],
        "mouth_all_cores": rates["mouth"],
        **_over_floor(wholes, floors),
        "whole_bare": {"all_cores": rates["bare"], **_over_floor(bares, floors)},
        "short_over_long": _a_second(shorts, wholes, lengths),
        "mouth_short_over_long": _a_second(short_mouths, mouths, lengths),
        "shares": {
            stage: round(median(each.get(stage, 0.0) for each in shares), 3) for stage in shares[0]
        },
    }


def _over_floor(owns: list[float], floors: list[float]) -> dict[str, float]:
    """What making shards costs against the floor, pair by pair."""
    ratios = [own / floor for own, floor in zip(owns, floors, strict=True)]
    return {
        "cost_over_floor": round(median(ratios), 3),
        "cost_over_floor_min": round(min(ratios), 3),
        "cost_over_floor_max": round(max(ratios), 3),
    }


def _a_second(shorts: list[float], longs: list[float], lengths: dict[str, float]) -> float:
    """What a second of short clips costs against one of long clips, pair by pair."""
    pairs = zip(shorts, longs, strict=True)
    ratios = [(brief / lengths["short"]) / (own / lengths["long"]) for brief, own in pairs]
    return round(median(ratios), 3)


def readme_rows(result: dict[str, Any]) -> list[Row]:
    """What the page says of crops, a row a figure; none if they were not measured yet."""
    crops = result.get("crops")
    if crops is None:
        return []
    shares = ", ".join(
        f"{name} {share:.0%}"
        for name, share in sorted(crops["shares"].items(), key=lambda entry: -entry[1])
        if share >= 0.005
    )
    processes = result["processes"]
    brief = f"CPU of a second of 1.2 s clips against one of {crops['seconds']:g} s clips"
    return [
        [f"224 px crops, `--crop whole`, {processes} processes", f"{crops['whole_all_cores']:.1f}"],
        ["the same, `--crop mouth --face-crops`", f"{crops['mouth_all_cores']:.1f}"],
        ["`--crop whole` against reading and encoding alone", f"{crops['cost_over_floor']:.2f}"],
        *_bare_rows(crops.get("whole_bare"), processes),
        [f"{brief}, `--crop whole`", f"{crops['short_over_long']:.2f}"],
        ["the same, `--crop mouth --face-crops`", f"{crops['mouth_short_over_long']:.2f}"],
        ["share of each stage, `--crop whole`", shares],
    ]


def _bare_rows(bare: dict[str, float] | None, processes: int) -> list[Row]:
    """The rows of what is left without shots and speech; none if it was not measured yet."""
    if bare is None:
        return []
    least, most = bare["cost_over_floor_min"], bare["cost_over_floor_max"]
    cost = f"{bare['cost_over_floor']:.2f} ({least:.2f} to {most:.2f})"
    return [
        ["the same, `--crop whole --no-shots --no-speech`", cost],
        [
            f"`--crop whole --no-shots --no-speech`, {processes} processes",
            f"{bare['all_cores']:.1f}",
        ],
    ]
