"""The command line of a training: sections of settings, --config, --resume, --guard, --overfit."""

import math
import re
from collections import deque
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_loader

from data_tools.atomic import atomic_path
from data_tools.errors import UsageError
from data_tools.names import shown
from data_tools.records import utf8
from trainer.config.checks import from_dict
from trainer.config.files import check_value, load_value, packaged, settings
from trainer.config.settings import (
    DEMO_TRAIN,
    SECTIONS,
    SETTINGS,
    SEVERAL,
    Config,
    Data,
    Options,
)
from trainer.data.augment import Augment
from trainer.model.torch_file import plain_name
from trainer.train import agent, checkpoint
from trainer.train.checkpoint import CheckpointError
from trainer.train.guard import Action

# How jsonargparse tells of a word that is none of those allowed, in Python's terms.
_LITERAL = re.compile(
    r"Parser key \"([\w.]+)\": Expected a typing.Literal\[(.*?)\]. Got value: (.*)"
)

_DESCRIPTION = """Train SyncNet: `python -m trainer.run --data.shards DIR --model.name syncnet ...`.

Without arguments it makes a synthetic set once, packs it, trains the small model and evaluates it:
a three-minute look at everything. On several GPUs:
`torchrun --nproc-per-node N -m trainer.run ...`.
"""


def parser() -> ArgumentParser:
    """The command line: configuration groups, --config, --resume, --log."""
    # exit_on_error would print forty lines of usage before the one that matters
    set_loader("settings", load_value, exceptions=(yaml.YAMLError,))
    result = ArgumentParser(
        prog="python -m trainer.run",
        description=_DESCRIPTION,
        exit_on_error=False,
        parser_mode="settings",
        allow_abbrev=False,  # `_without_files` and trainer.refine look for names
    )
    files = ", ".join(packaged())
    result.add_argument(
        "--config",
        action="config",
        help=f"YAML with any of the settings below: a file, or one of the package: {files}",
    )
    for name, section in SECTIONS.items():
        result.add_argument(f"--{name}", type=section, default=section())
    result.add_argument(
        "--resume",
        type=str | None,
        default=None,
        help="auto (the run in run.dir, else the newest below runs/), a run's folder, or a "
        "checkpoint; its settings hold unless given anew",
    )
    result.add_argument(
        "--guard",
        type=Action,
        default="warn",
        help="warn (default): say in words when nothing is being learnt; stop: end the run then; "
        "off",
    )
    result.add_argument(
        "--overfit",
        type=int,
        default=0,
        metavar="N",
        help="self-check before a long run: learn N batches by heart, without augmentation, and "
        "leave; exit status 1 if that fails",
    )
    result.add_argument(
        "--log",
        type=str,
        default="",
        help="trackers, separated by commas: tensorboard, wandb, prometheus[:port] (figures for "
        "Prometheus to read at that port of every address, by default 9464)",
    )
    return result


def parse(argv: list[str]) -> tuple[Config, Options]:
    """Read the command line.

    Raises:
        UsageError: unknown names or wrong types, a file of settings is not what it should be, or
            a value makes no sense.
        CheckpointError: --resume names no checkpoint, or one that is damaged.
    """
    command, argv = parser(), _without_files(argv)
    given = _given(command, argv)
    begun = None if given.overfit else agent.begun()
    if begun is not None:
        # one that it had begun from, and that it has not saved since, still is what to begin from
        auto = checkpoint.find("auto", begun) is not None or not given.resume
        argv += [f"--run.dir={begun}", *(["--resume=auto"] if auto else [])]
        given = _given(command, argv)
    demo = given.data.shards is None and given.data.clips is None
    if given.resume:
        source = checkpoint.find(given.resume, Path(given.run.dir) if given.run.dir else None)
        if source is not None:
            saved = saved_config(source, checkpoint.load(source)).as_dict()
            saved["run"].pop("dir", None)  # the folder may have moved
            command.set_defaults(
                {f"{g}.{name}": v for g, values in saved.items() for name, v in values.items()}
            )
            given = _given(command, argv)
            demo = False
    if demo:
        command.set_defaults(DEMO_TRAIN)
        given = _given(command, argv)
    built = command.instantiate(given)
    config = Config(
        _plain(built.data), built.model, built.loss, built.augment, built.train, built.run
    )
    trackers = tuple(name.strip() for name in given.log.split(",") if name.strip())
    if given.overfit < 0:
        raise UsageError(f"--overfit must not be negative, not {given.overfit}")
    if given.overfit:
        if given.resume:
            raise UsageError("--overfit starts afresh: it cannot be combined with --resume")
        train = replace(config.train, schedule="constant", warmup_steps=0)
        config = replace(config, augment=Augment(), train=train)
    restarted = begun is not None
    return config, Options(given.resume, trackers, demo, given.guard, given.overfit, restarted)


