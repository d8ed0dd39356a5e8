"""Turn videos into training clips: `python -m data_tools prepare VIDEO|DIR|LIST... --out CLIPS`.

Any file that FFmpeg's libraries read becomes clips of one face each, 25 frames a second with 16 kHz
sound, in CLIPS/<video>/<clip>/{audio.wav, frames/, clip.json}, ready for `pack`; --shards OUT packs
them as well. LIST is a .txt file with one path per line, from the list or from here. What is not
kept is in report.csv, with the reason. A run that was stopped goes on where it was; videos already
done are not read again.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from jsonargparse import ArgumentParser, Namespace
from msgspec import Meta
from rich.console import Console
from rich.table import Table

from data_tools.cli import add_options, command, exit_status, file_name, parse, read_options
from data_tools.commands.pack import main as pack
from data_tools.engines import run_local, run_ray
from data_tools.errors import UsageError
from data_tools.inputs import find_videos, settle_names
from data_tools.mfcc import FPS
from data_tools.report import count_reasons, write_report
from data_tools.video.crop import CROPS
from data_tools.video.faces import open_detector
from data_tools.video.options import PrepareOptions
from data_tools.video.record import FAILED, Row, VideoRecord
from data_tools.workers import WorkerOptions, process_count

if TYPE_CHECKING:  # its packages are an extra, and --help needs none of them
    from data_tools.prepare import Task

PROGRAM = "python -m data_tools prepare"
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
class RunOptions(WorkerOptions):
    """How the work is done and shared out; it decides nothing of the clips.

    Attributes:
        engine: local, or ray: a Ray cluster.
        ray_address: A Ray cluster's (default: start one here).
        shard_id: Prepare part ID of NUM_SHARDS (SLURM arrays).
        num_shards: Into how many parts the videos are divided.
        stall_limit: A video that yields nothing new for so many seconds is given up; 0: never.
        retry_failed: Try videos again that failed in earlier runs.
    """

    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    shard_id: int = 0
    num_shards: Annotated[int, Meta(ge=1)] = 1
    stall_limit: Annotated[float, Meta(ge=0, le=1e9)] = 120.0
    retry_failed: bool = False

    @property
    def part(self) -> str:
        """The name of the part of the videos, as the report's has it; none for all of them."""
        if self.num_shards == 1:
            return ""
        return f"-{self.shard_id:05d}-of-{self.num_shards:05d}"


def main(argv: list[str]) -> int:
    """Run `prepare`; 1 if no clip was kept."""
    return exit_status(PROGRAM, lambda: _prepare(argv), "interrupted; run it again to go on")


def summarise(records: list[tuple[str, VideoRecord]], console: Console) -> None:
    """Print what was kept, and a table of what was not, by reason."""
    rows = [row for _, record in records for row in record.rows]
    clips = [row for row in rows if row.level == "clip" and row.kept]
    length = sum(row.end_seconds - row.start_seconds for row in clips)
    whole = sum(record.seconds for _, record in records)
    console.print(
        f"{len(records)} videos, {_duration(whole)}: {len(clips)} clips, {_duration(length)}"
    )
    counts = count_reasons(rows)
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


def remedy(records: list[tuple[str, VideoRecord]]) -> str:
    """Why no clip was kept, most of all, and what to do about it."""
    rows = [row for _, record in records for row in record.rows]
    own: list[Row] = [row for row in rows if row.level in ("track", "clip")] or rows
    reasons = Counter(row.reason for row in own if row.reason)
    if not reasons:
        return "see the report"
    reason = reasons.most_common(1)[0][0]
    example = next(row.detail for row in own if row.reason == reason)
    return f"most often {reason} ({example}); {_REMEDIES.get(reason, 'see the report')}"


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
        "--out", type=file_name, required=True, metavar="CLIPS", help="folder of clips"
    )
    parser.add_argument(
        "--shards", type=file_name, metavar="OUT", help="pack the clips into OUT as well"
    )
    add_options(parser, PrepareOptions, only=("montage",))
    cut = parser.add_argument_group("the clips")
    cut.add_argument(
        "--crop",
        type=Literal[CROPS],
        default=PrepareOptions.crop,
        help="the whole face as in the official code, or the mouth as in the paper",
    )
    add_options(cut, PrepareOptions, only=("size", "gray", "quality", "max_clip", "audio_stream"))
    keep = parser.add_argument_group("what is kept (clip.json and the report hold each value)")
    add_options(
        keep,
        PrepareOptions,
        only=("min_frames", "min_face", "min_confidence", "min_sharpness", "min_speech"),
    )
    find = parser.add_argument_group("how faces are found")
    add_options(
        find,
        PrepareOptions,
        only=("detector", "detector_model", "detect_every", "detect_size", "shot_threshold"),
    )
    scale = parser.add_argument_group("scale")
    add_options(scale, WorkerOptions)
    add_options(scale, RunOptions, without=("workers",))
    return parser


