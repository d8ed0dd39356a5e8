"""Who speaks: of several faces on screen at once, the one whose lips follow the sound.

The sound is the same for all of them, and off by the same: the common offset is where the faces
together fit best, or the path of the best one where that changes. There every window of a face says
how well its lips fit, in deviations of what does not fit:

    z(k, f)     nought on the average of a face that does not speak, m of the one that does
    gain(k, f)  m (z(k, f) - m / 2) / tau        in nats: how much likelier than nobody's lips

Who speaks when is the most likely course through the faces and "nobody" (silence, somebody who is
not seen), by dynamic programming: each change pays a price, so that a listener is not taken for the
speaker in every pause.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import FPS
from trainer.score.offset_path import TAU, OffsetPath
from trainer.score.trust import Doubt, Role, Speaking, TrackResult

COLUMNS = ("speaking", "speaking_rank", "speaker")

# Deviations by which the windows given to a face must stand out of chance, and of every other
# face's in the same windows; and by which all of its windows must, whatever the others do, who may
# speak as well. Of strangers, in 8 s, a listener's windows reached 2.6 at the common offset and a
# speaker's 4.5 or more; where neither spoke the better one reached 3.6 (benchmarks.speakers).
STRENGTH, MARGIN, BY_ITSELF = 4.0, 3.0, 4.5
LEAST_SECONDS = 1.0  # that a face must be given, and be on screen with others, to be judged
# Of a listener's windows others are sure to speak in so many, and it fits best in so few.
LISTENER, _OWN = 0.5, 0.25

_SMOOTH = 50  # windows, over which it is told who fits best just now
_BLOCK = 5  # windows added up before the search
_PRICE = 8.0  # nats, of a change from one face to another; half of it from or to nobody
_FIRST_MEAN, _MEANS = 1.0, (0.3, 3.0)
_NEAR = 3  # shifts that fit in part, beside the one that fits
_DISTRUSTED = 0.5  # of a track: so long it must be on screen with others, to be distrusted for it
_OTHERS_SPEAK = Doubt("another face on screen speaks")


def tell_speakers(tracks: Sequence[TrackResult]) -> list[TrackResult]:
    """The tracks of one video, with who of them speaks.

    The offset of who listens is not to be trusted, if that is for half of the track or more.

    Their scores' `fits_KS` are used up: they are None afterwards.
    """
    found: dict[int, Speaking] = {}
    for group in _groups(tracks):
        found |= dict(zip(group, _judge([tracks[number] for number in group]), strict=True))
    shares = sorted((one.share for one in found.values()), reverse=True)
    told = []
    for number, track in enumerate(tracks):
        speaking = found.get(number)
        if speaking is not None:
            speaking = replace(speaking, rank=1 + shares.index(speaking.share))
            if speaking.role == "listens" and speaking.together >= _DISTRUSTED:
                track = replace(track, doubts=(*track.doubts, _OTHERS_SPEAK))
        told.append(replace(track, score=replace(track.score, fits_KS=None), speaking=speaking))
    return told


def overlapping(spans: Sequence[tuple[float, float]]) -> list[bool]:
    """Which spans (begin, end) share `LEAST_SECONDS` or more with another one."""
    return [
        any(
            min(end, other_end) - max(begin, other_begin) >= LEAST_SECONDS
            for place, (other_begin, other_end) in enumerate(spans)
            if place != number
        )
        for number, (begin, end) in enumerate(spans)
    ]


def columns(track: TrackResult) -> dict[str, float | int | str | None]:
    """Plain values, by the names in COLUMNS; None where no other face was on screen."""
    one = track.speaking
    if one is None:
        return dict.fromkeys(COLUMNS)
    return dict(zip(COLUMNS, (round(one.share, 3), one.rank, one.role), strict=True))


def in_words(tracks: Iterable[TrackResult]) -> str:
    """Who of a video's faces speaks: "000 speaks (best fit 92 % of the time), 001 listens"."""
    judged = [track for track in tracks if track.speaking]
    judged.sort(key=lambda track: track.speaking.rank if track.speaking else 0)
    return ", ".join(f"{track.track} {role_in_words(track)}" for track in judged)


def role_in_words(track: TrackResult) -> str:
    """What a face does: "speaks (best fit 92 % of the time)", "listens", "not sure"; or ""."""
    one = track.speaking
    return "" if one is None else role_words(one.role, one.share)


def role_words(role: Role, share: float) -> str:
    """The same of a role, and the share of the time in which the face fits best."""
    return f"speaks (best fit {100 * share:.0f} % of the time)" if role == "speaks" else role


