"""Which clips are in sync, and training on those: `python -m trainer.refine --data.shards DIR`

As Chung and Zisserman 2016: train on what there is, measure the genuine pairs of every training
clip with that network, leave out those that do not fit, train again from fresh weights. `--rounds`
counts the trainings, every option of `python -m trainer.run` goes on to them, and a refinement that
was stopped goes on where it was. `--weights W --score-only` only scores.

`--realign` is for sets that were cut or sent with a delay: every clip that is kept is moved by its
own offset, if that is clear and lies where many of the set do; the next network makes the labels
anew. `--with GRID` trains on sets in sync beside it, which hold the zero where it is.

A clip's score says by how much the smallest distance within a frame of no offset lies below the
smallest one elsewhere within +-15, as a share of the clip's median distance; with --realign, by how
much the peak of its centred products stands above the next one, as a share of itself. The outcome
is `keep.csv` (`data_tools.keep`), which `trainer.run --data.manifest` honours, and refine.json,
which says how the offsets are spread; shards stay as they are.
"""

import math
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from data_tools import cli
from data_tools.atomic import try_folder, write_json
from data_tools.errors import UsageError
from data_tools.fetch_ahead import fetching_splits, note
from data_tools.lock import locked
from data_tools.mirror import folder_of, name_of, open_sets
from data_tools.names import real_path
from data_tools.remote_options import (
    add_local_options,
    local_arguments,
    local_options,
    set_name,
)
from trainer.config import check
from trainer.config.command import parse
from trainer.config.crops import measured_notes
from trainer.data.dataset import Dataset
from trainer.model.device import find_device, naming_device_faults
from trainer.model.weights import PACKAGED, find_weights, load_model
from trainer.score.verdicts import VerdictOptions, score_and_judge
from trainer.train.rounds import (
    OWN_OPTIONS,
    RESULT,
    Sets,
    refine,
    round_folder,
    training_arguments,
)
from trainer.train.rounds_table import rounds_table

_EPILOG = """\
All other options go to trainer.run: --config FILE, --train.epochs 40 ...

examples:
  python -m trainer.refine --data.shards shards --config grid.yaml
      train, score, leave out, train again: the second network is in runs/refine-shards/round-2
  python -m trainer.refine --data.shards shards --weights W --score-only --out scores
      only say which clips are off, in scores/keep.csv and scores/scores.png
  python -m trainer.refine --data.shards shards --weights W --realign
      W stands in for the first training; every clip that is kept is moved by its own offset
  python -m trainer.refine --data.shards lrw --with grid --data.weights 0.5 0.5 --weights W \\
          --realign --rounds 3 --config grid.yaml
      trains on both, half and half; lrw is put in place by W, then anew by the network of round 2

exit status: 0 done, 1 bad data or a training that failed, 2 wrong usage
"""


def _parser() -> ArgumentParser:
    parser = cli.command("python -m trainer.refine", __doc__ or "", _EPILOG)
    add = parser.add_argument
    add(
        "--data.shards",
        type=set_name,
        required=True,
        metavar="DIR",
        help="shards that `data_tools pack` wrote, or their URL; their training clips are scored",
    )
    add(
        "--with",
        dest="beside",
        type=set_name,
        nargs="+",
        default=[],
        metavar="DIR",
        help="sets in sync, trained on beside it and left as they are; --data.weights gives the "
        "share of each, that of --data.shards first",
    )
    add_local_options(parser, "data")
    add(
        "--out", type=cli.file_name, help="folder of the results; default runs/refine-<name of DIR>"
    )
    add("--rounds", type=int, default=2, metavar="N", help="trainings in all")
    add(
        "--weights",
        type=find_weights,
        metavar="W",
        help="of any SyncNet, or the name of a network of the package: "
        f"{', '.join(PACKAGED)}; stand in for the first training",
    )
    add("--score-only", action="store_true", help="score with --weights, train nothing")
    cli.add_options(parser, VerdictOptions, without=("device",))
    add("--device", type=str, default="auto", help="of the scoring: auto, cpu or cuda[:n]")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 done, 1 bad data or a training that failed, 2 wrong usage."""
    return cli.exit_status("refine", lambda: _run(argv), "interrupted; the same command goes on")


def _run(argv: list[str] | None) -> None:
    parser = _parser()
    own, training = cli.known(parser, sys.argv[1:] if argv is None else argv)
    args = cli.parse(parser, own)
    _check(args, training)
    weights, local = args.weights, local_options(args.data)
    shards, *beside = open_sets([args.data.shards, *args.beside], local)
    sets = Sets(shards, tuple(beside))
    training += local_arguments(local)
    out = args.out or Path("runs") / f"refine-{name_of(real_path(shards))}"
    try:
        try_folder(out)
    except OSError as error:
        raise UsageError(f"--out: {error}") from None
    device = find_device(args.device, "--device")
    options = cli.read_options(VerdictOptions, args, device=device)
    console = Console(
        width=None if sys.stdout.isatty() else 120, markup=False, highlight=False, emoji=False
    )

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    for told in measured_notes(weights, [shards]) if weights else ():
        say(told)
    with (
        locked(out, "refine"),
        naming_device_faults(),
        fetching_splits([(folder, "train") for folder in (shards, *beside)], note),
    ):
        if args.score_only:
            found = score_and_judge(shards, weights, out, options, say)
            write_json(out / RESULT, {"rounds": [{"weights": str(weights)} | found.as_dict()]})
            say(f"wrote {out / RESULT}: verdicts, and how the offsets are spread")
            return
        # refuses wrong options now, and bad shards
        config, _ = parse(training_arguments(sets, round_folder(out, 1) / "run", training))
        check(config)
        for folder in (sets.shards, *sets.beside):
            Dataset(folder, "train")
        if weights is not None:
            load_model(weights)
        refined = refine(sets, out, args.rounds, options, training, say, weights)
    console.print(rounds_table(refined.rounds))
    say(f"wrote {out / RESULT}: accuracy, verdicts and spread of offsets of each round")
    say(f"wrote {refined.weights}: the network trained on what was kept")


def _check(args: Namespace, training: list[str]) -> None:
    """Options that do not go together.

    Args:
        training: the words that go to `trainer.run`.

    Raises:
        UsageError: names them.
    """
    if args.threshold is not None and args.reject_share is not None:
        raise UsageError("give --threshold or --reject-share, not both")
    if args.threshold is not None and not math.isfinite(args.threshold):
        raise UsageError("--threshold must be a number")
    if args.score_only and args.weights is None:
        raise UsageError("--score-only needs --weights")
    if args.score_only and args.beside:
        raise UsageError("--score-only trains nothing: what is --with for?")
    shards, *beside = (real_path(folder_of(name)) for name in (args.data.shards, *args.beside))
    if shards in beside:
        raise UsageError(f"--with {args.data.shards} is the set that is to be refined")
    if args.score_only and training:
        raise UsageError(f"--score-only trains nothing: what is {training[0]}?")
    if not args.score_only and args.rounds < 2:
        raise UsageError(f"--rounds must be at least 2 (train, refine, train), not {args.rounds}")
    for word in training:
        if word.split("=")[0] in OWN_OPTIONS:
            raise UsageError(f"{word.split('=')[0]} is set by the refinement itself")


if __name__ == "__main__":
    sys.exit(main())
