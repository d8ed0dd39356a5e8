"""LitData on chunks of windows that it optimised itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

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
from benchmarks.sources import PARTS, RUN, Source, litdata_caches


class Decode:
    """Decodes a window in a worker."""

    def __init__(self, colour: str) -> None:
        self.colour = colour

    def __call__(self, window: dict[str, Any]) -> Batch:
        frames = [simplejpeg.decode_jpeg(window[str(i)], self.colour) for i in range(RUN)]
        return torch.from_numpy(np.stack(frames)), torch.as_tensor(window["mfcc"])


@contextmanager
def open_epochs(source: Source, settings: Settings) -> Iterator[Epochs]:
    """Its dataset and loader, epoch after epoch."""
    folder: Path = source.litdata() / "chunks"
    with litdata_caches(folder.parent.parent):
        import litdata  # reads where its caches lie when it is imported

        dataset = litdata.StreamingDataset(
            str(folder), shuffle=True, drop_last=True, transform=Decode(colour_name(source))
        )
        loader = litdata.StreamingDataLoader(
            dataset,
            batch_size=-(-source.batch_size // PARTS),
            num_workers=settings.cores,
            persistent_workers=True,
            prefetch_factor=PARTS,
            collate_fn=stack,
        )

        def endless() -> Iterator[Batch]:
            while True:
                yield from loader

        join = joiner(source, PARTS, settings.device)
        yield epochs_of(map(mover(settings.device), join(endless())), source)
