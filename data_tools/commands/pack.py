"""Pack clips into WebDataset shards with DALI indices: `python -m data_tools pack CLIPS OUT`.

The plan (split, shuffle, which clip goes to which shard) is made from names and sizes alone, before
anything is read, and recorded in OUT/plan.json. A shard is the unit of work and of resume.
"""

from jsonargparse import ArgumentParser
from rich.console import Console

from data_tools.cli import add_options, command, exit_status, file_name, parse, read_options
from data_tools.engines import RunOptions
from data_tools.errors import UserError
from data_tools.info import print_doubts, summarise
from data_tools.keep import in_words, read_keep
from data_tools.manifest import MANIFEST
from data_tools.mirror import folder_of, shown_name
from data_tools.packing import pack
from data_tools.plan import PackOptions, read_ratios
from data_tools.remote import Remote, is_remote
from data_tools.remote_options import add_local_options, local_options, set_name
from data_tools.upload import Upload
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
    parser.add_argument(
        "out", type=set_name, help="folder for the shards, or its URL in a bucket: s3://bucket/set"
    )
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
    add_local_options(parser)
    add_options(parser, RunOptions, only=("engine", "ray_address"))
    parser.add_argument(
        "--allow-dropped",
        action="store_true",
        help="exit with status 0 although clips were left out (they are listed all the same)",
    )
    return parser


def _pack(argv: list[str]) -> int:
    args = parse(_parser(), argv)
    options = read_options(PackOptions, args, ratios=read_ratios(args.ratios))
    keep = None if args.manifest is None else read_keep(args.manifest)
    local = local_options(args)
    out, name, upload = folder_of(args.out, local.local), shown_name(args.out), None
    if is_remote(args.out):
        upload = Upload(Remote(args.out), out, int(local.local_gb * 1e9))
    run = RunOptions(args.workers, args.engine, args.ray_address)
    run.check()
    engine = run.run if run.engine == "ray" else None
    manifest = pack(args.clips, out, options, process_count(run.workers), keep, upload, engine)
    console = Console(markup=False, highlight=False, emoji=False)  # a name may hold [brackets]
    summarise(manifest, name, console)
    if keep is not None:
        console.print(f"by {args.manifest}: {in_words(keep.values())}", soft_wrap=True)
    console.print(f"manifest: {name}/{MANIFEST}", soft_wrap=True)
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
    repeated = print_doubts(manifest, out, console)
    return 1 if repeated or (dropped and not args.allow_dropped) else 0
