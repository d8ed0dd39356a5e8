"""People whom no network was trained on:  python -m benchmarks.strangers --data DIR

With --weights W ... it measures networks, minutes each, on the strangers of clips.csv, through the
same commands as everybody's videos: mouths are cropped, packed, embedded and judged as `syncnet`
judges. Of each group and length: K = 5 to 15, whole clips right, trusted, trusted and wrong, and
how often sound of another speaker is trusted; then where each network puts the groups' zero.

Without --weights it trains, for hours: the loop of refinement, on one studio speaker and wild clips
that are not in sync, against trainings without it (`benchmarks.strangers.rounds`).
"""

import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import RESULTS, report
from benchmarks.strangers import rounds
from benchmarks.strangers.groups import Video, listed, prepare
from benchmarks.strangers.truth import measure
from data_tools.errors import UsageError
from data_tools.shards import open_shards
from trainer.model.network import load_network
from trainer.model.weights import PACKAGED, find_weights


def networks(paths: list[Path]) -> dict[str, Path]:
    """Files of weights by the names that the tables call them, in the given order.

    Raises:
        UsageError: two have one name.
    """
    named = {path.stem: path for path in paths}
    if len(named) < len(paths):
        raise UsageError("--weights: two files have the same name, which the tables go by")
    return named


def measure_all(args: Namespace) -> dict[str, Any]:
    """Every network on every group."""
    named = networks(args.weights)
    videos, work = listed(), args.work
    if args.quick:
        work = work / "quick"
        videos = rounds.some(videos)
    clips, shards = prepare(args.data, videos, work)
    found = {
        name: measure(load_network(path), clips, shards, videos) for name, path in named.items()
    }
    return {"networks": found, "left_out": left_out(videos, shards)}


def left_out(videos: list[Video], shards: Path) -> list[str]:
    """The videos that gave no clip."""
    given = {record.source for shard in open_shards(shards, "test") for record in shard.records}
    return [video.name for video in videos if video.name not in given]


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a step fails, 2 wrong usage."""
    parser = command_line("strangers", __doc__, cache=False)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the real clips: grid_s1, lrw_ar, ..."
    )
    parser.add_argument(
        "--weights",
        type=find_weights,
        nargs="+",
        help="networks to measure side by side, old beside new: files, or of the package "
        f"({', '.join(PACKAGED)})",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/strangers"), help="clips, shards and trainings"
    )
    parser.add_argument("--steps", type=AtLeastOne, default=1600, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings")
    parser.add_argument(
        "--rounds",
        type=int,
        choices=(2, 3),
        default=3,
        help="of the refinement: with 3, a network trained on both sets makes the labels anew",
    )
    return run("strangers", parser, argv, _measure)


def _measure(args: Namespace) -> None:
    if not args.weights:
        seeds = " ".join(map(str, args.seeds))
        how = f"--data DIR --steps {args.steps} --seeds {seeds} --rounds {args.rounds}"
        found = rounds.measure_all(args)
        path = args.json if args.json or args.quick else RESULTS / "strangers_rounds.json"
        report("strangers", found, path, len(args.seeds), quick=args.quick, command=how)
        return
    named = " ".join(["--data DIR --weights", *networks(args.weights)])
    report("strangers", measure_all(args), args.json, quick=args.quick, command=named)


if __name__ == "__main__":
    sys.exit(main())