def _groups(tracks: Sequence[TrackResult]) -> Iterator[list[int]]:
    """Tracks that are on screen with others, each group with those that it is joined to."""
    spans = [(track.start_seconds, track.end_seconds) for track in tracks]
    shared = [
        number
        for number, joined in enumerate(overlapping(spans))
        if joined and tracks[number].score.fits_KS is not None
    ]
    group: list[int] = []
    end = -math.inf
    for number in sorted(shared, key=spans.__getitem__):
        if group and end - spans[number][0] < LEAST_SECONDS:
            yield group
            group = []
        group.append(number)
        end = max(end, spans[number][1]) if len(group) > 1 else spans[number][1]
    if group:
        yield group


def _judge(tracks: Sequence[TrackResult]) -> list[Speaking]:
    """What each face of a group does."""
    fits = [track.score.fits_KS for track in tracks]
    rows = [_standard(fits_KS) for fits_KS in fits if fits_KS is not None]
    firsts = [round(track.start_seconds * FPS) for track in tracks]
    begin = min(firsts)
    firsts = [first - begin for first in firsts]
    length = max(first + len(one) for first, one in zip(firsts, rows, strict=True))
    z_TF = np.full((length, len(rows)), np.nan)
    shift_T = _common_shifts(tracks, rows, firsts, length)
    for face, (one_KS, first) in enumerate(zip(rows, firsts, strict=True)):
        shift_K = shift_T[first : first + len(one_KS)]
        z_TF[first : first + len(one_KS), face] = _at(one_KS, shift_K)
    who_T = _course(z_TF)
    leads_T = _leading(z_TF)
    together_T = np.isfinite(z_TF).sum(1) > 1
    sure = [_is_sure(z_TF, who_T, together_T, face) for face in range(len(rows))]
    given_T = np.isin(who_T, np.flatnonzero(sure))
    judged = []
    for face in range(len(rows)):
        own_T = together_T & np.isfinite(z_TF[:, face])
        count = max(1, int(own_T.sum()))
        others = int((own_T & given_T & (who_T != face)).sum()) / count
        share = int((own_T & (leads_T == face)).sum()) / count
        role: Role = "speaks" if sure[face] else "not sure"
        if not sure[face] and others >= LISTENER and share <= _OWN:
            role = "listens"
        together = count / max(1, int(np.isfinite(z_TF[:, face]).sum()))
        judged.append(Speaking(share, role, together))
    return judged


