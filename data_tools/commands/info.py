"""What a folder of shards holds, as a table and as a picture: `python -m data_tools info OUT`."""

from rich.console import Console

from data_tools.cache_file import default_folder
from data_tools.cli import add_options, command, exit_status, file_name, parse, read_options
from data_tools.info import MontageOptions, montage, summarise, summarise_cache
from data_tools.manifest import read_manifest
from data_tools.mirror import open_set, shown_name
from data_tools.remote_options import add_local_options, local_options, set_name

PROGRAM = "python -m data_tools info"


def main(argv: list[str]) -> int:
    """Run `info`."""
    return exit_status(PROGRAM, lambda: _info(argv))


def _info(argv: list[str]) -> None:
    parser = command(PROGRAM, __doc__)
    parser.add_argument("out", type=set_name, help="folder of shards, or its URL")
    add_local_options(parser)
    parser.add_argument(
        "--montage",
        type=file_name,
        metavar="FILE.png",
        help="draw frames and MFCC of sampled clips",
    )
    parser.add_argument(
        "--cache",
        type=file_name,
        metavar="DIR",
        help="the cache of decoded frames to look into (default: that of `--data.cache auto`)",
    )
    add_options(parser, MontageOptions)
    args = parse(parser, argv)
    options = read_options(MontageOptions, args)
    console = Console(markup=False, highlight=False, emoji=False)  # a name may hold [brackets]
    out = open_set(args.out, local_options(args))
    manifest = read_manifest(out)
    summarise(manifest, shown_name(args.out), console)
    summarise_cache(manifest, out, args.cache or default_folder(), console)
    if args.montage is not None:
        montage(out, args.montage, options)
        print(f"montage: {args.montage}")
