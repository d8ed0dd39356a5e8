"""What every command line of this project shares: its options, its one sentence, its exit status.

Options come from dataclasses: a field's name, type, default and the docstring's line about it are
the option's. A mistake of the user ends in one sentence; a bug of ours shows its traceback.
"""

import re
import sys
from argparse import SUPPRESS, Action, ArgumentTypeError, RawDescriptionHelpFormatter
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import docstring_parser
import yaml
from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    get_loader,
    set_loader,
)
from jsonargparse.typing import registered_types, restricted_number_type
from msgspec import Meta

from data_tools.atomic import try_writing
from data_tools.errors import UsageError, UserError, out_of_memory
from data_tools.inputs import SUFFIXES
from data_tools.interrupt import Stop, stopping_signals
from data_tools.names import first_line, print_anything, real_path, shown

Settings = TypeVar("Settings")

_BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}
_LIMITS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}  # as msgspec's Meta calls them

_MODE = "words or yaml"
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


class _Help(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """--help without the names of types; a default is told where there is one.

    Description and epilog keep their lines.
    """

    def _get_help_string(self, action: Action) -> str:
        words = action.help or ""
        none = action.default is False or action.default in (None, SUPPRESS)  # 0 is a default
        if none or "default" in words:
            return words
        return f"{words.rstrip('.')} (default: {action.default})"


def _load(words: str) -> Any:
    """What an option's words hold; YAML fails at file names that are no UTF-8, and at [[[[[..."""
    try:
        return get_loader("yaml")(words)
    except (UnicodeError, RecursionError):
        return words


set_loader(_MODE, _load, (yaml.YAMLError,))


def whole(name: str, least: int, most: int | None = None) -> Any:
    """A type for whole numbers of `least` to `most`: whole("Size", 16, 4096)."""
    bounds = [(">=", least)] if most is None else [(">=", least), ("<=", most)]
    return _restricted(name, int, bounds)


def file_name(text: str) -> Path:
    """A type for files and folders: any name, also one that is not UTF-8, but not none.

    (`Path` as a type refuses names that are not UTF-8.)
    """
    if not text:
        raise ArgumentTypeError("a file name is empty")
    return Path(text)


def command(program: str, description: str, epilog: str = "") -> ArgumentParser:
    """An empty command line; `parse` reads it.

    Args:
        program: As it is called: "python -m trainer.sync".
        description: What --help says above the options.
        epilog: And below them: examples, exit statuses.
    """
    return ArgumentParser(
        prog=program,
        description=description.strip(),
        epilog=epilog.strip(),
        exit_on_error=False,  # or forty lines of usage would hide the one that matters
        allow_abbrev=False,
        formatter_class=_Help,
        parser_mode=_MODE,
    )


def add_options(
    parser: Any, settings: type[Any], only: Collection[str] = (), without: Collection[str] = ()
) -> None:
    """Give `parser` (or a group of it) an option for each field of a dataclass.

    A field `min_face` becomes --min-face; a field that is False by default becomes a switch. The
    help is what the docstring's "Attributes" say of the field. A field without a default must be
    given. A number's limits may stand in its type: `Annotated[int, Meta(ge=16, le=4096)]`.

    Args:
        only: the fields to take; all if empty.
        without: fields to leave out.
    """
    helps = {
        entry.arg_name: " ".join((entry.description or "").split())
        for entry in docstring_parser.parse(settings.__doc__ or "").params
    }
    for field in fields(settings):
        if (only and field.name not in only) or field.name in without:
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        must = {"required": True} if default is MISSING else {"default": default}
        option = f"--{field.name.replace('_', '-')}"
        words = helps.get(field.name, "")
        if field.type is bool and default is False:
            parser.add_argument(option, action="store_true", help=words)
            continue
        kind = field.type
        if default is None:  # `| None` would take the word null for nothing
            kinds = [each for each in get_args(kind) if each is not type(None)]
            kind = kinds[0] if len(kinds) == 1 else kind
        parser.add_argument(option, type=_limited(kind), help=words, **must)


def read_options(settings: type[Settings], args: Namespace, **more: Any) -> Settings:
    """The dataclass that `args` fill, for the fields that are options; `more` gives others."""
    given = {f.name: _plain(args[f.name]) for f in fields(settings) if f.name in args}  # type: ignore[arg-type]
    return settings(**(given | more))


def _plain(value: Any) -> Any:
    """A number as itself, not as jsonargparse's own type, which other processes do not know."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, float) else value


def check_options(settings: Any) -> None:
    """Check values against the limits in their types, for settings that no command line made.

    Args:
        settings: a dataclass whose fields are like `Annotated[int, Meta(ge=16)]`, a Literal, or
            anything else.

    Raises:
        UsageError: a value is none of those allowed; says which option it is and what it may be.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        option = f"--{field.name.replace('_', '-')}"
        for kind in (field.type, *get_args(field.type)):
            if value is not None and get_origin(kind) is Literal and value not in get_args(kind):
                words = ", ".join(map(repr, get_args(kind)))
                raise UsageError(f"{option} must be one of {words}, not {value!r}")
            if value is None or get_origin(kind) is not Annotated:
                continue
            try:
                _limited(kind)(value)
            except ValueError as error:
                raise UsageError(sentence(f'Parser key "{field.name}": {error}')) from None


def _limited(kind: Any) -> Any:
    """The type that checks the limits in `Annotated[int, Meta(...)]`; any other as it is."""
    if get_origin(kind) is not Annotated:
        return kind
    number, *metas = get_args(kind)
    bounds = [
        (sign, getattr(meta, limit))
        for meta in metas
        if isinstance(meta, Meta)
        for limit, sign in _LIMITS.items()
        if getattr(meta, limit) is not None
    ]
    return _restricted(None, number, bounds) if bounds else kind


def _restricted(name: str | None, kind: type, bounds: list[tuple[str, Any]]) -> Any:
    # jsonargparse refuses limits that have another name already, say PositiveInt
    known = registered_types.get((tuple(sorted(bounds)), kind, "and"))
    return known or restricted_number_type(name, kind, bounds)


def parse(parser: ArgumentParser, argv: list[str] | None = None) -> Namespace:
    """What the command line says; numbers of a restricted type are plain ones.

    Raises:
        UsageError: in one sentence.
        SystemExit: after --help.
    """
    try:
        given = parser.parse_args(argv)
        for name, value in vars(given).items():
            # a restricted type exists in the process that made it, and values travel to others
            if type(value) not in (int, float, bool) and isinstance(value, (int, float)):
                given[name] = int(value) if isinstance(value, int) else float(value)
        return given
    except ArgumentError as error:
        problem = str(error.message)
    if missing := re.search(r"arguments are required: (.*)", problem):
        options = {action.dest: action.option_strings for action in parser._actions}
        names = [(options.get(name) or [name.upper()])[-1] for name in missing[1].split(", ")]
        problem = f"{', '.join(names)} must be given"
    raise UsageError(f"{sentence(problem)}{_more_than_one(parser, argv, problem)} (see --help)")


def _more_than_one(parser: ArgumentParser, argv: list[str] | None, problem: str) -> str:
    """What to say where words too many follow an option that takes one, as in --ratios 8 1 1."""
    _, told, listed = problem.partition("unrecognized arguments: ")
    given, words = sys.argv[1:] if argv is None else argv, listed.split()
    unknown = not told or words[0].startswith("-")  # an option, and no value too many
    for at in () if unknown else range(2, len(given)):
        action = parser._option_string_actions.get(given[at - 2])
        if given[at : at + len(words)] == words and action and action.nargs is None:
            return f"; {given[at - 2]} takes one value, for example {action.default}"
    return ""


def parted(parser: ArgumentParser, argv: list[str]) -> tuple[list[str], list[str]]:
    """The options of a command line, for `parse`, and its arguments, which may stand among them.

    Behind a "--" all are arguments. (jsonargparse has no `parse_intermixed_args`.)
    """
    takes = {name: action.nargs for action in parser._actions for name in action.option_strings}
    end = argv.index("--") if "--" in argv else len(argv)
    options: list[str] = []
    arguments: list[str] = []
    words = deque(argv[:end])
    while words:
        word = words.popleft()
        if word.startswith("-") and len(word) > 1:
            options.append(word)
            may = takes.get(word, 0) == "?"  # it takes a value only where one stands behind it
            if words and takes.get(word, 0) != 0 and not (may and words[0].startswith("-")):
                options.append(words.popleft())
        else:
            arguments.append(word)
    return options, arguments + argv[end + 1 :]


def check_outputs(
    outputs: Mapping[str, Path | None],
    inputs: Mapping[str, Iterable[Path]],
    videos: Collection[str] = (),
) -> None:
    """Whether every output can be written and is no input and no other output.

    None but videos may be called like one: in `--html a.mp4 b.mp4` the name of the page was left
    out, and it would take the place of a.mp4.

    Args:
        outputs: by the option that names them; None is not to be written.
        inputs: by what they are, "the weights" for one.
        videos: options that write a video.

    Raises:
        UsageError: one cannot.
    """
    taken = {what: list(files) for what, files in inputs.items()}
    for option, out in outputs.items():
        if out is None:
            continue
        try:
            known = [what for what, files in taken.items() if any(_same(out, f) for f in files)]
            if not known:
                try_writing(out)
        except OSError as error:
            raise UsageError(f"{option}: {first_line(error)}") from None
        if known:
            raise UsageError(f"{option}: {shown(out)} is {known[0]}, which is never overwritten")
        if option not in videos and out.suffix.lower() in SUFFIXES:
            raise UsageError(
                f"{option}: {shown(out)} is called like a video; {option} takes the name of the "
                "file to write, and the videos follow it"
            )
        taken[f"what {option} writes"] = [out]


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)  # also by links
    return real_path(one) == real_path(other)


