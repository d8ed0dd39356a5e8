"""From embeddings to offsets: distances over shifts, accuracy, AUC.

Sign: shift j means that the picture of frame i is compared with the sound of frame i + j. If the
sound is early by k frames, the matching sound lies at i - k, so offset = -shift: **positive = the
audio leads**, as in the official code (offset = vshift - argmin).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.errors import UserError
from data_tools.mfcc import FPS, WINDOW_FRAMES
from trainer.model.calibration import Evidence
from trainer.model.losses import distance
from trainer.score.offset_path import OffsetPath

_WINDOWS = 256  # compared at once: all differences at once would take 130 kB a window

REACH = 15  # frames to either side, as in the literature and the official command line
TOLERANCE = 1  # frames; the literature counts an offset within one frame as right


def shift_distances(lips_NKD: torch.Tensor, sound_NLD: torch.Tensor) -> torch.Tensor:
    """(N, K, S) float32 distances of window k to the sound at every shift; L = K + S - 1.

    Column j compares with sound k + j, that is shift j - (S - 1) / 2 where the sound begins
    (S - 1) / 2 frames before the picture.
    """
    count = lips_NKD.shape[1]
    shifts = sound_NLD.shape[1] - count + 1
    neighbours = sound_NLD.unfold(1, shifts, 1).transpose(2, 3)  # (N, K, S, D)
    return distance(lips_NKD[:, :, None], neighbours)


def valid_shifts(
    audio_start: NDArray[np.int64], audio_windows: NDArray[np.int64], windows: int, shifts: int
) -> NDArray[np.bool_]:
    """(N, K, S): whether the sound of window k at shift j lies inside its clip.

    `audio_start`: (N,) first frame of the sound, maybe negative; `audio_windows`: (N,) windows in
    the clip that the sound is from.
    """
    at = audio_start[:, None, None] + np.arange(windows)[:, None] + np.arange(shifts)
    inside: NDArray[np.bool_] = (at >= 0) & (at < audio_windows[:, None, None])
    return inside


def mean_over_windows(
    distances_NKS: NDArray[np.float32], valid_NKS: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(N, S) mean distance over the valid windows of each shift; infinite where there is none."""
    total = np.where(valid_NKS, distances_NKS, 0.0).sum(1)
    count = valid_NKS.sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf)


