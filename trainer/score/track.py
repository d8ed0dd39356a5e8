"""One track, its crops against its sound, in memory that does not depend on its length."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.errors import UserError
from data_tools.mfcc import SAMPLES_PER_FRAME, WINDOW_FRAMES
from data_tools.prefetch import ahead
from trainer.model.device import Precision
from trainer.model.syncnet import SyncNet
from trainer.score.centred import score_centred_in_pieces
from trainer.score.embed import Samples, features, lip_pieces, part_of, sound_pieces
from trainer.score.offset_path import follow_offset
from trainer.score.options import Mode
from trainer.score.scoring import (
    REACH,
    Score,
    distances_in_pieces,
    inside,
    score_distances,
    score_distances_official,
)

Pieces: TypeAlias = Iterable[NDArray[np.uint8]]  # a track's crops in order, (n, H, W, C) each
Sound: TypeAlias = Callable[[int], tuple[Samples, int]]  # crops -> a reader and its samples

PIECE_FRAMES = 25  # frames decoded at once
CLIP_SECONDS = 60.0  # of a track that are on disk as one piece, whatever its length

_BEYOND = 400 - 160  # samples
_WINDOWS = 256  # read back from disk at once


class TrackError(UserError, ValueError):
    """A track that cannot be scored; says why in one sentence."""


def score_track(
    model: SyncNet,
    pieces: Pieces,
    audio: NDArray[np.int16] | Sound,
    reach: int = REACH,
    mode: Mode = "masked",
    device: str = "cpu",
    precision: Precision = "auto",
) -> Score:
    """Score one track: its crops against its sound. Memory does not depend on its length.

    T frames with sound give T - 4 windows, in parity mode T - 5.

    Args:
        model: in evaluation mode, folded or not, on `device`.
        pieces: crops in order as (n, H, W, C) uint8 of the model's size, RGB or gray; decoded by a
            thread of their own while the model computes.
        audio: (samples,) int16 at 16 kHz from the first crop on; or what gives, once all crops are
            through, for their number, a reader of any part of it and how many samples there are.
        reach: largest shift, frames.
        mode: "centred" by inner products (`trainer.score.centred`), "masked" by distances, "parity"
            as the official code does.
        precision: what to compute in. Not in parity mode: as the official code, that computes in
            float32 on every device.

    Raises:
        TrackError: too short to be scored.
    """
    precision = "fp32" if mode == "parity" else precision
    with tempfile.TemporaryFile() as stored:
        windows = 0
        for embeddings_KD in lip_pieces(model, ahead(pieces), device, precision):
            stored.write(embeddings_KD.numpy().tobytes())
            windows += len(embeddings_KD)
        frames = windows + WINDOW_FRAMES - 1 if windows else 0
        read, samples = audio(frames) if callable(audio) else (part_of(audio), len(audio))
        frames = min(frames, samples // SAMPLES_PER_FRAME)
        count = frames - (WINDOW_FRAMES - 1)
        if mode == "parity":
            count -= 1  # the official code leaves out the last
        if count < 1:
            raise TrackError("too short: a track needs at least five frames with sound")
        if mode != "parity":
            # The last window's last column, 25 ms long every 10 ms, reaches beyond the last frame.
            read, samples = _lengthened(read, samples), frames * SAMPLES_PER_FRAME + _BEYOND
        heard = sound_pieces(model, features(read, samples), device, precision)
        seen = _stored_windows(stored, model.preset.embedding)
        streams = _first(count, seen), _first(count, heard)
        if mode == "centred":
            return score_centred_in_pieces(*streams, reach, count, follow=True)
        distances = distances_in_pieces(*streams, reach, count)
    by_mode = score_distances_official if mode == "parity" else score_distances
    fits_KS = -inside(distances)
    return replace(by_mode(distances), path=follow_offset(fits_KS), fits_KS=fits_KS)


def _lengthened(read: Samples, samples: int) -> Samples:
    """The same sound, with silence behind its end."""

    def longer(first: int, count: int) -> NDArray[np.int16]:
        part = read(first, max(0, min(count, samples - first)))
        return np.pad(part, (0, count - len(part)))

    return longer


def _stored_windows(file: BinaryIO, width: int) -> Iterator[torch.Tensor]:
    file.seek(0)
    while read := file.read(4 * width * _WINDOWS):
        yield torch.frombuffer(bytearray(read), dtype=torch.float32).view(-1, width)


def _first(count: int, pieces: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return
