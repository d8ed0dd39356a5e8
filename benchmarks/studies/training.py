"""What the studies share: clips, trainings, accuracy on clips never seen.

The clips are synthetic heads, or those of shards made elsewhere (`--shards`, real speech). A sample
is a window or a run of windows, as the pairing has it; so that trainings can be compared, every
step decodes the same number of frames and every training takes the same number of steps, over the
same number of clips.
"""

import gc
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np
from rich.console import Console

from benchmarks.processes import cpu_seconds
from benchmarks.studies.offsets import count_unseen, own_offsets
from data_tools.errors import UsageError, UserError
from data_tools.keep import KEEP, Row, read_keep, write_keep
from data_tools.mfcc import WINDOW_FRAMES
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.synth.clips import synthesize
from trainer.config.settings import Config, Data, Loss, Model, Options, Run, Train
from trainer.data.augment import Augment
from trainer.data.dataset import Dataset
from trainer.data.sampler import Pairing
from trainer.model.device import find_device
from trainer.model.fold import fold
from trainer.model.weights import load_model
from trainer.score.evaluation import EvaluationOptions, evaluate
from trainer.score.intervals import summarise
from trainer.train.trainer import train

RUN_FRAMES = 20  # of multiway: 16 windows, whose shifts reach as far as offsets are searched
CLIP_FRAMES = 40  # decoded of each clip an epoch: two runs or eight windows
NODES = 4  # of trials by blocks
UNSEEN_SEED = 1000  # of the heads that no training sees
MIXED_SEED = 2000  # of those that are mixed in

Say = Callable[[str], None]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is trained.

    Attributes:
        clips: training clips of 3 s.
        unseen: clips for the accuracy, all in sync.
        epochs: of each training.
        seeds: trainings of each kind.
        step_frames: frames decoded a step.
        looks: times at which a training's accuracy is measured.
    """

    clips: int
    epochs: int
    seeds: int
    unseen: int = 80
    step_frames: int = 320
    looks: int = 4

    @property
    def quick(self) -> "Sizes":
        """Just enough to show that everything works."""
        return replace(self, clips=8, epochs=1, seeds=1, unseen=4, step_frames=80, looks=1)


@dataclass(frozen=True)
class Trial:
    """What sets one training apart from the others; None is the trainer's default.

    `per_clip`: windows of each clip an epoch; None: as many as decode `CLIP_FRAMES`.
    `block_share`: of the shards whose samples are shuffled together; 1: those of all.
    `heads`, `more`: shares of the clips, and of the samples, that are synthetic heads and that come
    from the study's `--more` shards, in place of so many others.
    """

    loss: str = "contrastive"
    pairing: Pairing = "independent"
    margin: float | None = None
    min_shift: int | None = None
    augment: Augment = field(default_factory=Augment)
    skip_quiet: bool = True
    curriculum: int = 0
    others: float = 0.0
    model: Literal["small", "medium"] = "small"
    windows_per_run: int = 1
    per_clip: int | None = None
    block_share: float = 1.0
    heads: float = 0.0
    more: float = 0.0


@dataclass(frozen=True)
class Source:
    """Where a study's clips come from.

    Attributes:
        cache: folder of the synthetic heads, and of what lasts no longer than a training.
        shards: with splits train and test, instead of synthetic heads.
        unseen: shards whose test splits the accuracy is measured on, of all together; by default
            that of `shards`.
        manifest: a keep.csv of `shards`: which clips to train on, and how their sound is moved.
        offsets: for each of `unseen` a CSV of by how much its clips are off themselves
            (`own_offsets`), or None: all are in sync; () likewise for all of them.
        more: other shards that trials mix in, of other speakers.
        more_manifest: a keep.csv of those.
    """

    cache: Path
    shards: Path | None = None
    unseen: tuple[Path, ...] = ()
    manifest: Path | None = None
    offsets: tuple[Path | None, ...] = ()
    more: Path | None = None
    more_manifest: Path | None = None


def heads(
    cache: Path,
    clips: int,
    seed: int,
    split: str,
    offsync: float = 0.0,
    shard_mb: int = PackOptions().shard_mb,
) -> Path:
    """The folder of synthetic heads, made once: clips in clips/, all in one split of shards/."""
    folder = cache / f"heads-{split}-{clips}-{seed}-{offsync:g}"
    if shard_mb != PackOptions().shard_mb:
        folder = folder.with_name(f"{folder.name}-{shard_mb}MB")
    if not (folder / "shards" / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        synthesize(folder / "clips", clips, seed, size=64, offsync=offsync)
        ratios = (100, 0, 0) if split == "train" else (0, 0, 100)
        options = PackOptions(gray=True, ratios=ratios, shard_mb=shard_mb)
        pack(folder / "clips", folder / "shards", options)
    return folder


def settings(trial: Trial, sizes: Sizes, seed: int, shards: Path, run: Path) -> Config:
    """The configuration of one training."""
    frames = RUN_FRAMES if trial.pairing == "multiway" else WINDOW_FRAMES
    order: dict[str, Any] = {}
    if trial.block_share < 1:
        size = sum(tar.stat().st_size for tar in shards.glob("train-*.tar"))
        order = {"order": "blocks", "block_gb": trial.block_share * size / 1e9, "nodes": NODES}
    return Config(
        data=Data(
            **order,
            shards=str(shards),
            windows_per_clip=trial.per_clip or CLIP_FRAMES // frames,
            windows_per_run=trial.windows_per_run,
            pairing=trial.pairing,
            run_frames=RUN_FRAMES,
            min_shift=trial.min_shift,
            skip_quiet=trial.skip_quiet,
            curriculum=trial.curriculum,
        ),
        model=Model(trial.model),
        loss=Loss(trial.loss, trial.margin, trial.others),  # type: ignore[arg-type]
        augment=trial.augment,
        train=Train(
            batch_size=sizes.step_frames // frames,
            epochs=sizes.epochs,
            warmup_steps=20,
            seed=seed,
            val_every=max(1, sizes.epochs // sizes.looks),
        ),
        run=Run(dir=str(run), keep=sizes.looks),
    )


def learn(config: Config) -> float:
    """Train without a word; returns the processor's seconds. The weights lie in the run's folder.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    begin = cpu_seconds()
    summary = train(config, Options(guard="off"), Console(quiet=True))
    gc.unfreeze()  # what the training froze belonged to it alone
    if not summary["finished"]:
        raise KeyboardInterrupt
    return cpu_seconds() - begin