def _standard(fits_KS: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows about nought; nan where there is no sound."""
    rows_KS = np.where(np.isfinite(fits_KS), fits_KS, np.nan).astype(np.float64)
    known_K1 = np.maximum(np.isfinite(rows_KS).sum(1, keepdims=True), 1)
    return np.asarray(rows_KS - np.nansum(rows_KS, 1, keepdims=True) / known_K1)


def _common_shifts(
    tracks: Sequence[TrackResult],
    rows: Sequence[NDArray[np.float64]],
    firsts: Sequence[int],
    length: int,
) -> NDArray[np.int64]:
    """(T,) the shift at which the sound of each window is what is seen; nothing fits beyond all."""
    stands_out = np.array([_sums(one_KS) for one_KS in rows])  # (F, S)
    best = int(stands_out.max(1).argmax())
    shift = int((np.maximum(stands_out, 0) ** 2).sum(0).argmax())
    shift_T = np.full(length, shift, np.int64)
    path = tracks[best].score.path
    if path is not None and path.changes:
        own_K = _path_shifts(path, len(rows[best]), rows[best].shape[1] // 2)
        first = firsts[best]
        shift_T[:first], shift_T[first + len(own_K) :] = own_K[0], own_K[-1]
        shift_T[first : first + len(own_K)] = own_K
    return shift_T


def _sums(rows_KS: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) deviations by which each shift stands out of chance."""
    count_S = np.isfinite(rows_KS).sum(0)
    scale = float(np.nanstd(rows_KS)) or 1.0
    return np.asarray(np.nansum(rows_KS, 0) / scale / np.sqrt(np.maximum(count_S, 1) * TAU))


def _path_shifts(path: OffsetPath, count: int, reach: int) -> NDArray[np.int64]:
    """(K,) shifts along a path; where it tells nothing, those that it told before or tells next."""
    shift_K = np.full(count, np.nan)
    for part in path.segments:
        if part.known:
            line = np.linspace(part.begin_frames, part.end_frames, part.last - part.first)
            shift_K[part.first : part.last] = reach - line
    known = np.flatnonzero(np.isfinite(shift_K))
    return np.rint(np.interp(np.arange(count), known, shift_K[known])).astype(np.int64)


def _at(rows_KS: NDArray[np.float64], shift_K: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) how well each window fits at its shift, in deviations of what does not fit."""
    shifts = rows_KS.shape[1]
    near_KS = np.abs(np.arange(shifts) - shift_K[:, None]) <= _NEAR
    others = rows_KS[~near_KS & np.isfinite(rows_KS)]
    scale = float(others.std()) if len(others) else 0.0
    inside_K = (shift_K >= 0) & (shift_K < shifts)
    at_K = rows_KS[np.arange(len(rows_KS)), np.clip(shift_K, 0, shifts - 1)]
    return np.where(inside_K, (at_K - (others.mean() if scale else 0)) / (scale or 1.0), np.nan)


def _course(z_TF: NDArray[np.float64]) -> NDArray[np.int64]:
    """(T,) who speaks in each window: a face's number, or their count for nobody."""
    who_T = _search(z_TF, _FIRST_MEAN)
    faces = z_TF.shape[1]
    given = who_T < faces
    fits = z_TF[given, who_T[given]]
    fits = fits[np.isfinite(fits)]
    mean = float(np.clip(fits.mean(), *_MEANS)) if len(fits) else _FIRST_MEAN
    return _search(z_TF, mean)


def _search(z_TF: NDArray[np.float64], mean: float) -> NDArray[np.int64]:
    count, faces = z_TF.shape
    starts = np.arange(0, count, _BLOCK)
    gains_TF = np.where(np.isfinite(z_TF), mean * (z_TF - mean / 2) / TAU, 0.0)
    gains = np.add.reduceat(gains_TF, starts, axis=0)
    seen = np.add.reduceat(np.isfinite(z_TF), starts, axis=0)
    gains = np.hstack([np.where(seen, gains, -math.inf), np.zeros((len(starts), 1))])
    price = np.full((faces + 1, faces + 1), _PRICE)
    price[-1] = price[:, -1] = _PRICE / 2
    np.fill_diagonal(price, 0.0)
    best, came = gains[0], np.zeros(gains.shape, np.int64)
    for step in range(1, len(gains)):
        paths = best[:, None] - price  # (from, to)
        came[step] = paths.argmax(0)
        best = paths.max(0) + gains[step]
    who = [int(best.argmax())]
    for step in range(len(gains) - 1, 0, -1):
        who.append(int(came[step, who[-1]]))
    return np.repeat(np.array(who[::-1], np.int64), _BLOCK)[:count]


def _leading(z_TF: NDArray[np.float64]) -> NDArray[np.int64]:
    """(T,) the face that fits best around each window, or their count where none does."""
    known_TF = np.isfinite(z_TF)
    around = np.ones(_SMOOTH)
    total_TF = np.apply_along_axis(np.convolve, 0, np.where(known_TF, z_TF, 0.0), around, "same")
    count_TF = np.apply_along_axis(np.convolve, 0, known_TF, around, "same")
    count_TF, total_TF = count_TF[: len(z_TF)], total_TF[: len(z_TF)]
    mean_TF = np.where(known_TF, total_TF / np.maximum(count_TF, 1), 0.0)
    return np.where(mean_TF.max(1) > 0, mean_TF.argmax(1), z_TF.shape[1])


def _is_sure(
    z_TF: NDArray[np.float64], who_T: NDArray[np.int64], together_T: NDArray[np.bool_], face: int
) -> bool:
    """Whether the windows given to a face tell that it speaks, not chance, and no other face."""
    if _stands_out(z_TF[together_T, face]) >= BY_ITSELF:
        return True
    own = z_TF[together_T & (who_T == face)]
    if len(own) < LEAST_SECONDS * FPS or _stands_out(own[:, face]) < STRENGTH:
        return False
    ahead = own[:, [face]] - np.delete(own, face, 1)
    beside = ahead[:, np.isfinite(ahead).any(0)]  # of those that are on screen meanwhile
    return all(_stands_out(beside[:, other]) >= MARGIN for other in range(beside.shape[1]))


def _stands_out(values: NDArray[np.float64]) -> float:
    """Deviations by which a sum stands out of chance."""
    known = values[np.isfinite(values)]
    return float(known.sum()) / math.sqrt(max(len(known), 1) * TAU)
