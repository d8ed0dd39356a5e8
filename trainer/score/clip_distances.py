"""Whole clips of a split through the network, in one streaming pass of bounded memory.

The loader serves segments of one length, clips have any: a clip is covered by segments that overlap
by four frames, the last one moved back to end with it, and its embeddings are put together again.
Clips shorter than a segment are covered by shorter segments.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.mfcc import WINDOW_FRAMES
from trainer.data.batch import Shape
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader, LoaderError
from trainer.data.sampler import Segments
from trainer.model.syncnet import SyncNet
from trainer.score.embed import computing_in, embed_sound
from trainer.score.scoring import track_distances, valid_shifts

_RUN_FRAMES = (36, 12, WINDOW_FRAMES)  # each clip takes the longest that it can fill
_OVERLAP = WINDOW_FRAMES - 1
_BATCH_PIXELS = 2_000_000  # 40 frames of 224 x 224, about 200 MB of activations


@dataclass(frozen=True)
class Embedded:
    """A clip's embeddings, window k of both beginning with frame k.

    Attributes:
        clip: its number in the `Dataset`.
        lips_KD, sound_KD: (K, D) float32 on the CPU, K = windows of the clip.
    """

    clip: int
    lips_KD: torch.Tensor
    sound_KD: torch.Tensor


@dataclass(frozen=True)
class Unreadable:
    """A clip that the pass had to leave out, and why."""

    clip: int
    reason: str


def embed_clips(
    dataset: Dataset,
    model: SyncNet,
    clips: Sequence[int] | None = None,
    *,
    done: frozenset[int] = frozenset(),
    device: str = "cpu",
    threads: int = 0,
) -> Iterator[Embedded | Unreadable]:
    """Every clip once, in the order in which they are done.

    Args:
        model: of `trainer.score.embed.fold`, on `device`.
        clips: numbers of the clips; all by default.
        done: those of them that are left out. The others are computed in the batches of a pass over
            all, for in another company their last digits would differ.
        threads: of decoding; 0 is one a core.

    Raises:
        LoaderError: the loader met something other than a frame that cannot be decoded.
    """
    chosen = np.arange(len(dataset)) if clips is None else np.asarray(clips, np.int64)
    windows = dataset.windows[chosen]
    for clip in sorted(set(chosen[windows < 1].tolist()) - done):
        yield Unreadable(clip, "too short for one window")
    most = np.inf
    for length in _RUN_FRAMES:
        least = length - _OVERLAP
        fitting = chosen[(windows >= least) & (windows < most)]
        most = least
        if not done.issuperset(fitting.tolist()):
            yield from _embed(dataset, model, fitting, done, length, device, threads)


def clip_sound(
    dataset: Dataset, model: SyncNet, clip: int, shift: int = 0, device: str = "cpu"
) -> torch.Tensor:
    """(K, D) embeddings of a clip's sound, window k beginning with frame k + `shift`.

    With a positive shift the sound is early by so many frames. Windows that reach beyond the clip
    are those of features that are zero there.
    """
    frames = int(dataset.windows[clip]) + _OVERLAP
    columns = dataset.mfcc(_runs([clip], [0], audio_start=[shift]), frames, 4 * frames)
    return embed_sound(model, columns[0], device)


def clip_distances(
    lips_KD: torch.Tensor, sound_LD: torch.Tensor, reach: int, shift: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Distances at every shift within +-reach, and which of them lie inside the clip.

    Args:
        lips_KD, sound_LD: (K, D) and (L, D); beyond the shorter of both nothing is compared.
        shift: by which the sound was moved (`clip_sound`).

    Returns:
        (N, 2 reach + 1) float32 and bool, N = min(K, L); zeros stand for sound beyond the ends, as
        in the official code.
    """
    count = min(len(lips_KD), len(sound_LD))
    distances = track_distances(lips_KD[:count], sound_LD[:count], reach)
    own = np.array([count])
    valid = valid_shifts(np.array([-reach]), own, count, 2 * reach + 1)
    if shift:
        valid &= valid_shifts(np.array([shift - reach]), own, count, 2 * reach + 1)
    return distances, valid[0]


