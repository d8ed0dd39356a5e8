"""Every setting of a training run: frozen dataclasses, and what no run could use."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from data_tools.errors import UsageError
from data_tools.mfcc import WINDOW_FRAMES
from data_tools.records import RecordError, convert
from trainer.data import augment
from trainer.data.augment import Augment
from trainer.data.sampler import Pairing
from trainer.model.torch_file import plain_name
from trainer.train.guard import Action

MOST_TEXT = 4096  # characters, as the longest path
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
    def audio_frames(self) -> int:
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
        others: Weight of the sounds of the batch's other clips as further false ones (infonce with
            data.pairing multiway): 1, each counts like a false one of the run itself; 0, none. They
            teach what is said, but also who speaks, which sync does not need: try 0.1 first. With
            several processes, those of each process's own share of the batch.
    """

    name: Literal["contrastive", "infonce", "bce", "bins"] = "contrastive"
    margin: float | None = None
    others: float = 0.0


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


@dataclass(frozen=True)
class Options:
    """What the command line of `trainer.run` says besides the configuration.

    Attributes:
        resume: "auto", a run's folder or a checkpoint to go on from; None: start afresh.
        trackers: names out of `trainer.train.display.TRACKERS`.
        demo: train on the synthetic demonstration set, made if need be.
        guard: what to do when nothing is being learnt.
        overfit: batches to learn by heart instead of training; 0: train.
    """

    resume: str | None = None
    trackers: tuple[str, ...] = ()
    demo: bool = False
    guard: Action = "warn"
    overfit: int = 0


# The dataclass of each section of a file of settings.
SECTIONS: dict[str, Any] = {section.name: section.type for section in fields(Config)}
# The type of each setting, by its name from the top.
SETTINGS = {f"{k}.{each.name}": each.type for k, v in SECTIONS.items() for each in fields(v)}
# Settings of the demonstration, unless given.
DEMO_TRAIN = {"train.epochs": 40, "train.val_every": 10, "train.batch_size": 128}

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
        UsageError: names the setting and what it must be.
    """
    _check_whole_numbers(config)
    _check_names(config)
    _check_amounts(config)
    augment.check(config.augment)
    train, data = config.train, config.data
    if train.batch_size * data.sample_frames > _MOST_FRAMES:
        raise UsageError(
            f"train.batch_size {train.batch_size} of {data.sample_frames} frames each is more than "
            f"{_MOST_FRAMES:,} frames a step; lower it"
        )
    if config.loss.others and (config.loss.name, data.pairing) != ("infonce", "multiway"):
        raise UsageError(
            "loss.others compares runs with each other, which needs --loss.name infonce "
            "--data.pairing multiway"
        )
    if config.loss.name == "infonce" and data.pairing == "independent":
        raise UsageError(
            "loss.name infonce picks one sound among several, which data.pairing independent does "
            "not give: add --data.pairing multiway (or paired)"
        )


def _check_whole_numbers(config: Config) -> None:
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
            raise UsageError(f"{name} must be at least {least}, not {in_digits(value)}")
        if value > most:
            raise UsageError(f"{name} must be at most {most}, not {in_digits(value)}")


def _check_names(config: Config) -> None:
    for name, text in (
        ("data.shards", config.data.shards),
        ("data.clips", config.data.clips),
        ("data.manifest", config.data.manifest),
        ("run.dir", config.run.dir),
        ("train.device", config.train.device),
    ):
        if text == "":
            raise UsageError(f"{name} is empty; leave it out for its default")
        if text is not None and (len(text) > MOST_TEXT or "\0" in text):
            raise UsageError(f"{name} is no name: it has a NUL or over {MOST_TEXT} characters")


def _check_amounts(config: Config) -> None:
    train, margin, load = config.train, config.loss.margin, config.data.hw_decoder_load
    for name, amount in (
        ("train.weight_decay", train.weight_decay),
        ("train.clip_grad", train.clip_grad),
        ("run.save_minutes", config.run.save_minutes),
    ):
        if not 0 <= amount < math.inf:
            raise UsageError(f"{name} must be a number that is not negative, not {amount}")
    if not 0 <= train.average < 1:
        raise UsageError(f"train.average must lie in 0..1, not {train.average}")
    if not 0 < train.lr < math.inf:
        raise UsageError(f"train.lr must be positive, not {train.lr}")
    if margin is not None and not 0 < margin < math.inf:
        raise UsageError(f"loss.margin must be positive, not {margin}")
    if not 0 <= config.loss.others <= 1:
        raise UsageError(f"loss.others must lie in 0..1, not {config.loss.others}")
    if not 0 <= load <= 1:
        raise UsageError(f"data.hw_decoder_load must lie in 0..1, not {load}")


def in_digits(value: int) -> str:
    """An integer for a message, short whatever it is."""
    return str(value) if abs(value) < 10**20 else "an immense number"


def from_dict(saved: object) -> Config:
    """The settings that a checkpoint holds (`Config.as_dict`); what later versions added is unset.

    Raises:
        UsageError: names the entry that is missing, not known, or of another type or size.
    """
    if not isinstance(saved, dict):
        raise UsageError("config is no table of settings")
    for name in SECTIONS:
        if not isinstance(saved.get(name), dict):
            raise UsageError(f"config has no section {name}")
        check_section(saved[name], name, f"config.{name}")
    for name in saved.keys() - SECTIONS.keys():
        raise UsageError(f"config.{plain_name(name)} is no section that this version knows")
    for name in FIXED_ON_RESUME:
        group, key = name.split(".")
        if key not in saved[group]:
            raise UsageError(f"config has no {name}")
    try:
        config = convert(saved, Config)
    except RecordError as error:
        raise UsageError(f"config.{error}") from None
    check(config)
    return config


def check_section(table: dict[Any, Any], section: str, where: str) -> None:
    """Refuse what the section has no setting for, and values of other types.

    Args:
        where: the table's place, for messages: "config.train".

    Raises:
        UsageError: names the entry.
    """
    names = {setting.name for setting in fields(SECTIONS[section])}
    for name in table:
        if name not in names:
            raise UsageError(
                f"{where} has {plain_name(name)}, which is no setting; there are "
                f"{', '.join(sorted(names))}"
            )
    try:
        convert(table, SECTIONS[section], strict=False)
    except RecordError as error:
        # of names among several, jsonargparse tells which there are
        if "invalid enum value" not in str(error):
            raise UsageError(f"{where}.{error}") from None
