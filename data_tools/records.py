"""JSON and CSV that we read: typed records that check themselves, and one error.

A record is a frozen dataclass beside what owns it; its annotations say what a field may hold
(`Annotated[int, Meta(ge=0)]`) and its `__post_init__` what must hold between fields. Keys that a
record does not know are passed over, so that older programs read newer files. Of a key given twice
the last one counts, as everywhere in Python.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import msgspec
from msgspec import Meta

from data_tools.errors import UserError
from data_tools.names import NotPlain, open_plain

# Read whole, so the memory is bounded: some five times as much. A manifest of a million shards or
# of a million clips left out has half of it.
LARGEST = 256 * 2**20  # bytes
LONGEST_LINE = 2**16  # bytes, of files with a record a line

Count = Annotated[int, Meta(ge=0, le=2**53)]
_WHOLE = re.compile(r" *[+-]?[0-9]{1,15} *")
_NUMBER = re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *")
_PLACE = re.compile(r"(?P<what>.*) - at (?P<where>[^-]*)", re.DOTALL)

T = TypeVar("T")


class RecordError(UserError):
    """A file that does not hold what it must: names file, field and remedy in one sentence."""


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, as they are: `dataclasses.asdict` copies all that is in them."""
    return {each.name: getattr(record, each.name) for each in fields(record)}


def read_record(
    path: Path,
    kind: type[T],
    fault: str,
    remedy: str,
    error: type[RecordError] = RecordError,
    as_python: bool = False,
) -> T:
    """The record of type `kind` in a JSON file.

    Args:
        fault: what is said of a file that holds no such record, "is not a manifest of shards".
        remedy: what to do about it.
        error: what is raised.
        as_python: see `decode_record`.

    Raises:
        RecordError: "<path> <fault>: <field>: <what is wrong>; <remedy>".
        OSError: the file is missing or may not be read.
    """
    data = read_whole(path, error)
    try:
        return decode_record(data, kind, as_python)
    except RecordError as problem:
        raise error(f"{path} {fault}: {problem}; {remedy}") from None


def decode_record(data: bytes, kind: type[T], as_python: bool = False) -> T:
    """A record of type `kind` from JSON.

    as_python: take what Python's json writes although JSON has no word for it: NaN, and the lone
        surrogates of a file name that is no UTF-8.

    Raises:
        RecordError: "<field>: <what is wrong>"; names no file.
    """
    try:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError:
            raise
        except ValueError:
            if not as_python:
                raise
            return convert(json.loads(data), kind)
    except msgspec.ValidationError as error:
        raise RecordError(_field_first(str(error))) from None
    except UnicodeDecodeError:
        raise RecordError("text that is no UTF-8") from None
    except ValueError as error:
        raise RecordError(_plain(f"no JSON ({error})")) from None
    except RecursionError:
        raise RecordError("nested too deeply") from None


def convert(value: Any, kind: type[T], strict: bool = True) -> T:
    """A record of type `kind` from plain values; text stands for a number only if not `strict`.

    Raises:
        RecordError: as `decode_record`.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise RecordError(_field_first(str(error))) from None
    except AttributeError:  # msgspec takes a tensor for a table
        raise RecordError("a tensor or another object stands for a plain value") from None
    except UnicodeEncodeError:  # msgspec, in its message
        raise RecordError("text that is no Unicode stands for something else") from None


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers from 1, as they are, ends included.

    Raises:
        RecordError: a line is longer than any record.
        OSError: as `read_record`.
    """
    with open_regular(path) as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise RecordError(
                    f"{path}, line {number}: longer than {LONGEST_LINE:,} bytes, so no record"
                )
            yield number, line


def read_table(path: Path, most: int | None = LARGEST) -> Iterator[tuple[str, list[str]]]:
    """The rows of a CSV, empty ones left out, each after "<path>, line <n>"; the first is the head.

    Args:
        most: bytes that the file may have; None: any, for it is read row by row.

    Raises:
        RecordError: the file is larger or no CSV in UTF-8, or a row has another number of fields
            than the head.
        OSError: as `read_record`.
    """
    whole = open_regular(path) if most is None else io.BytesIO(read_whole(path, most=most))
    with io.TextIOWrapper(whole, encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        columns = 0
        try:
            for fields in reader:
                where = f"{path}, line {reader.line_num}"
                if not fields:
                    continue
                columns = columns or len(fields)
                if len(fields) != columns:
                    raise RecordError(f"{where}: {len(fields)} fields, not {columns}")
                yield where, fields
        except UnicodeDecodeError:
            raise RecordError(f"{path} cannot be read: it is no text in UTF-8") from None
        except csv.Error as error:
            raise RecordError(f"{path}, line {reader.line_num}: {error}; mend it") from None


def whole_number(text: str) -> int | None:
    """The whole number that a field of a CSV holds; None if it holds none."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """The number that a field of a CSV holds; None if it holds none or one without end."""
    value = float(text) if _NUMBER.fullmatch(text) else float("inf")
    return value if abs(value) < float("inf") else None


def read_whole(path: Path, error: type[RecordError] = RecordError, most: int = LARGEST) -> bytes:
    """The bytes of a file of at most so many.

    Raises:
        RecordError, OSError: as `open_regular`; or it is larger.
    """
    with open_regular(path, error) as stream:
        if os.fstat(stream.fileno()).st_size > most:
            raise error(f"{path} cannot be read: it is larger than {most:,} bytes")
        return stream.read()


def open_regular(path: Path, error: type[RecordError] = RecordError) -> BinaryIO:
    """Open a file to read it; not a pipe or device, at which one may wait for ever.

    Raises:
        RecordError: it is no regular file; as `error`.
        OSError: it is missing or may not be read.
    """
    try:
        return open_plain(path)
    except NotPlain:
        raise error(f"{path} is no regular file but a folder, pipe or device") from None


def utf8(text: str) -> str:
    r"""`text` as a record may hold it: what is no UTF-8 in a file's name becomes \udcff or so."""
    return text.encode("utf-8", "backslashreplace").decode()


def _field_first(message: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.clips[0].frames`", the field put first."""
    place = _PLACE.fullmatch(message)
    if place is None:
        return _plain(message)
    where = place["where"].replace("`", "").replace("$.", "").replace("$", "")
    return f"{where}: {_plain(place['what'])}"


def _plain(message: str) -> str:
    # what a file holds may be in it: one line, and not a long one
    words = " ".join(utf8(message).replace("`", "").split())
    return words[:1].lower() + words[1:300]
