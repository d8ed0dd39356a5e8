"""Our loader: mmapped shards, libjpeg-turbo (or DALI, where that must decode), a thread to feed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.loaders.batches import Epochs, Settings, epochs_of
from benchmarks.sources import Source, frame_shape
from trainer.data.batch import Shape
from trainer.data.dataset import Dataset
from trainer.data.decoding import Decoder
from trainer.data.loader import Loader
from trainer.data.sampler import TrainSampler
from trainer.model.syncnet import PRESETS


def open_loader(
    dataset: Dataset,
    sampler: TrainSampler,
    model: str | None = None,
    *,
    decode_device: Decoder | None = None,
    **options: Any,
) -> Loader:
    """The training loader over `dataset` for `model`, or at the frames' own size and colour.

    Args:
        decode_device: where frames are decoded; None: where the batches lie.
        options: more of the `Loader`'s.
    """
    if model is not None:
        height, channels = PRESETS[model].size, PRESETS[model].channels
    else:
        height, _, channels = frame_shape(dataset)
    return Loader(
        dataset,
        lambda step, quarantine: sampler.batch(step, 0, 1, quarantine),
        Shape(sampler.batch_size, 5, 5, height, channels),
        decode_device=decode_device,
        **options,
    )


@contextmanager
def open_epochs(source: Source, settings: Settings) -> Iterator[Epochs]:
    """Open it."""
    options: dict[str, Any] = {"device": settings.device, "threads": settings.cores}
    with open_loader(source.dataset, source.sampler, **options) as loader:
        batches = ((batch.frames_NRHWC, batch.mfcc_NFC) for batch in loader)
        yield epochs_of(batches, source)
