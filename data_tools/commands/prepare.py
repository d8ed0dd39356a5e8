"""Turn videos into shards: `python -m data_tools prepare VIDEO|DIR|LIST... --shards OUT`.

Any file that FFmpeg's libraries read becomes clips of one face each, 25 frames a second with 16 kHz
sound. --shards OUT writes them straight into shards, of which each is made as a whole; --out CLIPS
makes a folder of each clip instead, CLIPS/<video>/<clip>/{audio.wav, frames/, clip.json}, ready for
`pack`, and both together do that as well. LIST is a .txt file with one path per line, from the list
or from here. What is not kept is in report.csv, with the reason. A run that was stopped goes on
where it was; what is done is not read again.
"""

import os
import sys
import time
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from data_tools.cli import add_options, command, exit_status, file_name, parse, read_options
from data_tools.commands.pack import main as pack
from data_tools.engines import RunOptions
from data_tools.errors import UsageError
from data_tools.info import print_doubts
from data_tools.info import summarise as summarise_shards
from data_tools.inputs import find_videos, settle_names
from data_tools.layouts import LAYOUTS, Layout, OfficialLists
from data_tools.manifest import MANIFEST, read_manifest
from data_tools.mfcc import FPS
from data_tools.names import real_path, shown
from data_tools.plan import read_ratios
from data_tools.prepare_summary import duration, remedy, summarise
from data_tools.report import Tally, tally, write_large_report, write_report
from data_tools.video.crop import CROPS
from data_tools.video.faces import open_detector
from data_tools.video.options import PrepareOptions
from data_tools.video_plan import (
    PlannedVideo,
    ShardOptions,
    expected_expansion,
    plan_video_shards,
    planned_videos,
)
from data_tools.workers import WorkerOptions, process_count

PROGRAM = "python -m data_tools prepare"


def main(argv: list[str]) -> int:
    """Run `prepare`; 1 if no clip was kept."""
    return exit_status(PROGRAM, lambda: _prepare(argv), "interrupted; run it again to go on")


def _parser() -> ArgumentParser:
    parser = command(PROGRAM, __doc__ or "")
    parser.add_argument(
        "videos",
        nargs="+",
        type=file_name,
        metavar="VIDEO|DIR|LIST",
        help="videos, or where they are",
    )
    parser.add_argument(
        "--shards", type=file_name, metavar="OUT", help="folder of shards, to train on"
    )
    parser.add_argument(
        "--out",
        type=file_name,
        metavar="CLIPS",
        help="folder of clips, one file a frame; with --shards they are packed afterwards",
    )
    add_options(parser, PrepareOptions, only=("montage",))
    cut = parser.add_argument_group("the clips")
    cut.add_argument(
        "--crop",
        type=Literal[CROPS],
        default=PrepareOptions.crop,
        help="the whole face as in the official code, the mouth as in the paper, or the whole "
        "picture as it is, of videos that others have cropped",
    )
    cut.add_argument(
        "--box",
        type=int,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="with --crop whole, this square of the picture alone, pixels, W = H",
    )
    add_options(cut, PrepareOptions, only=("face_crops", "no_shots", "no_speech"))
    add_options(cut, PrepareOptions, only=("size", "gray", "quality", "max_clip", "audio_stream"))
    keep = parser.add_argument_group("what is kept (clip.json and the report hold each value)")
    add_options(
        keep,
        PrepareOptions,
        only=("min_frames", "min_face", "min_confidence", "min_sharpness", "min_speech"),
    )
    _add_sharing(parser)
    find = parser.add_argument_group("how faces are found")
    add_options(
        find,
        PrepareOptions,
        only=(
            "detector",
            "detector_model",
            "detect_every",
            "detect_size",
            "shot_threshold",
        ),
    )
    scale = parser.add_argument_group("scale")
    add_options(scale, WorkerOptions)
    add_options(scale, RunOptions, without=("workers",))
    return parser


def _add_sharing(parser: ArgumentParser) -> None:
    """What concerns shards that are made straight from videos."""
    shards = parser.add_argument_group("the shards (--shards without --out)")
    shards.add_argument(
        "--ratios",
        type=str,
        default=":".join(map(str, ShardOptions().ratios)),
        help="Shares of the videos, train:val:test.",
    )
    add_options(shards, ShardOptions, without=("ratios",))
    shards.add_argument(
        "--list",
        type=str,
        nargs="+",
        metavar="[SPLIT=]FILE",
        help="Official lists: only the videos whose paths end as their lines do are taken, into "
        "SPLIT (train, val or test) where it is named.",
    )
    shards.add_argument(
        "--plan",
        action="store_true",
        help="Make nothing; say what would be made: counts for each split, hours, megabytes and "
        "time by a sample that is prepared, and five examples.",
    )


