"""Segments that are no draw: those of validation, and the control whose sound is another clip's."""

from dataclasses import replace

import numpy as np

from trainer.data.draws import Ints
from trainer.data.sampler import Segments


def fixed_segments(windows: Ints, sample_frames: int, reach: int, per_clip: int) -> Segments:
    """Segments for validation, the same each time: up to `per_clip` of each clip, evenly spaced.

    Where the clip is long enough every shift within +-reach stays inside it. The sound begins
    `reach` frames before the run, so it must span sample_frames + 2 reach frames. Clips shorter
    than a run give none.
    """
    clips, starts = [], []
    for number, count in enumerate(windows.tolist()):
        last = count - (sample_frames - 4)
        if last < 0:
            continue
        low, high = (reach, last - reach) if last >= 2 * reach else (last // 2, last // 2)
        chosen = np.unique(np.linspace(low, high, per_clip).round().astype(np.int64))
        starts.append(chosen)
        clips.append(np.full(len(chosen), number))
    clip = np.concatenate([*clips, np.empty(0)]).astype(np.int64)
    start = np.concatenate([*starts, np.empty(0)]).astype(np.int64)
    return Segments(clip, start, clip, start - reach, np.ones_like(clip))


def swap_audio(segments: Segments) -> Segments:
    """The same pictures with the sound of the next clip: the control that must score at chance."""
    clips = np.unique(segments.clip)
    other = np.roll(clips, -1)[np.searchsorted(clips, segments.clip)]
    return replace(segments, audio_clip=other)
