"""How sound files become bad ones: bytes, numbers and fields changed, by a random number."""

import json
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

# What programs trip over where a number or a name should stand.
TOKENS = (
    *(b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xef\xbb\xbf", b"\n", b" "),
    *(b'"', b",", b"{", b"[", b"-1", b"0", b"9" * 20, b"1e999", b"../", b"/etc/passwd", b"\x1b[2J"),
)
_HUGE = (0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_KEY = re.compile(r'"[^"]*": $')
_DEEP = "[" * 3000 + "]" * 3000
# What a field of JSON may be changed to, as JSON or as what some programs take for it.
WRONG = (
    *("null", "true", "5", "-1", "0", "1", "5.5", '"x"', '""', "[]", "{}", "[null]", '{"x": 1}'),
    *("NaN", "Infinity", "-Infinity", "1e400", str(2**31), str(2**53), str(2**63), str(10**400)),
    *(
        "-0.0",
        "1e-400",
        '"../../x.tar"',
        '"/etc/passwd"',
        '"\\u0000"',
        '"\\udcff"',
        '"\\ud800"',
        '"[/red]"',
    ),
    *('"a\\nb"', '"\\u001b[2J"', "'x'", '"５"', '"train"', '"file:///etc/passwd"', _DEEP),
)


def mutated(rng: Random, whole: bytes, head: int = 250) -> bytes:
    """Some bytes changed, put in, taken out, doubled or cut off; half of it in the first `head`."""
    content = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if not content:
            break
        length = len(content)
        at = rng.randrange(min(head, length) if rng.random() < 0.5 else length)
        kind = rng.randrange(9)
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            width = rng.choice((1, 2, 4, 8))
            value = rng.choice(_HUGE) % (1 << 8 * width)
            content[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 3:
            del content[at : at + rng.randrange(1, 9)]
        elif kind == 4:
            content[at:at] = content[at : at + rng.randrange(1, 60)]
        elif kind == 5:
            content[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 6:
            token = rng.choice(TOKENS)
            content[at : at + rng.choice((0, len(token)))] = token
        elif kind == 7:
            other = rng.randrange(length)
            content[at : at + 8] = content[other : other + 8]
        elif rng.random() < 0.3:
            del content[at:]
    return bytes(content)


def number(rng: Random, known: int) -> int:
    """A whole number in place of a known one: near it, or one that overflows something."""
    if rng.random() < 0.6:
        return known + rng.choice((-512, -4, -2, -1, 1, 2, 4, 512))
    return rng.choice((*_HUGE, -1, -(2**63), 10**30))


def words(rng: Random, text: str, others: Sequence[str]) -> str:
    """A text of words with blanks and line ends between them: a few are changed, doubled, moved."""
    lines = [line.split(" ") for line in text.split("\n")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        line = rng.choice(lines)
        if not line:
            continue
        at = rng.randrange(len(line))
        kind = rng.randrange(8)
        if kind <= 2 and line[at].isdecimal():
            line[at] = str(number(rng, int(line[at])))
        elif kind == 3:
            line[at] = rng.choice(rng.choice(lines) or [""])
        elif kind == 4:
            del line[at]
        elif kind == 5:
            line.insert(at, rng.choice(others))
        elif kind == 6:
            lines.insert(rng.randrange(len(lines) + 1), line.copy())
        else:
            line[at] = rng.choice(others)
    return "\n".join(" ".join(line) for line in lines)


class Json:
    """A sound JSON value, of which `draw` gives unsound texts, quickly.

    Every place in it is cut out once, so that an input is three pieces put together.
    """

    def __init__(self, value: Any, more: Iterable[str] = ()) -> None:
        self._wrong = (*WRONG, *more)
        self._cuts: list[tuple[str, str, str]] = []
        for place, own in _places(value):
            text = json.dumps(_with(value, place, "\0cut\0"))
            before, _, after = text.partition(json.dumps("\0cut\0"))
            self._cuts.append((before, json.dumps(own), after))
        self.whole = json.dumps(value)

    def draw(self, rng: Random) -> bytes:
        """One field of another value, given twice, taken away or added; or bytes changed."""
        if rng.random() < 0.25:
            return mutated(rng, self.whole.encode())
        before, own, after = rng.choice(self._cuts)
        new = rng.choice(self._wrong) if rng.random() < 0.8 else rng.choice(self._cuts)[1]
        kind = rng.random()
        if own.lstrip("-").isdecimal() and kind < 0.3:
            new = str(number(rng, int(own)))
        elif own.startswith('"') and kind < 0.3:
            new = json.dumps(mutated(rng, own[1:-1].encode()).decode("utf-8", "replace"))
        elif (key := _KEY.search(before)) and kind < 0.4:
            new = f"{own}, {key[0]}{new}"
        elif own.startswith("{") and kind < 0.4:
            rest = own[1:-1]
            new = f'{{"unknown": {new}{", " if rest else ""}{rest}}}'
        elif own.startswith("[") and kind < 0.5:
            rest = own[1:-1]
            new = f"[{rest}{', ' if rest else ''}{rng.choice((new, rest or new))}]"
        text = before + new + after
        content = text.encode("utf-8", "surrogatepass")
        return mutated(rng, content) if rng.random() < 0.1 else content


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place of a JSON value, the whole included, and what stands there."""
    yield at, value
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for step, below in inner:
        yield from _places(below, (*at, step))


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy of `value` with `new` in a place."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = _with(value[place[0]], place[1:], new)
    return copy


def tar_header(rng: Random, header: bytes) -> bytes:
    """A tar member's header with a field changed and its checksum right again."""
    begin, size = rng.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100)))
    values = (
        *(b"../../x", b"/etc/passwd", b"a" * size, b"", b"\xff" * size, b"\x80" + b"\xff" * 7),
        *(b"77777777777", b"-1", b"00000000000", b"L", b"x", b"g", b"2", b"5", b"S", b"K", b"1"),
    )
    value = rng.choice(values) if rng.random() < 0.7 else rng.randbytes(size)
    changed = bytearray(header)
    changed[begin : begin + size] = value[:size].ljust(size, b"\0")
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def mutated_tar(rng: Random, whole: bytes, headers: Sequence[int]) -> bytes:
    """A tar with a header or two changed, members moved or doubled, or bytes changed."""
    if rng.random() < 0.3:
        return mutated(rng, whole, 1024)
    content = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice(headers)
        if rng.random() < 0.75:
            content[at : at + 512] = tar_header(rng, bytes(content[at : at + 512]))
        else:
            end = rng.choice(headers)
            content[min(at, end) : max(at, end)] = content[at : at + 512 * rng.randrange(6)]
    return bytes(content)


def packed(format: str, *values: int) -> bytes:
    """`struct.pack`, of numbers taken modulo what fits."""
    sizes = [struct.calcsize(format[0] + code) for code in format[1:]]
    return struct.pack(
        format, *(value % 2 ** (8 * s) for value, s in zip(values, sizes, strict=True))
    )