def _prepare(argv: list[str]) -> int:
    args = parse(_parser(), argv)
    run = read_options(RunOptions, args)
    sharing = read_options(ShardOptions, args, ratios=read_ratios(args.ratios))
    _check(args, run, sharing)
    named, others = find_videos(args.videos)
    videos = settle_names(named)
    if args.audio_stream is not None:
        from data_tools.video.decode import check_audio_stream

        check_audio_stream(args.audio_stream, [Path(file) for file, _ in named])
    options = _options(args)
    out = args.out or args.shards
    if os.path.exists(out) and not os.path.isdir(out):  # pathlib's raise at some names
        raise UsageError(f"{out} is a file, not a folder")
    started = time.monotonic()
    console = Console(markup=False, highlight=False)  # a name may hold [brackets]
    if args.out is None:
        lists = OfficialLists(args.list) if args.list else None
        planned = planned_videos(videos, sharing, lists)
        if lists is not None:
            _print_listed(lists, videos, planned, console)
        if args.plan:
            return _print_plan(planned, options, sharing, run, console)
        counted, report = _run_shards(planned, out, options, sharing, run)
        earlier = 0
    else:
        videos = videos[run.shard_id :: run.num_shards]
        if not videos:
            print(f"part {run.shard_id} of {run.num_shards} has no video")
            return 0
        counted, earlier, report = _run(videos, out, options, run)
    _print_faults(counted, report)
    summarise(counted, console)
    if earlier:
        console.print(f"{earlier} more videos of earlier runs are in the folder and the report")
    if others:
        console.print(f"{others} files were not taken for videos, by their suffix")
    console.print(f"took {duration(time.monotonic() - started)}")
    console.print(f"{'shards:' if args.out is None else 'clips: '}  {out}", soft_wrap=True)
    console.print(f"report:  {report}", soft_wrap=True)
    if options.montage and (out / "montage").is_dir():
        console.print(f"tracks:  {out / 'montage'}", soft_wrap=True)
    if args.out is None:
        return _conclude(out, counted, run, console)
    if not counted.clips:
        print(f"no clip was kept: {remedy(counted)}", file=sys.stderr)
        return 1
    if args.shards is None:
        console.print(f"next:    python -m data_tools pack {args.out} SHARDS", soft_wrap=True)
        return 0
    return pack(["--workers", str(run.workers), "--", str(args.out), str(args.shards)])


def _print_listed(
    lists: OfficialLists,
    videos: list[tuple[str, str, str]],
    planned: list[PlannedVideo],
    console: Console,
) -> None:
    """Say how many videos the lists leave out, and how many of theirs are not here."""
    console.print(f"{len(planned)} videos are listed, {len(videos) - len(planned)} are not")
    if missing := lists.missing(name for _, name, _ in videos):
        console.print(f"note: {missing} videos of the lists are not here")


def _print_plan(
    planned: list[PlannedVideo],
    options: PrepareOptions,
    sharing: ShardOptions,
    run: RunOptions,
    console: Console,
) -> int:
    """Print what would be made."""
    from data_tools.forecast import print_forecast

    shards = plan_video_shards(planned, sharing, expected_expansion(planned, sharing, options))
    processes = process_count(run.workers) * run.num_shards
    print_forecast(shards, options, sharing, processes, console)
    return 0


def _conclude(out: Path, counted: Tally, run: RunOptions, console: Console) -> int:
    """Say what became of the shards as a whole; the exit status."""
    if not (out / MANIFEST).exists():
        console.print("other parts are still to be prepared; the last one writes the manifest")
        return 0
    manifest = read_manifest(out)
    summarise_shards(manifest, out, console)
    if not any(total.clips for total in manifest.splits.values()):
        print(f"no clip was kept: {remedy(counted)}", file=sys.stderr)
        return 1
    if print_doubts(manifest, out, console):
        return 1
    console.print(f"next:    python -m trainer.run --data.shards {out}", soft_wrap=True)
    return 0


