"""`python -m data_tools COMMAND`: prepare, pack, check and look at training clips."""

import sys
from importlib import import_module

COMMANDS = {
    "prepare": "cut training clips out of any video",
    "pack": "pack clips into WebDataset shards with DALI indices",
    "verify": "re-read shards and name every fault",
    "filter": "choose the clips of shards that are good enough to train on",
    "info": "show what shards hold, as a table and as a picture",
    "synth": "make synthetic talking heads to try everything on",
}
_PROGRAM = "python -m data_tools"


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 the data are bad, 2 the command line is wrong."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else ""
    if name in COMMANDS:  # its libraries alone are loaded
        status: int = import_module(f"data_tools.commands.{name}").main(arguments[1:])
        return status
    if name in ("-h", "--help"):
        print(_table())
        return 0
    wrong = f"there is no command {name!r}" if name else "a command must be given"
    print(f"{_table()}\n\n{_PROGRAM}: {wrong}", file=sys.stderr)
    return 2


def _table() -> str:
    rows = [f"  {name:<9}{purpose}" for name, purpose in COMMANDS.items()]
    head = f"usage: {_PROGRAM} COMMAND ...", "", "Prepare, pack, check and look at training clips."
    return "\n".join([*head, "", *rows, "", f"{_PROGRAM} COMMAND --help shows its options."])


if __name__ == "__main__":
    sys.exit(main())
