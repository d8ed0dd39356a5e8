"""Every setting of a training run: frozen dataclasses, read by jsonargparse.

YAML by `--config FILE`, single values by dotted options (`--train.lr 3e-4`); an unknown name is an
error. What a run was given is saved as `config.yaml` in its folder.

Files are read here, not by jsonargparse, which would wait for a pipe, import the module that a
`class_path` names, and unfold aliases of aliases.
"""

import math
import os
import re
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from data_tools.mfcc import WINDOW_FRAMES
from data_tools.records import RecordError, convert
from trainer.data import augment
from trainer.data.augment import Augment
from trainer.data.sampler import Pairing
from trainer.model.torch_file import open_regular, plain_name

_MOST_BYTES = 1 << 20  # of a file of settings
_MOST_DEPTH = 2  # all, and a section
_MOST_TEXT = 4096  # characters, as the longest path
_MOST_FRAMES = 10**6  # a step, over all processes


@dataclass(frozen=True)
class Data:
    """Where samples come from and how they are drawn.

    Attributes:
        shards: Folder of shards made by `python -m data_tools pack`. Without shards and clips a
            synthetic demonstration set is made.
        clips: Folder of clips in the layout <clip>/{audio.wav,frames/}; packed into data.shards
            (or into the run's folder) first.
        manifest: keep.csv of `trainer.refine`: which training clips to use, and how to move the
            sound of those to be re-aligned. Shards stay as they are.
        windows_per_clip: Samples drawn from each clip an epoch.
        pairing: What a sample is. independent: a window with one sound, genuine or false; paired: a
            window with both, for one decode; multiway: a run of frames whose windows are each
            other's false pairs.
        run_frames: Frames of a sample (multiway only); n frames give n - 4 windows.
        min_shift: Smallest audio shift of a false pair, in frames; by default 3, but 1 for
            multiway, where the nearest are what teaches precision.
        max_shift: Largest audio shift of a false pair, in frames (50 = 2 s); multiway: the run's.
        skip_quiet: No false pair of which both sounds are quiet: it would be as genuine as any
            (paired and multiway; an independent false pair does not hold the genuine sound).
        curriculum: Epochs over which min_shift falls from half of max_shift to its value.
        threads: Decoding threads of this process; 0 is one a core.
        ready: Batches kept ready besides those inside DALI.
        hw_decoder_load: Share of the frames that a GPU's hardware JPEG decoder gets.
        val_clips: Clips used for validation at most.
        val_runs: Runs of 15 frames taken from each validation clip.
    """

    shards: str | None = None
    clips: str | None = None
    manifest: str | None = None
    windows_per_clip: int = 5
    pairing: Pairing = "independent"
    run_frames: int = 28
    min_shift: int | None = None
    max_shift: int = 50
    skip_quiet: bool = True
    curriculum: int = 0
    threads: int = 0
    ready: int = 2
    hw_decoder_load: float = 0.65
    val_clips: int = 1000
    val_runs: int = 5

    @property
    def nearest(self) -> int:
        """Smallest shift of a false pair, frames."""
        if self.min_shift is not None:
            return self.min_shift
        return 1 if self.pairing == "multiway" else 3

    @property
    def sample_frames(self) -> int:
        """Frames of a sample."""
        return self.run_frames if self.pairing == "multiway" else WINDOW_FRAMES

    @property
    def sound_frames(self) -> int:
        """Frames of sound of a sample."""
        return 2 * WINDOW_FRAMES if self.pairing == "paired" else self.sample_frames


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        name: syncnet (published layout, 224 colour), paper (111 gray), medium or small (64 gray).
    """

    name: Literal["syncnet", "paper", "medium", "small"] = "small"


@dataclass(frozen=True)
class Loss:
    """What is minimised.

    Attributes:
        name: contrastive (the paper's), infonce (multi-way matching), bce (of the cosine, as in
            Wav2Lip) or bins (in sync or off, as the seed tried).
        margin: Distance beyond which a false pair costs nothing; default: what suits the model
            (syncnet 20, the official value; the others 10).
    """

    name: Literal["contrastive", "infonce", "bce", "bins"] = "contrastive"
    margin: float | None = None


@dataclass(frozen=True)
class Train:
    """How it is trained.

    Attributes:
        batch_size: Samples a step over all processes.
        epochs: Passes over the clips.
        lr: Learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Steps over which the learning rate rises.
        schedule: After the warm-up, constant or falling to zero along a cosine.
        clip_grad: Largest norm of the gradient; 0 is no limit.
        average: Validate, keep as best and save a running average of the weights with this decay
            (0.998, say; Polyak averaging) beside the weights themselves; 0: none.
        seed: Of weights, order and draws.
        precision: auto is bf16 on a GPU and fp32 on a CPU.
        device: auto is a GPU if there is one.
        val_every: Epochs between validations; the last epoch is always validated.
        sync_batchnorm: Batch statistics over all processes (GPUs only).
    """

    batch_size: int = 128
    epochs: int = 100
    lr: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_grad: float = 0.0
    average: float = 0.0
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    val_every: int = 5
    sync_batchnorm: bool = False


@dataclass(frozen=True)
class Run:
    """Where the results go.

    Attributes:
        dir: Folder of this run; default runs/<date>-<time>-<model>.
        keep: Checkpoints kept besides last.pt and best.pt.
        save_minutes: A checkpoint is saved at each validation and at least this often.
        save_steps: And every so many steps, if not 0.
    """

    dir: str | None = None
    keep: int = 2
    save_minutes: float = 10.0
    save_steps: int = 0


@dataclass(frozen=True)
class Config:
    """All groups."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    augment: Augment = field(default_factory=Augment)
    train: Train = field(default_factory=Train)
    run: Run = field(default_factory=Run)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON and checkpoints."""
        return asdict(self)


_SECTIONS: dict[str, Any] = {section.name: section.type for section in fields(Config)}
# The type of each, by its name from the top.
SETTINGS = {f"{k}.{each.name}": each.type for k, v in _SECTIONS.items() for each in fields(v)}
_NUMBERS = {int, float, bool}

# A resumed run that changed one of these would not be the same run.
FIXED_ON_RESUME = (
    "data.windows_per_clip",
    "data.pairing",
    "data.run_frames",
    "data.min_shift",
    "data.max_shift",
    "data.curriculum",
    "model.name",
    "loss.name",
    "train.batch_size",
    "train.seed",
)


def check(config: Config) -> None:
    """Refuse values that no run could use.

    Raises:
        ValueError: names the setting and what it must be.
    """
    train, data, run = config.train, config.data, config.run
    for name, value, least, most in (
        ("train.batch_size", train.batch_size, 1, 10**6),
        ("train.epochs", train.epochs, 1, 10**9),
        ("train.val_every", train.val_every, 1, 10**9),
        ("train.warmup_steps", train.warmup_steps, 0, 10**9),
        ("train.seed", train.seed, 0, 2**63 - 1),
        ("data.ready", data.ready, 1, 1000),
        ("data.threads", data.threads, 0, 1024),
        ("data.curriculum", data.curriculum, 0, 10**9),
        ("data.windows_per_clip", data.windows_per_clip, 1, 10**6),
        ("data.max_shift", data.max_shift, 1, 10**6),
        ("data.run_frames", data.run_frames, WINDOW_FRAMES, 10**4),
        ("data.val_clips", data.val_clips, 1, 10**9),
        ("data.val_runs", data.val_runs, 1, 10**4),
        ("run.keep", run.keep, 0, 10**6),
        ("run.save_steps", run.save_steps, 0, 10**12),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {in_digits(value)}")
        if value > most:
            raise ValueError(f"{name} must be at most {most}, not {in_digits(value)}")
    if train.batch_size * data.sample_frames > _MOST_FRAMES:
        raise ValueError(
            f"train.batch_size {train.batch_size} of {data.sample_frames} frames each is more than "
            f"{_MOST_FRAMES:,} frames a step; lower it"
        )
    for name, text in (
        ("data.shards", data.shards),
        ("data.clips", data.clips),
        ("data.manifest", data.manifest),
        ("run.dir", run.dir),
        ("train.device", train.device),
    ):
        if text is not None and (len(text) > _MOST_TEXT or "\0" in text):
            raise ValueError(f"{name} is no name: it has a NUL or over {_MOST_TEXT} characters")
    for name, amount in (
        ("train.weight_decay", train.weight_decay),
        ("train.clip_grad", train.clip_grad),
        ("run.save_minutes", run.save_minutes),
    ):
        if not 0 <= amount < math.inf:
            raise ValueError(f"{name} must be a number that is not negative, not {amount}")
    if not 0 <= train.average < 1:
        raise ValueError(f"train.average must lie in 0..1, not {train.average}")
    if config.loss.name == "infonce" and data.pairing == "independent":
        raise ValueError(
            "loss.name infonce picks one sound among several, which data.pairing independent does "
            "not give: add --data.pairing multiway (or paired)"
        )
    augment.check(config.augment)
    if not 0 < train.lr < math.inf:
        raise ValueError(f"train.lr must be positive, not {train.lr}")
    if config.loss.margin is not None and not 0 < config.loss.margin < math.inf:
        raise ValueError(f"loss.margin must be positive, not {config.loss.margin}")
    if not 0 <= data.hw_decoder_load <= 1:
        raise ValueError(f"data.hw_decoder_load must lie in 0..1, not {data.hw_decoder_load}")


def in_digits(value: int) -> str:
    """An integer for a message, short whatever it is."""
    return str(value) if abs(value) < 10**20 else "an immense number"


def from_dict(saved: object) -> Config:
    """The settings that a checkpoint holds (`Config.as_dict`); what later versions added is unset.

    Raises:
        ValueError: names the entry that is missing, not known, or of another type or size.
    """
    if not isinstance(saved, dict):
        raise ValueError("config is no table of settings")
    for name in _SECTIONS:
        if not isinstance(saved.get(name), dict):
            raise ValueError(f"config has no section {name}")
        _known(saved[name], name, f"config.{name}")
    for name in saved.keys() - _SECTIONS.keys():
        raise ValueError(f"config.{plain_name(name)} is no section that this version knows")
    for name in FIXED_ON_RESUME:
        group, key = name.split(".")
        if key not in saved[group]:
            raise ValueError(f"config has no {name}")
    try:
        config = convert(saved, Config)
    except RecordError as error:
        raise ValueError(f"config.{error}") from None
    check(config)
    return config


# ----- YAML -----


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
    _scan(text)
    try:
        return yaml.load(text, Loader=_Loader)
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
            if len(event.value) > _MOST_TEXT:
                raise yaml.YAMLError(f"line {line}: a value of over {_MOST_TEXT} characters")
        else:
            if len(tables) == _MOST_DEPTH:
                raise yaml.YAMLError(f"line {line}: nested deeper than settings are")
            due = True if isinstance(event, yaml.MappingStartEvent) else None
            tables.append([tables[-1][2] if tables else "", due, ""])


def settings(option: str, value: str) -> str:
    """What `--config VALUE` or `--data VALUE` (or another section) sets, as YAML in one line.

    Args:
        option: "config" or a section.
        value: a file, "-" for standard input, or YAML itself.

    Raises:
        ValueError: says of which file or option what is wrong.
    """
    is_file = value == "-" or os.path.lexists(value)
    origin = ("standard input" if value == "-" else value) if is_file else f"--{option}"
    try:
        found = load_yaml(_text(value) if is_file else value)
    except OSError as error:
        raise ValueError(f"{origin} {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{origin}: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(found, dict):
        if not is_file:
            raise ValueError(f"--{option}: {plain_name(value)} does not exist and sets nothing")
        raise ValueError(f"{origin} sets nothing: it needs lines such as `lr: 1e-3` below `train:`")
    if option != "config":
        _known(found, option, f"{origin}: {option}")
    for key in found if option == "config" else ():
        if key == "config":
            raise ValueError(f"{origin}: one file of settings cannot name another")
        section, dot, name = str(key).partition(".")
        if section not in _SECTIONS:
            continue  # an option, or an error that jsonargparse tells
        table = {name: found[key]} if dot else found[key]
        if not isinstance(table, dict):
            raise ValueError(f"{origin}: {section} must have settings below it")
        _known(table, section, f"{origin}: {section}")
    dumped: str = yaml.safe_dump(found, default_flow_style=True, width=math.inf)
    return dumped.strip()


def check_value(name: str, kind: Any, text: str) -> None:
    """Refuse what `--name text` gives a number or a switch that is none.

    jsonargparse would unfold it as YAML of any depth, and show it.

    Raises:
        ValueError: names the setting.
    """
    if len(text) > _MOST_TEXT:
        raise ValueError(f"--{name} has a value of over {_MOST_TEXT} characters")
    if not _NUMBERS & {kind, *get_args(kind)}:
        return
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        value = text
    try:
        convert(value, kind, strict=False)
    except RecordError as error:
        raise ValueError(f"--{name}: {error} {plain_name(text)}") from None


def _known(table: dict[Any, Any], section: str, where: str) -> None:
    """Refuse what the section has no setting for, and values of other types."""
    names = {setting.name for setting in fields(_SECTIONS[section])}
    for name in table:
        if name not in names:
            raise ValueError(
                f"{where} has {plain_name(name)}, which is no setting; there are "
                f"{', '.join(sorted(names))}"
            )
    try:
        convert(table, _SECTIONS[section], strict=False)
    except RecordError as error:
        # of names among several, jsonargparse tells which there are
        if "invalid enum value" not in str(error):
            raise ValueError(f"{where}.{error}") from None


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
