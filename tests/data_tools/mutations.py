"""JSON and bytes, changed in every way that a damaged or foreign file may be."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hypothesis import strategies as st

from data_tools.records import RecordError

Step = str | int
DEEP = "[" * 3000 + "]" * 3000
# what a field may be changed to, as JSON or what some programs take for it
WRONG = [
    *("null", "true", "5", "-1", "0", "5.5", '"x"', '""', "[]", "{}", "[null]", '{"x": 1}'),
    *("NaN", "Infinity", "-Infinity", "1e400", str(2**63), str(10**400), "-0.0", "1e-400"),
    *('"../../x.tar"', '"\\u0000"', '"\\udcff"', '"[/red]"', '"５"', '"a\\nb"', "'x'", DEEP),
]


def places(value: Any, at: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Where every field of a JSON value is, the whole included."""
    yield at
    inner: Iterable[tuple[Step, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for step, below in inner:
        yield from places(below, (*at, step))


def at(value: Any, place: tuple[Step, ...]) -> Any:
    """The field at a place."""
    for step in place:
        value = value[step]
    return value


def changed(value: Any, place: tuple[Step, ...], text: str | None) -> str:
    """JSON of `value` with `text` in place of a field, which goes away for None."""
    if not place:
        return text or ""
    value = copy.deepcopy(value)
    above = at(value, place[:-1])
    if text is None:
        del above[place[-1]]
        return json.dumps(value)
    above[place[-1]] = "\0here\0"
    return json.dumps(value).replace(json.dumps("\0here\0"), text)


@st.composite
def changed_json(draw: st.DrawFn, value: Any) -> bytes:
    """JSON of `value` with one to three fields changed, taken away, given twice or added."""
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from([place for place in places(value) if place]))
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(changed(value, place, draw(st.sampled_from([None, *WRONG]))))
            if not isinstance(value, dict | list) or not value:
                break
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value).encode()
    place = draw(st.sampled_from(list(places(value))))
    text = draw(st.sampled_from([None, *WRONG]))
    how = draw(st.sampled_from(["change", "twice", "more"]))
    if how == "twice" and place and isinstance(place[-1], str) and text is not None:
        text = f"{json.dumps(at(value, place))}, {json.dumps(place[-1])}: {text}"
    if how == "more" and isinstance(at(value, place), dict) and text is not None:
        known = json.dumps(at(value, place))[1:-1]
        text = f'{{"unknown": {text}{", " if known else ""}{known}}}'
    return changed(value, place, text).encode("utf-8", "surrogatepass")


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with some bytes changed, cut out, doubled or put in."""
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(data)))
        count = draw(st.integers(0, 8))
        new = draw(
            st.binary(max_size=4)
            | st.sampled_from([b"\0", b'"', b"\xff", b"\xef\xbb\xbf", b"\n", b",", b"9" * 20, b"{"])
        )
        data = data[:first] + new + data[first + count :]
        if draw(st.integers(0, 19)) == 0:
            data = data[: draw(st.integers(0, len(data)))]
    return data


def documented(
    action: Callable[[], Any], errors: tuple[type[Exception], ...] = (RecordError,)
) -> Any:
    """What `action` gives, or None where it raises an error as documented, in words.

    Raises:
        AssertionError: it raises anything else.
    """
    try:
        return action()
    except errors as error:
        assert str(error) and len(str(error)) < 2000, error
        return None
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error


def command(main: Callable[[list[str]], int], *arguments: object) -> tuple[int, str, str]:
    """Status, output and errors of a command run in this process.

    Raises:
        AssertionError: it raises, or says more than one line on stderr when it fails.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = documented(lambda: main([str(argument) for argument in arguments]), ())
    said = err.getvalue()
    if status:
        assert "Traceback" not in said and said.count("\n") <= 1, said
    return status, out.getvalue(), said
