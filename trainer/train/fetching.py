"""In which order a training needs the shards of remote sets: they are fetched in that order."""

from collections.abc import Callable, Iterator, Mapping

from data_tools.fetch_ahead import Wanted
from data_tools.mirror import mirror_at
from data_tools.shards import open_shards
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments

_MOST_STEPS = 10_000  # that are looked through for shards; what is left then comes in any order


def in_order_of_need(
    dataset: Dataset, requests: Callable[[int, Mapping[int, int]], Segments], start: int, total: int
) -> Iterator[Wanted]:
    """The shards of remote sets: of the steps from `start` on, then of val, then of test.

    Args:
        requests: (step, quarantine) -> what this process is given at a step.
        total: steps of the whole training.
    """
    left = {number: shard.source for number, shard in enumerate(dataset.shards)}
    left = {number: source for number, source in left.items() if source is not None}
    for step in range(start, min(total, start + _MOST_STEPS)):
        if not left:
            break
        segments = requests(step, {})
        for clips in (segments.clip, segments.audio_clip):
            for number in dataset.shards_of(clips):
                if (source := left.pop(number, None)) is not None:
                    yield source
    # other processes of this machine begin with those that they need first
    yield from filter(None, left.values())
    for split in ("val", "test"):
        for folder in dataset.folders:
            if mirror_at(folder) is not None:
                yield from filter(None, (each.source for each in open_shards(folder, split)))