def _embed(
    dataset: Dataset,
    model: SyncNet,
    clips: NDArray[np.int64],
    done: frozenset[int],
    length: int,
    device: str,
    threads: int,
) -> Iterator[Embedded | Unreadable]:
    """The clips, each of at least `length` frames, by segments of so many frames."""
    step = length - _OVERLAP
    starts = [run_starts(int(dataset.windows[clip]), step) for clip in clips]
    asked_for = zip(clips.tolist(), starts, strict=True)
    left = {clip: len(own) for clip, own in asked_for if clip not in done}
    everything = _runs(np.repeat(clips, [len(own) for own in starts]), np.concatenate(starts))
    preset = model.preset
    samples = max(1, _BATCH_PIXELS // (length * preset.size**2))
    batches = [everything[at : at + samples] for at in range(0, len(everything), samples)]
    shape = Shape(len(batches[0]), length, length, preset.size, preset.channels)
    batches = [batch for batch in batches if not done.issuperset(batch.clip.tolist())]
    partial: dict[int, torch.Tensor] = {}  # lips of clips that are not done
    request = _good_runs(batches, everything)
    with Loader(dataset, request, shape, device=device, threads=threads) as loader:
        for asked in batches:
            try:
                batch = next(loader)
            except LoaderError as error:
                if isinstance(error.__cause__, _NothingLeft):
                    break
                raise
            with torch.inference_mode(), computing_in("auto", batch.frames_NRHWC.device):
                lips = model.lips(batch.frames_NRHWC).float().cpu()
            rows = zip(
                batch.segments.clip.tolist(), batch.segments.start.tolist(), lips, strict=True
            )
            for clip, start, part in rows:
                if clip not in asked.clip or clip not in left or clip in loader.quarantine:
                    continue
                if clip not in partial:
                    partial[clip] = torch.empty(int(dataset.windows[clip]), lips.shape[2])
                partial[clip][start : start + step] = part
                left[clip] -= 1
                if left[clip] == 0:
                    del left[clip]
                    sound = clip_sound(dataset, model, clip, 0, device)
                    yield Embedded(clip, partial.pop(clip), sound)
            for clip in [clip for clip in left if clip in loader.quarantine]:
                del left[clip]
                partial.pop(clip, None)
                yield Unreadable(clip, "a frame cannot be decoded")
        for clip in left:  # only when nothing was left to decode
            yield Unreadable(clip, "a frame cannot be decoded")


def _good_runs(
    batches: Sequence[Segments], everything: Segments
) -> Callable[[int, Mapping[int, int]], Segments]:
    """What the loader asks for its batch n: the segments of clips that can be decoded.

    Any good clip stands in where none of a batch is left.
    """

    def request(number: int, quarantine: Mapping[int, int]) -> Segments:
        # The loader asks ahead, beyond the last batch too.
        asked = batches[min(number, len(batches) - 1)]
        if not quarantine:
            return asked
        barred = list(quarantine)
        for segments in (asked, everything):
            good = np.flatnonzero(~np.isin(segments.clip, barred))
            if len(good):
                return segments[good if segments is asked else good[:1]]
        raise _NothingLeft

    return request


class _NothingLeft(Exception):
    """Every clip is in quarantine."""


def run_starts(windows: int, step: int) -> NDArray[np.int64]:
    """First windows of segments of `step` windows that cover 0..windows-1, windows >= step."""
    return np.append(np.arange(0, windows - step, step), windows - step)


def _runs(
    clip: NDArray[np.int64] | list[int],
    start: NDArray[np.int64] | list[int],
    audio_start: list[int] | None = None,
) -> Segments:
    clip, start = np.asarray(clip, np.int64), np.asarray(start, np.int64)
    sound = start if audio_start is None else np.asarray(audio_start, np.int64)
    return Segments(
        clip=clip, start=start, audio_clip=clip, audio_start=sound, label=np.ones_like(clip)
    )
