"""The sets of clips of a training, opened: which clips of each are used, mixed in which order."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from data_tools.errors import UsageError
from data_tools.keep import Row, read_keep
from data_tools.mirror import shown_name
from data_tools.names import real_path
from data_tools.remote import is_remote
from data_tools.shards import Shard, open_split
from trainer.config.settings import Config, several
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler
from trainer.train.checkpoint import Resumed
from trainer.train.distributed import Processes


def with_shards(config: Config, folders: tuple[Path, ...]) -> Config:
    """The same settings with these folders for data.shards; URLs stay, without credentials."""
    given = several(config.data.shards)
    urls = [shown_name(name) if is_remote(name) else None for name in given]
    names = tuple(
        str(folder) if url is None else url
        for folder, url in zip_longest(folders, urls[: len(folders)])
    )
    shards = names[0] if len(names) == 1 else names
    return replace(config, data=replace(config.data, shards=shards))


def open_dataset(config: Config, console: Console) -> Dataset:
    """The training split of all sets, with the clips that their manifests let through.

    Raises:
        ShardError: shards are missing or damaged, or a manifest is.
        UsageError: a manifest is of other shards, or the sets cannot be mixed: their pictures
            differ, one is named twice, or one trains on what another measures.
    """
    folders, manifests = config.data.folders, config.data.manifests
    rows = [None if path is None else read_keep(path) for path in manifests]
    keep = [None if each is None else _offsets(each) for each in rows]
    dataset = Dataset(folders, "train", keep)
    _check_alike(dataset)
    if len(folders) > 1:
        _check_apart(dataset, console)
    for number, each in enumerate(rows):
        if each is not None:
            _announce_manifest(each, dataset, number, manifests[number], console)
    return dataset


def _offsets(rows: Mapping[str, Row]) -> dict[str, int]:
    """Of each clip that is used, the frames by which its sound is early."""
    return {clip: -row.audio_shift for clip, row in rows.items() if row.used}


def _check_alike(dataset: Dataset) -> None:
    """Refuse sets whose frames differ: converting some of them in every step would cost it dear."""
    if len(dataset.folders) == 1:
        return
    first: tuple[Path, tuple[int, int, int]] | None = None
    for number, folder in enumerate(dataset.folders):
        for shape in dataset.shapes_of(number):
            if first is None:
                first = folder, shape
            elif shape != first[1]:
                raise UsageError(
                    f"data.shards: {first[0]} holds frames of {in_words(first[1])}, but {folder} "
                    f"of {in_words(shape)}; pack both alike with `data_tools pack --size` and "
                    "`--gray`"
                )


def _check_apart(dataset: Dataset, console: Console) -> None:
    """Refuse sets of which one trains on what another measures; say which train on the same clips.

    Clips are the same whose content is, whatever their names.
    """
    hashes = _hashes(dataset.shards)
    for number, folder in enumerate(dataset.folders):
        if real_path(folder) in [real_path(other) for other in dataset.folders[:number]]:
            raise UsageError(
                f"data.shards names {folder} twice; data.weights says how much of the training "
                "each set gives"
            )
        for split in ("val", "test"):
            measured = np.isin(hashes, _hashes(open_split(folder, split).shards))
            trained = np.flatnonzero(measured & dataset.used & (dataset.sets != number))
            if len(trained):
                other = dataset.folders[dataset.sets[trained[0]]]
                raise UsageError(
                    f"data.shards: {len(trained):,} training clip(s) of other sets are {split} "
                    f"clips of {folder} ({dataset.name(int(trained[0]))} of {other}, for one), "
                    "which would measure what was learnt by heart; pack the sets alike (the same "
                    "clips, --seed and --ratios), or leave these out by a keep.csv (data.manifest)"
                )
        own = dataset.used & (dataset.sets == number)
        before = dataset.used & (dataset.sets < number)
        if again := int(np.isin(hashes[own], hashes[before]).sum()):
            console.print(
                f"note: {again:,} training clip(s) of {folder} are in a set before it, too: they "
                "count twice",
                soft_wrap=True,
            )


def _hashes(shards: Iterable[Shard]) -> NDArray[np.bytes_]:
    """(clips,) of 64 hex digits: of each clip's content."""
    return np.array([each for shard in shards for each in shard.hashes], "S64")


def in_words(shape: tuple[int, int, int]) -> str:
    """Height, width and channels as people write them: "64x64 gray"."""
    height, width, channels = shape
    return f"{width}x{height} {'colour' if channels == 3 else 'gray'}"