def _check(args: Namespace, run: RunOptions, sharing: ShardOptions) -> None:
    """Whether options make sense together."""
    if args.out is None and args.shards is None:
        raise UsageError("--shards OUT must be given, or --out CLIPS for a folder of clips")
    if args.out and args.shards and real_path(args.out) == real_path(args.shards):
        raise UsageError("--shards and --out must be two folders: clips and shards do not mix")
    sharing.check()
    if args.out is not None:
        for entry in fields(ShardOptions):
            if getattr(sharing, entry.name) != getattr(ShardOptions(), entry.name):
                option = f"--{entry.name.replace('_', '-')}"
                raise UsageError(f"{option} is for --shards without --out; give it to `pack`")
        if args.plan or args.list:
            option = "--plan" if args.plan else "--list"
            raise UsageError(f"{option} is for --shards without --out")
    if args.max_clip * FPS < 2 * args.min_frames:
        # Equal parts of a longer track are then never shorter than --min-frames.
        raise UsageError(
            f"--max-clip {args.max_clip:g} s must hold twice --min-frames {args.min_frames}"
        )
    run.check()
    if args.shards is not None and args.out is not None and run.num_shards > 1:
        raise UsageError("--shards packs all clips: use it, or `pack`, when every part is prepared")


def _options(args: Namespace) -> PrepareOptions:
    layout = LAYOUTS[args.layout] if args.layout else Layout("", "")
    model: str | None = args.detector_model
    detector = args.detector
    if model and detector == PrepareOptions.detector:
        detector = "yunet"
    path = Path(model) if model else None
    if args.crop != "whole":  # a wrong one is the command line's fault, not every video's
        open_detector(detector, path)
    options = read_options(
        PrepareOptions,
        args,
        box=None if args.box is None else tuple(args.box),
        face_crops=args.face_crops or (layout.face_crops and args.crop != "whole"),
        detector=detector,
        detector_model=str(real_path(path)) if path else None,
    )
    options.check()
    return options


def _open_folder(out: Path) -> None:
    """Make the output folder, if need be.

    Raises:
        UsageError: it cannot be made, or takes no file.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        why = str(error.strerror).lower()
        raise UsageError(f"the folder {shown(out)} cannot be written to: {why}") from None


def _run(
    videos: list[tuple[str, str, str]], out: Path, options: PrepareOptions, run: RunOptions
) -> tuple[Tally, int, Path]:
    """What became of the videos, how many more earlier runs left, and the report's file."""
    from data_tools.prepare import earlier_records, locked_clips, prepare

    _open_folder(out)
    with locked_clips(out, run.part):
        names = {name for _, name, _ in videos}
        records = prepare(
            videos,
            out,
            options,
            run.run,
            run.threads(len(videos)),
            run.stall_limit,
            run.retry_failed,
            [] if run.part else earlier_records(out, names),
        )
        earlier = [] if run.part else earlier_records(out, {name for name, _ in records})
        report = write_report(out, sorted(records + earlier), run.part, options.search_words)
    return tally(records), len(earlier), report


def _run_shards(
    planned: list[PlannedVideo],
    out: Path,
    options: PrepareOptions,
    sharing: ShardOptions,
    run: RunOptions,
) -> tuple[Tally, Path]:
    """What became of the videos of this part's shards, and the report's file."""
    from data_tools.prepare import locked_clips
    from data_tools.replaced import settle_plan
    from data_tools.sharding import is_done, merge_shards, prepare_shards, shard_records

    _open_folder(out)
    with locked_clips(out, run.part):
        planned, expansion = settle_plan(out, planned, sharing, options, run.retry_failed)
        shards = plan_video_shards(planned, sharing, expansion)
        own = shards[run.shard_id :: run.num_shards]
        threads = run.threads(len(own))
        prepare_shards(
            own,
            out,
            options,
            sharing.flac,
            run.run,
            threads,
            run.stall_limit,
            run.retry_failed,
        )
        report, counted = write_large_report(
            out, shard_records(out, own), run.part, options.search_words
        )
        if all(is_done(out, shard) for shard in shards):
            merge_shards(out, shards, sharing, options)
    return counted, report


def _print_faults(counted: Tally, report: Path) -> None:
    """Say on standard error which videos failed, and which could be used only in part."""
    for lines, count, what in (
        (counted.failed, counted.failures, "failed"),
        (counted.doubted, counted.doubts, "in part"),
    ):
        for line in lines:
            print(line, file=sys.stderr)
        if count > len(lines):
            print(f"and {count - len(lines)} more {what}: see {report}", file=sys.stderr)
