"""Cut training clips out of any video: `python -m data_tools prepare`."""

import argparse

from data_tools import prepare
from data_tools.cli import exit_status
from data_tools.errors import UsageError

PROGRAM = "python -m data_tools prepare"


def main(argv: list[str]) -> int:
    """Run `prepare`; 1 if no clip was kept."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=prepare.__doc__)
    prepare.add_arguments(parser)
    args = parser.parse_args(argv)

    def work() -> int:
        try:
            return prepare.main(args)
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from error

    return exit_status(PROGRAM, work, "interrupted; run it again to go on")
