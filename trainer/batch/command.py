"""What `syncnet --out` does: options that make no sense refused, all measured, reports written."""

import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from data_tools import cli
from data_tools.atomic import try_folder
from data_tools.engines import RunOptions
from data_tools.errors import UsageError
from data_tools.names import real_path, shown
from data_tools.workers import WorkerOptions
from trainer.batch.batch import measure_batch
from trainer.batch.folder import Batch
from trainer.batch.inputs import batch_videos
from trainer.batch.pages import write_pages
from trainer.batch.report import in_order, judged, print_summary, write_reports
from trainer.model.network import load_network
from trainer.page.command import page_options
from trainer.score.judging import judge
from trainer.score.options import MeasureOptions, crop_note

_OWN = re.compile(
    r"(results|mends|report|index).*\.(jsonl|csv|json|html)$|pages$|\."
)  # names in --out


def add_batch_options(parser: Any) -> None:
    """Give a parser the options of batches."""
    batch = parser.add_argument_group("many videos")
    for option, words in (
        (
            "out",
            "a folder of results for any number of videos: results.jsonl has each the moment it "
            "is done, and the same command goes on where it was stopped; VIDEO may then be a "
            "folder, a pattern, or a .txt with a video a line",
        ),
        (
            "fix-dir",
            "with --out: a folder of copies, sound in place, of all videos that are off by more "
            "than a frame and can be trusted, each measured again; mends.csv says what was done",
        ),
    ):
        batch.add_argument(f"--{option}", type=cli.file_name, metavar="DIR", help=words)
    cli.add_options(batch, WorkerOptions)
    cli.add_options(batch, RunOptions, without=("workers",))


def check_batch(args: Namespace) -> RunOptions:
    """How a batch is shared out, if the options of `syncnet` make sense together.

    Raises:
        UsageError: they do not.
    """
    run = cli.read_options(RunOptions, args)
    if args.out is None:
        if args.fix_dir is not None:
            raise UsageError("--fix-dir needs --out; --fix mends one video")
        for entry in fields(RunOptions):
            if getattr(run, entry.name) != entry.default:
                raise UsageError(f"--{entry.name.replace('_', '-')} needs --out")
        return run
    for name, instead in (
        ("json", "results.jsonl has it all"),
        ("csv", "it writes results.csv"),
        ("plot", "draw one video without --out"),
        ("fix", "--fix-dir mends many"),
    ):
        if args[name] is not None:
            raise UsageError(f"--{name} does not go with --out: {instead}")
    run.check()
    if (
        args.junit
        and real_path(args.junit.parent) == real_path(args.out)
        and _OWN.match(args.junit.name)
    ):
        raise UsageError(f"--junit: {shown(args.junit)} is a name that --out takes; choose another")
    if args.fix_dir is not None:
        try:
            try_folder(args.fix_dir)
        except OSError as error:
            raise UsageError(f"--fix-dir: {error}") from None
    return run


def measure_many(
    args: Namespace, weights: Path, options: MeasureOptions, run: RunOptions, console: Console
) -> int:
    """Measure all videos, write the reports, print a summary; the exit status.

    Raises:
        UsageError: there is no video, or the folder of results is not for these options.
        RecordError, MissingPackage, WeightsError, OSError: as `measure_batch`.
    """
    videos, notes = batch_videos(args.videos, args.out, args.fix_dir)
    if options.audio_stream is not None:
        from data_tools.video.decode import check_audio_stream

        check_audio_stream(options.audio_stream, [video.path for video in videos])
    if run.shard_id >= len(videos):
        print(f"part {run.shard_id} of {run.num_shards} has no video")
        return 0
    network = load_network(weights, options.device)  # a wrong one is said once, not by each worker
    if note := crop_note(network, options):
        print(f"sync: {note}", file=sys.stderr)
    options = replace(options, mode=options.mode or network.mode)
    del network
    batch = Batch(args.out, weights, options, args.fix_dir, args.force)
    file = measure_batch(videos, batch, run)
    summary, written = write_reports(file, run.part, args.tolerance)
    print_summary(summary, console)
    for note in notes:
        console.print(note, soft_wrap=True)
    if args.html is not None:
        written.append(write_pages(file, run.part, page_options(args)))
    objected = judge(lambda: (judged(result) for result in in_order(file)), args, console)
    for path in [*written, *([args.junit] if args.junit else [])]:
        console.print(f"wrote {shown(path)}", soft_wrap=True)
    return int(summary.failed > 0 or objected)
