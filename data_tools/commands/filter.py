"""Which clips of shards are good enough to train on: `python -m data_tools filter SHARDS KEEP.csv`.

Rules on what `prepare` measured of each clip, together with the keep.csv of `trainer.refine
--score-only`, if --scores gives it. KEEP.csv is the outcome, for `trainer.run --data.manifest`;
shards are never rewritten.
"""

from collections import Counter
from dataclasses import fields
from typing import Literal

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from data_tools.cli import (
    add_options,
    check_options,
    check_outputs,
    command,
    exit_status,
    file_name,
    parse,
    read_options,
)
from data_tools.clips import SPLITS
from data_tools.errors import UsageError, UserError
from data_tools.keep import KEEP, VERDICTS, read_keep, write_keep
from data_tools.mirror import mirror_at, open_set, shown_name
from data_tools.quality import NOT_SCORED, RECIPES, QualityOptions, fetch_reports, judge
from data_tools.remote_options import add_local_options, local_options, set_name

PROGRAM = "python -m data_tools filter"


def main(argv: list[str]) -> int:
    """Run `filter`; 1 if no clip is left."""
    return exit_status(PROGRAM, lambda: _filter(argv))


def _parser() -> ArgumentParser:
    parser = command(PROGRAM, __doc__)
    parser.add_argument(
        "shards", type=set_name, help="folder of shards, by prepare --shards, or its URL"
    )
    parser.add_argument("keep", type=file_name, metavar="KEEP.csv", help="is written")
    parser.add_argument(
        "--scores",
        type=file_name,
        metavar="SCORES.csv",
        help="keep.csv of trainer.refine --score-only: clips that it rejects are rejected, too",
    )
    parser.add_argument(
        "--recipe",
        type=Literal[tuple(RECIPES)],
        help="rules all at once; those given beside it count: "
        + "; ".join(
            f"{name}: {', '.join(f'{rule} {value:g}' for rule, value in rules.items())}"
            for name, rules in RECIPES.items()
        ),
    )
    add_options(parser, QualityOptions)
    add_local_options(parser)
    return parser


def _filter(argv: list[str]) -> None:
    parser = _parser()
    args = parse(parser, argv)
    if args.recipe:  # its rules in the place of defaults: whatever is given counts, be it 0
        parser.set_defaults(**RECIPES[args.recipe])
        args = parse(parser, argv)
    inputs = {"the scores": [args.scores] if args.scores else []}
    check_outputs({"KEEP.csv": args.keep}, inputs)
    options = read_options(QualityOptions, args)
    check_options(options)
    if options.min_score and args.scores is None:
        raise UsageError("--min-score needs --scores")
    scores = None if args.scores is None else read_keep(args.scores)
    folder = open_set(args.shards, local_options(args))
    if (mirror := mirror_at(folder)) is not None:
        fetch_reports(mirror)
    rows, removed = judge(folder, options, scores)
    table = Table(title="by the first rule that removes them")
    table.add_column("clips")
    for split in SPLITS:
        table.add_column(split, justify="right")
    counts = {split: removed.get(split, Counter()) for split in SPLITS}
    names = [KEEP, *(rule.name for rule in fields(options)), *VERDICTS[1:], NOT_SCORED]
    for name in names:
        numbers = [counts[split][name] for split in SPLITS]
        if name == KEEP or any(numbers):
            table.add_row(name, *(f"{number:,}" for number in numbers))
    Console(markup=False, highlight=False).print(table)
    if args.recipe and scores is None:
        print("note: whether clips are in sync was not looked at: --scores says it")
    kept = sum(row.used for row in rows.values())
    if not kept:
        raise UserError("no clip is left; lower the rule that removes most")
    write_keep(args.keep, rows)
    print(f"wrote {args.keep}: {kept:,} clips to train on, of {len(rows):,} looked at")
    shards = shown_name(args.shards)
    print(f"next: python -m trainer.run --data.shards {shards} --data.manifest {args.keep}")
