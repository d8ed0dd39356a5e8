"""webdataset on tars of windows."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import simplejpeg
import torch
import webdataset

from benchmarks.loaders.batches import (
    Batch,
    Epochs,
    Settings,
    colour_name,
    epochs_of,
    joiner,
    mover,
    stack,
)
from benchmarks.sources import PARTS, RUN, Source


@contextmanager
def open_epochs(source: Source, settings: Settings) -> Iterator[Epochs]:
    """Resampled and endless, 1/8 of a batch per task of a worker."""
    urls = [str(path) for path in sorted(source.windows().glob("*.tar"))]
    colour = colour_name(source)
    part = -(-source.batch_size // PARTS)
    dataset = (
        webdataset.WebDataset(urls, resampled=True, shardshuffle=False)
        .shuffle(500)
        .map(lambda sample: _decode_window(sample, colour))
        .batched(part, partial=False, collation_fn=stack)
    )
    loader = webdataset.WebLoader(
        dataset, batch_size=None, num_workers=settings.cores, prefetch_factor=PARTS
    )
    join = joiner(source, PARTS, settings.device)
    yield epochs_of(map(mover(settings.device), join(iter(loader))), source)


def _decode_window(sample: dict[str, Any], colour: str) -> Batch:
    frames = [simplejpeg.decode_jpeg(sample[f"{i}.jpg"], colour) for i in range(RUN)]
    mfcc = np.load(BytesIO(sample["npy"]), allow_pickle=False)
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(mfcc)
