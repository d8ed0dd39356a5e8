"""Is the sound in sync, and by how much is it off?

For every face track of every video: the offset in frames, milliseconds and words, and whether to
trust it. A positive offset means that the audio is early: it has to be delayed.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from data_tools import cli
from data_tools.atomic import write_json
from data_tools.elsewhere import Copies, check_videos, video_name
from data_tools.errors import UsageError, UserError
from data_tools.names import first_line, real_path, shown
from trainer.batch.command import add_batch_options, check_batch, measure_many
from trainer.model.device import find_device, naming_device_faults
from trainer.model.network import load_network
from trainer.model.weights import DEFAULT, PACKAGED, default_weights, find_weights
from trainer.page.command import add_page_options, check_page, write_single_page
from trainer.score.csv_file import csv_of_tracks
from trainer.score.judging import add_verdict_options, check_verdict, judge
from trainer.score.mend import mend_video, mended_as_json, print_mended
from trainer.score.options import MeasureOptions, crop_note
from trainer.score.report import as_json, plot, print_tracks
from trainer.score.tolerance import Judged
from trainer.score.trust import SyncError, TrackResult
from trainer.score.video import measure_anywhere

_DRAWN = 40  # tracks in one picture
_REDIRECTED = 100  # characters of a line where neither a terminal nor COLUMNS sets a limit

_EXAMPLES = """\
examples:
  syncnet talk.mp4
      every face of talk.mp4, one line each: "+3 frames, +120 ms  audio is early; delay it (97 %)"
  syncnet *.mp4 --weights syncnet_v2.model --csv offsets.csv --plot curves.png
      many videos and other weights than the package's, one row per face track in offsets.csv
  syncnet talk.mp4 --html report.html
      a page to look at: faces, charts over time, the video with its sound as it is or mended
  syncnet talk.mp4 --fix mended.mp4
      a copy, its sound in place (encoded anew only where it jumps or drifts), measured again
  syncnet VIDEOS/ --out RESULTS --workers 8 --fix-dir MENDED
      a folder, a pattern or a list.txt of any length: RESULTS/results.jsonl has each video the
      moment it is done; the same command goes on after a stop or a crash
  syncnet talk.mp4 --tolerance ebu-r37 --strict --junit sync.xml
      a check for a pipeline: exit status 1 if a trusted track is out of tolerance

the sign:
  offset > 0: the audio is early (heard before it is seen); the mend is to delay it
  offset < 0: the audio is late; the mend is to advance it
  a frame is 40 ms, whatever the rate of the video

trust: "not sure" says why: too short, hardly any speech, no clear minimum, or less than 90 % of the
pictures, of the sound or of the length that the file states could be used. What was left out, or
chosen among several, is noted below the table, in CSV and in JSON. Where the weights carry
a calibration, "chance" is the share of held-out videos with as clear an answer whose offset was
right within a frame; the calibration says which chance and what length are needed. It holds for
its mode and the default search alone: with others an offset is trusted if it stands out by 3
deviations. An offset at the edge of the search is never trusted.

networks of the package: mouth (the default) was trained on GRID (CC-BY 4.0) and on LRW-AR, whose
authors published it for research and state no licence; mouth-grid on GRID alone.

exit status: 0 every video gave an offset (trusted or not), 1 one did not, a mend failed or
--strict found one out of tolerance, 2 wrong usage
"""


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 measured, 1 a video gave nothing or could not be mended, 2 wrong usage."""
    words = sys.argv[1:] if argv is None else argv
    batch = any(word == "--out" or word.startswith("--out=") for word in words)
    stopped = "interrupted; run it again to go on" if batch else "interrupted"
    return cli.exit_status("sync", lambda: _work(words), stopped)


def _parser() -> ArgumentParser:
    parser = cli.command("python -m trainer.sync", __doc__, _EXAMPLES)
    parser.usage = "%(prog)s VIDEO [VIDEO ...] [options]"
    parser.add_argument(
        "videos",
        nargs="*",
        type=cli.file_name,
        metavar="VIDEO",
        help="any video with sound: a file, a URL (https://, s3://, ...), or - for standard input",
    )
    parser.add_argument(
        "--weights",
        type=find_weights,
        help="best.pt of a run, syncnet_v2.model or .safetensors, or the name of a network of the "
        f"package: {', '.join(PACKAGED)} (default: {DEFAULT})",
    )
    cli.add_options(parser, MeasureOptions)
    for option, words in (
        ("json", "write everything, curves included"),
        ("csv", "write one row per track"),
        ("plot", "draw the curves, as PNG"),
        ("fix", "write a copy of the one video, its sound in place; none if at most a frame off"),
    ):
        parser.add_argument(f"--{option}", type=cli.file_name, help=words)
    parser.add_argument(
        "--force",
        action="store_true",
        help="let --fix and --fix-dir overwrite existing files, never their input",
    )
    add_page_options(parser)
    add_verdict_options(parser)
    add_batch_options(parser)
    return parser


