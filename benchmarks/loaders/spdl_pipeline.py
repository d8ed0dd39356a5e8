"""SPDL's pipeline of threads on our sampler and shards, with a decoder to choose."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spdl.pipeline import PipelineBuilder

from benchmarks.loaders.batches import MOST_COPIES, Epochs, Settings, epochs_of, mover
from benchmarks.sources import COLUMNS, PARTS, RUN, Source

Decode = Callable[[list[NDArray[np.uint8]], NDArray[np.uint8]], None]


@contextmanager
def open_pipeline(source: Source, settings: Settings, decode: Decode) -> Iterator[Epochs]:
    """Open it; `decode(jpegs, rows)` fills the rows of a batch."""
    height, width, channels = source.frame_shape
    n, parts = source.batch_size, PARTS
    size = -(-n // parts)
    shape = (n, RUN, height, width, channels)
    # What the sink, the parts under way and the consumer may hold at once, and copies to a GPU
    gpu = settings.device != "cpu"
    buffers = [
        torch.empty(shape, dtype=torch.uint8, pin_memory=gpu).numpy()
        for _ in range(6 + (MOST_COPIES if gpu else 0))
    ]

    def requests() -> Iterator[tuple[Any, ...]]:
        for step in count():
            runs = source.sampler.batch(step)
            frames = buffers[step % len(buffers)]
            mfcc = source.dataset.mfcc(runs, RUN, COLUMNS)
            for at in range(0, n, size):
                yield frames, mfcc, source.dataset.jpegs(runs[at : at + size], RUN), at

    def load(request: tuple[Any, ...]) -> tuple[Any, ...]:
        frames, mfcc, jpegs, at = request
        rows = frames[at : at + size].reshape(-1, height, width, channels)
        decode(jpegs, rows)
        return frames, mfcc

    builder: Any = PipelineBuilder()
    pipeline = (
        builder.add_source(requests())
        .pipe(load, concurrency=settings.cores, output_order="input")
        .aggregate(-(-n // size))
        .add_sink(2)
        .build(num_threads=settings.cores)
    )
    to = mover(settings.device)
    with pipeline.auto_stop():
        batches = (
            to((torch.from_numpy(done[0][0]), torch.from_numpy(done[0][1])))
            for done in pipeline.get_iterator()
        )
        yield epochs_of(batches, source)
