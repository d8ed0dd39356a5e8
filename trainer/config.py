"""Every setting of a training run: frozen dataclasses, read by jsonargparse.

YAML by `--config FILE`, single values by dotted options (`--train.lr 3e-4`); an unknown name is an
error. What a run was given is saved as `config.yaml` in its folder.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from data_tools.mfcc import WINDOW_FRAMES
from trainer import augment
from trainer.augment import Augment
from trainer.sampler import Pairing


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
    for name, value, least in (
        ("train.epochs", train.epochs, 1),
        ("train.val_every", train.val_every, 1),
        ("train.warmup_steps", train.warmup_steps, 0),
        ("train.seed", train.seed, 0),
        ("data.ready", data.ready, 1),
        ("data.threads", data.threads, 0),
        ("data.curriculum", data.curriculum, 0),
        ("data.run_frames", data.run_frames, WINDOW_FRAMES),
        ("data.val_clips", data.val_clips, 1),
        ("data.val_runs", data.val_runs, 1),
        ("run.keep", run.keep, 0),
        ("run.save_steps", run.save_steps, 0),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
    for name, number, most in (
        ("train.seed", train.seed, 2**63 - 1),
        ("data.max_shift", data.max_shift, 10**6),
        ("data.windows_per_clip", data.windows_per_clip, 10**6),
        ("data.run_frames", data.run_frames, 10**4),
    ):
        if number > most:
            raise ValueError(f"{name} must be at most {most}, not {number}")
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
    if not 0 <= data.hw_decoder_load <= 1:
        raise ValueError(f"data.hw_decoder_load must lie in 0..1, not {data.hw_decoder_load}")
