"""torch's DataLoader over map-style datasets: an index is (clip, start, audio_start)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from torch.utils import data as torch_data

from benchmarks.loaders.batches import Epochs, Settings, epochs_of, joiner, mover
from benchmarks.sources import Source

Index = tuple[int, int, int]


class Order(torch_data.Sampler[list[Index]]):
    """Batches of indices: the sampler's epochs one by one, or all of them without end."""

    def __init__(self, source: Source, parts: int, endless: bool) -> None:
        self.source, self.parts, self.endless = source, parts, endless
        self.epoch = 0

    def __iter__(self) -> Iterator[list[Index]]:
        source = self.source
        first = self.epoch * source.steps
        self.epoch += 1
        size = -(-source.batch_size // self.parts)
        for step in count(first) if self.endless else range(first, first + source.steps):
            runs = source.sampler.batch(step)
            columns = (runs.clip.tolist(), runs.start.tolist(), runs.audio_start.tolist())
            indices = list(zip(*columns, strict=True))
            yield from (indices[at : at + size] for at in range(0, len(indices), size))


@contextmanager
def open_torch(
    dataset: Any,
    source: Source,
    settings: Settings,
    *,
    persistent: bool,
    parts: int = 1,
    endless: bool = False,
    one_a_core: bool = False,
    batched: bool = False,
) -> Iterator[Epochs]:
    """Open torch's DataLoader.

    Args:
        dataset: takes an index, or with `batched` a list of them.
        persistent: keep the workers from epoch to epoch.
        parts: small batches that make up a batch; each is one worker's task.
        endless: one iterator for all epochs.
        one_a_core: a worker a core, else `Settings.workers`.
        batched: the dataset returns whole small batches, which need no collating.
    """
    workers = settings.cores if one_a_core else settings.workers
    # As many as the seed's is the point here; torch warns at every epoch.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    loader: Any = torch_data.DataLoader(
        dataset,
        batch_sampler=Order(source, parts, endless),
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        collate_fn=_as_it_is if batched else None,
        # What is put together from parts is pinned there: pinning them would be a copy for nothing.
        pin_memory=settings.device != "cpu" and parts == 1,
        # Enough in flight for one whole batch beyond the one that is due
        prefetch_factor=max(2, -(-2 * parts // workers)),
    )
    join = joiner(source, parts, settings.device)
    to = mover(settings.device)
    if endless:
        yield epochs_of(map(to, join(iter(loader))), source)
    else:
        yield lambda: map(to, join(iter(loader)))


def _as_it_is(batch: Any) -> Any:
    return batch
