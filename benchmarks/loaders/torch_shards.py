"""torch's DataLoader over our mmapped shards."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.utils import data as torch_data

from benchmarks.loaders.batches import Batch, Epochs, Settings
from benchmarks.loaders.torch_loader import Index, open_torch
from benchmarks.sources import COLUMNS, RUN, Source
from benchmarks.turbo import decode_rows
from trainer.data.sampler import Segments


class Shards(torch_data.Dataset[Batch]):
    """Slices of the mmapped shards, a whole list of indices at once straight into one array."""

    def __init__(self, source: Source) -> None:
        self.source = source
        source.sampler, source.dataset._bytes  # noqa: B018 opened before the workers fork

    def __getitems__(self, indices: list[Index]) -> Batch:
        clip, start, audio_start = (np.array(column) for column in zip(*indices, strict=True))
        segments = Segments(clip, start, clip, audio_start, np.ones_like(clip))
        dataset = self.source.dataset
        height, width, channels = self.source.frame_shape
        frames = torch.empty(len(segments) * RUN, height, width, channels, dtype=torch.uint8)
        decode_rows(dataset.jpegs(segments, RUN), frames.numpy())
        mfcc = torch.from_numpy(dataset.mfcc(segments, RUN, COLUMNS))
        return frames.view(len(segments), RUN, height, width, channels), mfcc


def open_epochs(
    source: Source, settings: Settings, **options: Any
) -> AbstractContextManager[Epochs]:
    """Open it; options are those of `open_torch`."""
    return open_torch(Shards(source), source, settings, batched=True, **options)
