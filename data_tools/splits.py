"""Which clip goes into which split: clip by clip, or all clips of a source video together."""

import numpy as np

from data_tools.clips import SPLITS, Clip
from data_tools.errors import UsageError


def assign_splits(
    clips: list[Clip], ratios: tuple[int, int, int], split_by: str, seed: int
) -> list[str]:
    """The split of each clip. Clips that lie in a split folder stay there.

    By "clip": the first floor(train), floor(val) and all the rest of a shuffled order. By "source":
    whole sources in shuffled order, each to the split that lacks most clips, so that one clip a
    source gives the same counts. With few sources train is served first, then val.

    Args:
        ratios: shares of SPLITS.
        split_by: "source" or "clip".

    Raises:
        UsageError: clips of one source lie in several split folders.
    """
    splits = [clip.split for clip in clips]
    free = [i for i in range(len(clips)) if splits[i] is None]
    fixed = _fixed_sources(clips)
    rng = np.random.default_rng([seed, 0])
    total = sum(ratios)
    counts = [len(free) * ratio // total for ratio in ratios]
    counts[2] = len(free) - counts[0] - counts[1]
    if split_by == "clip":
        order = rng.permutation(free)
        bounds = np.repeat(np.arange(3), counts)
        for i, bound in zip(order, bounds, strict=True):
            splits[i] = SPLITS[bound]
        return [split or "train" for split in splits]
    by_source: dict[str, list[int]] = {}
    for i in free:
        by_source.setdefault(clips[i].source, []).append(i)
    # A handful of clips must still give something to train and to validate on.
    for wanted in (0, 1):
        if counts[wanted] == 0 and ratios[wanted] > 0 and counts[2] > 0:
            counts[wanted], counts[2] = 1, counts[2] - 1
    sizes = {source: len(own) for source, own in by_source.items()}
    for source, split in _assign_sources(sizes, counts, fixed, rng).items():
        for i in by_source[source]:
            splits[i] = split
    return [split or "train" for split in splits]


def _fixed_sources(clips: list[Clip]) -> dict[str, str]:
    """The split of each source that has clips in a split folder."""
    fixed: dict[str, str] = {}
    for clip in clips:
        if clip.split and fixed.setdefault(clip.source, clip.split) != clip.split:
            raise UsageError(
                f"source {clip.source!r} has clips in {fixed[clip.source]}/ and {clip.split}/: "
                "one source must stay in one split"
            )
    return fixed


def _assign_sources(
    sizes: dict[str, int], counts: list[int], fixed: dict[str, str], rng: np.random.Generator
) -> dict[str, str]:
    """The split of each source.

    Args:
        sizes: clips of each source.
        counts: clips that each of SPLITS should have.
        fixed: splits that are settled, by source.
    """
    chosen = {}
    lacking = np.array(counts)
    empty = [number for number in range(3) if counts[number] > 0]
    names = sorted(sizes)
    for left, pick in zip(range(len(names), 0, -1), rng.permutation(len(names)), strict=True):
        name = names[pick]
        if name in fixed:
            choice = SPLITS.index(fixed[name])
        else:
            choice = empty[0] if left <= len(empty) else int(lacking.argmax())
        if choice in empty:
            empty.remove(choice)
        lacking[choice] -= sizes[name]
        chosen[name] = SPLITS[choice]
    return chosen
