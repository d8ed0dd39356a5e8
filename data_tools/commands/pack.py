"""Pack clips into WebDataset shards with DALI indices: `python -m data_tools pack CLIPS OUT`.

The plan (split, shuffle, which clip goes to which shard) is made from names and sizes alone, before
anything is read, and recorded in OUT/plan.json. A shard is the unit of work and of resume.
"""

from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from data_tools.cli import add_options, command, exit_status, file_name, parse, read_options
from data_tools.errors import UsageError, UserError
from data_tools.info import printable, summarise
from data_tools.keep import in_words, read_keep
from data_tools.manifest import MANIFEST, Manifest, in_two_splits
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.workers import WorkerOptions, process_count

PROGRAM = "python -m data_tools pack"


def main(argv: list[str]) -> int:
    """Run `pack`; 1 if clips were left out or none remained."""
    return exit_status(PROGRAM, lambda: _pack(argv), "interrupted; run it again to go on")


def _parser() -> ArgumentParser:
    parser = command(PROGRAM, __doc__)
    parser.add_argument(
        "clips", type=file_name, help="folder of clips: [<split>/]<clip>/{audio.wav,frames/}"
    )
    parser.add_argument("out", type=file_name, help="folder for the shards")
    parser.add_argument(
        "--ratios",
        type=str,
        default=":".join(map(str, PackOptions().ratios)),
        help="train:val:test",
    )
    add_options(parser, PackOptions, without=("ratios",))
    parser.add_argument(
        "--manifest",
        type=file_name,
        metavar="KEEP.csv",
        help="of `trainer.refine`: leave out the clips it rejects, put those to be realigned in "
        "place; clips without a row stay",
    )
    add_options(parser, WorkerOptions)
    parser.add_argument(
        "--allow-dropped",
        action="store_true",
        help="exit with status 0 although clips were left out (they are listed all the same)",
    )
    return parser


def _pack(argv: list[str]) -> int:
    args = parse(_parser(), argv)
    options = read_options(PackOptions, args, ratios=_ratios(args.ratios))
    keep = None if args.manifest is None else read_keep(args.manifest)
    manifest = pack(args.clips, args.out, options, process_count(args.workers), keep)
    console = Console(markup=False, highlight=False, emoji=False)  # a name may hold [brackets]
    summarise(manifest, args.out, console)
    if keep is not None:
        console.print(f"by {args.manifest}: {in_words(keep.values())}", soft_wrap=True)
    console.print(f"manifest: {args.out / MANIFEST}", soft_wrap=True)
    dropped = len(manifest.dropped)
    if manifest.clips_found == dropped:
        raise UserError("no clip could be packed: see the reasons above")
    if dropped:
        remedy = "" if args.allow_dropped else "; --allow-dropped makes this exit 0"
        console.print(
            f"{dropped} clips were left out (listed in the manifest); the shards are complete "
            f"without them{remedy}",
            soft_wrap=True,
        )
    repeated = _print_doubts(manifest, args.out, console)
    return 1 if repeated or (dropped and not args.allow_dropped) else 0


def _ratios(text: str) -> tuple[int, int, int]:
    try:
        train, val, test = (int(share) for share in text.split(":"))
    except ValueError:
        raise UsageError(f"--ratios {text!r} is not like 80:10:10") from None
    return train, val, test


def _print_doubts(manifest: Manifest, out: Path, console: Console) -> bool:
    """Print what training or validation will lack; whether a clip lies in two splits."""
    for split in ("train", "val"):
        if manifest.splits[split].clips == 0:
            console.print(f"note: the {split} split is empty; see --ratios and --split-by")
    repeated = in_two_splits(out / shard.name for shard in manifest.shards)
    for words in repeated:
        console.print(f"{printable(words)}; remove one and pack into a new folder")
    return bool(repeated)
