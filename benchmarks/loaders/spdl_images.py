"""SPDL with its own decoder, load_image_batch."""

from contextlib import AbstractContextManager

import numpy as np
import spdl.io
from numpy.typing import NDArray

from benchmarks.loaders.batches import Epochs, Settings
from benchmarks.loaders.spdl_pipeline import open_pipeline
from benchmarks.sources import Source


def missing() -> str | None:
    """Why SPDL cannot decode images here; None if it can."""
    try:
        # loads the library, which an attribute that every object has does not
        spdl.io.lib._libspdl.__file__  # noqa: B018
    except RuntimeError:
        return "spdl.io finds no ffmpeg (libavutil) to load images with"
    return None


def open_epochs(source: Source, settings: Settings) -> AbstractContextManager[Epochs]:
    """Open it."""
    return open_pipeline(source, settings, _decode)


def _decode(jpegs: list[NDArray[np.uint8]], rows: NDArray[np.uint8]) -> None:
    colour = "rgb24" if rows.shape[-1] == 3 else "gray"
    content = [jpeg.tobytes() for jpeg in jpegs]
    loaded = spdl.io.load_image_batch(content, width=None, height=None, pix_fmt=colour)
    rows[:] = np.asarray(spdl.io.to_numpy(loaded)).reshape(rows.shape)
