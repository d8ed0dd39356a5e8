"""The verdict that `syncnet` gives: its options, and what is said and written of it."""

from collections.abc import Callable, Iterable
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from data_tools import cli
from data_tools.errors import UsageError
from trainer.score.junit import write_junit
from trainer.score.tolerance import TOLERANCES, Counts, Judged, read_tolerance


def add_verdict_options(parser: Any) -> None:
    """Give a parser --tolerance, --strict and --junit."""
    verdict = parser.add_argument_group("verdict")
    verdict.add_argument(
        "--tolerance",
        type=read_tolerance,
        metavar="NAME|FRAMES",
        help=f"say what is within a tolerance: {', '.join(TOLERANCES)} (docs/sync.md has their "
        "figures and sources), or so many frames of 40 ms either way",
    )
    verdict.add_argument(
        "--strict",
        action="store_true",
        help="exit status 1 if a track that can be trusted is out of tolerance",
    )
    verdict.add_argument(
        "--junit",
        type=cli.file_name,
        metavar="FILE",
        help="write the verdict on each track as JUnit XML, for Jenkins or GitLab",
    )


def check_verdict(args: Namespace) -> None:
    """Whether those options make sense together.

    Raises:
        UsageError: they do not.
    """
    for option in ("strict", "junit"):
        if args[option] and args.tolerance is None:
            raise UsageError(f"--{option} needs --tolerance, say --tolerance ebu-r37")


def judge(videos: Callable[[], Iterable[Judged]], args: Namespace, console: Console) -> bool:
    """Write the verdicts to --junit, say them in one line; whether --strict objects.

    Args:
        videos: gives them, as often as it is called.

    Raises:
        OSError: the file cannot be written.
    """
    if args.tolerance is None:
        return False
    counts = Counts(args.tolerance)
    for video in videos():
        counts.add(video)
    if args.junit:
        write_junit(args.junit, videos, args.tolerance)
    console.print(str(counts), soft_wrap=True)
    return bool(args.strict and counts.videos["out of tolerance"])
