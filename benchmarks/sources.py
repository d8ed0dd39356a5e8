"""One set of frames in the form that each loader wants, made once below a folder.

All forms hold the same JPEG bytes and MFCC, so that loaders differ in loading alone:

    shards/     what ours and the mmapped torch Dataset read
    files/      what the seed had: <clip>/frames/frame0.jpg ..., <clip>/audio.npy (bins, 1, 13, 20)
    windows/    tars of one epoch's windows, a window a sample, for webdataset and DALI's own reader
    litdata/    the same windows as LitData's chunks
"""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.errors import UserError
from data_tools.mfcc import COLUMNS_PER_FRAME
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.synth.clips import synthesize
from data_tools.tar_index import format_idx, index_tar
from data_tools.workers import process_count
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler

RUN = 5  # frames of a window
COLUMNS = RUN * COLUMNS_PER_FRAME
PARTS = 8  # a small batch, where a loader has them, is this part of a batch
WINDOW_TARS = 8  # so that every worker of webdataset has some of its own


@dataclass(frozen=True)
class Source:
    """A set of clips and the epoch that is drawn from it.

    Attributes:
        shards: folder of shards.
        made: folder in which the other forms are made.
        batch_size, steps: of an epoch.
        split: of the shards.
    """

    shards: Path
    made: Path
    batch_size: int
    steps: int
    split: str = "train"

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process opens the shards itself.
        return Source, (self.shards, self.made, self.batch_size, self.steps, self.split)

    @cached_property
    def dataset(self) -> Dataset:
        """The clips."""
        return Dataset(self.shards, self.split)

    @cached_property
    def sampler(self) -> TrainSampler:
        """The training sampler; as many windows of a clip as `steps` batches need."""
        per_clip = -(-self.steps * self.batch_size // len(self.dataset))
        return TrainSampler(self.dataset.windows, self.batch_size, windows_per_clip=per_clip)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of every frame.

        Raises:
            UserError: they differ.
        """
        return frame_shape(self.dataset)

    @property
    def epoch_name(self) -> str:
        """Folder name for forms that hold one epoch's windows."""
        return f"{self.split}-{self.batch_size}x{self.steps}"

    def files(self) -> Path:
        """The seed's layout; made if need be."""
        return _once(
            self.made / f"files-{self.split}", lambda folder: _write_files(self.dataset, folder)
        )

    def windows(self) -> Path:
        """Tars of windows with DALI's indices; made if need be."""
        place = self.made / "windows" / self.epoch_name
        return _once(place, lambda folder: _write_windows(self, folder))

    def litdata(self) -> Path:
        """LitData's chunks of the same windows; made if need be."""
        place = self.made / "litdata" / self.epoch_name
        return _once(place, lambda folder: _write_litdata(self, folder))

    def epoch_windows(self) -> Iterator[dict[str, Any]]:
        """Every window of epoch 0 in the sampler's order: "0".."4" JPEG bytes, "mfcc" (20, 13)."""
        for step in range(self.steps):
            runs = self.sampler.batch(step)
            jpegs = self.dataset.jpegs(runs, RUN)
            mfcc = self.dataset.mfcc(runs, RUN, COLUMNS)
            for row in range(len(runs)):
                window: dict[str, Any] = {
                    str(i): jpegs[RUN * row + i].tobytes() for i in range(RUN)
                }
                yield window | {"mfcc": mfcc[row]}


def synthetic_shards(
    folder: Path, clips: int, size: int, gray: bool = False, shard_mb: int = 128, workers: int = 1
) -> Path:
    """Shards of synthetic clips of 3 s below `folder`, made once.

    Args:
        shard_mb: input of a shard; each is packed by one process.
        workers: processes that pack; 0 is one a core.
    """
    made = folder / f"synth-{clips}-{size}{'-gray' if gray else ''}"
    if not (made / "shards" / "manifest.json").exists():
        made.mkdir(parents=True, exist_ok=True)
        synthesize(made / "clips", clips, seed=0, size=size)
        options = PackOptions(gray=gray, ratios=(80, 10, 10), shard_mb=shard_mb)
        pack(made / "clips", made / "shards", options, workers=process_count(workers))
    return made / "shards"


def frame_shape(dataset: Dataset) -> tuple[int, int, int]:
    """Height, width and channels of every frame.

    Raises:
        UserError: they differ.
    """
    if len(dataset.frame_shapes) != 1:
        raise UserError("the shards hold frames of several sizes; pack them with --size")
    return next(iter(dataset.frame_shapes))


def synthetic_source(
    cache: Path, clips: int, size: int, gray: bool, batch_size: int, steps: int
) -> Source:
    """A source of synthetic heads below `cache`."""
    shards = synthetic_shards(cache, clips, size, gray)
    return Source(shards, shards.parent, batch_size, steps)


def own_source(shards: Path, cache: Path, batch_size: int, steps: int) -> Source:
    """A source of the user's shards; its other forms lie in `cache`, by the folder's path."""
    made = cache / "made" / str(shards.resolve()).strip("/").replace("/", "-")
    return Source(shards, made, batch_size, steps)


def _once(folder: Path, make: Any) -> Path:
    """`folder`, made under a temporary name first, so that half of it is never taken for it."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            make(partial)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return folder


def _write_files(dataset: Dataset, folder: Path) -> None:
    number = 0
    for shard in dataset.shards:
        for clip, record in enumerate(shard.records):
            frames = folder / f"{number:06d}" / "frames"
            frames.mkdir(parents=True)
            for frame in range(record.frames):
                (frames / f"frame{frame}.jpg").write_bytes(shard.jpeg(clip, frame).tobytes())
            np.save(frames.parent / "audio.npy", seed_bins(shard.mfcc(clip)), allow_pickle=False)
            number += 1


def seed_bins(mfcc: NDArray[np.float32]) -> NDArray[np.float32]:
    """The seed's audio.npy of a clip: (bins, 1, 13, 20) float32, bin i is window i."""
    bins = (len(mfcc) - COLUMNS) // COLUMNS_PER_FRAME + 1
    windows = [mfcc[COLUMNS_PER_FRAME * i :][:COLUMNS].T[None] for i in range(bins)]
    return np.stack(windows)


def _write_windows(source: Source, folder: Path) -> None:
    tars = [folder / f"{i:02d}.tar" for i in range(WINDOW_TARS)]
    archives = [tarfile.open(tar, "w") for tar in tars]  # noqa: SIM115
    for number, window in enumerate(source.epoch_windows()):
        npy = BytesIO()
        np.save(npy, window["mfcc"], allow_pickle=False)
        members = [(f"{i}.jpg", window[str(i)]) for i in range(RUN)]
        for extension, content in [*members, ("npy", npy.getvalue())]:
            info = tarfile.TarInfo(f"{number:06d}.{extension}")
            info.size = len(content)
            archives[number % WINDOW_TARS].addfile(info, BytesIO(content))
    for tar, archive in zip(tars, archives, strict=True):
        archive.close()
        tar.with_suffix(".idx").write_text(format_idx(index_tar(tar)), encoding="ascii")


def _write_litdata(source: Source, folder: Path) -> None:
    with litdata_caches(folder.parent):
        import litdata

        windows = list(source.epoch_windows())
        litdata.optimize(
            fn=_given,
            inputs=windows,
            output_dir=str(folder / "chunks"),
            chunk_bytes="64MB",
            num_workers=1,
            verbose=False,
        )


def _given(window: dict[str, Any]) -> dict[str, Any]:
    return window


@contextmanager
def litdata_caches(folder: Path) -> Iterator[None]:
    """LitData empties its cache folders in the temporary directory; give it folders of its own."""
    names = ("DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".litdata-") as own:
        for name in names:
            os.environ[name] = str(Path(own) / name.lower())
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
