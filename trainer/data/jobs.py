"""The parts that are asked for, and what of them DALI is given where there is a cache beside it.

So parts are planned a little ahead, and where none of them lacks a frame DALI gets a stand-in.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.batch import Shape, Whole
from trainer.data.cached import Found
from trainer.data.decoding import Decoding
from trainer.data.sampler import Segments

Part = TypeVar("Part")
_AHEAD = 2  # parts without a missing frame that are planned to find one with


@dataclass(frozen=True)
class Asked:
    """A batch that DALI has been given and has not returned yet."""

    number: int  # of the part, counted over all steps
    step: int
    segments: Segments
    quiet: NDArray[np.bool_]
    whole: Whole | None
    runs: Segments  # whose frames are asked for
    arrays: tuple[Any, ...]
    found: Found | None  # with a store: what it has of the frames

    @property
    def lacks(self) -> bool:
        """Whether the store lacks some of its frames."""
        return self.found is not None and len(self.found.missing) > 0


class Jobs(Generic[Part]):
    """The parts that DALI has to decode frames of, out of all parts.

    Args:
        plan: makes the next part.
        lacks: whether a part lacks frames.
    """

    def __init__(self, plan: Callable[[], Part], lacks: Callable[[Part], bool]) -> None:
        self._plan, self._lacks = plan, lacks
        self._wanted: deque[Part] = deque()  # planned, not yet given to DALI
        self._given: deque[Part | None] = deque()  # and not yet returned; None: a stand-in

    def plan(self) -> Part:
        """The next part, planned."""
        part = self._plan()
        if self._lacks(part):
            self._wanted.append(part)
        return part

    def next(self) -> Part | None:
        """What to give DALI now; None: a stand-in."""
        for _ in range(_AHEAD):
            if self._wanted:
                break
            self.plan()
        part = self._wanted.popleft() if self._wanted else None
        self._given.append(part)
        return part

    def run(self, pipeline: Any, part: Part) -> Any:
        """The outputs of a pipeline, whose source calls `next`, for a part that lacks frames.

        Raises:
            RuntimeError: DALI's, of this part.
        """
        while True:
            outputs = pipeline.run()
            if self._given.popleft() is part:
                return outputs

    def clear(self) -> None:
        """Begin anew, with a new pipeline."""
        self._wanted.clear()
        self._given.clear()


class Augmenter:
    """Varies frames that are there already, bit by bit as the pipeline of training would.

    Args:
        shape: of a batch; its `augment.pictures` is not empty.
        decoding: where frames lie.
        threads: to work with.
    """

    def __init__(self, shape: Shape, decoding: Decoding, threads: int) -> None:
        from trainer.data.pipeline import augment_pipeline, to_torch

        self._to_torch = to_torch
        self._given: list[Any] = []
        self._on_gpu = decoding.device is not None
        self._pipeline: Any = augment_pipeline(
            lambda: self._given,
            shape,
            decoding,
            batch_size=shape.samples * shape.sample_frames,
            num_threads=threads,
            device_id=decoding.device,
            exec_dynamic=True,
            prefetch_queue_depth=1,
        )
        self._pipeline.build()

    def __call__(
        self, frames: torch.Tensor, arguments: Sequence[np.ndarray[Any, Any]]
    ) -> torch.Tensor:
        """(M, H, W, C) uint8, varied.

        Args:
            frames: (M, H, W, C) uint8.
            arguments: of `picture_arguments`, M rows each.
        """
        self._given = [frames if self._on_gpu else frames.numpy(), *arguments]
        varied = self._to_torch(self._pipeline.run()[0])
        self._given = []
        return varied