def _announce_manifest(
    rows: Mapping[str, Row], dataset: Dataset, number: int, path: Path | None, console: Console
) -> None:
    """Say what a set's manifest does.

    Raises:
        UsageError: it keeps none of the set's clips.
    """
    clips = np.flatnonzero(dataset.sets == number).tolist()
    listed = [rows[dataset.keys[clip]] for clip in clips if dataset.keys[clip] in rows]
    used = [row for row in listed if row.used]
    if not used:
        raise UsageError(
            f"data.manifest {path} keeps none of the training clips in "
            f"{dataset.folders[number]}: it is of other shards"
        )
    moved = sum(row.audio_shift != 0 for row in used)
    of_set = "" if len(dataset.folders) == 1 else f" of set {number + 1}"
    console.print(
        f"manifest{of_set}: {len(used):,} of {len(clips):,} training clips used, {moved:,} of "
        f"them re-aligned; {len(listed) - len(used):,} rejected, "
        f"{len(clips) - len(listed):,} not listed",
        highlight=False,
        soft_wrap=True,
    )


def make_sampler(config: Config, dataset: Dataset) -> TrainSampler:
    """The order of the training samples that the settings ask for.

    Raises:
        UsageError: settings under which no batch can be made.
    """
    data = config.data
    several = len(dataset.folders) > 1
    blocks: dict[str, Any] = {}
    if data.order == "blocks":
        nodes = 1 if several else data.nodes
        clips = max(1, round(data.block_gb * 1e9 / nodes / dataset.clip_bytes))
        blocks = {"shards": dataset.shard, "block_clips": clips, "nodes": nodes}
    return TrainSampler(
        dataset.windows,
        config.train.batch_size,
        data.windows_per_clip,
        data.nearest,
        data.max_shift,
        config.train.seed,
        data.pairing,
        data.sample_frames,
        data.curriculum,
        dataset.sets if several else None,
        data.weights if several else None,
        data.windows_per_run,
        **blocks,
    )


def check_share(config: Config, sampler: TrainSampler, processes: Processes) -> None:
    """Refuse now what no step could be cut into.

    Raises:
        UsageError: processes or parts of a batch would be unequal.
    """
    share = len(sampler.batch(0, processes.rank, processes.world))
    runs, accumulate = share // config.data.windows_per_run, config.train.accumulate
    if runs % accumulate:
        in_runs = "" if runs == share else f", {runs} runs each (data.windows_per_run),"
        raise UsageError(
            f"train.batch_size {config.train.batch_size} over {processes.world} processes{in_runs} "
            f"does not make {accumulate} equal parts (train.accumulate)"
        )


def announce_sets(
    config: Config, dataset: Dataset, sampler: TrainSampler, console: Console
) -> None:
    """Say how many clips are used, how many are too short, and how often a set comes round."""
    say = partial(console.print, highlight=False, soft_wrap=True)
    sets = len(dataset.folders)
    total = sum(sampler.shares)
    for number, members in enumerate(sampler.members if sets > 1 else ()):
        share = sampler.shares[number] / total
        each_epoch = share * sampler.samples_per_epoch
        rounds = each_epoch / (len(members) * sampler.windows_per_clip)
        say(
            f"set {number + 1}, {dataset.folders[number]}: {len(members):,} clips, "
            f"{share:.1%} of the samples, gone through {rounds:.2f} times an epoch"
        )
    scarce = any(shard.scarce for shard in dataset.shards)
    if config.data.order == "blocks":
        say(
            f"samples are shuffled within blocks of {sampler.block_clips:,} clips, "
            f"{sampler.nodes} at a time; a block lasts {sampler.block_steps:,} steps"
        )
        largest = max(dataset.shards, key=len)
        if len(largest) > sampler.block_clips:
            gb = 1.1 * sampler.nodes * len(largest) * dataset.clip_bytes / 1e9
            say(
                f"note: a block holds {sampler.block_clips:,} clips, {largest.tar.name} has "
                f"{len(largest):,}: shards are fetched whole, and a block's clips come out of one "
                f"or two of them; give --data.block_gb {gb:.2g} or more, or pack smaller shards "
                "(--shard-mb)"
            )
    elif scarce:
        say(
            f"note: data.local_gb {config.data.local_gb:g} is less than the sets take, and the "
            "order of samples goes through all shards all the time: each is fetched again and "
            "again. --data.order blocks needs few shards at a time"
        )
    for number in range(sets):
        chosen = dataset.sets == number
        short = int((dataset.used & chosen).sum()) - len(sampler.members[number])
        if short:
            frames = config.data.sample_frames
            if config.data.pairing != "multiway":
                frames += config.data.nearest
            of_set = "" if sets == 1 else f" of set {number + 1}"
            say(
                f"note: {short:,} clips{of_set} are too short (under {frames} frames) and are not "
                "used"
            )


def quarantined(dataset: Dataset, resumed: Resumed | None) -> dict[int, int]:
    """The bad clips that a checkpoint knows of, by their numbers here."""
    if not resumed:
        return {}
    number = {dataset.name(clip): clip for clip in range(len(dataset))}
    barred = resumed.progress.quarantine.items()
    return {number[name]: since for name, since in barred if name in number}