def _parse(argv: list[str]) -> Namespace:
    parser = _parser()
    options, videos = cli.parted(parser, argv)
    args = cli.parse(parser, options)
    if not videos:
        raise UsageError("VIDEO must be given (see --help)")
    args.videos = [video_name(video) for video in videos]
    check_videos(args.videos, args.audio_stream, batch=args.out is not None)
    return args


def _work(argv: list[str]) -> int:
    args = _parse(argv)
    options = cli.read_options(MeasureOptions, args)
    weights = _check(args)
    run = check_batch(args)
    options = replace(options, device=find_device(options.device, "--device"))
    limited = sys.stdout.isatty() or os.environ.get("COLUMNS")
    width = None if limited else _REDIRECTED
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    try:
        with naming_device_faults():
            if args.out is not None:
                return measure_many(args, weights, options, run, console)
            with Copies() as copies:
                return _run(args, weights, options, console, copies)
    except OSError as error:
        raise UserError(first_line(error)) from None


def _check(args: Namespace) -> Path:
    """Which weights to take, if the arguments make sense together and outputs can be written.

    Raises:
        UsageError: they do not.
        MissingPackage: the extra [prepare] is needed and not installed.
    """
    weights: Path | None = args.weights or default_weights()
    if weights is None:
        raise UsageError("--weights is needed: this package comes without any; train or give some")
    if args.fix and len(args.videos) > 1:
        raise UsageError("--fix takes one video")
    files = [video for video in args.videos if isinstance(video, Path)]
    check_verdict(args)
    check_page(args)
    outputs = {f"--{name}": args[name] or None for name in ("json", "csv", "plot", "fix", "html")}
    outputs["--junit"] = args.junit
    if args.out and args.junit and real_path(args.junit.parent) == real_path(args.out):
        del outputs["--junit"]  # its folder is still to be made
    cli.check_outputs(outputs, {"a video": files, "the weights": [weights]}, ["--fix"])
    if args.plot and args.plot.suffix.lower() != ".png":
        raise UsageError(f"--plot: {shown(args.plot)} must end in .png, which is what is drawn")
    if args.fix:
        if os.path.lexists(args.fix) and not args.force:
            raise UsageError(
                f"--fix: {shown(args.fix)} exists; name another file, or give --force as well"
            )
        from data_tools.video.remux import check_target

        check_target(Path(str(args.videos[0])), args.fix)
    return weights


def _run(
    args: Namespace, weights: Path, options: MeasureOptions, console: Console, copies: Copies
) -> int:
    network = load_network(weights, options.device)
    if note := crop_note(network, options):
        print(f"sync: {note}", file=sys.stderr)
    options = replace(options, mode=options.mode or network.mode)
    tracks: list[TrackResult] = []
    left_out: dict[str, list[str]] = {}
    status = 0
    for path in args.videos:
        own, dropped = measure_anywhere(path, copies, network, options)
        tracks += own
        if not own:
            status = 1
        if dropped:
            left_out[str(path)] = dropped
        for line in dropped:
            print(f"{shown(path.name)}: left out: {line}", file=sys.stderr)
    if tracks:
        print_tracks(tracks, console)
    rows = as_json(tracks)
    result: dict[str, Any] = {"mode": options.mode, "tracks": rows, "left_out": left_out}
    written = []
    if args.fix:
        try:
            mended = mend_video(copies.local(args.videos[0]), args.fix, tracks, network, options)
        except (SyncError, OSError) as error:
            against = first_line(error)
        else:
            print_mended(mended, args.fix, console)
            result["fix"] = mended_as_json(mended)
            against = mended.against
            if mended.written:
                written.append(args.fix)
        if against:
            print(f"sync: --fix: {against}", file=sys.stderr)
            status = 1
    written += _write(args, result, tracks, console)
    judged = [
        Judged(name, [row for row in rows if row["video"] == name], left_out.get(name, []))
        for name in dict.fromkeys(map(str, args.videos))
    ]
    if judge(lambda: judged, args, console):
        status = 1
    if args.html:
        written.append(write_single_page(args, judged, args.fix in written))
    if args.junit:
        written.append(args.junit)
    for path in written:
        console.print(f"wrote {shown(path)}", soft_wrap=True)
    return status


def _write(
    args: Namespace, result: dict[str, Any], tracks: list[TrackResult], console: Console
) -> list[Path]:
    """Write what --json, --csv and --plot ask for; which files those are."""
    written = []
    if args.json:
        write_json(args.json, result)
        written.append(args.json)
    if args.csv:
        with csv_of_tracks(args.csv, args.tolerance) as write:
            write(Judged("", result["tracks"], []))
            for video, reasons in result["left_out"].items():
                write(Judged(video, [], reasons))
        written.append(args.csv)
    if args.plot and tracks:
        plot(tracks[:_DRAWN], args.plot)
        written.append(args.plot)
        if len(tracks) > _DRAWN:
            console.print(f"--plot: the first {_DRAWN} of {len(tracks)} tracks are drawn")
    elif args.plot:
        print(f"sync: nothing to draw, so {shown(args.plot)} was not written", file=sys.stderr)
    return written


if __name__ == "__main__":
    sys.exit(main())
