"""The cache of decoded frames that a training has, as `data.cache` says; in words, what it wins."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

from data_tools.cache_file import Look, default_folder, in_gb
from data_tools.errors import UsageError
from data_tools.mfcc import FPS
from trainer.config.settings import Config, Data
from trainer.data.cache import Filled, FrameCache
from trainer.data.cache_room import LEFT_FREE, available_memory, free_bytes
from trainer.data.cached import DeviceStore, HostStore, Store
from trainer.data.dataset import Dataset
from trainer.data.decoding import Decoder
from trainer.model.syncnet import PRESETS

_OF_MEMORY = 0.75  # of what is available; more, and frames would push each other out
_AUTO_OF_MEMORY = 0.5  # `auto` leaves the other half to whoever else works there
_OF_DEVICE = 0.5  # of a GPU's free memory; the step needs the rest
_LEAST_READS = 3  # of each frame, on average: fewer do not pay for the writing
_COPIERS = 4  # threads that copy: as many as a machine's memory keeps busy, or more
_BEYOND_CACHES = 48 * 2**20  # bytes that a processor's caches do not hold


@dataclass(frozen=True)
class Choice:
    """What was decided.

    Attributes:
        where: "off", "gpu", or a folder.
        budget: bytes.
        reason: in words.
    """

    where: str
    budget: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Room:
    """What there is for frames.

    Attributes:
        memory: bytes of the host that programs may take.
        disk: bytes left on the disk of a folder.
        device: bytes of the GPU that are free; 0 without one.
    """

    memory: int
    disk: Callable[[Path], int]
    device: int = 0


def cache_of(
    config: Config,
    dataset: Dataset,
    decoder: Decoder,
    steps: int,
    device: torch.device,
    say: Callable[[str], Any],
    stack: ExitStack,
) -> Store | None:
    """Open the cache of a training; None if it has none.

    Args:
        config: of the training.
        dataset: its clips.
        decoder: of what is not there.
        steps: to be done.
        device: of the model.
        say: prints a line.
        stack: closes the cache, after what is opened later.

    Raises:
        UsageError: there is no GPU to hold frames, or the folder is a file.
        CacheError: the folder cannot be used.
    """
    data, preset = config.data, PRESETS[config.model.name]
    if data.cache == "off":
        return None
    look = look_of(preset.size, preset.channels, decoder, dataset, device.type == "cuda")
    frames = int(dataset.frames[dataset.used].sum())
    runs = config.train.batch_size // data.windows_per_run
    asked_for = steps * runs * data.sample_frames
    reads = asked_for / max(1, frames)
    room = Room(available_memory(), free_bytes, _free_on(device))
    choice = choose(data, frames * look.frame_bytes, reads, room)
    if choice.where == "off":
        say(f"cache of frames: none, for {choice.reason} (data.cache auto)")
        return None
    store: Store
    if choice.where == "gpu":
        store = DeviceStore(dataset, look, choice.budget, device)
    else:
        folder = Path(choice.where).expanduser()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"data.cache {folder} is a file, not a folder")
        threads = min(_COPIERS, len(os.sched_getaffinity(0)))
        store = HostStore(FrameCache(folder, dataset, look, choice.budget, threads), device)
    stack.callback(store.close)
    say(in_words(choice, store.summary(), gain(dataset, look)))
    return store


def choose(data: Data, wanted: int, reads: float, room: Room) -> Choice:
    """Where frames are kept, and in how many bytes.

    `auto` keeps them in the GPU's memory if all fit into half of what is free there; else in
    `default_folder()` if all fit into half of the memory that is available and onto the disk, with
    a gigabyte to spare; and not at all otherwise, nor where each frame is read but once or twice.

    Args:
        data: cache and cache_gb.
        wanted: bytes of all frames of the clips that are used.
        reads: how often a frame is asked for in what is left of the training, on average.
        room: what there is.

    Raises:
        UsageError: there is no GPU to hold frames.
    """
    asked = int(data.cache_gb * 1e9)
    on_device = asked or int(_OF_DEVICE * room.device)
    if data.cache == "gpu":
        if not room.device:
            raise UsageError("data.cache gpu needs a GPU; name a folder, or take auto or off")
        return Choice("gpu", min(on_device, room.device))
    if data.cache != "auto":
        return Choice(data.cache, asked or int(_OF_MEMORY * room.memory))
    if reads < _LEAST_READS:
        return Choice("off", reason=f"each frame is asked for {reads:.1f} times on average")
    if room.device and wanted <= min(on_device, int(_OF_DEVICE * room.device)):
        return Choice("gpu", on_device)
    folder = default_folder()
    memory = asked or int(_AUTO_OF_MEMORY * room.memory)
    if wanted > memory:
        return Choice("off", reason=f"all frames take {in_gb(wanted)}, of {in_gb(memory)}")
    free = room.disk(folder) - LEFT_FREE
    if wanted > free:
        left = in_gb(max(0, free))
        return Choice("off", reason=f"all frames take {in_gb(wanted)}, and {folder} has {left}")
    return Choice(str(folder), memory)


def gain(dataset: Dataset, look: Look) -> float:
    """How much longer decoding a frame takes than copying it out of memory here: a quick measure.

    Of the first frames of the set on one core; 0 where they cannot be decoded.
    """
    jpegs = [bytes(dataset.shards[0].jpeg(0, at)) for at in range(min(16, int(dataset.frames[0])))]
    start = time.perf_counter()
    try:
        for jpeg in jpegs:
            simplejpeg.decode_jpeg(jpeg, "GRAY" if look.channels == 1 else "RGB")
    except ValueError:
        return 0.0
    decoding = (time.perf_counter() - start) / len(jpegs)
    rows = np.ones((max(2, _BEYOND_CACHES // look.frame_bytes), look.frame_bytes), np.uint8)
    into = np.ones(look.frame_bytes, np.uint8)
    start = time.perf_counter()
    for row in rows[:: max(1, len(rows) // 64)]:
        np.copyto(into, row)
    copied = len(rows[:: max(1, len(rows) // 64)])
    return decoding * copied / (time.perf_counter() - start)


def in_words(choice: Choice, filled: Filled, times: float) -> str:
    """One line for people: where, how much of it is there, and what it wins.

    Args:
        choice: what was decided.
        filled: of the store.
        times: of `gain`.
    """
    where = "the GPU's memory" if choice.where == "gpu" else choice.where
    text = f"cache of frames in {where}: {filled.words}"
    if times > 1:
        text += f"; decoding a frame takes {times:,.0f} times as long here as copying it"
    if filled.kept < filled.frames:
        hours = filled.kept / FPS / 3600
        text += f" ({hours:,.1f} hours fit, the others are decoded; data.cache_gb)"
    if filled.rebuilt:
        text += f"; {filled.rebuilt} damaged file(s) made anew"
    return text


def look_of(size: int, channels: Any, decoder: Decoder, dataset: Dataset, on_gpu: bool) -> Look:
    """How the frames of a training are kept: what decodes and resizes them is told apart.

    DALI's CPU decoder and `trainer.data.turbo` give the same bits, and so share their files.
    """
    import nvidia.dali  # most of a second, which a run without a cache need not wait for

    name = f"DALI {nvidia.dali.__version__} {decoder}"
    resized = any(shape[:2] != (size, size) for shape in dataset.frame_shapes)
    if resized and on_gpu:
        name += ", resized on the GPU"
    return Look(size, channels, name)


def _free_on(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
