"""Our loader with a cache of decoded frames that is full: every frame is copied, none decoded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.loaders.batches import Epochs, Settings, epochs_of
from benchmarks.loaders.ours import open_loader
from benchmarks.sources import RUN, Source
from trainer.data.batch import Shape
from trainer.data.cache import FrameCache
from trainer.data.cached import HostStore
from trainer.data.dataset import Dataset
from trainer.data.decoding import Decoder
from trainer.data.loader import Loader
from trainer.data.sampler import Segments
from trainer.train.caching import look_of

_BUDGET = 10**12  # bytes: all frames of a benchmark


def open_store(folder: Path, dataset: Dataset, settings: Settings) -> HostStore:
    """The cache of `dataset` in a folder."""
    device = torch.device(settings.device)
    decoder: Decoder = "gpu" if device.type == "cuda" else "cpu"
    (height, _, channels), *_ = dataset.frame_shapes
    look = look_of(height, channels, decoder, dataset, device.type == "cuda")
    return HostStore(FrameCache(folder, dataset, look, _BUDGET, settings.cores), device)


def fill(source: Source, settings: Settings) -> Path:
    """The folder of a cache that holds all frames of a source; filled if need be, by the loader."""
    folder, dataset, samples = source.made / "frames", source.dataset, 64
    clips = [
        (clip, start)
        for clip, frames in enumerate(dataset.frames.tolist())
        for start in sorted({*range(0, frames - RUN + 1, RUN), frames - RUN})
    ]
    clip, start = np.array(clips, np.int64).T
    steps = -(-len(clip) // samples)

    def request(step: int, quarantine: Mapping[int, int]) -> Segments:
        rows = np.arange(samples * step, samples * (step + 1)) % len(clip)
        return Segments(clip[rows], start[rows], clip[rows], start[rows], np.ones_like(rows))

    (height, _, channels), *_ = dataset.frame_shapes
    shape = Shape(samples, RUN, RUN, height, channels)
    while True:
        store = open_store(folder, dataset, settings)
        filled = store.summary()
        if filled.there < filled.frames:
            with Loader(dataset, request, shape, device=settings.device, store=store) as loader:
                for _ in range(steps):
                    next(loader)
        store.close()
        if filled.there == filled.frames:
            return folder


@contextmanager
def open_epochs(source: Source, settings: Settings) -> Iterator[Epochs]:
    """Open it."""
    store = open_store(source.made / "frames", source.dataset, settings)
    try:
        with open_loader(
            source.dataset,
            source.sampler,
            device=settings.device,
            threads=settings.cores,
            store=store,
        ) as loader:
            batches = ((batch.frames_NRHWC, batch.mfcc_NFC) for batch in loader)
            yield epochs_of(batches, source)
    finally:
        store.close()