def known(parser: ArgumentParser, argv: list[str]) -> tuple[list[str], list[str]]:
    """The words of a command line that are options of `parser`, for `parse`, and all others.

    For a program that passes the others on. (jsonargparse refuses `parse_known_args`.)
    """
    takes = {name: action.nargs for action in parser._actions for name in action.option_strings}
    own: list[str] = []
    others: list[str] = []
    words = deque(argv)
    while words:
        word = words.popleft()
        if word == "--":
            others += [word, *words]
            break
        name, equals, _ = word.partition("=")
        if name not in takes:
            others.append(word)
            continue
        own.append(word)
        if takes[name] != 0 and not equals and words:
            own.append(words.popleft())
        while takes[name] == "+" and not equals and words and not words[0].startswith("-"):
            own.append(words.popleft())
    return own, others


def sentence(problem: str) -> str:
    """What jsonargparse says of a wrong value, in the words of the command line."""
    text = " ".join(problem.removeprefix("error: ").split())
    key = re.match(r'Parser key "([\w.]+)": (.*)', text)
    if key is None:
        return text[:500]
    option, text = "--" + key[1].replace("_", "-"), key[2]
    if bound := re.match(
        r"(?:Not of type \w+: )?(.*?) ?does not conform to restriction (.*)", text
    ):
        words = re.sub(r"v(>=|<=|>|<)", lambda sign: f"{_BOUNDS[sign[1]]} ", bound[2])
        return f"{option} must be {words}, not {bound[1][:100] or 0}"
    if literal := re.match(r"Expected a typing.Literal\[(.*)\]. Got value: (.*)", text):
        return f"{option} must be one of {literal[1]}, not {literal[2][:100]}"
    if wrong := re.match(r"Expected a <class '(int|float|bool)'>. Got value: (.*)", text):
        return f"{option} must be {_KINDS[wrong[1]]}, not {wrong[2][:100]}"
    if number := re.search(r"invalid literal for int\(\) with base 10: (.*)", text):
        return f"{option} must be a whole number, not {number[1][:100]}"
    if number := re.search(r"could not convert string to float: (.*)", text):
        return f"{option} must be a number, not {number[1][:100]}"
    return f"{option}: {text[:500]}"


