"""What steps are made of, several of them planned at once: their samples, their sound, their pages.

A batch is so small that the calls of planning it cost more than their work, and while Python plans,
the threads that decode wait for it. So steps are planned in blocks: one of a single step first, for
a training is to begin at once, then each twice as long as the one before.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import CEPSTRA, COLUMNS_PER_FRAME
from trainer.data.augment import change_sound
from trainer.data.batch import Shape, Whole
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments

Requests = Callable[[int, Mapping[int, int]], Segments]
Lacking = Callable[[NDArray[np.int64], int], NDArray[np.bool_]]  # `Store.ahead`

_MOST_STEPS = 16  # of a block
_SOUND_BYTES = 2**21  # of a block, about
_AHEAD = 2  # steps at least whose pages are asked for before they are needed


@dataclass(frozen=True)
class Step:
    """A step whose parts are being asked for.

    Attributes:
        step: its number.
        whole: its samples.
        sound: (N, columns, 13) float32 of each run; columns of all frames of a run together.
        first: (N,) int64, the first frame of each run, counted over all shards.
    """

    step: int
    whole: Whole
    sound: NDArray[np.float32]
    first: NDArray[np.int64]


class Steps:
    """Plans steps in order, and has the kernel read ahead what they need.

    Args:
        dataset: the clips.
        requests: (step, quarantine) -> the segments of that step.
        shape: of a batch.
        lacking: which runs have to be read from the shards; None: all.
    """

    def __init__(
        self, dataset: Dataset, requests: Requests, shape: Shape, lacking: Lacking | None
    ) -> None:
        self._dataset, self._requests, self._shape = dataset, requests, shape
        self._lacking = lacking
        self._planned: deque[Step] = deque()
        self._ahead: deque[tuple[int, Segments]] = deque()  # requested and advised, not yet planned
        self._many = 1  # steps of the next block

    def plan(self, step: int, quarantine: Mapping[int, int]) -> Step:
        """The samples of a step, which follows the one planned before or the last `clear`.

        Raises:
            Exception: what the requests raise, once it is that step's turn or nearly so.
        """
        if not self._planned:
            self._plan_block(step, quarantine)
        return self._planned.popleft()

    def clear(self) -> None:
        """Forget what was planned: the quarantine has grown, or another step is next."""
        self._planned.clear()
        self._ahead.clear()
        self._many = 1

    def _plan_block(self, step: int, quarantine: Mapping[int, int]) -> None:
        if not self._ahead:
            self._ahead.append((step, self._requests(step, quarantine)))
        block = [self._ahead.popleft() for _ in range(min(self._many, len(self._ahead)))]
        last, segments = block[-1]
        self._many = min(2 * self._many, self._most(len(segments)))
        self._look_ahead(last + 1, quarantine)
        self._planned.extend(self._with_sound(block))

    def _look_ahead(self, step: int, quarantine: Mapping[int, int]) -> None:
        """Request the steps of the next block, and ask the kernel for their pages."""
        new = []
        for each in range(step + len(self._ahead), step + max(self._many, _AHEAD)):
            try:
                new.append((each, self._requests(each, quarantine)))
            except Exception:  # it is requested again, and fails, when it is that step's turn
                break
        self._ahead.extend(new)
        if not new:
            return
        runs = self._shape.runs(Segments.joined([segments for _, segments in new]))
        if self._lacking is not None:
            first = self._dataset.first_frames(runs)
            lacking = self._lacking(first, self._shape.sample_frames)
            if not lacking.any():
                return
            runs = runs[lacking]
        self._dataset.advise(runs, self._shape.sample_frames)

    def _most(self, samples: int) -> int:
        """Steps of so many samples that may be planned at once."""
        if self._dataset.remote:  # their sound is waited for
            return 1
        sound_bytes = 4 * CEPSTRA * COLUMNS_PER_FRAME * self._shape.sound_frames * samples
        return max(1, min(_MOST_STEPS, _SOUND_BYTES // max(1, sound_bytes)))

    def _with_sound(self, block: list[tuple[int, Segments]]) -> list[Step]:
        """The steps, with their sound, which is little beside their frames."""
        shape = self._shape
        requests = [segments for _, segments in block]
        segments = Segments.joined(requests)
        columns = shape.sample_frames * shape.columns_per_frame
        own = columns if shape.windows == 1 else COLUMNS_PER_FRAME * shape.sound_frames
        sound = self._dataset.mfcc(segments, shape.sound_frames, own)
        heard = COLUMNS_PER_FRAME * shape.sound_frames if shape.quiet else 0
        quiet = self._dataset.quiet(segments, sound, heard)
        first = self._dataset.first_frames(shape.runs(segments))
        steps, begin = [], 0
        for step, samples in block:
            rows = slice(begin, begin + len(samples))
            begin = rows.stop
            heard_NFC = sound[rows]
            if shape.augment is not None and shape.augment.sound:
                assert samples.key is not None
                change_sound(shape.augment, samples.key, heard_NFC)
            if shape.windows > 1:  # the sounds of a run's windows, one after another
                heard_NFC = heard_NFC.reshape(-1, shape.windows * own, CEPSTRA)
                heard_NFC = np.pad(heard_NFC, ((0, 0), (0, columns - heard_NFC.shape[1]), (0, 0)))
            runs = slice(rows.start // shape.windows, rows.stop // shape.windows)
            steps.append(Step(step, Whole(samples, quiet[rows]), heard_NFC, first[runs]))
        return steps