def accuracy(
    weights: Path, *unseen: Path, offsets: tuple[Path | None, ...] = ()
) -> dict[str, float]:
    """Share of offsets within a frame from 5 and from 15 frames, and AUC, on clips never seen.

    Args:
        offsets: as `Source.offsets`; a clip that its set's CSV does not list is left out.
    """
    device = find_device("auto", "device")
    options = EvaluationOptions(resamples=1)  # intervals come from seeds here
    model = fold(load_model(weights)).to(device)
    measured = []
    for shards, path in zip(unseen, offsets or (None,) * len(unseen), strict=True):
        own = None if path is None else own_offsets(path)
        measured += evaluate(shards, model, options, own=own, device=device)[0]
    found = summarise(measured, options)
    figures = {"k5": found.accuracy["k5"], "k15": found.accuracy["k15"], "auc": found.auc}
    values = {name: figure.value for name, figure in figures.items()}
    return {name: round(value, 4) for name, value in values.items() if value is not None}


def compare(
    trials: dict[str, Trial],
    sizes: Sizes,
    source: Source,
    say: Say,
    shard_mb: int = PackOptions().shard_mb,
) -> Figures:
    """Train every trial with every seed; accuracy on unseen clips as each training goes on.

    Args:
        shard_mb: of the shards of synthetic heads that are trained on.

    Returns:
        trials: name -> one entry a seed: seed, cpu_s, curve (step, k5, k15, auc); sizes; clips:
        what they are, in words.

    Raises:
        UserError: a file of `source` cannot be read, or does not fit its shards.
        UsageError: no trial trains on `source.more`.
    """
    if source.shards:
        shards, unseen = source.shards, source.unseen or (source.shards,)
        sizes = replace(
            sizes,
            clips=min(sizes.clips, len(usable_clips(shards, source.manifest))),
            unseen=count_unseen(unseen, source.offsets),
        )
    else:
        shards = heads(source.cache, sizes.clips, 0, "train", shard_mb=shard_mb) / "shards"
        unseen = (heads(source.cache, sizes.unseen, UNSEEN_SEED, "test") / "shards",)
    _check_more(trials, sizes.clips, source)
    found: dict[str, list[Figures]] = {name: [] for name in trials}
    total = sizes.seeds * len(trials)
    # seeds outside: what slows the machine down for a while then slows all trials alike
    turns = [(seed, name) for seed in range(sizes.seeds) for name in trials]
    for number, (seed, name) in enumerate(turns, 1):
        with tempfile.TemporaryDirectory(dir=source.cache) as folder:
            run = Path(folder) / "run"
            config = settings(trials[name], sizes, seed, shards, run)
            config = replace(
                config, data=_drawn(config.data, trials[name], sizes.clips, source, Path(folder))
            )
            cpu_s = learn(config)
            curve = [
                {
                    "step": int(kept.stem.removeprefix("step-")),
                    **accuracy(kept, *unseen, offsets=source.offsets),
                }
                for kept in sorted(run.glob("step-*.pt"))
            ]
        found[name].append({"seed": seed, "cpu_s": round(cpu_s, 1), "curve": curve})
        last = curve[-1]
        say(
            f"{number} of {total}: {name}, seed {seed}: K=5 {last['k5']:.1%}, "
            f"K=15 {last['k15']:.1%}, AUC {last['auc']:.3f}, {cpu_s:.0f} s of processor"
        )
    clips = "clips of real speech" if source.shards else "synthetic heads"
    return {"trials": found, "sizes": asdict(sizes), "clips": clips}


