"""Which frames of a batch are to blame that DALI could not decode it, asked on the CPU.

DALI names no sample ("nvImageCodec failure: '#4'"), and the pipeline that met one is lost. A
pipeline takes some 10 ms to build, so their number is bounded. On the CPU, because a CUDA error
stays: a GPU that has met one refuses every frame from then on.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from data_tools.clips import ClipError
from data_tools.jpeg import decode_jpeg

Jpegs = Sequence[NDArray[np.uint8]]
MOST_BUILDS = 100  # pipelines of one diagnosis, a second or two


class NoFrameToBlame(Exception):
    """A batch could not be decoded, and not because of its frames; says why it is not."""


def undecodable(jpegs: Jpegs, channels: int, threads: int) -> list[int]:
    """Places of the frames that DALI refuses on the CPU, at least one, in order.

    What libjpeg-turbo decodes without a warning is decoded together; the others are looked at one
    by one, by halving. Of more than `MOST_BUILDS` pipelines can tell apart, all that libjpeg-turbo
    warns of are taken as bad.

    Args:
        jpegs: of a batch: (bytes,) uint8 each.
        channels: 3 or 1, as which they are decoded.
        threads: to decode with.

    Raises:
        NoFrameToBlame: none is refused, or a picture that is certainly good is refused as well.
    """
    with ThreadPoolExecutor(threads) as pool:
        clean = list(pool.map(_is_clean, jpegs))
    search = _Search(jpegs, clean, channels, threads)
    for doubtful in (True, False):
        search.halve([at for at, fine in enumerate(clean) if fine != doubtful])
    if not search.bad:
        raise NoFrameToBlame("each of its frames can be decoded on the CPU")
    if len(search.bad) == len(jpegs) and not _decodes([good_jpeg()], channels, threads):
        raise NoFrameToBlame("no picture at all can be decoded on the CPU")
    return sorted(search.bad)


class _Search:
    """For the bad among some frames, by halves, with so many pipelines at most."""

    def __init__(self, jpegs: Jpegs, clean: Sequence[bool], channels: int, threads: int) -> None:
        self._jpegs, self._clean = jpegs, clean
        self._channels, self._threads = channels, threads
        self._left = MOST_BUILDS
        self.bad: list[int] = []

    def halve(self, places: list[int]) -> None:
        """Find the bad ones among the frames at these places."""
        if not places:
            return
        if not self._left:
            # Clean frames are met again by the next attempt, if one of them is bad.
            self.bad += [at for at in places if not self._clean[at]]
            return
        self._left -= 1
        if _decodes([self._jpegs[at] for at in places], self._channels, self._threads):
            return
        if len(places) == 1:
            self.bad += places
            return
        middle = len(places) // 2
        self.halve(places[:middle])
        self.halve(places[middle:])


def _is_clean(jpeg: NDArray[np.uint8]) -> bool:
    """Whether libjpeg-turbo decodes it without a warning, as `pack` and `verify` ask of it."""
    try:
        decode_jpeg(jpeg.tobytes(), "")
    except ClipError:
        return False
    return True


def _decodes(jpegs: Jpegs, channels: int, threads: int) -> bool:
    from trainer.data.pipeline import decode_pipeline

    pipeline: Any = decode_pipeline(
        lambda: list(jpegs),
        channels,
        batch_size=len(jpegs),
        num_threads=threads,
        device_id=None,
        exec_dynamic=True,
        prefetch_queue_depth=1,
    )
    try:
        pipeline.build()
        pipeline.run()
    except RuntimeError:
        return False
    return True


def good_jpeg() -> NDArray[np.uint8]:
    """A small JPEG that every decoder takes."""
    gray = np.full((16, 16, 3), 128, np.uint8)
    return np.frombuffer(simplejpeg.encode_jpeg(gray, 90), np.uint8)
