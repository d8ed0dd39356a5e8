"""Is this the sound of these frames, or that of another time of the clip?  Pairs to ask it of.

As the evaluation of StableSyncNet (LatentSync: Li et al. 2024) puts it, of 16 frames: half of the
questions show the genuine sound, half that of a random other time of the same clip. Chance is one
half, not 3 of 31, and the other time is mostly far away: it is much the easier question.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.mfcc import WINDOW_FRAMES
from trainer.model.losses import distance

FRAMES = (5, 7, 9, 11, 13, 15, 16)  # of a run: those of the search, and StableSyncNet's
_RUNS = 256  # compared at once: 12 windows of 1024 numbers each take 13 MB a stream


def random_pairs(
    lips_KD: torch.Tensor,
    sound_LD: torch.Tensor,
    min_shift: int,
    most: int,
    seed: tuple[int, ...] = (0,),
    own: int = 0,
) -> tuple[NDArray[np.float32], ...]:
    """Distances of runs of frames to their own sound and to that of another time.

    Every start whose own sound exists is a run; its other time is drawn evenly from all starts of
    sound in the clip that lie at least `min_shift` frames from its own. A run's distance is the
    mean over its windows, of which N frames have N - 4.

    Args:
        lips_KD, sound_LD: (K, D) and (L, D) float32, window i of both beginning with frame i.
        min_shift: frames; nearer sounds are not false, since offsets within one count as right.
        most: runs per clip at most, evenly spaced.
        seed: of the drawing.
        own: the offset that is right, frames; positive: the sound is early, its place before.

    Returns:
        for each of FRAMES (runs, 2) float32, genuine and false; (0, 2) where the clip is too short.
    """
    found = []
    for frames in FRAMES:
        width = frames - WINDOW_FRAMES + 1
        last = len(sound_LD) - width
        starts = np.arange(max(0, len(lips_KD) - width + 1))
        heard = starts - own
        starts = starts[(heard >= 0) & (heard <= last)]
        false = other_times(starts - own, last, min_shift, np.random.default_rng((*seed, frames)))
        usable = np.flatnonzero(false >= 0)
        if len(usable) > most:
            usable = usable[np.linspace(0, len(usable) - 1, most).round().astype(np.int64)]
        pairs = [
            _run_distances(lips_KD, sound_LD, starts[usable], at[usable], width)
            for at in (starts - own, false)
        ]
        found.append(np.stack(pairs, 1))
    return tuple(found)


def other_times(
    genuine: NDArray[np.int64], last: int, min_shift: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(N,) a start in 0..last for each genuine one, at least `min_shift` away; -1 if none is.

    All such starts are equally likely.

    Args:
        genuine: (N,) starts in 0..last.
    """
    before = np.maximum(genuine - min_shift + 1, 0)
    after = np.maximum(last - genuine - min_shift + 1, 0)
    count = before + after
    drawn = rng.integers(0, np.maximum(count, 1))
    far = np.where(drawn < before, drawn, genuine + min_shift + drawn - before)
    return np.where(count > 0, far, -1)


def _run_distances(
    lips_KD: torch.Tensor,
    sound_LD: torch.Tensor,
    seen: NDArray[np.int64],
    heard: NDArray[np.int64],
    width: int,
) -> NDArray[np.float32]:
    """(N,) mean distance of `width` windows of the lips from `seen` on to sound from `heard` on."""
    along = np.arange(width)
    means = np.empty(len(seen), np.float32)
    for at in range(0, len(seen), _RUNS):
        part = slice(at, at + _RUNS)
        lips = lips_KD[torch.from_numpy(seen[part, None] + along)]
        sound = sound_LD[torch.from_numpy(heard[part, None] + along)]
        means[part] = distance(lips, sound).mean(1).numpy()
    return means
