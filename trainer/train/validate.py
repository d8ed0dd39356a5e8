"""Validation: loss, distances, AUC and accuracy of offsets over fixed windows, the same each time.

Its loader stays warm: the requests repeat for ever, so that the first batches of the next
validation are ready when this one ends, and neither it nor the training step after it waits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.errors import UsageError
from trainer.data.batch import Shape
from trainer.data.dataset import Dataset
from trainer.data.fixed_segments import fixed_segments, swap_audio
from trainer.data.loader import Loader
from trainer.data.sampler import Segments
from trainer.model.losses import Pairs, shifted
from trainer.model.syncnet import Preset, SyncNet
from trainer.score.scoring import (
    REACH,
    accuracy,
    auc,
    mean_over_windows,
    shift_distances,
    valid_shifts,
)
from trainer.train.distributed import Processes
from trainer.train.timing import StepClock, StepTimes

RUN_FRAMES = 15  # K = 15: the distances of 11 windows are averaged
_SHIFTS = 2 * REACH + 1


class NoRuns(UsageError):
    """No clip of the split is long enough to be measured."""


OnBatch = Callable[[float, StepTimes], None]


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """What one batch measured.

    Attributes:
        number: of the set that it is of.
        runs: segments in it.
        loss: mean.
        genuine, false: (n,) distances.
        single, whole: (M, 31) mean distances of windows and of segments at each shift.
    """

    number: int
    runs: int
    loss: float
    genuine: Floats
    false: Floats
    single: Floats
    whole: Floats


def _figures(parts: Sequence[_Part], clips: int) -> dict[str, float]:
    """The figures of `Validation.run` over batches."""
    genuine = np.concatenate([part.genuine for part in parts])
    false = np.concatenate([part.false for part in parts])
    runs = sum(part.runs for part in parts)
    return {
        "loss": sum(part.loss * part.runs for part in parts) / runs,
        "genuine_distance": float(genuine.mean()) if len(genuine) else math.nan,
        "false_distance": float(false.mean()) if len(false) else math.nan,
        "auc": auc(genuine, false),
        "accuracy_k5": accuracy(np.concatenate([part.single for part in parts])),
        "accuracy_k15": accuracy(np.concatenate([part.whole for part in parts])),
        "runs": runs,
        "clips": clips,
    }


class Validation:
    """A warm loader over the fixed segments of a split, and what to measure on them.

    Args:
        folder, split: the shards; of several sets, a folder for each.
        preset: the model's input.
        processes: the segments are shared among them by batch.
        max_clips: clips used at most, evenly spaced through the split.
        runs_per_clip: segments of 15 frames a clip.
        batch_runs: segments a batch.
        min_shift: false pairs lie at least so many frames off.
        swapped: pair each clip with another clip's sound: the control that must score at chance.
        names: of the sets, one a folder; none: no figures of single sets.
        loader: further options of the `Loader`.

    Attributes:
        clips: that are measured.
        by_set: the last run's figures of each set, by its name.

    Raises:
        ShardError: the split holds no clip, or its shards are damaged.
        NoRuns: no clip of the split is long enough for a run, or none other to swap with.
    """

    def __init__(
        self,
        folder: Path | Sequence[Path],
        split: str,
        preset: Preset,
        processes: Processes,
        *,
        max_clips: int,
        runs_per_clip: int,
        batch_runs: int,
        min_shift: int,
        swapped: bool = False,
        names: Sequence[str] = (),
        **loader: Any,
    ) -> None:
        self.dataset = Dataset(folder, split)
        self._processes = processes
        self._min_shift = min_shift
        segments = fixed_segments(self.dataset.windows, RUN_FRAMES, REACH, runs_per_clip)
        clips = np.unique(segments.clip)
        if len(clips) == 0:
            where = " or ".join(map(str, self.dataset.folders))
            raise NoRuns(
                f"no clip of the {split} split of {where} is as long as {RUN_FRAMES} frames"
            )
        if len(clips) > max_clips:
            keep = clips[np.linspace(0, len(clips) - 1, max_clips).round().astype(int)]
            segments = segments[np.isin(segments.clip, keep)]
        if swapped:
            if len(clips) < 2:
                raise NoRuns(f"one clip in the {split} split: no other sound to swap in")
            segments = swap_audio(segments)
        self.clips = len(np.unique(segments.clip))
        self.segments = segments
        self._names = names
        self.by_set: dict[str, dict[str, float]] = {}
        # Each batch is of one set, so that its loss is.
        whose = self.dataset.sets[segments.clip]
        parts = [segments[whose == number] for number in np.unique(whose)]
        batches = [
            part[at : at + batch_runs] for part in parts for at in range(0, len(part), batch_runs)
        ]
        self._mine = batches[processes.rank :: processes.world]
        # A process without a batch keeps no loader.
        self.loader = (
            Loader(
                self.dataset,
                self._request,
                Shape(
                    max(map(len, batches)),
                    RUN_FRAMES,
                    RUN_FRAMES + 2 * REACH,
                    preset.size,
                    preset.channels,
                ),
                **loader,
            )
            if self._mine
            else None
        )

    @property
    def batches(self) -> int:
        """Batches of this process."""
        return len(self._mine)

    def _request(self, step: int, quarantine: Mapping[int, int]) -> Segments:
        segments = self._mine[step % len(self._mine)]
        if not quarantine:
            return segments
        usable = ~np.isin(segments.clip, list(quarantine))
        if usable.any():
            return segments[usable]
        # Nothing is left of this batch: any good clip stands in, and `run` leaves it out. Without
        # one the bad clips are asked for again, whereupon the loader gives up and says so.
        good = np.flatnonzero(~np.isin(self.segments.clip, list(quarantine)))[:1]
        return self.segments[good] if len(good) else segments

    def close(self) -> None:
        """Let the loader go."""
        if self.loader is not None:
            self.loader.close()

    def run(
        self,
        model: SyncNet,
        loss: torch.nn.Module,
        autocast: Callable[[], AbstractContextManager[Any]],
        clock: StepClock,
        on_batch: OnBatch = lambda loss, times: None,
    ) -> dict[str, float]:
        """Measure `model`; returns the figures, the same on every process.

        loss (over all shifts); genuine_distance and false_distance (means); auc; accuracy_k5 and
        accuracy_k15 (share of offsets within +-1 frame over +-15, shifts outside the clip masked;
        chance is 3/31); segments and clips measured. Those of each set are then in `by_set`.

        The model's buffers become those of the first process: each has seen other samples since
        they were last alike, and it is the first one's that are saved.
        """
        clock.interrupt()
        self._processes.as_first(model.buffers())
        model.eval()
        device = next(model.parameters()).device
        parts: list[_Part] = []
        for asked in self._mine:
            clock.begin()
            assert self.loader is not None  # a process with batches has one
            batch = next(self.loader)
            clock.mark("data")
            if not np.isin(batch.segments.clip, asked.clip).any():
                continue  # every clip of this batch is in quarantine
            with torch.no_grad():
                with autocast():
                    lips = model.lips(batch.frames_NRHWC)
                    sound = model.sound(batch.mfcc_NFC)
                clock.mark("forward")
                windows = self.dataset.windows[batch.segments.audio_clip]
                heard = batch.segments.audio_start[:, None] + np.arange(sound.shape[1])
                inside = torch.from_numpy((heard >= 0) & (heard < windows[:, None]))
                pairs = shifted(
                    len(lips), lips.shape[1], sound.shape[1], REACH, self._min_shift, device
                )
                real = inside.to(device)[:, None]
                value = loss(lips, sound, Pairs(pairs.genuine_BKL & real, pairs.false_BKL & real))
                clock.mark("loss")
            distances = shift_distances(lips.float(), sound.float()).cpu().numpy()
            valid = valid_shifts(batch.segments.audio_start, windows, lips.shape[1], _SHIFTS)
            number = int(self.dataset.sets[asked.clip[0]])
            measures = self._measures(distances, valid)
            parts.append(_Part(number, len(batch.segments), float(value), *measures))
            on_batch(float(value), clock.end())
        clock.interrupt()
        model.train()
        everything = [part for each in self._processes.gather(parts) for part in each]
        of_clips = self.dataset.sets[np.unique(self.segments.clip)]
        for number, name in enumerate(self._names):
            if found := [part for part in everything if part.number == number]:
                self.by_set[name] = _figures(found, int((of_clips == number).sum()))
        return _figures(everything, self.clips)

    def _measures(self, distances: Any, valid: Any) -> tuple[Floats, Floats, Floats, Floats]:
        """Genuine and false distances, then (M, S) mean distances of windows and of segments."""
        apart = np.abs(np.arange(_SHIFTS) - REACH) >= self._min_shift
        genuine = distances[:, :, REACH][valid[:, :, REACH]]
        false = distances[:, :, apart][valid[:, :, apart]]
        n, k, _ = distances.shape
        single = mean_over_windows(
            distances.reshape(n * k, 1, _SHIFTS), valid.reshape(n * k, 1, _SHIFTS)
        )
        return genuine, false, single, mean_over_windows(distances, valid)
