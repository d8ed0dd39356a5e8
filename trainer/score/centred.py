"""Offsets by centred inner products (mode "centred"), which find strangers' offsets more often than
distances do.

A network puts a face that it has never seen, and a voice, each in a corner of its own of the space
of embeddings, and a turned head or another vowel's loudness in another: most of every distance is
how far the corners lie apart, which says nothing of sync. So what either stream is around a window
is taken away from it, and what is left is multiplied:

    l(k) = L(k) - mean of L over the 31 windows around k,  s alike     embeddings of lips and sound
    c(j) = mean over k of l(k) . s(k + j)               of the K - |j| windows that exist
    curve(j) = (c(j) - mean over j of c) (K - |j|) / K  the offset is where this is largest

The factor draws shifts of few windows towards nought, so that they do not win by their noise.
31 windows are as many as a search over +-15 compares. Against means over the whole clip, K=15 of
strangers rose from 78.8 to 81.1 % in the wild, and from 93.3 to 94.9 % in GRID's studio
(`python -m benchmarks.strangers`, before and after).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.mfcc import WINDOW_FRAMES
from trainer.score.offset_path import follow_offset
from trainer.score.scoring import (
    Score,
    beside_their_sound,
    inside,
    score_distances,
    shift_distances,
)

_AROUND = 15  # windows on either side of one whose mean is taken away
NULL_BLOCK = 1500  # windows, a minute: longer tracks are measured for chance in blocks
# Lags nearer than this may hold what fits. Of so short tracks some nearer ones must do.
_NEAR, _NEAR_SHORT, _SHORT = 16, 8, 40  # windows


def score_centred(lips_KD: torch.Tensor, sound_LD: torch.Tensor, reach: int) -> Score:
    """The offset of a track over shifts within +-reach frames, by centred inner products.

    Args:
        lips_KD, sound_LD: (K, D) and (L, D) float32, window i of both beginning with frame i;
            beyond the shorter of both nothing is compared.

    Returns:
        `fit_S` is the curve of this module; LSE-C, LSE-D and the means are those of distances.

    Raises:
        ValueError: no window has both lips and sound.
    """
    count = min(len(lips_KD), len(sound_LD))
    if count == 0:
        raise ValueError(f"a track needs {WINDOW_FRAMES} frames with sound to be scored")
    return score_centred_in_pieces([lips_KD[:count]], [sound_LD[:count]], reach, count)


def score_centred_in_pieces(
    lips: Iterable[torch.Tensor],
    sound: Iterable[torch.Tensor],
    reach: int,
    count: int,
    follow: bool = False,
) -> Score:
    """`score_centred` of embeddings that come some at a time; holds a minute of them at most.

    Args:
        lips, sound: pieces (n, D) float32 of any n, in order, `count` windows of either.
        count: at least 1.
        follow: give the offset's path, too.

    Raises:
        ValueError: a stream ended before `count` windows.
    """
    sums = _Sums(reach, count)
    distances_KS = np.empty((count, 2 * reach + 1), np.float32)
    products_KS = np.empty_like(distances_KS) if follow else None
    both = _with_centred(lips, count)
    for piece, around in beside_their_sound(both, _with_centred(sound, count), reach):
        at, end = sums.done, sums.done + len(piece)
        (raw_KD, lips_KD), (raw_LD, sound_LD) = piece.chunk(2, 1), around.chunk(2, 1)
        distances_KS[at:end] = shift_distances(raw_KD[None].float(), raw_LD[None].float())[0]
        own_KS = sums.add(lips_KD, sound_LD)
        if products_KS is not None:
            products_KS[at:end] = own_KS.numpy()
    products_S = sums.mean_products()
    fit_S = shrunk_curve(products_S, count)
    offset = reach - int(fit_S.argmax())
    null_z = sums.null_z(float(products_S[reach - offset]))
    score = score_distances(distances_KS, fit_S=fit_S, null_z=null_z)
    if products_KS is None:
        return score
    fits_KS = inside(products_KS)
    return replace(score, path=follow_offset(fits_KS), fits_KS=fits_KS)


def _with_centred(pieces: Iterable[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
    """A stream's embeddings, and beside them what moves in them: (n, 2 D) float64 for all `count`.

    Near the ends the means are those of the first and of the last windows.
    """
    width = min(count, 2 * _AROUND + 1)
    held = torch.empty(0)  # (n, D) float64, from window `first` on
    first = done = came = 0
    for piece_KD in pieces:
        piece_KD = piece_KD[: count - came].double()  # sums without cancellation
        came += len(piece_KD)
        held = torch.cat([held, piece_KD]) if len(held) else piece_KD
        ready = count if came == count else came - _AROUND
        if came < width or ready <= done:
            continue
        sums = torch.cat([held.new_zeros(1, held.shape[1]), held.cumsum(0)])
        begin_K = (torch.arange(done, ready) - _AROUND).clamp(0, count - width) - first
        own_KD = held[done - first : ready - first]
        means_KD = (sums[begin_K + width] - sums[begin_K]) / width
        yield torch.cat([own_KD, own_KD - means_KD], 1)
        done = ready
        passed = min(done - _AROUND, count - width) - first  # rows that no mean needs any more
        if passed > 0:
            held, first = held[passed:], first + passed
    if came < count:
        raise ValueError(f"{came} of {count} windows came")


def shrunk_curve(products_S: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """What decides, from the mean products at each shift (nan: none): -inf where there are none.

    Args:
        products_S: (2 reach + 1,), -reach first.
        count: windows of the track.
    """
    shift = np.arange(len(products_S)) - len(products_S) // 2
    share = (count - np.abs(shift)) / count
    return np.where(share > 0, (products_S - np.nanmean(products_S)) * share, -np.inf)


def centred_products(
    lips_KD: torch.Tensor, sound_KD: torch.Tensor, reach: int
) -> NDArray[np.float64]:
    """(K, 2 reach + 1) products l(k) . s(k + j) of every window, to score runs of windows by.

    Nought stands for sound beyond the ends, which is what a product is on the average.

    Args:
        lips_KD, sound_KD: (K, D) float32 each, window i of both beginning with frame i.
    """
    lips, sound = (
        torch.cat(list(_with_centred([part], len(part)))).chunk(2, 1)[1]
        for part in (lips_KD, sound_KD)
    )
    pieces = beside_their_sound([lips], [sound], reach)
    return np.concatenate([_diagonals(*each, reach).numpy() for each in pieces])


def _diagonals(lips_KD: torch.Tensor, around_LD: torch.Tensor, reach: int) -> torch.Tensor:
    """(K, 2 reach + 1) inner products of window k of the lips and k + j of the sound around it."""
    products_KL = lips_KD @ around_LD.T
    width = products_KL.shape[1]
    return products_KL.as_strided((len(lips_KD), 2 * reach + 1), (width + 1, 1))


class _Sums:
    """A track's products, summed up piece by piece.

    Attributes:
        done: windows so far.
    """

    def __init__(self, reach: int, count: int) -> None:
        self.done = 0
        self._reach, self._count = reach, count
        self._products_S = torch.zeros(2 * reach + 1, dtype=torch.float64)
        self._null = _Null(count)

    def add(self, lips_KD: torch.Tensor, around_LD: torch.Tensor) -> torch.Tensor:
        """The next windows, centred, as `beside_their_sound` gives them; returns their products."""
        products_KS = _diagonals(lips_KD, around_LD, self._reach)
        self._products_S += products_KS.sum(0)
        self._null.add(lips_KD, around_LD[self._reach : self._reach + len(lips_KD)])
        self.done += len(lips_KD)
        return products_KS

    def mean_products(self) -> NDArray[np.float64]:
        """(2 reach + 1,) mean product at each shift, nan where no window has one."""
        number_S = self._count - np.abs(np.arange(-self._reach, self._reach + 1))
        means_S: NDArray[np.float64] = self._products_S.numpy() / np.maximum(number_S, 1)
        return np.where(number_S > 0, means_S, np.nan)

    def null_z(self, product: float) -> float:
        """By how many deviations a mean product stands out of those that chance gives.

        nan where the track is too short to tell.
        """
        chance = self._null.products()
        if len(chance) < 3 or chance.std() == 0:
            return float("nan")
        return float((product - chance.mean()) / chance.std())


class _Null:
    """What a track's products are by chance: circular lags over blocks of it, which hold no sync.

    A block is the whole track, or of a long one a minute: the products of all blocks at one lag
    are summed, so that chance shrinks with the track's length as it does at the shifts. A few
    windows at the end that fill no block are left out.

    Attributes:
        windows: that were used.
    """

    def __init__(self, count: int) -> None:
        self._block = count // -(-count // NULL_BLOCK)
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._holds = self.windows = 0
        self._products_L = torch.zeros(self._block, dtype=torch.float64)

    def add(self, lips_KD: torch.Tensor, sound_KD: torch.Tensor) -> None:
        while len(lips_KD):
            room = self._block - self._holds
            self._held.append((lips_KD[:room].clone(), sound_KD[:room].clone()))
            self._holds += len(lips_KD[:room])
            lips_KD, sound_KD = lips_KD[room:], sound_KD[room:]
            if self._holds == self._block:
                self._take(*(torch.cat(parts) for parts in zip(*self._held, strict=True)))

    def _take(self, lips_KD: torch.Tensor, sound_KD: torch.Tensor) -> None:
        lips, sound = (torch.fft.rfft(each, dim=0) for each in (lips_KD, sound_KD))
        self._products_L += torch.fft.irfft((lips.conj() * sound).sum(1), self._block)
        self.windows += self._block
        self._held, self._holds = [], 0

    def products(self) -> NDArray[np.float64]:
        """Mean product at each lag that lies away from no shift at all, on either side."""
        near = _NEAR if self._block > _SHORT else _NEAR_SHORT
        means_L: NDArray[np.float64] = (self._products_L / max(self.windows, 1)).numpy()
        return means_L[near : self._block - near + 1]
