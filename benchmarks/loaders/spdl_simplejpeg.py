"""SPDL with libjpeg-turbo straight into the batch's rows."""

from contextlib import AbstractContextManager

from benchmarks.loaders.batches import Epochs, Settings
from benchmarks.loaders.spdl_pipeline import open_pipeline
from benchmarks.sources import Source
from benchmarks.turbo import decode_rows


def open_epochs(source: Source, settings: Settings) -> AbstractContextManager[Epochs]:
    """Open it."""
    return open_pipeline(source, settings, decode_rows)
