"""Files of settings: YAML without its surprises, read into what the command line would say.

Files are read here, not by jsonargparse, which would wait for a pipe, import the module that a
`class_path` names, and unfold aliases of aliases.
"""

import math
import os
import re
import sys
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

import yaml

from data_tools.errors import UsageError
from data_tools.records import RecordError, convert
from trainer.config.checks import MOST_TEXT, check_section
from trainer.config.settings import SECTIONS, SETTINGS, SEVERAL
from trainer.model.torch_file import open_regular, plain_name

_MOST_BYTES = 1 << 20  # of a file of settings
_MOST_DEPTH = 2  # all, and a section
_SEVERAL = tuple(f"{name}." for name in SEVERAL)  # settings that may be lists, one level deeper
_NUMBERS = {int, float, bool}


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 without its surprises: 010 is not 8, 1:30 is not 90, a date is text."""


_PLAIN_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)",
    "tag:yaml.org,2002:float": r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in (*_PLAIN_NUMBERS, "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _PLAIN_NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list("-+.0123456789"))


def load_yaml(text: str) -> Any:
    """The plain values of a YAML text: scalars, lists, and tables of at most two levels.

    Aliases, anchors and tags are refused: nothing that is set needs them.

    Raises:
        yaml.YAMLError: no such YAML, or a key given twice.
    """
    if len(text) > _MOST_BYTES:
        raise yaml.YAMLError(f"more than {_MOST_BYTES >> 20} MB, which no settings take")
    try:
        _scan(text)
        return yaml.load(text, Loader=_Loader)
    except UnicodeEncodeError:
        raise yaml.YAMLError("text that is no UTF-8") from None
    except ValueError as error:  # of a number that is none, such as 0x_
        raise yaml.YAMLError(str(error)) from None


def load_value(text: str) -> Any:
    """The value of one setting: as `load_yaml`, but a path such as # is no comment.

    Raises:
        yaml.YAMLError: as `load_yaml`.
    """
    value = load_yaml(text)
    return text if value is None and text.lstrip().startswith("#") else value


def _scan(text: str) -> None:
    """Refuse, event by event, what would grow or overwrite when it is put together."""
    lines: dict[str, int] = {}  # where a setting was given, by its name from the top
    tables: list[list[Any]] = []  # for each level: name, whether a key is due, the latest key
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionEndEvent):
            tables.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.YAMLError(f"line {line}: aliases and anchors are not for settings")
        if event.tag is not None:
            raise yaml.YAMLError(f"line {line}: tags are not for settings")
        if tables and tables[-1][1] is not None:
            tables[-1][1] = not tables[-1][1]
            if not tables[-1][1]:  # a key
                if not isinstance(event, yaml.ScalarEvent):
                    raise yaml.YAMLError(f"line {line}: a setting's name must be text")
                name = f"{tables[-1][0]}{event.value}"
                if name in lines:
                    raise yaml.YAMLError(
                        f"{plain_name(name)} is given twice, in lines {lines[name]} and {line}"
                    )
                lines[name] = line
                tables[-1][2] = f"{name}."
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MOST_TEXT:
                raise yaml.YAMLError(f"line {line}: a value of over {MOST_TEXT} characters")
        else:
            several = isinstance(event, yaml.SequenceStartEvent) and tables[-1:] and tables[-1][2]
            deepest = _MOST_DEPTH + (several in _SEVERAL)
            if len(tables) >= deepest:
                raise yaml.YAMLError(f"line {line}: nested deeper than settings are")
            due = True if isinstance(event, yaml.MappingStartEvent) else None
            tables.append([tables[-1][2] if tables else "", due, ""])


def settings(option: str, value: str) -> str:
    """What `--config VALUE` or `--data VALUE` (or another section) sets, as YAML in one line.

    Args:
        option: "config" or a section.
        value: a file, "-" for standard input, the name of a packaged file (`packaged`; for
            "config" only), or YAML itself.

    Raises:
        UsageError: says of which file or option what is wrong.
    """
    table, origin = _read_table(option, value)
    if option != "config":
        _off_is_a_word(option, table)
        check_section(table, option, f"{origin}: {option}")
    for key in table if option == "config" else ():
        if key == "config":
            raise UsageError(f"{origin}: one file of settings cannot name another")
        section, dot, name = str(key).partition(".")
        if section not in SECTIONS:
            continue  # an option, or an error that jsonargparse tells
        values = {name: table[key]} if dot else table[key]
        if not isinstance(values, dict):
            raise UsageError(f"{origin}: {section} must have settings below it")
        _off_is_a_word(section, values)
        if dot:
            table[key] = values[name]
        check_section(values, section, f"{origin}: {section}")
    dumped: str = yaml.safe_dump(table, default_flow_style=True, width=math.inf)
    return dumped.strip()


def _off_is_a_word(section: str, values: dict[str, Any]) -> None:
    """YAML 1.1 takes the word off for false, which no setting of text can be: mend it in place."""
    for name, value in values.items():
        if value is False and SETTINGS.get(f"{section}.{name}") is str:
            values[name] = "off"


def packaged() -> dict[str, Traversable]:
    """The files of settings that come with the package, by name."""
    folder = resources.files("trainer") / "configs"
    if not folder.is_dir():
        return {}
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    return {file.name: file for file in sorted(files, key=lambda file: file.name)}


def _read_table(option: str, value: str) -> tuple[dict[Any, Any], str]:
    """What `--option value` sets, and where that stands, for messages."""
    is_file = value == "-" or os.path.lexists(value)
    origin = ("standard input" if value == "-" else value) if is_file else f"--{option}"
    bare = option == "config" and not is_file and os.path.basename(value) == value
    ours = packaged() if bare else {}
    try:
        if value in ours:
            is_file, origin = True, f"{value} of the package"
            text = ours[value].read_text(encoding="utf-8")
        else:
            text = _text(value) if is_file else value
        table = load_yaml(text)
    except OSError as error:
        raise UsageError(f"{origin} {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{origin}: {' '.join(str(error).split())[:300]}") from None
    if isinstance(table, dict):
        return table, origin
    if is_file:
        raise UsageError(f"{origin} sets nothing: it needs lines such as `lr: 1e-3` below `train:`")
    if ours:
        raise UsageError(
            f"--config: {plain_name(value)} does not exist in this folder, nor among the files of "
            f"the package: {', '.join(ours)}"
        )
    raise UsageError(f"--{option}: {plain_name(value)} does not exist and sets nothing")


def check_value(name: str, kind: Any, text: str) -> None:
    """Refuse what `--name text` gives a number or a switch that is none.

    jsonargparse would unfold it as YAML of any depth, and show it.

    Raises:
        UsageError: names the setting.
    """
    if len(text) > MOST_TEXT:
        raise UsageError(f"--{name} has a value of over {MOST_TEXT} characters")
    if not _NUMBERS & {kind, *get_args(kind)}:
        return
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        value = text
    try:
        number = convert(value, kind, strict=False)
    except RecordError as error:
        raise UsageError(f"--{name}: {error} {plain_name(text)}") from None
    if isinstance(value, str) and isinstance(number, float) and not math.isfinite(number):
        raise UsageError(f"--{name} must be a finite number, not {plain_name(text)}")


def _text(name: str) -> str:
    if name == "-":
        content = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with open_regular(Path(name)) as stream:
            content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(f"is larger than {_MOST_BYTES >> 20} MB, which no settings take")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(f"is no UTF-8 text (byte {error.start})") from None
