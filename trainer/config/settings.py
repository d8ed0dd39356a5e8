"""Every setting of a training run: frozen dataclasses, and what no run could use."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from data_tools.mfcc import WINDOW_FRAMES
from data_tools.mirror import LocalOptions, folder_of
from trainer.data.augment import Augment
from trainer.data.sampler import Pairing
from trainer.data.shares import whole_shares
from trainer.train.guard import Action

DecodeDevice = Literal["auto", "cpu", "gpu"]
DecodeLibrary = Literal["auto", "dali", "turbo"]
NO_MANIFEST = "none"  # stands for the keep.csv of a set that has none


@dataclass(frozen=True)
class Data:
    """Where samples come from and how they are drawn.

    Attributes:
        shards: Folder of shards made by `python -m data_tools pack`, or several folders, whose
            sets are mixed by `weights`: `--data.shards grid lrw`. An epoch is then as many samples
            as all sets hold together. Also by URL (http(s)://, s3://, gs://, az://, hf://): their
            shards are fetched into `local` as they are needed. Without shards and clips a
            synthetic demonstration set is made.
        local: Folder on a local disk for copies of shards that are given as a URL (default:
            syncnet-trainer/shards in XDG_CACHE_HOME or ~/.cache). All processes of a machine and
            all later runs share it.
        local_gb: Gigabytes that the copies may take; those used longest ago make room, never one
            that is in use or no longer at its source. 0: as many as the disk has.
        order: In which order samples come. shuffled: an epoch's in any order, over all shards;
            blocks: shard by shard in blocks whose samples are shuffled, for remote sets of which
            `local_gb` holds but a part: the next block is fetched while one is trained on.
        block_gb: Gigabytes of shards whose samples are shuffled together (blocks); local_gb must
            hold two blocks.
        nodes: Equal parts of every batch, each out of a block of its own, block_gb / nodes large
            (blocks). Machines whose processes take whole parts fetch the shards of those alone:
            as many as the most machines that there may be. Samples are the same with any number of
            processes. Of several sets every machine fetches all, and this does nothing.
        weights: Of several sets, how much of the training each gives: `--data.weights 0.5 0.5` for
            half and half, whatever their sizes; only the ratio counts. A set of a large weight is
            gone through more often. Default: by the samples that each set holds.
        clips: Folder of clips in the layout <clip>/{audio.wav,frames/}; packed into data.shards
            (or into the run's folder) first.
        manifest: keep.csv of `trainer.refine`: which training clips to use, and how to move the
            sound of those to be re-aligned. Shards stay as they are. Of several sets, one for
            each, in their order; `none` for a set that has none.
        windows_per_clip: Samples drawn from each clip an epoch.
        pairing: What a sample is. independent: a window with one sound, genuine or false; paired: a
            window with both, for one decode; multiway: a run of frames whose windows are each
            other's false pairs.
        windows_per_run: Windows that come from one decoded run (independent and paired): R of them
            take R + 4 frames instead of 5 R; 5 take 9 instead of 25. Each is a sample, with sounds
            drawn for itself; but neighbours share four of their five frames, so that a batch shows
            fewer moments. train.batch_size and windows_per_clip must be multiples of it.
            benchmarks/studies/windows_per_run.py measures what it does to accuracy.
        run_frames: Frames of a sample (multiway only); n frames give n - 4 windows.
        min_shift: Smallest audio shift of a false pair, in frames; by default 3, but 1 for
            multiway, where the nearest are what teaches precision.
        max_shift: Largest audio shift of a false pair, in frames (50 = 2 s); multiway: the run's.
        skip_quiet: No false pair of which both sounds are quiet: it would be as genuine as any
            (paired and multiway; an independent false pair does not hold the genuine sound).
        curriculum: Epochs over which min_shift falls from half of max_shift to its value.
        threads: Decoding threads of this process; 0 is one a core.
        ready: Batches kept ready besides those being decoded.
        decode_device: Where a training on a GPU decodes its JPEGs: gpu (nvJPEG), cpu
            (libjpeg-turbo, then a copy), or auto, which measures both over the first batches and
            says what it took. With many cores for each GPU the CPU may be faster, with few the GPU
            is. Samples and their order are the same, their pixels differ by a level or two. A
            resumed run measures anew. Without a GPU there is only cpu.
        decoder: The library that decodes JPEGs on a CPU: turbo (libjpeg-turbo in threads, straight
            into the batch), dali, or auto: turbo wherever frames are taken as they are stored, for
            it is faster at every size that was measured, and dali where they are resized,
            augmented without a cache, or for a GPU. Frames are the same bit by bit. turbo
            leaves out every clip with a frame that `data_tools verify` refuses; dali takes some
            damaged frames with the noise in them.
        cache: Keep decoded frames, so that each is decoded once and then copied: in a folder of
            a local disk (whose page cache holds them in memory; all processes of a machine and
            all later runs share it), in the memory of each process's GPU (gpu), nowhere (off), or
            where there is room for all (auto: the GPU if half of its free memory does; else
            syncnet-trainer/frames in XDG_CACHE_HOME or ~/.cache, if half of the available memory
            and the disk do). Samples, their order and their pixels are the same with and without.
        cache_gb: Gigabytes that the cache may take; 0: three quarters of the available memory
            (auto: half of it; gpu: half of what is free there). What does not fit is decoded.
        hw_decoder_load: Share of the frames that a GPU's hardware JPEG decoder gets.
        val_clips: Clips used for validation at most.
        val_runs: Runs of 15 frames taken from each validation clip.
    """

    shards: str | tuple[str, ...] | None = None
    local: str | None = None
    local_gb: float = 0.0
    order: Literal["shuffled", "blocks"] = "shuffled"
    block_gb: float = 4.0
    nodes: int = 8
    weights: tuple[float, ...] | None = None
    clips: str | None = None
    manifest: str | tuple[str, ...] | None = None
    windows_per_clip: int = 5
    pairing: Pairing = "independent"
    windows_per_run: int = 1
    run_frames: int = 28
    min_shift: int | None = None
    max_shift: int = 50
    skip_quiet: bool = True
    curriculum: int = 0
    threads: int = 0
    ready: int = 2
    decode_device: DecodeDevice = "auto"
    decoder: DecodeLibrary = "auto"
    cache: str = "off"
    cache_gb: float = 0.0
    hw_decoder_load: float = 0.65
    val_clips: int = 1000
    val_runs: int = 5

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder of each set, that of its copy if it is remote; none if no shards are given."""
        return tuple(folder_of(name, self.local) for name in several(self.shards))

    @property
    def copies(self) -> LocalOptions:
        """Where copies of remote sets are kept."""
        return LocalOptions(self.local, self.local_gb)

    @property
    def manifests(self) -> tuple[Path | None, ...]:
        """The keep.csv of each set; None for a set that has none."""
        if self.manifest is None:
            return (None,) * len(self.folders)
        if isinstance(self.manifest, str):
            return (Path(self.manifest),)
        return tuple(None if name == NO_MANIFEST else Path(name) for name in self.manifest)

    @property
    def shares(self) -> tuple[int, ...] | None:
        """Whole numbers in the ratio of the weights; None: by the samples that each set holds."""
        if self.weights is None or len(self.folders) < 2:
            return None
        return whole_shares(self.weights)

    @property
    def decoded_on(self) -> DecodeDevice:
        """Where frames are to be decoded: `decode_device`, but by turbo on the CPU."""
        return "cpu" if self.decoder == "turbo" else self.decode_device

    @property
    def nearest(self) -> int:
        """Smallest shift of a false pair, frames."""
        if self.min_shift is not None:
            return self.min_shift
        return 1 if self.pairing == "multiway" else 3

    @property
    def sample_frames(self) -> int:
        """Frames of a run: of a sample, or of the several whose windows it gives."""
        if self.pairing == "multiway":
            return self.run_frames
        return WINDOW_FRAMES + self.windows_per_run - 1

    @property
    def windows(self) -> int:
        """Windows of lips a sample."""
        return self.run_frames - WINDOW_FRAMES + 1 if self.pairing == "multiway" else 1

    @property
    def audio_frames(self) -> int:
        """Frames of sound of a run."""
        if self.pairing == "multiway":
            return self.run_frames
        return self.windows_per_run * WINDOW_FRAMES * (2 if self.pairing == "paired" else 1)


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        name: syncnet (published layout, 224 colour), paper (111 gray), medium or small (64 gray).
        init: Weights to start from, instead of at random: a run's best.pt, syncnet_v2.model,
            .safetensors, or the name of a network of the package (mouth, mouth-grid). Layers
            of the same name and shape are loaded, the others are named and begin anew; optimizer,
            schedule and loss are fresh. A resumed run has its weights from the checkpoint.
        freeze: Layers of model.init that do not train, nor their batch norms' statistics: lips,
            sound, or the first so many of a stream, lips:3; several as lips:3,sound. A layer is a
            convolution or linear map with its batch norm.
        init_lr: Learning rate of the layers that model.init loaded, as a factor of train.lr
            (0.1, say, where new layers are to learn faster than those that know something).
    """

    name: Literal["syncnet", "paper", "medium", "small"] = "small"
    init: str | None = None
    freeze: str | None = None
    init_lr: float = 1.0


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
            several processes or train.accumulate, those of each one's share, or part, of the batch.
    """

    name: Literal["contrastive", "infonce", "bce", "bins"] = "contrastive"
    margin: float | None = None
    others: float = 0.0


@dataclass(frozen=True)
class Train:
    """How it is trained.

    Attributes:
        batch_size: Samples a step over all processes.
        accumulate: Equal parts that each process computes its share of a step in, one after
            another, adding up their gradients: for batches that a GPU's memory does not hold. One
            step of the optimizer, as if computed at once, but that batch norm normalises each part
            by its own statistics.
        epochs: Passes over the clips.
        steps: Steps of the whole training, whatever an epoch has; 0: as many as its epochs have.
        lr: Learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Steps over which the learning rate rises.
        schedule: After the warm-up, constant or falling to zero along a cosine.
        clip_grad: Largest norm of the gradient; 0 is no limit.
        average: Validate, keep as best and save a running average of the weights with this decay
            (0.998, say; Polyak averaging) beside the weights themselves; 0: none.
        seed: Of weights, order and draws.
        precision: auto is bf16 on a device that computes in it by itself (GPUs from Ampere, 2020,
            on, CPUs with AVX512-BF16 or AMX), else fp32.
        device: auto is a GPU if there is one. Under torchrun each process takes a GPU of its own:
            cuda, without a number.
        compile: Let torch.compile make the model's forward and backward pass faster, on a GPU: the
            first step takes a minute or more, each later one may take less. Needs a C compiler.
            Checkpoints are the same with it and without.
        deterministic: On a GPU, take ways to compute that always come to the same bits, and
            decode on the CPU, so that a run that was killed and resumed comes to the same losses
            to the bit, as it does on a CPU anyway. Slower.
        val_every: Epochs between validations; the last epoch is always validated.
        sync_batchnorm: Batch statistics over all processes (GPUs only).
    """

    batch_size: int = 128
    accumulate: int = 1
    epochs: int = 100
    steps: int = 0
    lr: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_grad: float = 0.0
    average: float = 0.0
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    compile: bool = False
    deterministic: bool = False
    val_every: int = 5
    sync_batchnorm: bool = False

    def total(self, steps_per_epoch: int) -> int:
        """Steps of the whole training."""
        return self.steps or self.epochs * steps_per_epoch


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
        restarted: torchrun began the run in run.dir, and starts its processes anew.
    """

    resume: str | None = None
    trackers: tuple[str, ...] = ()
    demo: bool = False
    guard: Action = "warn"
    overfit: int = 0
    restarted: bool = False


# The dataclass of each section of a file of settings.
SECTIONS: dict[str, Any] = {section.name: section.type for section in fields(Config)}
# The type of each setting, by its name from the top.
SETTINGS = {f"{k}.{each.name}": each.type for k, v in SECTIONS.items() for each in fields(v)}
# Settings that may hold several values: words one after another on the command line.
SEVERAL = ("data.shards", "data.weights", "data.manifest")
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
# These neither; runs of earlier versions do not have them, and were as their defaults say.
LATER_FIXED_ON_RESUME = ("data.windows_per_run", "data.order", "data.block_gb", "data.nodes")
# Nor one that began with other weights; runs of earlier versions do not have these settings.
INIT_FIXED_ON_RESUME = ("model.init", "model.freeze")


def several(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The texts of a setting that may hold one, several or none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value
