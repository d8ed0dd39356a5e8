"""What a section of the suite is given: a device, shards, a folder, and time that runs out."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.loaders.ours import open_loader
from benchmarks.sources import synthetic_shards
from trainer.data.batch import Batch
from trainer.data.dataset import Dataset
from trainer.data.decoding import Decoder
from trainer.data.loader import Loader
from trainer.data.sampler import TrainSampler
from trainer.model.syncnet import PRESETS


@dataclass(frozen=True)
class Setting:
    """What all sections share; it travels to their processes.

    Attributes:
        device: "cuda[:n]" or "cpu".
        cache: folder of what is made once.
        model: of the recipe, and the frames of its shards.
        batch_size, steps, epochs: of the recipe; steps are those of an epoch.
        clips: synthetic clips of the recipe's shards.
        quick: everything small, to show only that it works.
    """

    device: str
    cache: Path
    model: str = "syncnet"
    batch_size: int = 1024
    steps: int = 15
    epochs: int = 4
    clips: int = 320
    quick: bool = False

    def make_shards(self) -> tuple[Path, Path]:
        """Shards at the size of the model, and small gray ones; made where they are not there."""
        preset = PRESETS[self.model]
        gray = preset.channels == 1
        # small shards, since each is packed by one process
        large = synthetic_shards(self.cache, self.clips, preset.size, gray, shard_mb=8, workers=0)
        small = synthetic_shards(self.cache, 20, PRESETS["small"].size, True, workers=0)
        return large, small


@dataclass
class Lab:
    """The place where one section measures.

    Attributes:
        setting: what all sections share.
        large, small: folders of shards: at the size of the recipe's model, and 64 gray.
        folder: empty, for this section alone.
        until: time.monotonic() at which the section should be done.
        send: takes every figure as soon as it is known, so that a cut section keeps those it has.
    """

    setting: Setting
    large: Path
    small: Path
    folder: Path
    until: float
    send: Callable[[str, Any], None]

    @property
    def device(self) -> torch.device:
        """Where it is measured."""
        return torch.device(self.setting.device)

    @property
    def cuda(self) -> bool:
        """Whether that is a GPU."""
        return self.device.type == "cuda"

    @property
    def decoder(self) -> Decoder:
        """Who decodes where a run is opened: measuring it each time would take most of the time."""
        return "gpu" if self.cuda else "cpu"

    @property
    def quick(self) -> bool:
        """Whether all is to be small."""
        return self.setting.quick

    def left(self) -> float:
        """Seconds that are left to the section."""
        return self.until - time.monotonic()

    def note(self, name: str, value: Any) -> None:
        """A figure is known."""
        self.send(name, value)

    def sampler(self, dataset: Dataset, batch_size: int) -> TrainSampler:
        """Batches of `dataset`, so many windows of a clip as an epoch of the recipe needs."""
        per_clip = -(-self.setting.steps * batch_size // len(dataset))
        return TrainSampler(dataset.windows, batch_size, windows_per_clip=per_clip)

    def loader(self, batch_size: int | None = None, **options: Any) -> Loader:
        """Our loader over the large shards, at the size of the recipe unless told otherwise."""
        dataset = Dataset(self.large, "train")
        sampler = self.sampler(dataset, batch_size or self.setting.batch_size)
        return open_loader(
            dataset, sampler, self.setting.model, **{"device": self.setting.device} | options
        )

    def batch(self, batch_size: int) -> Batch:
        """A batch of random frames and sound on the device, half of its pairs genuine."""
        import numpy as np

        from benchmarks.step import batch_of

        preset = PRESETS[self.setting.model]
        shape = (batch_size, 5, preset.size, preset.size, preset.channels)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device)
        mfcc = torch.randn(batch_size, 20, 13, device=self.device)
        return batch_of(frames, mfcc, np.arange(batch_size, dtype=np.int64) % 2)


class Watched:
    """A loader that tells of each batch that is asked for, before it is."""

    def __init__(self, loader: Loader, tell: Callable[[int], None]) -> None:
        self._loader, self._tell, self._count = loader, tell, 0

    def __iter__(self) -> "Iterator[Batch]":
        return self

    def __next__(self) -> Batch:
        self._tell(self._count)
        self._count += 1
        return next(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def watched(opened: Any, tell: Callable[[int], None]) -> Any:
    """An open run (`trainer.train.setup.Opened`) whose loop tells of its steps: 0, 1, ..."""
    return replace(opened, loader=Watched(opened.loader, tell))