def _check_more(trials: dict[str, Trial], clips: int, source: Source) -> None:
    """Refuse other speakers that no trial trains on, or that are too few."""
    most = max(trial.more for trial in trials.values())
    if source.more is None:
        assert not most, "a trial mixes --more in, which is not given"
        return
    if not most:
        raise UsageError("--more: no training of this study mixes other shards in")
    there = len(usable_clips(source.more, source.more_manifest))
    if there < (needed := round(clips * most)):
        raise UserError(f"--more has {there:,} usable training clips, not {needed:,} of {clips:,}")


def _drawn(data: Data, trial: Trial, clips: int, source: Source, folder: Path) -> Data:
    """Which clips a trial draws from: so many in all, out of one set or several.

    Args:
        data: of the trial's own shards.
        folder: for lists of clips.
    """
    shares = {"own": 1 - trial.heads - trial.more, "more": trial.more, "heads": trial.heads}
    counts = {name: round(clips * share) for name, share in shares.items()}
    sets = {"own": (Path(str(data.shards)), source.manifest)}
    if source.more and trial.more:
        sets["more"] = source.more, source.more_manifest
    if trial.heads:
        sets["heads"] = heads(source.cache, counts["heads"], MIXED_SEED, "train") / "shards", None
    if len(sets) == 1 and source.shards is None:
        return data
    manifests = [
        str(some_clips(shards, counts[name], folder / f"keep-{name}.csv", manifest))
        for name, (shards, manifest) in sets.items()
    ]
    if len(sets) == 1:
        return replace(data, manifest=manifests[0])
    return replace(
        data,
        shards=tuple(str(shards) for shards, _ in sets.values()),
        manifest=tuple(manifests),
        weights=tuple(shares[name] for name in sets),
    )


def usable_clips(shards: Path, manifest: Path | None) -> dict[str, Row]:
    """The training clips that may be drawn from, in the shards' order; all without a keep.csv.

    Raises:
        UserError: the shards or the keep.csv cannot be read.
    """
    dataset = Dataset(shards, "train")
    keys = [record.key for shard in dataset.shards for record in shard.records]
    if manifest is None:
        return {key: Row(KEEP) for key in keys}
    rows = read_keep(manifest)
    return {key: rows[key] for key in keys if key in rows and rows[key].used}


def some_clips(shards: Path, count: int, out: Path, manifest: Path | None = None) -> Path:
    """Write a keep.csv of so many training clips, evenly spaced among those that may be used."""
    rows = usable_clips(shards, manifest)
    keys = list(rows)
    chosen = np.unique(np.linspace(0, len(keys) - 1, count).round().astype(int))
    write_keep(out, {keys[at]: rows[keys[at]] for at in chosen})
    return out


def at_end(result: Figures, trial: str, measure: str) -> float:
    """Mean over the seeds of an accuracy at the end of the trainings."""
    return mean(one["curve"][-1][measure] for one in result["trials"][trial])


def spread(result: Figures, trial: str, measure: str = "k5") -> str:
    """The same in words, with the lowest and the highest seed: "71.2 % (70.1 to 73.0)"."""
    values = [100 * one["curve"][-1][measure] for one in result["trials"][trial]]
    between = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{mean(values):.1f}%{between}"


def cost(result: Figures, trial: str) -> float:
    """The processor's seconds of one training, mean over the seeds."""
    return mean(one["cpu_s"] for one in result["trials"][trial])


def steps(result: Figures) -> int:
    """Steps of each training."""
    first = next(iter(result["trials"].values()))
    return int(first[0]["curve"][-1]["step"])


def mean_curve(
    result: Figures, trial: str, measure: str, x: Callable[[Figures, Figures], float]
) -> list[tuple[float, float]]:
    """Points (x, % of offsets right), means over the seeds; x from an entry and its point."""
    entries = result["trials"][trial]
    points = zip(*(one["curve"] for one in entries), strict=True)
    return [
        (
            mean(x(one, point) for one, point in zip(entries, at, strict=True)),
            100 * mean(point[measure] for point in at),
        )
        for at in points
    ]


def panel(
    title: str, xlabel: str, lines: dict[str, list[tuple[float, float]]], log: str = ""
) -> Figures:
    """One of `benchmarks.draw.curves`: accuracy over something."""
    return {
        "title": title,
        "xlabel": xlabel,
        "ylabel": "% within a frame",
        "log": log,
        "lines": lines,
    }


def over_steps(result: Figures) -> list[Figures]:
    """Panels of all trials' accuracy as their trainings go on."""
    return [
        panel(
            f"K = {measure.removeprefix('k')}",
            "step",
            {
                name: mean_curve(result, name, measure, lambda _, point: point["step"])
                for name in result["trials"]
            },
        )
        for measure in ("k5", "k15")
    ]


def extent(result: Figures) -> str:
    """How much was trained, in words."""
    sizes = result["sizes"]
    return (
        f"{steps(result)} steps of {sizes['step_frames']} decoded frames over {sizes['clips']} "
        f"{result.get('clips', 'synthetic heads')}, {sizes['unseen']} unseen ones, "
        f"{sizes['seeds']} "
        f"seed{'s' if sizes['seeds'] > 1 else ''}"
    )
