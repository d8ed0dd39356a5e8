"""DALI's own webdataset reader on tars of windows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

from benchmarks.loaders.batches import Batch, Epochs, Settings, epochs_of, mover
from benchmarks.sources import COLUMNS, RUN, Source


@contextmanager
def open_epochs(source: Source, settings: Settings) -> Iterator[Epochs]:
    """Its reader and decoders, `fn.stack` and its iterator for torch, epoch after epoch."""
    dali: Any = types
    tars = sorted(source.windows().glob("*.tar"))
    colour = dali.RGB if source.frame_shape[2] == 3 else dali.GRAY
    decoder = "cpu" if settings.device == "cpu" else "mixed"

    @pipeline_def  # type: ignore[untyped-decorator,unused-ignore]
    def windows() -> Any:
        members: Any = fn.readers.webdataset(
            paths=[str(tar) for tar in tars],
            index_paths=[str(tar.with_suffix(".idx")) for tar in tars],
            ext=[*(f"{i}.jpg" for i in range(RUN)), "npy"],
            missing_component_behavior="error",
            random_shuffle=True,
            initial_fill=500,
            name="reader",
        )
        *jpegs, mfcc = members
        frames = [
            fn.decoders.image(jpeg, device=decoder, output_type=colour, jpeg_fancy_upsampling=True)
            for jpeg in jpegs
        ]
        # The reader has no .npy decoder: what follows the header of 128 bytes is the array.
        array = fn.reinterpret(
            fn.slice(mfcc, start=[128], shape=[COLUMNS * 13 * 4], axes=[0]),
            dtype=dali.FLOAT,
            shape=[COLUMNS, 13],
        )
        return fn.stack(*frames), array

    pipeline = windows(
        batch_size=source.batch_size,
        num_threads=settings.cores,
        device_id=None if settings.device == "cpu" else torch.cuda.current_device(),
        prefetch_queue_depth=2,
    )
    iterator = DALIGenericIterator(
        [pipeline],
        ["frames", "mfcc"],
        reader_name="reader",
        auto_reset=True,
        last_batch_policy=LastBatchPolicy.DROP,
    )
    to = mover(settings.device)

    def endless() -> Iterator[Batch]:
        while True:
            for (batch,) in iterator:
                yield to((batch["frames"], batch["mfcc"]))

    yield epochs_of(endless(), source)
