"""How right is each network on people it has never seen?  python -m benchmarks.strangers --data DIR

Measures networks on the strangers of `benchmarks/strangers/clips.csv`, through the same commands as
everybody's videos: mouths are cropped, packed, embedded and judged as `syncnet` judges. Of each
group and length: K = 5 to 15, whole clips right, trusted, trusted and wrong, and how often sound of
another speaker is trusted; then where each network puts the groups' zero.
"""

import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from benchmarks.options import command_line, run
from benchmarks.result import report
from benchmarks.strangers.groups import JUDGED, Video, listed, prepare
from benchmarks.strangers.truth import measure
from data_tools.errors import UsageError
from data_tools.shards import open_shards
from trainer.model.network import load_network
from trainer.model.weights import default_weights


def networks(paths: list[Path]) -> dict[str, Path | None]:
    """Files of weights by the names that the tables call them, in the given order; none: the
    package's own.

    Raises:
        UsageError: two have one name.
    """
    if not paths:
        own = default_weights()
        return {own.stem if own else "package": None}
    named = {path.stem: path for path in paths}
    if len(named) < len(paths):
        raise UsageError("--weights: two files have the same name, which the tables go by")
    return dict(named)


def measure_all(args: Namespace) -> dict[str, Any]:
    """Every network on every group."""
    named = networks(args.weights or [])
    videos, work = listed(), args.work
    if args.quick:
        work = work / "quick"
        videos = [
            video for group in JUDGED for video in [one for one in videos if one.group == group][:2]
        ]
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
        "--data", type=Path, required=True, help="folder below which the listed videos lie"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        help="networks to measure side by side, old beside new (default: that of the package)",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/strangers"), help="clips and shards, made once"
    )
    return run("strangers", parser, argv, _measure)


def _measure(args: Namespace) -> None:
    named = " ".join(
        ["--data DIR", *(["--weights", *networks(args.weights)] if args.weights else [])]
    )
    report("strangers", measure_all(args), args.json, quick=args.quick, command=named)


if __name__ == "__main__":
    sys.exit(main())
