"""Settings and options that are damaged or hostile."""

import json
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.child import Case, Target
from benchmarks.fuzz.mutate import Json, mutated
from data_tools.errors import UsageError
from trainer.config import check
from trainer.config.checks import from_dict
from trainer.config.command import parse
from trainer.config.files import check_value, settings
from trainer.config.settings import SETTINGS, Config

_VALUES = (
    *(
        "5",
        "0",
        "-1",
        "1e400",
        ".nan",
        ".inf",
        "-.inf",
        "0x10",
        "0x_",
        "010",
        "0o17",
        "1_0",
        "1:30",
    ),
    *("2026-11-25", "yes", "no", "null", "~", "", "'5'", '"\\0"', "[]", "{}", "[[[[", "{a: b"),
    *(
        "&a 5",
        "*a",
        "!!python/object/apply:os.system [id]",
        "!!binary aGk=",
        "!!str 5",
        "<<",
        "=",
        "- 1",
    ),
    *("9" * 5000, "9" * 300, "x" * 5000, "|\n  a\n  b", "é", "😀", "{class_path: fuzz_canary.X}"),
    *("1e3", "1.5", "true", "auto", "cuda:99999999999999999999", "../../etc", "s3://", "\x1b[2J"),
)
_LINES = (
    *("\t", "---", "...", "%YAML 9.9", "config: x", "resume: [", "data.ready: 3", "overfit: x"),
    *("a: &a [x]", "b: [*a, *a]", "  class_path: fuzz_canary.X", "? [1]\n: 2", "train.lr: [1, 2]"),
    *("class_path: os.system", "init_args: {command: id}", "{" * 500, "[" * 500, "- " * 500),
)


def _lines() -> list[str]:
    lines = []
    for section, table in Config().as_dict().items():
        lines.append(f"{section}:")
        lines += [
            f"  {key}: {json.dumps(value)}" for key, value in table.items() if value is not None
        ]
    return lines


def _draw(rng: Random, known: list[str]) -> bytes:
    """Settings with lines changed, doubled, put in and taken out."""
    lines = known.copy()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        key, kind = lines[at].partition(":")[0], rng.randrange(7)
        if kind <= 2:
            lines[at] = f"{key}: {rng.choice(_VALUES)}"
        elif kind == 3:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif kind == 4:
            lines[at] = f"{key}x: {rng.choice(_VALUES)}"
        elif kind == 5:
            lines.insert(at, rng.choice(_LINES))
        else:
            del lines[at]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    return mutated(rng, content, len(content)) if rng.random() < 0.3 else content


def _yaml(folder: Path) -> Case:
    known, file = _lines(), folder / "any.yaml"

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        settings("config", str(file))

    return Case(lambda rng: _draw(rng, known), attempt, (UsageError,))


def _config(folder: Path) -> Case:
    """The whole command line, whose parser takes its time."""
    known, file = _lines(), folder / "any.yaml"

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        check(parse(["--config", str(file), "--data.shards", "s"])[0])

    def draw(rng: Random) -> bytes:
        # what is refused before the parser sees it is tried elsewhere
        for _ in range(20):
            content = _draw(rng, known)
            file.write_bytes(content)
            try:
                settings("config", str(file))
            except UsageError:
                continue
            return content
        return b"train:\n  lr: 1e-3\n"

    return Case(draw, attempt, (UsageError,), confined=False)


def _value(folder: Path) -> Case:
    """One option's words: the setting's number in the first byte."""
    names = sorted(SETTINGS)

    def draw(rng: Random) -> bytes:
        text = rng.choice(_VALUES).encode()
        return bytes([rng.randrange(256)]) + (mutated(rng, text) if rng.random() < 0.6 else text)

    def attempt(content: bytes) -> None:
        name = names[content[0] % len(names)] if content else names[0]
        check_value(name, SETTINGS[name], content[1:].decode("utf-8", "surrogateescape"))

    return Case(draw, attempt, (UsageError,))


def _saved(folder: Path) -> Case:
    """The settings in a checkpoint, as plain values."""
    base = Json(Config().as_dict())

    def attempt(content: bytes) -> None:
        try:
            value: Any = json.loads(content)
        except (ValueError, RecursionError):
            return
        check(from_dict(value))

    return Case(base.draw, attempt, (UsageError,))


TARGETS = (
    Target("yaml", "a file of settings", _yaml, 1000),
    Target("config", "the same, through the command line", _config, 40),
    Target("option", "the words of one option", _value, 220_000),
    Target("saved_config", "the settings in a checkpoint", _saved, 20_000),
)
