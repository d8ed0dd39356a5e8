"""Whether a run goes on with the clips that it began with: what a checkpoint says of each set."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_tools.errors import UsageError
from data_tools.manifest import Split, read_manifest
from trainer.data.dataset import Dataset
from trainer.train.checkpoint import Resumed, SetClips, SplitClips


def clips_of(dataset: Dataset) -> list[SetClips]:
    """What identifies the clips of each set, wherever its shards lie; reads the manifests alone.

    Args:
        dataset: the training split of all sets.

    Raises:
        ShardError: a manifest is damaged.
    """
    found = []
    for number, folder in enumerate(dataset.folders):
        own = dataset.sets == number
        used = np.stack([dataset.windows[own], dataset.early[own]]).astype("<i8")
        entries = read_manifest(folder).shards

        def split(name: Split, entries: Any = entries) -> SplitClips:
            these = [each for each in entries if each.split == name and each.clips]
            hashes = [each.sha256 for each in these]
            return SplitClips(
                _digest(repr([(each.clips, each.frames, each.bytes) for each in these]).encode()),
                None if None in hashes else _digest(" ".join(map(str, hashes)).encode()),
            )

        found.append(SetClips(split("train"), split("val"), _digest(used.tobytes())))
    return found


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def state_of(dataset: Dataset) -> list[dict[str, Any]]:
    """`clips_of` as a checkpoint holds it."""
    return [asdict(each) for each in clips_of(dataset)]


def check_same_clips(resumed: Resumed | None, dataset: Dataset, say: Callable[[str], None]) -> None:
    """Refuse to go on with other clips than the run began with; they may have moved.

    Args:
        say: shows a line to the user: that an older checkpoint does not tell.

    Raises:
        UsageError: names the set, what of it is another, and the way out.
    """
    if resumed is None:
        return
    if resumed.progress.clips is None:
        say(
            f"note: {resumed.path}, of an earlier version, does not say which clips it was trained "
            "on: that these are the same is not checked"
        )
        return
    if what := other_clips(dataset, resumed.progress.clips):
        raise UsageError(
            f"{what} those {resumed.path} was trained with: the samples would not go on where they "
            "stopped, nor could accuracies be compared. Give the clips of before, or begin a run "
            f"of its own with these weights: --model.init {resumed.path} and another run.dir"
        )


def other_clips(dataset: Dataset, before: Sequence[SetClips]) -> str | None:
    """What is another than in the same number of sets `before`: "... other ... than"; or None."""
    for folder, now, each in zip(dataset.folders, clips_of(dataset), before, strict=False):
        if not _same(now.train, each.train):
            return f"{folder} holds other training clips than"
        if not _same(now.val, each.val):
            return f"{folder} holds other validation clips than"
        if now.used != each.used:
            return f"data.manifest keeps or moves other training clips of {folder} than"
    return None


def _same(now: SplitClips, before: SplitClips) -> bool:
    """By the hashes where both sets have them."""
    if None not in (now.hashes, before.hashes) and now.hashes != before.hashes:
        return False
    return now.sizes == before.sizes
