"""The seed's way: torch's DataLoader over a JPEG file a frame."""

from contextlib import AbstractContextManager
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import data as torch_data

from benchmarks.loaders.batches import Batch, Epochs, Settings
from benchmarks.loaders.torch_loader import Index, open_torch
from benchmarks.sources import RUN, Source


class Files(torch_data.Dataset[Batch]):
    """A JPEG file a frame and audio.npy, as the seed stored them."""

    def __init__(self, source: Source) -> None:
        self.clips = [str(source.files() / f"{n:06d}") for n in range(len(source.dataset))]
        colour = source.frame_shape[2] == 3
        self.flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE

    def __getitem__(self, index: Index) -> Batch:
        clip, start, audio_start = index
        folder = self.clips[clip]
        names = [f"{folder}/frames/frame{start + i}.jpg" for i in range(RUN)]
        frames = np.stack([cast(NDArray[np.uint8], cv2.imread(name, self.flag)) for name in names])
        bins = np.load(f"{folder}/audio.npy", allow_pickle=False)
        if frames.ndim == 3:
            frames = frames[..., None]
        return torch.from_numpy(frames), torch.from_numpy(bins[audio_start, 0].T.copy())


def open_epochs(
    source: Source, settings: Settings, **options: Any
) -> AbstractContextManager[Epochs]:
    """Open it; options are those of `open_torch`."""
    return open_torch(Files(source), source, settings, **options)
