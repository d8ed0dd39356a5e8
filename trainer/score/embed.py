"""Embeddings of whole tracks in one pass: T frames give T - 4 windows, each frame computed once.

After the first convolution every temporal kernel of the lip stream is one, so windows need not be
cut out of the video (that would compute each frame five times). Batch normalisation is folded into
the convolutions before it. Frames come in pieces, so that a long video needs no more memory than a
short one; whoever reads them may decode the next piece while this one computes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.mfcc import (
    CEPSTRA,
    COLUMNS_PER_FRAME,
    WINDOW_COLUMNS,
    WINDOW_FRAMES,
    column_count,
    mfcc,
)
from trainer.model.device import Precision, has_bf16
from trainer.model.fold import fold as fold  # whoever embeds folds first
from trainer.model.syncnet import SyncNet

Item = TypeVar("Item")
Samples: TypeAlias = Callable[[int, int], NDArray[np.int16]]  # first sample, count -> (count,)

PIECE = 32  # frames computed at once: enough to fill two cores, 150 MB of activations at 224
# On an H200 (benchmarks/results/gpu_suite.json, "single") 224 RGB is as fast by any number from 64
# on; of 64 gray, 1,024 at once are 19 times as many a second as by 32.
_GPU_VALUES, _GPU_PIECE = 2**24, 1024
_SOUND_WINDOWS = 256  # at once
_OVERLAP = WINDOW_FRAMES - 1
_MFCC_COLUMNS = 1500  # computed at once; python_speech_features holds 10 kB a column


def embed_lips(
    model: SyncNet,
    pieces: Iterable[NDArray[np.uint8]],
    device: str = "cpu",
    precision: Precision = "auto",
) -> torch.Tensor:
    """Embeddings of every 5-frame window of one track: (T - 4, D) float32, (0, D) if T < 5.

    As `lip_pieces`, in one tensor.
    """
    pieces_KD = list(lip_pieces(model, pieces, device, precision))
    return torch.cat(pieces_KD) if pieces_KD else torch.empty(0, model.preset.embedding)


def frames_at_once(model: SyncNet, device: torch.device) -> int:
    """Frames of a track that a device computes at once."""
    if device.type == "cpu":
        return PIECE
    preset = model.preset
    return min(_GPU_PIECE, max(PIECE, _GPU_VALUES // (preset.size**2 * preset.channels)))


@torch.inference_mode()
def lip_pieces(
    model: SyncNet,
    pieces: Iterable[NDArray[np.uint8]],
    device: str = "cpu",
    precision: Precision = "auto",
) -> Iterator[torch.Tensor]:
    """Embeddings of every 5-frame window of one track, some at a time.

    Args:
        model: folded or not, in evaluation mode, on `device`.
        pieces: the track's frames in order, as (n, H, W, C) uint8 arrays of any n, RGB or gray.
        device: where the model is.
        precision: what to compute in; in bfloat16 embeddings differ by about a hundredth of their
            length.

    Yields:
        (n, D) float32 on the CPU, T - 4 windows in all; nothing for fewer than five frames.
    """
    target = torch.device(device)
    tail: NDArray[np.uint8] | None = None
    for piece in _resized(pieces, frames_at_once(model, target)):
        frames = piece if tail is None else np.concatenate([tail, piece])
        tail = frames[-_OVERLAP:]
        if len(frames) < WINDOW_FRAMES:
            continue
        batch = torch.from_numpy(frames)[None].to(target, non_blocking=True)
        with computing_in(precision, target):
            embeddings_KD = model.lips(batch)[0].float().cpu()
        yield embeddings_KD


def embed_sound(
    model: SyncNet,
    features_TC: NDArray[np.float32],
    device: str = "cpu",
    precision: Precision = "auto",
) -> torch.Tensor:
    """Embeddings of every 20-column window, each 4 columns on: (T, 13) -> (windows, D) float32.

    As `sound_pieces`, in one tensor.
    """
    pieces_KD = list(sound_pieces(model, features_TC, device, precision))
    return torch.cat(pieces_KD) if pieces_KD else torch.empty(0, model.preset.embedding)


@torch.inference_mode()
def sound_pieces(
    model: SyncNet,
    features_TC: NDArray[np.float32],
    device: str = "cpu",
    precision: Precision = "auto",
) -> Iterator[torch.Tensor]:
    """Embeddings of every 20-column window of (T, 13) features, some at a time: (n, D) float32.

    The windows are views into the features: nothing is copied before the first convolution.
    """
    target = torch.device(device)
    count = max(0, (len(features_TC) - WINDOW_COLUMNS) // COLUMNS_PER_FRAME + 1)
    if count == 0:
        return
    features = torch.from_numpy(np.ascontiguousarray(features_TC)).to(target)
    for first in range(0, count, _SOUND_WINDOWS):
        last = min(first + _SOUND_WINDOWS, count)
        part = features[COLUMNS_PER_FRAME * first : COLUMNS_PER_FRAME * (last - 1) + WINDOW_COLUMNS]
        with computing_in(precision, target):
            embeddings_KD = model.sound(part[None])[0].float().cpu()
        yield embeddings_KD


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """What a network computes in within; fp32 is float32 on every device, without cuDNN's TF32."""
    with ExitStack() as stack:
        if precision == "fp32":
            cudnn = torch.backends.cudnn
            stack.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
            cudnn.allow_tf32 = False
        half = precision == "bf16" or (precision == "auto" and has_bf16(device))
        stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=half))
        yield


def features(audio: NDArray[np.int16] | Samples, samples: int | None = None) -> NDArray[np.float32]:
    """`data_tools.mfcc.mfcc` of a long sound in bounded memory: the same (T, 13) float32.

    `audio`: (samples,) int16 at 16 kHz, or what reads any part of that many samples.

    A column depends on its 400 samples and, through the pre-emphasis, on the one before them: each
    piece begins one column early, and that column is dropped.
    """
    if callable(audio):
        assert samples is not None
        read, length = audio, samples
    else:
        read, length = part_of(audio), len(audio)
    columns = column_count(length)
    if columns <= _MFCC_COLUMNS:
        return mfcc(read(0, length))
    out = np.empty((columns, CEPSTRA), np.float32)
    for first in range(0, columns, _MFCC_COLUMNS):
        last = min(first + _MFCC_COLUMNS, columns)
        early = 1 if first else 0
        begin = 160 * (first - early)
        part = read(begin, min(160 * (last - 1) + 400, length) - begin)
        out[first:last] = mfcc(part)[early : early + last - first]
    return out


def part_of(audio: NDArray[np.int16]) -> Samples:
    """A reader of a sound that is in memory."""
    return lambda first, count: audio[first : first + count]


def _resized(pieces: Iterable[NDArray[np.uint8]], length: int) -> Iterator[NDArray[np.uint8]]:
    """The same frames in pieces of `length`, the last one shorter."""
    held: list[NDArray[np.uint8]] = []
    count = 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            part = piece[at : at + length - count]
            held.append(part)
            count += len(part)
            at += len(part)
            if count == length:
                yield np.concatenate(held) if len(held) > 1 else held[0]
                held, count = [], 0
    if held:
        yield np.concatenate(held)
