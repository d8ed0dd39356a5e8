"""The options of `syncnet` that make pages, and what they do without --out."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from data_tools.errors import UsageError
from data_tools.names import shown
from trainer.page.charts import check_packages
from trainer.page.pages import PageOptions, check_embedded, write_page
from trainer.score.tolerance import Judged

BATCH = "index.html"  # what --html is without a name


def add_page_options(parser: Any) -> None:
    """Give a parser --html and --embed."""
    page = parser.add_argument_group("a page to look at")
    page.add_argument(
        "--html",
        type=_named,
        nargs="?",
        const="",
        metavar="FILE",
        help="write a page that needs no network: faces, verdicts, charts over the video's "
        "timeline, and the video itself with its sound as it is or mended; with --out without a "
        "name: OUT/index.html, and a page per video",
    )
    page.add_argument(
        "--embed",
        action="store_true",
        help="put the videos into their pages, which are then whole without them; otherwise pages "
        "play them from where they lie",
    )


def _named(text: str | Path) -> str | Path:
    """The file that --html names; "" where it stands without a name, which is its `const`."""
    return Path(text) if text != "" else ""


def check_page(args: Namespace) -> None:
    """Whether those options make sense, and what they need is installed.

    Raises:
        UsageError: they do not.
        MissingPackage: the extra [html] is not installed.
    """
    if args.html is None:
        if args.embed:
            raise UsageError("--embed needs --html")
        return
    if args.out is None and not args.html:
        raise UsageError("--html needs the name of a file, say --html report.html")
    if args.out is not None and args.html:
        raise UsageError(
            f"--html takes no name with --out: it writes {shown(args.out / BATCH)}, and a page per "
            "video"
        )
    check_packages()
    if args.embed and args.out is None:
        check_embedded(args.videos)


def page_options(args: Namespace) -> PageOptions:
    """How pages are made."""
    return PageOptions(args.tolerance, args.embed)


def write_single_page(args: Namespace, videos: list[Judged], mended: bool) -> Path:
    """Write what --html names; which file that is.

    mended: whether --fix wrote its copy.

    Raises:
        OSError: it cannot be written.
    """
    said = f"A copy with its sound in place: {shown(args.fix)}"
    more = {videos[0].video: [said]} if mended else {}
    write_page(args.html, videos, page_options(args), more)
    path: Path = args.html
    return path
