"""`python -m data_tools COMMAND`: prepare, pack, check and look at training clips."""

import argparse
import sys
from types import ModuleType

from data_tools import info, pack, verify
from data_tools.clips import ClipError
from data_tools.commands import prepare
from data_tools.names import print_anything
from data_tools.records import RecordError
from data_tools.synth import clips as synth

COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "pack": (pack, "pack clips into WebDataset shards with DALI indices"),
    "verify": (verify, "re-read shards and name every fault"),
    "info": (info, "show what shards hold, as a table and as a picture"),
    "synth": (synth, "make synthetic talking heads to try everything on"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 the data is bad, 2 the command line is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m data_tools", description="Prepare, pack, check and look at training clips."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, purpose) in COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=(module.__doc__ or "").strip()
        )
        module.add_arguments(command)
    commands.add_parser("prepare", help="cut training clips out of any video")
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["prepare"]:
        return prepare.main(arguments[1:])
    print_anything()
    args = parser.parse_args(argv)
    try:
        status: int = COMMANDS[args.command][0].main(args)
        return status
    except ValueError as error:
        print(f"{parser.prog} {args.command}: {error}", file=sys.stderr)
        return 2
    except (ClipError, RecordError, RuntimeError, OSError) as error:
        print(f"{parser.prog} {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog} {args.command}: interrupted; run it again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
