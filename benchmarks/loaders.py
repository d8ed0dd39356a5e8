"""The loaders that are compared: each gives the same batches, epoch by epoch, in its own way.

A batch is (frames, mfcc): (B, 5, H, W, C) uint8 RGB or gray and (B, 20, 13) float32, on the CPU or
on the GPU asked for. `LOADERS` says of each what it is and how it was set; peers have the settings
that their documentation recommends for speed. Those with an index take the very samples of ours;
webdataset, DALI's reader and LitData shuffle windows that were fixed when their files were written.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch.utils import data as torch_data

from benchmarks.measure import open_loader
from benchmarks.sources import COLUMNS, RUN, Source, litdata_caches
from data_tools.errors import MissingPackage

Batch = tuple[torch.Tensor, torch.Tensor]
PARTS = 8  # a small batch is this part of a batch


@dataclass(frozen=True)
class Settings:
    """What a loader may use.

    Attributes:
        workers: processes of the torch loaders that stay as the seed had them.
        cores: workers or threads of all others.
        device: where batches are wanted.
    """

    workers: int = 16
    cores: int = len(os.sched_getaffinity(0))
    device: str = "cpu"


class Epochs(Protocol):
    """An open loader: each call gives the batches of the next epoch."""

    def __call__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Kind:
    """A loader that can be opened.

    Attributes:
        what: for the table.
        open: (source, settings) -> a context that holds `Epochs`.
        needs: a module that must be installed, and the extra that brings it.
    """

    what: str
    open: Callable[[Source, Settings], AbstractContextManager[Epochs]]
    needs: str | None = None

    def missing(self) -> str | None:
        """Why it cannot be opened here; None if it can."""
        if self.needs is None:
            return None
        if find_spec(self.needs.split(".")[0]) is None:
            return f"{self.needs} is not installed: pip install -c constraints.txt -e '.[bench]'"
        if self.open is LOADERS["spdl"].open:
            import spdl.io.lib

            try:
                # loads the library, which an attribute that every object has does not
                spdl.io.lib._libspdl.__file__  # noqa: B018
            except RuntimeError:
                return "spdl.io finds no ffmpeg (libavutil) to load images with"
        return None


# The seed's way: map-style datasets in torch's DataLoader. An index is (clip, start, audio_start).


class Files(torch_data.Dataset[Batch]):
    """A JPEG file a frame and audio.npy, as the seed stored them."""

    def __init__(self, source: Source) -> None:
        self.clips = [str(source.files() / f"{n:06d}") for n in range(len(source.dataset))]
        colour = source.frame_shape[2] == 3
        self.flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE

    def __getitem__(self, index: tuple[int, int, int]) -> Batch:
        clip, start, audio_start = index
        folder = self.clips[clip]
        names = [f"{folder}/frames/frame{start + i}.jpg" for i in range(RUN)]
        frames = np.stack([cast(NDArray[np.uint8], cv2.imread(name, self.flag)) for name in names])
        bins = np.load(f"{folder}/audio.npy", allow_pickle=False)
        if frames.ndim == 3:
            frames = frames[..., None]
        return torch.from_numpy(frames), torch.from_numpy(bins[audio_start, 0].T.copy())


class _Shards(torch_data.Dataset[Batch]):
    """Slices of the mmapped shards, a whole list of indices at once straight into one array."""

    def __init__(self, source: Source) -> None:
        self.source = source
        source.sampler, source.dataset._bytes  # noqa: B018 opened before the workers fork

    def __getitems__(self, indices: list[tuple[int, int, int]]) -> Batch:
        from trainer.data.sampler import Runs

        clip, start, audio_start = (np.array(column) for column in zip(*indices, strict=True))
        runs = Runs(clip, start, clip, audio_start, np.ones_like(clip))
        dataset = self.source.dataset
        height, width, channels = self.source.frame_shape
        frames = torch.empty(len(runs) * RUN, height, width, channels, dtype=torch.uint8)
        _turbo(dataset.jpegs(runs, RUN), frames.numpy())
        mfcc = torch.from_numpy(dataset.mfcc(runs, RUN, COLUMNS))
        return frames.view(len(runs), RUN, height, width, channels), mfcc


class _Order(torch_data.Sampler[list[tuple[int, int, int]]]):
    """Batches of indices: the sampler's epochs one by one, or all of them without end."""

    def __init__(self, source: Source, parts: int, endless: bool) -> None:
        self.source, self.parts, self.endless = source, parts, endless
        self.epoch = 0

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        source = self.source
        first = self.epoch * source.steps
        self.epoch += 1
        size = -(-source.batch_size // self.parts)
        for step in count(first) if self.endless else range(first, first + source.steps):
            runs = source.sampler.batch(step)
            columns = (runs.clip.tolist(), runs.start.tolist(), runs.audio_start.tolist())
            indices = list(zip(*columns, strict=True))
            yield from (indices[at : at + size] for at in range(0, len(indices), size))


def torch_loader(
    dataset: type[Any],
    *,
    persistent: bool,
    parts: int = 1,
    endless: bool = False,
    one_a_core: bool = False,
) -> Callable[[Source, Settings], AbstractContextManager[Epochs]]:
    """Opens torch's DataLoader over `Files` or `_Shards`.

    Args:
        dataset: the class.
        persistent: keep the workers from epoch to epoch.
        parts: small batches that make up a batch; each is one worker's task.
        endless: one iterator for all epochs.
        one_a_core: a worker a core, else `Settings.workers`.
    """

    @contextmanager
    def open_torch(source: Source, settings: Settings) -> Iterator[Epochs]:
        workers = settings.cores if one_a_core else settings.workers
        # As many as the seed's is the point here; torch warns at every epoch.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader: Any = torch_data.DataLoader(
            dataset(source),
            batch_sampler=_Order(source, parts, endless),
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
            collate_fn=_as_it_is if dataset is _Shards else None,
            pin_memory=settings.device != "cpu",
            # Enough in flight for one whole batch beyond the one that is due
            prefetch_factor=max(2, -(-2 * parts // workers)),
        )
        join = _joiner(source, parts)
        to = _mover(settings.device)
        if endless:
            batches = map(to, join(iter(loader)))
            yield lambda: (next(batches) for _ in range(source.steps))
        else:
            yield lambda: map(to, join(iter(loader)))

    return open_torch


def _as_it_is(batch: Any) -> Any:
    return batch


def _joiner(source: Source, parts: int) -> Callable[[Iterator[Any]], Iterator[Batch]]:
    """Puts small batches together in memory that is used again: fresh memory costs more."""
    height, width, channels = source.frame_shape
    n = source.batch_size
    shape = (n, RUN, height, width, channels)
    buffers: list[Batch] = []
    turn = count()

    def join(small: Iterator[Any]) -> Iterator[Batch]:
        if parts == 1:
            yield from map(tuple, small)
            return
        if not buffers:
            for _ in range(2):
                buffers.append((torch.empty(shape, dtype=torch.uint8), torch.empty(n, COLUMNS, 13)))
        while True:
            frames, mfcc = buffers[next(turn) % 2]
            filled = 0
            while filled < n:
                part = next(small, None)
                if part is None:
                    return
                frames[filled : filled + len(part[0])] = part[0]
                mfcc[filled : filled + len(part[1])] = part[1]
                filled += len(part[0])
            yield frames, mfcc

    return join


def _mover(device: str) -> Callable[[Any], Batch]:
    if device == "cpu":
        return lambda batch: batch
    return lambda batch: (
        batch[0].to(device, non_blocking=True),
        batch[1].to(device, non_blocking=True),
    )


# Peers


def _decode_window(sample: dict[str, Any]) -> Batch:
    frames = [simplejpeg.decode_jpeg(sample[f"{i}.jpg"], sample["colour"]) for i in range(RUN)]
    mfcc = np.load(_buffer(sample["npy"]), allow_pickle=False)
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(mfcc)


def _buffer(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)


@contextmanager
def _webdataset(source: Source, settings: Settings) -> Iterator[Epochs]:
    import webdataset

    urls = [str(path) for path in sorted(source.windows().glob("*.tar"))]
    colour = "RGB" if source.frame_shape[2] == 3 else "GRAY"
    part = -(-source.batch_size // PARTS)
    dataset = (
        webdataset.WebDataset(urls, resampled=True, shardshuffle=False)
        .shuffle(500)
        .map(lambda sample: _decode_window(sample | {"colour": colour}))
        .batched(part, partial=False, collation_fn=_stack)
    )
    loader = webdataset.WebLoader(
        dataset, batch_size=None, num_workers=settings.cores, prefetch_factor=PARTS
    )
    batches = map(_mover(settings.device), _joiner(source, PARTS)(iter(loader)))
    yield lambda: (next(batches) for _ in range(source.steps))


def _stack(samples: list[Batch]) -> Batch:
    return torch.stack([s[0] for s in samples]), torch.stack([s[1] for s in samples])


@contextmanager
def _dali_reader(source: Source, settings: Settings) -> Iterator[Epochs]:
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

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
    to = _mover(settings.device)

    def endless() -> Iterator[Batch]:
        while True:
            for (batch,) in iterator:
                yield to((batch["frames"], batch["mfcc"]))

    batches = endless()
    yield lambda: (next(batches) for _ in range(source.steps))


def _spdl(
    decode: Callable[[list[NDArray[np.uint8]], NDArray[np.uint8]], None],
) -> Callable[[Source, Settings], AbstractContextManager[Epochs]]:
    @contextmanager
    def open_spdl(source: Source, settings: Settings) -> Iterator[Epochs]:
        from spdl.pipeline import PipelineBuilder

        height, width, channels = source.frame_shape
        n, parts = source.batch_size, PARTS
        size = -(-n // parts)
        shape = (n, RUN, height, width, channels)
        # What the sink, the parts under way and the consumer may hold at once
        buffers = [np.empty(shape, np.uint8) for _ in range(6)]

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
        to = _mover(settings.device)
        with pipeline.auto_stop():
            batches = (
                to((torch.from_numpy(done[0][0]), torch.from_numpy(done[0][1])))
                for done in pipeline.get_iterator()
            )
            yield lambda: (next(batches) for _ in range(source.steps))

    return open_spdl


def _spdl_images(jpegs: list[NDArray[np.uint8]], rows: NDArray[np.uint8]) -> None:
    import spdl.io

    colour = "rgb24" if rows.shape[-1] == 3 else "gray"
    content = [jpeg.tobytes() for jpeg in jpegs]
    loaded = spdl.io.load_image_batch(content, width=None, height=None, pix_fmt=colour)
    rows[:] = np.asarray(spdl.io.to_numpy(loaded)).reshape(rows.shape)


def _turbo(jpegs: list[NDArray[np.uint8]], rows: NDArray[np.uint8]) -> None:
    colour = "RGB" if rows.shape[-1] == 3 else "GRAY"
    for jpeg, row in zip(jpegs, rows, strict=True):
        simplejpeg.decode_jpeg(jpeg, colour, fastdct=False, fastupsample=False, buffer=row)


@contextmanager
def _litdata(source: Source, settings: Settings) -> Iterator[Epochs]:
    folder: Path = source.litdata() / "chunks"
    with litdata_caches(folder.parent.parent):
        import litdata

        colour = "RGB" if source.frame_shape[2] == 3 else "GRAY"
        dataset = litdata.StreamingDataset(
            str(folder), shuffle=True, drop_last=True, transform=_LitDecode(colour)
        )
        loader = litdata.StreamingDataLoader(
            dataset,
            batch_size=-(-source.batch_size // PARTS),
            num_workers=settings.cores,
            persistent_workers=True,
            prefetch_factor=PARTS,
            pin_memory=settings.device != "cpu",
            collate_fn=_stack,
        )

        def endless() -> Iterator[Batch]:
            while True:
                yield from loader

        batches = map(_mover(settings.device), _joiner(source, PARTS)(endless()))
        yield lambda: (next(batches) for _ in range(source.steps))


class _LitDecode:
    def __init__(self, colour: str) -> None:
        self.colour = colour

    def __call__(self, window: dict[str, Any]) -> Batch:
        frames = [simplejpeg.decode_jpeg(window[str(i)], self.colour) for i in range(RUN)]
        return torch.from_numpy(np.stack(frames)), torch.as_tensor(window["mfcc"])


# Ours, and what no loader can beat


@contextmanager
def _ours(source: Source, settings: Settings) -> Iterator[Epochs]:
    options: dict[str, Any] = {"device": settings.device, "threads": settings.cores}
    with open_loader(source.dataset, source.sampler, **options) as loader:
        batches = ((batch.frames_NRHWC, batch.mfcc_NFC) for batch in loader)
        yield lambda: (next(batches) for _ in range(source.steps))


@contextmanager
def _replay(source: Source, settings: Settings) -> Iterator[Epochs]:
    with _ours(source, settings) as epochs:
        kept = [(frames.clone(), mfcc.clone()) for frames, mfcc in _first(epochs(), 4)]
    batches = (kept[i % len(kept)] for i in count())
    yield lambda: (next(batches) for _ in range(source.steps))


@contextmanager
def _copy(source: Source, settings: Settings) -> Iterator[Epochs]:
    with _replay(source, settings) as epochs:
        into = [tuple(map(torch.empty_like, batch)) for batch in _first(epochs(), 2)]

        def copied() -> Iterator[Batch]:
            for step, batch in enumerate(epochs()):
                frames, mfcc = into[step % 2]
                yield frames.copy_(batch[0]), mfcc.copy_(batch[1])

        yield copied


def _first(batches: Iterator[Batch], number: int) -> list[Batch]:
    return [batch for batch, _ in zip(batches, range(number), strict=False)]


LOADERS: dict[str, Kind] = {
    "torch-seed": Kind(
        "torch DataLoader as the seed (below) had it: a JPEG a frame, more workers than batches",
        torch_loader(Files, persistent=False),
    ),
    "torch-persistent": Kind(
        "the same, persistent_workers=True",
        torch_loader(Files, persistent=True),
    ),
    "torch-small": Kind(
        "the same, persistent, 1/8 of a batch per worker",
        torch_loader(Files, persistent=True, parts=PARTS),
    ),
    "torch-endless": Kind(
        "the same files, 1/8 of a batch per worker, one endless iterator, a worker a core",
        torch_loader(Files, persistent=True, parts=PARTS, endless=True, one_a_core=True),
    ),
    "torch-shards": Kind(
        "torch DataLoader on our mmapped shards, simplejpeg into 1/8 of a batch, endless",
        torch_loader(_Shards, persistent=True, parts=PARTS, endless=True, one_a_core=True),
    ),
    "webdataset": Kind(
        "webdataset, resampled and endless, WebLoader with a worker a core, simplejpeg",
        _webdataset,
        "webdataset",
    ),
    "dali-reader": Kind(
        "DALI's webdataset reader, a thread a core, fn.stack, DALIGenericIterator",
        _dali_reader,
        "nvidia.dali",
    ),
    "spdl": Kind(
        "SPDL on our sampler and shards, its load_image_batch in a thread a core",
        _spdl(_spdl_images),
        "spdl.io",
    ),
    "spdl-simplejpeg": Kind(
        "SPDL on our sampler and shards, simplejpeg in a thread a core into the batch's rows",
        _spdl(_turbo),
        "spdl.io",
    ),
    "litdata": Kind(
        "LitData, optimised chunks, a persistent worker a core, simplejpeg", _litdata, "litdata"
    ),
    "ours": Kind("one DALI pipeline over mmapped shards, a thread a core, a feeder thread", _ours),
    "copy": Kind("ceiling: copying a batch in memory", _copy),
    "replay": Kind("ceiling: the same batches again and again", _replay),
}
CEILINGS = ("copy", "replay")


def runnable(names: Iterable[str], console: Console) -> list[str]:
    """Those of `names` that can run here; of the others the reason is printed.

    Raises:
        ValueError: there is none of that name, or none is left.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in LOADERS:
            raise ValueError(f"no loader {name!r}; there are {', '.join(LOADERS)}")
    left = []
    for name in names:
        if reason := LOADERS[name].missing():
            console.print(f"skipped {name}: {reason}", soft_wrap=True, markup=False)
        else:
            left.append(name)
    if not left:
        raise ValueError("no loader that can run here was asked for")
    return left


def open_by_name(name: str, source: Source, settings: Settings) -> AbstractContextManager[Epochs]:
    """Open a loader.

    Raises:
        ValueError: there is none of that name.
        MissingPackage: what it needs is not installed.
    """
    if name not in LOADERS:
        raise ValueError(f"no loader {name!r}; there are {', '.join(LOADERS)}")
    if reason := LOADERS[name].missing():
        raise MissingPackage(f"{name}: {reason}")
    return LOADERS[name].open(source, settings)
