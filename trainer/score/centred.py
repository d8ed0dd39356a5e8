"""Offsets by centred inner products (mode "centred"), which find strangers' offsets more often than
distances do.

A network puts a face that it has never seen, and a voice, each in a corner of its own of the space
of embeddings: most of every distance is how far the corners lie apart, which says nothing of sync.
So the track's own mean is taken away from either stream, and what is left is multiplied:

    l = L - mean(L),  s = S - mean(S)                   embeddings of lips and of sound
    c(j) = mean over k of l(k) . s(k + j)               of the K - |j| windows that exist
    curve(j) = (c(j) - mean over j of c) (K - |j|) / K  the offset is where this is largest

The factor draws shifts of few windows towards nought, so that they do not win by their noise. Sums
over a track need no track in memory: the means enter by sums of the lips and of the sound alone.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

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
        follow: give the offset's path, too; the sound's embeddings then lie in a temporary file.
    """
    sums = _Sums(reach, count)
    distances_KS = np.empty((count, 2 * reach + 1), np.float32)
    products_KS = np.empty_like(distances_KS) if follow else None
    with tempfile.TemporaryFile() as stored:
        for piece_KD, around_LD in beside_their_sound(lips, sound, reach):
            at, end = sums.done, sums.done + len(piece_KD)
            piece_KS = shift_distances(piece_KD[None], around_LD[None])[0]
            distances_KS[at:end] = piece_KS.numpy()
            own_KS = sums.add(piece_KD, around_LD)
            if products_KS is not None:
                products_KS[at:end] = own_KS.numpy()
                stored.write(around_LD[reach : reach + len(piece_KD)].numpy().tobytes())
        if products_KS is not None:
            _centre(products_KS, stored, sums.mean_lips)
    products_S = sums.mean_products()
    fit_S = shrunk_curve(products_S, count)
    offset = reach - int(fit_S.argmax())
    null_z = sums.null_z(float(products_S[reach - offset]))
    score = score_distances(distances_KS, fit_S=fit_S, null_z=null_z)
    if products_KS is None:
        return score
    return replace(score, path=follow_offset(inside(products_KS)))


