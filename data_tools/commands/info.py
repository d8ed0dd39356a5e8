"""What a folder of shards holds, as a table and as a picture: `python -m data_tools info OUT`."""

from rich.console import Console

from data_tools.cli import add_options, command, exit_status, file_name, parse, read_options
from data_tools.info import MontageOptions, montage, summarise
from data_tools.manifest import read_manifest

PROGRAM = "python -m data_tools info"


def main(argv: list[str]) -> int:
    """Run `info`."""
    return exit_status(PROGRAM, lambda: _info(argv))


def _info(argv: list[str]) -> None:
    parser = command(PROGRAM, __doc__)
    parser.add_argument("out", type=file_name, help="folder of shards")
    parser.add_argument(
        "--montage",
        type=file_name,
        metavar="FILE.png",
        help="draw frames and MFCC of sampled clips",
    )
    add_options(parser, MontageOptions)
    args = parse(parser, argv)
    options = read_options(MontageOptions, args)
    console = Console(markup=False, highlight=False, emoji=False)  # a name may hold [brackets]
    summarise(read_manifest(args.out), args.out, console)
    if args.montage is not None:
        montage(args.out, args.montage, options)
        print(f"montage: {args.montage}")
