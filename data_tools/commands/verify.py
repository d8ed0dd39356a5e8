"""Re-read shards and name every fault: `python -m data_tools verify OUT`."""

from data_tools.cli import add_options, command, exit_status, parse
from data_tools.manifest import read_manifest
from data_tools.mirror import open_set, shown_name
from data_tools.remote_options import add_local_options, local_options, set_name
from data_tools.verifying import verify
from data_tools.workers import WorkerOptions, process_count

PROGRAM = "python -m data_tools verify"


def main(argv: list[str]) -> int:
    """Run `verify`; 1 if anything is wrong."""
    return exit_status(PROGRAM, lambda: _verify(argv), "interrupted; run it again to go on")


def _verify(argv: list[str]) -> int:
    parser = command(PROGRAM, __doc__)
    parser.add_argument("out", type=set_name, help="folder of shards, or its URL")
    add_local_options(parser)
    add_options(parser, WorkerOptions)
    args = parse(parser, argv)
    out, name = open_set(args.out, local_options(args)), shown_name(args.out)
    faults = verify(out, process_count(args.workers))
    for fault in faults:
        print(fault)
    manifest = read_manifest(out)
    clips = sum(split.clips for split in manifest.splits.values())
    shards = len(manifest.shards)
    if faults:
        print(f"{name}: {len(faults)} faults in {shards} shards")
        return 1
    print(f"{name}: {shards} shards, {clips} clips, no fault")
    return 0