def _centre(products_KS: NDArray[np.float32], stored: BinaryIO, mean_lips: torch.Tensor) -> None:
    """Take the lips' mean out of products l(k) . s(k + j), in place.

    The sound's mean takes the same from every shift of a window, so that it may stay.

    Args:
        stored: (K, D) float32, the sound's embeddings.
        mean_lips: (D,) float64.
    """
    count, shifts = products_KS.shape
    stored.seek(0)
    size = 4 * len(mean_lips) * 4096
    pulls = [
        torch.frombuffer(bytearray(part), dtype=torch.float32).view(-1, len(mean_lips)).double()
        @ mean_lips
        for part in iter(lambda: stored.read(size), b"")
    ]
    pull_L = np.pad(torch.cat(pulls).numpy().astype(np.float32), shifts // 2)
    products_KS -= np.lib.stride_tricks.sliding_window_view(pull_L, shifts)[:count]


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

    Either stream is centred over all its windows. Nought stands for sound beyond the ends, which is
    what a product is on the average.

    Args:
        lips_KD, sound_KD: (K, D) float32 each, window i of both beginning with frame i.
    """
    lips, sound = (part.double() - part.double().mean(0) for part in (lips_KD, sound_KD))
    pieces = [
        _diagonals(*each, reach).numpy() for each in beside_their_sound([lips], [sound], reach)
    ]
    return np.concatenate(pieces)


def _diagonals(lips_KD: torch.Tensor, around_LD: torch.Tensor, reach: int) -> torch.Tensor:
    """(K, 2 reach + 1) inner products of window k of the lips and k + j of the sound around it."""
    products_KL = lips_KD @ around_LD.T
    width = products_KL.shape[1]
    return products_KL.as_strided((len(lips_KD), 2 * reach + 1), (width + 1, 1))


class _Sums:
    """What a track's centred products are made of, summed up piece by piece.

    With ml and ms the means, over the n windows of a shift
    sum (l - ml)(s - ms) = sum l s - (sum l) ms - ml (sum s) + n ml ms.

    Attributes:
        done: windows so far.
    """

    def __init__(self, reach: int, count: int) -> None:
        self.done = 0
        self._reach, self._count = reach, count
        self._products_S = torch.zeros(2 * reach + 1, dtype=torch.float64)
        self._lips, self._sound = _Ends(reach), _Ends(reach)
        self._null = _Null(count)

    @property
    def mean_lips(self) -> torch.Tensor:
        """(D,) float64, once all windows are in."""
        return self._lips.total / self._count

    def add(self, lips_KD: torch.Tensor, around_LD: torch.Tensor) -> torch.Tensor:
        """The next windows, as `beside_their_sound` gives them; their products, centred by none."""
        lips_KD, around_LD = lips_KD.double(), around_LD.double()  # sums without cancellation
        sound_KD = around_LD[self._reach : self._reach + len(lips_KD)]
        products_KS = _diagonals(lips_KD, around_LD, self._reach)
        self._products_S += products_KS.sum(0)
        self._lips.add(lips_KD)
        self._sound.add(sound_KD)
        self._null.add(lips_KD, sound_KD)
        self.done += len(lips_KD)
        return products_KS

    def mean_products(self) -> NDArray[np.float64]:
        """(2 reach + 1,) mean centred product at each shift, nan where no window has one."""
        mean_lips, mean_sound = (each.total / self._count for each in (self._lips, self._sound))
        means_S = np.full(2 * self._reach + 1, np.nan)
        for shift in range(-self._reach, self._reach + 1):
            number = self._count - abs(shift)
            if number <= 0:
                continue
            # Shift j compares all lips but the last j with all sound but the first j.
            lips, sound = self._lips.without(-shift), self._sound.without(shift)
            product = self._products_S[shift + self._reach]
            centred = product - lips @ mean_sound - mean_lips @ sound
            means_S[shift + self._reach] = centred / number + mean_lips @ mean_sound
        return means_S

    def null_z(self, product: float) -> float:
        """By how many deviations a mean centred product stands out of those that chance gives.

        nan where the track is too short to tell.
        """
        chance, windows = self._null.products(), self._null.windows
        if len(chance) < 3 or chance.std() == 0:
            return float("nan")
        # Centring takes the same from every lag.
        mean_lips, mean_sound = (each.total / self._count for each in (self._lips, self._sound))
        taken = self._null.lips_D @ mean_sound + mean_lips @ self._null.sound_D
        mean = chance.mean() - float(taken / windows - mean_lips @ mean_sound)
        return float((product - mean) / chance.std())


class _Ends:
    """The sum of one stream's embeddings, and what its ends add to it.

    Attributes:
        total: (D,) sum of all.
    """

    def __init__(self, reach: int) -> None:
        self.total = torch.zeros(())
        self._reach = reach
        self._first = self._last = torch.empty(0, 0, dtype=torch.float64)

    def add(self, piece_KD: torch.Tensor) -> None:
        self.total = self.total + piece_KD.sum(0)
        if len(self._first) < self._reach:
            missing = self._reach - len(self._first)
            self._first = torch.cat([self._first.view(-1, piece_KD.shape[1]), piece_KD[:missing]])
        last = torch.cat([self._last.view(-1, piece_KD.shape[1]), piece_KD])
        self._last = last[max(0, len(last) - self._reach) :].clone()

    def without(self, shift: int) -> torch.Tensor:
        """(D,) the sum but the first `shift`, or, of a negative one, the last `-shift`."""
        if shift == 0:
            return self.total
        left_out = self._first[:shift] if shift > 0 else self._last[shift:]
        return self.total - left_out.sum(0)


class _Null:
    """What a track's products are by chance: circular lags over blocks of it, which hold no sync.

    A block is the whole track, or of a long one a minute: the products of all blocks at one lag
    are summed, so that chance shrinks with the track's length as it does at the shifts. A few
    windows at the end that fill no block are left out.

    Attributes:
        windows: that were used.
        lips_D, sound_D: sums of them.
    """

    def __init__(self, count: int) -> None:
        self._block = count // -(-count // NULL_BLOCK)
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._holds = self.windows = 0
        self._products_L = torch.zeros(self._block, dtype=torch.float64)
        self.lips_D = self.sound_D = torch.zeros((), dtype=torch.float64)

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
        self.lips_D, self.sound_D = self.lips_D + lips_KD.sum(0), self.sound_D + sound_KD.sum(0)
        self.windows += self._block
        self._held, self._holds = [], 0

    def products(self) -> NDArray[np.float64]:
        """Mean product at each lag that lies away from no shift at all, on either side."""
        near = _NEAR if self._block > _SHORT else _NEAR_SHORT
        means_L: NDArray[np.float64] = (self._products_L / max(self.windows, 1)).numpy()
        return means_L[near : self._block - near + 1]