def offsets(means_NS: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) offset in frames of the smallest mean distance; positive: the audio is early."""
    reach = means_NS.shape[1] // 2
    return reach - means_NS.argmin(1)


def accuracy(means_NS: NDArray[np.float64], truth: int = 0) -> float:
    """Share of offsets within +-1 frame of the truth; nan without any."""
    if len(means_NS) == 0:
        return float("nan")
    return float((np.abs(offsets(means_NS) - truth) <= TOLERANCE).mean())


def auc(genuine: NDArray[np.float32], false: NDArray[np.float32]) -> float:
    """Probability that a genuine pair is closer than a false one (ties count half)."""
    if len(genuine) == 0 or len(false) == 0:
        return float("nan")
    ordered = np.sort(false)
    below = np.searchsorted(ordered, genuine, side="left")
    upto = np.searchsorted(ordered, genuine, side="right")
    return float(1 - (below + upto).mean() / 2 / len(false))


def eer(genuine: NDArray[np.float32], false: NDArray[np.float32]) -> float:
    """Equal error rate: share of genuine pairs refused where as many false ones are accepted.

    A pair is accepted up to a threshold of distance; between two thresholds the rates are joined
    by straight lines. nan without pairs of both kinds.
    """
    if len(genuine) == 0 or len(false) == 0:
        return float("nan")
    thresholds = np.unique(np.concatenate([genuine, false]))
    refused = 1 - np.searchsorted(np.sort(genuine), thresholds, side="right") / len(genuine)
    accepted = np.searchsorted(np.sort(false), thresholds, side="right") / len(false)
    # below every pair all are refused
    refused, accepted = np.append(1.0, refused), np.append(0.0, accepted)
    at = int(np.argmax(accepted >= refused))
    before, after = refused[at - 1] - accepted[at - 1], accepted[at] - refused[at]
    share = before / (before + after)
    return float(refused[at - 1] + share * (refused[at] - refused[at - 1]))


@dataclass(frozen=True)
class Score:
    """How well a track's sound fits its lips, at every shift.

    Distances are told in every mode, so that LSE-C and LSE-D can be compared; in the mode "centred"
    (`trainer.score.centred`) they do not decide.

    Attributes:
        offset: frames; positive: the audio is early.
        confidence: median of the mean distances less their smallest (LSE-C).
        distance: the smallest mean distance (LSE-D).
        means_S: (2 reach + 1,) float64, mean distance at each shift, -reach first; not finite where
            the track is too short for the shift.
        frames_K: (K,) float64, confidence window by window at the found offset, median of nine;
            nan where the sound at that shift lies outside the track.
        fit_S: (2 reach + 1,) float64, what decided instead of the distances, larger is better; -inf
            where the track is too short for the shift. None: the distances decided.
        null_z: by how many deviations the found shift stands out of what chance gives on this very
            track; nan where that was not measured.
        path: the offset over time; None where that was not asked for.
        fits_KS: (K, 2 reach + 1) float32, how well each window fits at each shift, on any scale,
            nan where there is no such sound; kept where the path was asked for, until it is known
            who speaks.
    """

    offset: int
    confidence: float
    distance: float
    means_S: NDArray[np.float64]
    frames_K: NDArray[np.float64]
    fit_S: NDArray[np.float64] | None = None
    null_z: float = float("nan")
    path: OffsetPath | None = None
    fits_KS: NDArray[np.float32] | None = None

    @property
    def curve_S(self) -> NDArray[np.float64]:
        """(2 reach + 1,) float64, how well each shift fits: the offset is where it is largest.

        The mean distances with their sign turned, unless something else decided; -inf where the
        track is too short for the shift.
        """
        return -self.means_S if self.fit_S is None else self.fit_S

    @property
    def reach(self) -> int:
        """Largest shift, frames."""
        return len(self.means_S) // 2

    @property
    def clearness(self) -> float:
        """How many deviations of the other shifts the peak of the curve stands above their mean.

        Unlike the confidence it does not depend on the scale of a network's embeddings. Shifts
        next to the peak belong to it and are left out.
        """
        curve_S, at = self.curve_S, self.reach - self.offset
        away = np.abs(np.arange(len(curve_S)) - at) > 2
        others = curve_S[away & np.isfinite(curve_S)]
        if len(others) < 3 or others.std() == 0:
            return 0.0
        return float((curve_S[at] - others.mean()) / others.std())

    @property
    def evidence(self) -> Evidence:
        """What is known of the offset without knowing the truth."""
        return Evidence(self.clearness, self.null_z, len(self.frames_K))


def score(lips_KD: torch.Tensor, sound_LD: torch.Tensor, reach: int) -> Score:
    """The offset of a track over shifts within +-reach frames; every shift's own windows count.

    A shift is compared over the windows whose sound exists. Official scoring puts zeros where it
    does not, which pulls the means of large shifts (`score_official`).

    Args:
        lips_KD, sound_LD: (K, D) and (L, D) float32, window i of both beginning with frame i.

    Raises:
        ValueError: no window has both lips and sound.
    """
    count = min(len(lips_KD), len(sound_LD))
    if count == 0:
        raise ValueError(f"a track needs {WINDOW_FRAMES} frames with sound to be scored")
    return score_distances(track_distances(lips_KD[:count], sound_LD[:count], reach))


def score_distances(
    distances_KS: NDArray[np.float32],
    valid_KS: NDArray[np.bool_] | None = None,
    trim: float = 0.0,
    fit_S: NDArray[np.float64] | None = None,
    null_z: float = float("nan"),
) -> Score:
    """`score` of a track from its distances at every shift.

    Args:
        distances_KS: (K, 2 reach + 1), K >= 1.
        valid_KS: which of them count; by default those whose sound lies inside the track.
        trim: share of a shift's windows to leave out at each end, against outliers.
        fit_S, null_z: of `Score`, where something else than the distances decides.
    """
    count, reach = len(distances_KS), distances_KS.shape[1] // 2
    if valid_KS is None:
        valid_KS = valid_shifts(np.array([-reach]), np.array([count]), count, 2 * reach + 1)[0]
    kept = valid_KS
    if trim > 0:
        known = np.where(valid_KS, distances_KS, np.nan)
        known[:, ~valid_KS.any(0)] = 0  # of which no quantile exists
        low, high = np.nanquantile(known, [trim, 1 - trim], axis=0)
        kept = valid_KS & (distances_KS >= low) & (distances_KS <= high)
    means = mean_over_windows(distances_KS[None], kept[None])[0]
    # A mean over a handful of windows is noise: a shift needs a third of them, as the official
    # 2 reach + 1 shifts of a track of five seconds have.
    means[valid_KS.sum(0) < max(1, count // 3)] = np.inf
    best = int(means.argmin())
    middle, least = float(np.median(means[np.isfinite(means)])), float(means[best])
    at = best if fit_S is None else int(fit_S.argmax())
    single = np.where(valid_KS[:, at], middle - distances_KS[:, at], np.nan)
    return Score(reach - at, middle - least, least, means, _smooth(single), fit_S, null_z)


def score_official(lips_KD: torch.Tensor, sound_KD: torch.Tensor, reach: int) -> Score:
    """As the official code scores, to the letter: zeros beyond the ends, all shifts of all windows.

    Args:
        lips_KD, sound_KD: (K, D) float32 both, K = frames - 5: it leaves out the last window.

    Raises:
        ValueError: there is no window, or the two differ in number.
    """
    if len(lips_KD) == 0 or len(lips_KD) != len(sound_KD):
        raise ValueError(f"{len(lips_KD)} windows of lips, {len(sound_KD)} of sound")
    return score_distances_official(track_distances(lips_KD, sound_KD, reach))


def score_distances_official(distances: NDArray[np.float32]) -> Score:
    """As `score_official`, from the (K, 2 reach + 1) distances of a track, K >= 1."""
    reach = distances.shape[1] // 2
    means = distances.mean(0, dtype=np.float64)
    best = int(means.argmin())
    middle = float(np.median(means))
    single = _median_of_9(middle - distances[:, best].astype(np.float64))
    return Score(reach - best, middle - float(means[best]), float(means[best]), means, single)


def _median_of_9(values_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) float64: each value's median with four on either side, zeros beyond the ends.

    `scipy.signal.medfilt(values_K, 9)` to the bit, whose import takes a second of each process.
    """
    around_K9 = np.lib.stride_tricks.sliding_window_view(np.pad(values_K, 4), 9)
    middle_K: NDArray[np.float64] = np.median(around_K9, axis=1)
    return middle_K


