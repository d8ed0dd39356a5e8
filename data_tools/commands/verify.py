"""Re-read shards and name every fault: `python -m data_tools verify OUT`."""

from data_tools.cli import add_options, command, exit_status, file_name, parse
from data_tools.manifest import read_manifest
from data_tools.verifying import verify
from data_tools.workers import WorkerOptions, process_count

PROGRAM = "python -m data_tools verify"


def main(argv: list[str]) -> int:
    """Run `verify`; 1 if anything is wrong."""
    return exit_status(PROGRAM, lambda: _verify(argv), "interrupted; run it again to go on")


def _verify(argv: list[str]) -> int:
    parser = command(PROGRAM, __doc__)
    parser.add_argument("out", type=file_name, help="folder of shards")
    add_options(parser, WorkerOptions)
    args = parse(parser, argv)
    faults = verify(args.out, process_count(args.workers))
    for fault in faults:
        print(fault)
    manifest = read_manifest(args.out)
    clips = sum(split.clips for split in manifest.splits.values())
    shards = len(manifest.shards)
    if faults:
        print(f"{args.out}: {len(faults)} faults in {shards} shards")
        return 1
    print(f"{args.out}: {shards} shards, {clips} clips, no fault")
    return 0
