"""What every command line of this project shares: its options, its one sentence, its exit status.

Options come from dataclasses: a field's name, type, default and the docstring's line about it are
the option's. A mistake of the user ends in one sentence; a bug of ours shows its traceback.
"""

import re
import sys
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace
from jsonargparse.typing import restricted_number_type

from data_tools.errors import UsageError, UserError
from data_tools.names import print_anything

Settings = TypeVar("Settings")

_BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}


class _Help(DefaultHelpFormatter):
    """--help without the names of types; a default is told where there is one."""

    def _get_help_string(self, action: Action) -> str:
        words = action.help or ""
        if action.default in (None, False, SUPPRESS) or "default" in words:
            return words
        return f"{words.rstrip('.')} (default: {action.default})"


class _VerbatimHelp(_Help, RawDescriptionHelpFormatter):
    """The same with the description's own lines."""


def whole(name: str, least: int, most: int | None = None) -> Any:
    """A type for whole numbers of `least` to `most`: whole("Size", 16, 4096)."""
    bounds = [(">=", least)] if most is None else [(">=", least), ("<=", most)]
    return restricted_number_type(name, int, bounds)


def command(program: str, description: str, verbatim: bool = False) -> ArgumentParser:
    """An empty command line; `parse` reads it.

    Args:
        program: As it is called: "python -m trainer.sync".
        description: What --help says above the options.
        verbatim: Keep the lines of the description as they are.
    """
    return ArgumentParser(
        prog=program,
        description=description.strip(),
        exit_on_error=False,  # or forty lines of usage would hide the one that matters
        allow_abbrev=False,
        formatter_class=_VerbatimHelp if verbatim else _Help,
    )


def add_options(
    parser: Any, settings: type[Any], only: Collection[str] = (), without: Collection[str] = ()
) -> None:
    """Give `parser` (or a group of it) an option for each field of a dataclass.

    A field `min_face` becomes --min-face; a field that is False by default becomes a switch. The
    help is what the docstring's "Attributes" say of the field.

    Args:
        only: the fields to take; all if empty.
        without: fields to leave out.
    """
    said = {
        entry.arg_name: " ".join((entry.description or "").split())
        for entry in docstring_parser.parse(settings.__doc__ or "").params
    }
    for field in fields(settings):
        if (only and field.name not in only) or field.name in without:
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        option = f"--{field.name.replace('_', '-')}"
        words = said.get(field.name, "")
        if field.type is bool and default is False:
            parser.add_argument(option, action="store_true", help=words)
            continue
        kind = field.type
        if default is None:  # `| None` would take the word null for nothing
            kinds = [each for each in get_args(kind) if each is not type(None)]
            kind = kinds[0] if len(kinds) == 1 else kind
        parser.add_argument(option, type=kind, default=default, help=words)


def read_options(settings: type[Settings], args: Namespace, **more: Any) -> Settings:
    """The dataclass that `args` fill, for the fields that are options; `more` gives others."""
    given = {f.name: args[f.name] for f in fields(settings) if f.name in args}  # type: ignore[arg-type]
    return settings(**(given | more))


def parse(parser: ArgumentParser, argv: list[str] | None = None) -> Namespace:
    """What the command line says.

    Raises:
        UsageError: in one sentence.
        SystemExit: after --help.
    """
    try:
        return parser.parse_args(argv)
    except ArgumentError as error:
        raise UsageError(f"{sentence(str(error.message))} (see --help)") from None


def sentence(problem: str) -> str:
    """What jsonargparse says of a wrong value, in the words of the command line."""
    text = " ".join(problem.removeprefix("error: ").split())
    key = re.match(r'Parser key "([\w.]+)": (.*)', text)
    if key is None:
        return text[:500]
    option, text = "--" + key[1].replace("_", "-"), key[2]
    if bound := re.match(r"Not of type \w+: (.*?) ?does not conform to restriction (.*)", text):
        words = re.sub(r"v(>=|<=|>|<)", lambda found: f"{_BOUNDS[found[1]]} ", bound[2])
        return f"{option} must be {words}, not {bound[1] or 0}"
    if literal := re.match(r"Expected a typing.Literal\[(.*)\]. Got value: (.*)", text):
        return f"{option} must be one of {literal[1]}, not {literal[2][:100]}"
    if number := re.search(r"invalid literal for int\(\) with base 10: (.*)", text):
        return f"{option} must be a whole number, not {number[1][:100]}"
    if number := re.search(r"could not convert string to float: (.*)", text):
        return f"{option} must be a number, not {number[1][:100]}"
    return f"{option}: {text[:500]}"


def exit_status(
    program: str, work: Callable[[], int | None], interrupted: str = "interrupted"
) -> int:
    """Do `work`; its exit status, after one sentence on standard error if it failed.

    0 done, 1 the data are bad, 2 the command line is wrong, 130 Ctrl-C. What is no `UserError` and
    no `OSError` (a missing file, a full disk) is a bug of ours and passes through.

    Args:
        program: what the sentence begins with.
        interrupted: the sentence after Ctrl-C.
    """
    print_anything()
    try:
        return work() or 0
    except UsageError as error:
        status, said = 2, str(error)
    except (UserError, OSError) as error:
        status, said = 1, str(error)
    except KeyboardInterrupt:
        status, said = 130, interrupted
    print(f"{program}: {said}", file=sys.stderr)
    return status