def track_distances(
    lips_KD: torch.Tensor, sound_KD: torch.Tensor, reach: int
) -> NDArray[np.float32]:
    """(K, 2 reach + 1) distances of a track's windows, zeros standing for sound beyond its ends."""
    return distances_in_pieces([lips_KD], [sound_KD], reach, len(lips_KD))


def distances_in_pieces(
    lips: Iterable[torch.Tensor], sound: Iterable[torch.Tensor], reach: int, count: int
) -> NDArray[np.float32]:
    """`track_distances` of embeddings that come some at a time; holds what the shifts reach.

    Args:
        lips, sound: pieces (n, D) float32 of any n, in order.
        count: windows of the lips, over all pieces.

    Raises:
        UserError: a distance is no finite number.
    """
    # Many small results would keep the heap between the large temporaries from being given back.
    distances_KS, at = np.empty((count, 2 * reach + 1), np.float32), 0
    for piece_KD, around_LD in beside_their_sound(lips, sound, reach):
        piece_KS = shift_distances(piece_KD[None], around_LD[None])[0]
        distances_KS[at : at + len(piece_KD)] = piece_KS.numpy()
        at += len(piece_KD)
    if not np.isfinite(distances_KS).all():
        raise UserError(
            "the network gives distances that are no finite numbers: its weights are damaged, or "
            "its training had blown up; use others"
        )
    return distances_KS


def beside_their_sound(
    lips: Iterable[torch.Tensor], sound: Iterable[torch.Tensor], reach: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The lips some at a time, each piece with all sound that the shifts reach from it.

    Args:
        lips, sound: pieces (n, D) float32 of any n, in order.

    Yields:
        (n, D) lips, n <= 256, and (n + 2 reach, D) sound from the window `reach` before the first
        of them on; zeros beyond the ends of the sound.
    """
    coming = iter(sound)
    held: torch.Tensor | None = None  # sound from `reach` before the next of the lips on
    for piece in (part for own in lips for part in own.split(_WINDOWS) if len(part)):
        nothing = piece.new_zeros(reach, piece.shape[1])
        held = nothing if held is None else held
        needed = len(piece) + 2 * reach
        while len(held) < needed:
            more = next(coming, None)
            if more is None:
                more = piece.new_zeros(needed - len(held), piece.shape[1])
            held = torch.cat([held, more])
        yield piece, held[:needed]
        held = held[len(piece) :]


def inside(values_KS: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, 2 reach + 1) float32, nan where a track has no sound at a shift of a window."""
    count, shifts = values_KS.shape
    valid_KS = valid_shifts(np.array([-(shifts // 2)]), np.array([count]), count, shifts)[0]
    return np.where(valid_KS, values_KS, np.float32("nan"))


def in_frames(offset: int) -> str:
    """An offset as a number with its unit: "+1 frame", "-3 frames"."""
    return f"{offset:+d} frame{'' if abs(offset) == 1 else 's'}"


def in_words(offset: int) -> str:
    """An offset as a person needs it: "audio is 120 ms early; delay it by 120 ms"."""
    if offset == 0:
        return "in sync"
    late = abs(offset) * 1000 // FPS
    if offset > 0:
        return f"audio is {late} ms early; delay it by {late} ms"
    return f"audio is {late} ms late; advance it by {late} ms"


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over nine windows, over those that have a value."""
    padded = np.pad(values, 4, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 9)
    out = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    out[known] = np.nanmedian(around[known], axis=1)
    return out