def _prepare(argv: list[str]) -> int:
    args = parse(_parser(), argv)
    run = read_options(RunOptions, args)
    _check(args, run)
    named, others = find_videos(args.videos)
    videos = settle_names(named)[run.shard_id :: run.num_shards]
    if args.audio_stream is not None:
        from data_tools.video.decode import check_audio_stream

        check_audio_stream(args.audio_stream, [path for path, _ in named])
    options = _options(args)
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"{args.out} is a file, not a folder")
    if not videos:
        print(f"part {run.shard_id} of {run.num_shards} has no video")
        return 0
    started = time.monotonic()
    records, earlier, report = _run(videos, args.out, options, run)
    console = Console(markup=False, highlight=False)  # a name may hold [brackets]
    _print_faults(records, report)
    summarise(records, console)
    if earlier:
        console.print(f"{earlier} more videos of earlier runs are in the folder and the report")
    if others:
        console.print(f"{others} files were not taken for videos, by their suffix")
    console.print(f"took {_duration(time.monotonic() - started)}")
    console.print(f"clips:   {args.out}", soft_wrap=True)
    console.print(f"report:  {report}", soft_wrap=True)
    if options.montage and (args.out / "montage").is_dir():
        console.print(f"tracks:  {args.out / 'montage'}", soft_wrap=True)
    if not any(record.clips for _, record in records):
        print(f"no clip was kept: {remedy(records)}", file=sys.stderr)
        return 1
    if args.shards is None:
        console.print(f"next:    python -m data_tools pack {args.out} SHARDS", soft_wrap=True)
        return 0
    return pack(["--workers", str(run.workers), "--", str(args.out), str(args.shards)])


def _check(args: Namespace, run: RunOptions) -> None:
    """Whether options make sense together."""
    if args.max_clip * FPS < 2 * args.min_frames:
        # Equal parts of a longer track are then never shorter than --min-frames.
        raise UsageError(
            f"--max-clip {args.max_clip:g} s must hold twice --min-frames {args.min_frames}"
        )
    if not 0 <= run.shard_id < run.num_shards:
        raise UsageError(f"--shard-id must be from 0 to {run.num_shards - 1}")
    if args.shards is not None and run.num_shards > 1:
        raise UsageError("--shards packs all clips: use it, or `pack`, when every part is prepared")
    if run.ray_address is not None and run.engine != "ray":
        raise UsageError("--ray-address needs --engine ray")


def _options(args: Namespace) -> PrepareOptions:
    model: str | None = args.detector_model
    detector = args.detector
    if model and detector == PrepareOptions.detector:
        detector = "yunet"
    path = Path(model) if model else None
    open_detector(detector, path)  # a wrong one is the command line's fault, not every video's
    return read_options(
        PrepareOptions,
        args,
        detector=detector,
        detector_model=str(path.resolve()) if path else None,
    )


def _run(
    videos: list[tuple[Path, str, str]], out: Path, options: PrepareOptions, run: RunOptions
) -> tuple[list[tuple[str, VideoRecord]], int, Path]:
    """The record of each video, how many more earlier runs left, and the report's file."""
    from data_tools.prepare import earlier_records, locked_clips, prepare

    out.mkdir(parents=True, exist_ok=True)
    workers = process_count(run.workers)

    def engine(
        function: Callable[..., None], tasks: "list[Task]", on_bytes: Callable[[int], None]
    ) -> "Iterable[tuple[Task, str | None]]":
        if not tasks:
            return ()
        if run.engine == "ray":
            return run_ray(function, tasks, run.ray_address, on_bytes)
        return run_local(function, tasks, min(workers, len(tasks)), on_bytes)

    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // min(workers, len(videos))) if run.engine == "local" else 1
    with locked_clips(out, run.part):
        names = {name for _, name, _ in videos}
        records = prepare(
            videos,
            out,
            options,
            engine,
            threads,
            run.stall_limit,
            run.retry_failed,
            [] if run.part else earlier_records(out, names),
        )
        earlier = [] if run.part else earlier_records(out, {name for name, _ in records})
        report = write_report(out, sorted(records + earlier), run.part)
    return records, len(earlier), report


def _print_faults(records: list[tuple[str, VideoRecord]], report: Path) -> None:
    """Say on standard error which videos failed, and which could be used only in part."""
    failed = [f"{name}: {record.detail}" for name, record in records if record.status == FAILED]
    doubted = [f"{name}: {'; '.join(record.doubts)}" for name, record in records if record.doubts]
    for lines, what in ((failed, "failed"), (doubted, "in part")):
        for line in lines[:_REPORTED]:
            print(line, file=sys.stderr)
        if len(lines) > _REPORTED:
            print(f"and {len(lines) - _REPORTED} more {what}: see {report}", file=sys.stderr)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"
