"""libjpeg-turbo in threads, straight into the rows of a batch: the fastest decoder on a CPU.

DALI's CPU decoder gives the same bits, but spends time around libjpeg-turbo (`MEASURED`). It stays
for what is done to frames after they are decoded (resizing, augmentation), and for a GPU's decoder.
simplejpeg lets go of the interpreter while it decodes, so that threads are enough.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from data_tools.errors import UsageError
from trainer.data.batch import Shape
from trainer.data.cached import Buffers, Queue
from trainer.data.decoding import Decoder

Library = Literal["dali", "turbo"]
LibraryChoice = Literal["auto", "dali", "turbo"]
Fault = tuple[int, str]  # place of a frame in its batch, and what is wrong, in words
Pixels = NDArray[np.uint8]
Jpeg = Pixels | memoryview | bytes  # (bytes,) of uint8

_AHEAD = 2  # batches given to the threads besides the one that is waited for
# Bytes of a frame, name, rate of DALI's CPU decoder over that of libjpeg-turbo from run to run.
# Two cores of an Intel, decoding alone: `auto` goes by these, for they agree on every size.
MEASURED = (
    (64 * 64, "64 gray", "0.85-0.89"),
    (111 * 111, "111 gray", "0.77-0.85"),
    (224 * 224 * 3, "224 RGB", "0.57-0.63"),
)


@dataclass(frozen=True)
class Taken:
    """Which library decodes, and why.

    Attributes:
        library: "turbo" or "dali".
        reason: in words.
    """

    library: Library
    reason: str

    def in_words(self, threads: int) -> str:
        """One line for people: who decodes, in how many threads, and why."""
        name = {"turbo": "libjpeg-turbo", "dali": "DALI"}[self.library]
        return f"frames are decoded by {name} in {threads} thread(s): {self.reason}"


def choose(
    asked: LibraryChoice,
    decoder: Decoder,
    shape: Shape,
    resize: bool,
    cached: bool,
    to_gpu: bool = False,
) -> Taken:
    """Which library decodes.

    `auto` takes libjpeg-turbo wherever frames are wanted as they are stored and a CPU both decodes
    and trains. Before a GPU it takes DALI: on 16 cores before an H200 the seed's recipe trained
    at 5,464 samples/s behind DALI in one run and at 4,487 behind libjpeg-turbo in the next, which
    alone was the faster; a third run, behind DALI again, came to 4,834 (gpu_suite.json).

    Args:
        asked: `data.decoder`.
        decoder: "gpu" or "cpu", whose frames may then be copied to a GPU.
        shape: of a batch.
        resize: whether some frames are of another size.
        cached: whether there is a cache: what is augmented then was decoded before.
        to_gpu: whether batches are copied to a GPU.

    Raises:
        UsageError: libjpeg-turbo was asked for, and frames are wanted that it does not make.
    """
    varied = shape.augment is not None and bool(shape.augment.pictures) and not cached
    hindrance = None
    if decoder == "gpu":
        hindrance = "a GPU decodes"
    elif resize:
        hindrance = f"frames are resized to {shape.size}x{shape.size}"
    elif varied:
        hindrance = "pictures are augmented as they are decoded"
    if asked == "dali":
        return Taken("dali", "data.decoder dali")
    if asked == "turbo" and hindrance:
        raise UsageError(f"data.decoder turbo cannot be, for {hindrance}; take auto or dali")
    if asked == "turbo":
        return Taken("turbo", "data.decoder turbo")
    if hindrance:
        return Taken("dali", f"{hindrance} (data.decoder auto)")
    if to_gpu:
        # Threads of Python take turns, and the thread that starts the GPU's kernels is one.
        return Taken(
            "dali",
            "libjpeg-turbo's threads would hold up the one that starts the GPU's work "
            "(data.decoder auto)",
        )
    frame_bytes = shape.size**2 * shape.channels
    _, kind, ratio = min(MEASURED, key=lambda row: abs(np.log(row[0] / frame_bytes)))
    return Taken(
        "turbo",
        f"DALI gives {ratio} of its rate for frames of {kind}, as measured on two cores "
        "(data.decoder auto)",
    )


class BadFrames(RuntimeError):
    """Frames of a batch that cannot be taken.

    Attributes:
        faults: the place of each, in order, with what is wrong.
    """

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"frame {at} {fault}" for at, fault in faults))
        self.faults = faults


@dataclass(frozen=True)
class _Part:
    """Frames that the threads are at work on."""

    rows: Pixels
    results: list["Future[list[Fault]]"]
    arrays: list[NDArray[Any]]  # what goes with the frames


class Turbo:
    """Stands where a DALI pipeline does: asks its source for batches ahead and returns tensors.

    Frames are the bits that DALI's CPU decoder gives. It is stricter: whatever makes libjpeg-turbo
    warn is refused, as by `pack` and `verify`, where DALI takes the noise behind a damaged byte.

    Args:
        source: called for each batch, two ahead: its JPEGs, (bytes,) uint8 each; or a tuple of them
            and arrays that go with them.
        shape: of a batch: size and colour of its frames.
        threads: to decode with.
        queue: where outputs lie; copies to a GPU are made in its stream, out of pinned memory.
    """

    def __init__(self, source: Callable[[], Any], shape: Shape, threads: int, queue: Queue) -> None:
        self._source, self._shape, self._queue = source, shape, queue
        self._buffers = Buffers(pinned=queue.device.type == "cuda")
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "turbo")
        self._parts: deque[_Part] = deque()

    def __enter__(self) -> "Turbo":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self) -> tuple[torch.Tensor, ...]:
        """The next batch: frames (M, H, W, C) uint8, and its arrays; ready for every stream.

        Raises:
            BadFrames: some cannot be decoded, or are of another size.
        """
        while len(self._parts) <= _AHEAD:
            self._parts.append(self._begin())
        part = self._parts.popleft()
        faults = sorted(fault for result in part.results for fault in result.result())
        if faults:
            raise BadFrames(faults)
        device = self._queue.device
        given = [torch.from_numpy(array) for array in (part.rows, *part.arrays)]
        with self._queue.work():
            outputs = tuple(tensor.to(device, non_blocking=True) for tensor in given)
        # `given` keeps the memory that is copied from.
        self._queue.wait()
        return outputs

    def _begin(self) -> _Part:
        """Give the threads the frames of the next batch."""
        given = self._source()
        jpegs, *arrays = given if isinstance(given, tuple) else (given,)
        frame = (self._shape.size, self._shape.size, self._shape.channels)
        rows = self._buffers.take(len(jpegs), int(np.prod(frame))).reshape(-1, *frame)
        left = iter(range(len(jpegs)))  # shared: a thread that is done takes the next frame
        results = [
            self._pool.submit(decode, jpegs, rows, left)
            for _ in range(min(self._threads, len(jpegs)))
        ]
        return _Part(rows, results, arrays)


def decode(jpegs: Sequence[Jpeg], rows: Pixels, places: Iterator[int]) -> list[Fault]:
    """Decode some of the JPEGs of a batch into its rows.

    Args:
        jpegs: (bytes,) uint8 each; memoryviews cost least.
        rows: (len(jpegs), H, W, C) uint8, RGB or gray.
        places: which of them, as long as there are any.

    Returns:
        What is wrong with which; their rows hold anything.
    """
    colour = "RGB" if rows.shape[-1] == 3 else "GRAY"
    shape, take = rows.shape[1:], simplejpeg.decode_jpeg  # looked up once
    faults = []
    for at in places:
        row = rows[at]
        try:
            # The most exact ways, which are DALI's as well.
            found = take(jpegs[at], colour, fastdct=False, fastupsample=False, buffer=row)
        except Exception as error:  # whatever a decoder may meet in bytes from outside
            faults.append((at, _fault(jpegs[at], row, error)))
            continue
        if found.shape != shape:  # smaller: it went into the row's beginning
            faults.append((at, _wrong_size(found.shape, row)))
    return faults


def _fault(jpeg: Jpeg, row: Pixels, error: Exception) -> str:
    """What is wrong with a JPEG that was refused for `error`, perhaps for want of room."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
    except Exception:  # as above
        return f"cannot be decoded ({error})"
    if (height, width) != row.shape[:2]:
        return _wrong_size((int(height), int(width)), row)
    return f"cannot be decoded ({error})"


def _wrong_size(found: tuple[int, ...], row: Pixels) -> str:
    height, width = row.shape[:2]
    return f"is {found[1]}x{found[0]}, not {width}x{height}"
