"""A study: one question, its command line, its result and picture."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console

from benchmarks import draw
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import Result, told
from benchmarks.studies.training import Figures, Say, Sizes, Source
from data_tools.cli import whole
from data_tools.errors import UsageError
from trainer.config.settings import NO_MANIFEST

_AtLeastEight = whole("AtLeastEight", 8)


@dataclass(frozen=True)
class Study:
    """One question.

    Attributes:
        name: module under benchmarks.studies.
        doc: its docstring.
        sizes: what it takes when nothing else is asked for.
        measure: trains; (sizes, source, say) -> figures.
        panels: what to draw of them (`benchmarks.draw.curves`).
        told: the answer, a paragraph of Markdown.
    """

    name: str
    doc: str
    sizes: Sizes
    measure: Callable[[Sizes, Source, Say], Figures]
    panels: Callable[[Figures], list[Figures]]
    told: Callable[[Figures], str]


def main(study: Study, argv: list[str] | None = None) -> int:
    """Command line of a study; 2 wrong usage, 1 if the data cannot be made or read."""
    parser = command_line(f"studies.{study.name}", study.doc)
    parser.add_argument("--from", dest="past", type=Path, help="only draw this result again")
    parser.add_argument(
        "--clips", type=_AtLeastEight, default=study.sizes.clips, help="training clips"
    )
    parser.add_argument(
        "--epochs", type=AtLeastOne, default=study.sizes.epochs, help="of each training"
    )
    parser.add_argument("--seeds", type=AtLeastOne, default=study.sizes.seeds)
    parser.add_argument(
        "--shards", type=Path, help="instead of synthetic heads: real speech, with a test split"
    )
    parser.add_argument(
        "--unseen",
        type=Path,
        nargs="+",
        default=[],
        help="with --shards: other shards, of strangers, whose test splits are measured instead; "
        "all of their clips count as in sync, but see --unseen-offsets",
    )
    parser.add_argument(
        "--unseen-offsets",
        nargs="+",
        default=[],
        metavar="CSV",
        help=f"one for each of --unseen, in their order, {NO_MANIFEST} for a set in sync: by how "
        "much its clips are off themselves, which is then right instead of 0; the keep.csv of "
        "`trainer.refine --realign`, or a CSV with columns clip and offset_frames. Clips that it "
        "does not list, or would leave out, are not measured",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        help="with --shards: keep.csv of what to train on, as trainer.refine writes",
    )
    parser.add_argument(
        "--more",
        type=Path,
        help="with --shards: shards of other speakers, which trainings may mix in (studies.unseen)",
    )
    parser.add_argument("--more-manifest", type=Path, help="keep.csv of --more")
    arguments = sys.argv[1:] if argv is None else argv

    def work(args: Namespace) -> None:
        if args.past:
            _redraw(study, args.past)
        else:
            _check(args)
            _measure(study, args, told(arguments))

    return run(study.name, parser, argv, work)


def _check(args: Namespace) -> None:
    """Refuse options that do not go together."""
    if (args.unseen or args.manifest or args.more) and not args.shards:
        raise UsageError("--unseen, --manifest and --more need --shards to train on")
    if args.unseen_offsets and len(args.unseen_offsets) != len(args.unseen):
        raise UsageError(
            f"--unseen-offsets has {len(args.unseen_offsets)} value(s) for {len(args.unseen)} "
            f"set(s) of --unseen: give one for each, or {NO_MANIFEST} where a set is in sync"
        )
    if args.more_manifest and not args.more:
        raise UsageError("--more-manifest is of --more, which is missing")


def _redraw(study: Study, past: Path) -> None:
    try:
        result = json.loads(past.read_text(encoding="utf-8"))
        drawn, answer = study.panels(result), study.told(result)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UsageError(f"{past} is no result of studies.{study.name}") from None
    draw.curves(drawn, past.with_suffix(".png"))
    print(f"{answer}\nwrote {past.with_suffix('.png')}")


def _measure(study: Study, args: Namespace, command: str) -> None:
    sizes = replace(study.sizes, clips=args.clips, epochs=args.epochs, seeds=args.seeds)
    if args.quick:
        sizes = study.sizes.quick
    console = Console(width=None if sys.stdout.isatty() else 120)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    args.cache.mkdir(parents=True, exist_ok=True)
    source = Source(
        args.cache,
        args.shards,
        tuple(args.unseen),
        args.manifest,
        tuple(None if path == NO_MANIFEST else Path(path) for path in args.unseen_offsets),
        args.more,
        args.more_manifest,
    )
    figures = study.measure(sizes, source, say)
    written = Result(
        f"studies.{study.name}", figures, "warm", sizes.seeds, args.quick, command
    ).write(args.json)
    picture = written.with_suffix(".png")
    draw.curves(study.panels(figures), picture)
    say(study.told(figures))
    say(f"wrote {written} and {picture}")