def _without_files(argv: list[str]) -> list[str]:
    """The command line with what --config FILE or --data FILE say, in place of the files.

    Raises:
        UsageError: a file of settings is not what it should be, or a number is none.
    """
    sections = ("config", *(section.name for section in fields(Config)))
    kinds = SETTINGS | {"overfit": int, "resume": str, "guard": str, "log": str}
    result, left = [], deque(argv)
    while left:
        word = left.popleft()
        name, equals, value = word.removeprefix("--").partition("=")
        known = word.startswith("--") and (name in sections or name in kinds)
        given = value if equals else left.popleft() if known and left else None
        if known and given is not None and name in SEVERAL:
            values = [given]
            while not equals and left and not left[0].startswith("--"):
                values.append(left.popleft())
            result.append(f"--{name}={_listed(name, values)}")
            continue
        if not known or given is None:
            result.append(word)
        elif name in sections:
            result.append(f"--{name}={settings(name, given)}")
        else:
            check_value(name, kinds[name], given)
            result.append(f"--{name}={given}")
    return result


def _listed(name: str, values: list[str]) -> str:
    """One or several words of a setting that takes them, as its value for jsonargparse.

    Raises:
        UsageError: a weight is no number, or a word is too long or, among several, no UTF-8.
    """
    kind = float if name == "data.weights" else str
    for value in values:
        check_value(name, kind, value)
    if kind is float:
        return f"[{', '.join(values)}]"
    # a name is a name, also one such as [x] or - x, which jsonargparse would take for a list
    if len(values) == 1 and not _is_list(values[0]):
        return values[0]
    for value in values:
        if utf8(value) != value:  # YAML has no word for it
            raise UsageError(f"--{name}: of several names, {plain_name(value)} is no UTF-8")
    return str(yaml.safe_dump(values, default_flow_style=True, width=math.inf)).strip()


def _is_list(text: str) -> bool:
    try:
        return isinstance(load_value(text), list)
    except (yaml.YAMLError, UnicodeEncodeError):  # the name of a file may be no UTF-8
        return False


def _plain(data: Data) -> Data:
    """The same settings; a list of one set or one manifest as the text that it holds."""
    one = {
        name: value[0]
        for name in ("shards", "manifest")
        if isinstance(value := getattr(data, name), tuple) and len(value) == 1
    }
    return replace(data, **one)


def _given(command: ArgumentParser, argv: list[str]) -> Namespace:
    """What the command line says.

    Raises:
        UsageError: unknown names or wrong types, in one sentence of bounded length.
    """
    try:
        return command.parse_args(argv)
    except ArgumentError as error:
        problem = str(error.message).removeprefix("error: ")
    except OverflowError:
        problem = "a number is too large for any setting"
    words = shown(" ".join(line.strip() for line in problem.splitlines()))
    if literal := _LITERAL.search(words):
        allowed = literal[2].replace("'", "")
        words = f"--{literal[1]} must be one of {allowed}, not {literal[3][:100]}"
    if len(words) > 1000:
        words = f"{words[:1000]} ..."
    raise UsageError(f"{words} (see python -m trainer.run --help)")


def save_config(config: Config, path: Path) -> None:
    """Write the settings as YAML that --config reads."""
    # in ASCII: YAML takes some letters of Unicode for ends of lines
    text = yaml.safe_dump(config.as_dict(), sort_keys=False)
    with atomic_path(path) as partial_path:
        partial_path.write_text(text, encoding="utf-8")


def saved_config(source: Path, state: dict[str, Any]) -> Config:
    """The settings of the run that wrote a checkpoint.

    Raises:
        CheckpointError: they make no sense.
    """
    try:
        return from_dict(state["config"])
    except UsageError as error:
        raise CheckpointError(
            f"{source} is damaged: {error}; resume from another checkpoint, or start afresh"
        ) from None