def exit_status(
    program: str,
    work: Callable[[], int | None],
    interrupted: str = "interrupted",
    own_signals: bool = False,
) -> int:
    """Do `work`; its exit status, after one sentence on standard error if it failed.

    0 done, 1 the data are bad or there is no memory left, 2 the command line is wrong, 130 Ctrl-C,
    143 SIGTERM, 129 the terminal was closed. What is no `UserError` and no `OSError` (a missing
    file, a full disk) else is a bug of ours and passes through.

    Args:
        program: what the sentence begins with.
        interrupted: the sentence after Ctrl-C and the like.
        own_signals: `work` handles all signals but Ctrl-C itself, or is to die of them.
    """
    print_anything()
    with nullcontext(Stop()) if own_signals else stopping_signals() as stop:
        try:
            return work() or 0
        except UsageError as error:
            status, words = 2, str(error)
        except UserError as error:
            status, words = 1, str(error)
        except OSError as error:
            status, words = 1, first_line(error)
        except KeyboardInterrupt:
            status, words = 130, interrupted
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            status = 1
            words = f"out of memory ({first_line(error)}); what was saved before is whole"
        if stop.number is not None:  # whatever came of it: no terminal to write to, for one
            status, words = 128 + stop.number, interrupted
        with suppress(OSError):
            print(f"{program}: {words}", file=sys.stderr)
    return status
