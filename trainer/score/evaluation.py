"""How well a network finds offsets, measured clip by clip.

K says how many frames of context there are to tell by: from 5, a fifth of a second and one window
of the network, to 15, whose K - 4 windows are averaged. Wherever in a clip K frames begin is a
start, and each start is one question.

A shift that leads beyond the clip is left out of the search, which makes starts near an end easier.
So starts are counted in three more ways. "inside": only starts from which every shift lies inside
the clip. "speech": of these only those that are louder than 20 dB below the clip's loud parts,
since nothing can be told in a pause. "zero-padded": all starts, with zeros for the sound beyond the
clip, as the official code does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from zlib import crc32

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.errors import UserError
from data_tools.manifest import ClipRecord
from data_tools.progress import progress
from data_tools.records import RecordError, read_table, whole_number
from trainer.data.dataset import Dataset
from trainer.model.syncnet import SyncNet
from trainer.score.centred import centred_products, score_centred
from trainer.score.clip_distances import (
    Embedded,
    Unreadable,
    clip_distances,
    clip_sound,
    embed_clips,
)
from trainer.score.random_pairs import random_pairs
from trainer.score.scoring import REACH, TOLERANCE, Score, offsets, score_distances

SHIFTS = 2 * REACH + 1
CHANCE = (2 * TOLERANCE + 1) / SHIFTS
CONTEXTS = (5, 7, 9, 11, 13, 15)  # K, frames
MOVES = (-12, -6, -3, 3, 6, 12)  # of the shift test, frames; positive: the sound is made early
# Starts that are counted on their own: where every shift lies inside the clip, and of these those
# whose frames hold speech.
PARTS = ("inside", "speech")
SPEECH = 20  # dB below a clip's loud parts there are breath and room
_PAIRS = 4_000_000  # false pairs kept for AUC and EER, over all clips
_RANDOM_SHARE = 10  # random pairs of each length are fewer by so much


class EvaluationError(UserError):
    """Nothing can be measured; says why in one sentence."""


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured.

    Attributes:
        split: which clips of the shards
        starts: start positions per clip, evenly spaced; 0 is all
        max_clips: clips, evenly spaced through the split; 0 is all
        min_shift: frames that the sound of a false pair is off, at least
        swapped: control: each clip with another clip's sound, which must score at chance
        shift_test: move each clip's sound; exit 1 if the offset does not follow with the right sign
        protocol: lrs2: also a table beside what is published on LRS2 (K = 5 to 15 within one frame
            over +-15), with StableSyncNet's question as a second column: is this the sound of these
            frames, or that of a random other time of the clip?
        speakers: what this regular expression finds in the name of a clip's source (its group, if
            it has one) says who speaks, by whom the intervals are taken; where it finds nothing,
            and by default, each source video is a speaker
        resamples: of the sources or speakers, for the intervals
        seed: of the resampling, and of the random other times
        mode: what finds an offset, masked: mean distances; centred: inner products of what moves in
            lips and sound, against the mean of the 31 windows around each. LSE-C, LSE-D, AUC and
            the equal error rate are those of distances in either
    """

    split: Literal["train", "val", "test"] = "test"
    starts: Annotated[int, Meta(ge=0)] = 0
    max_clips: Annotated[int, Meta(ge=0)] = 0
    min_shift: Annotated[int, Meta(ge=1, le=REACH)] = 3
    swapped: bool = False
    shift_test: bool = False
    protocol: Literal["lrs2"] | None = None
    speakers: str | None = None
    resamples: Annotated[int, Meta(ge=1)] = 1000
    seed: Annotated[int, Meta(ge=0)] = 0
    mode: Literal["centred", "masked"] = "masked"


@dataclass(frozen=True)
class ClipMeasurement:
    """What one clip gives.

    Attributes:
        record: of the clip.
        score: over the whole clip.
        starts: (contexts,) start positions.
        right, right_padded: (contexts,) of these within a frame, masked and with zeros.
        parts: start positions and right ones, (contexts, 2), of each of PARTS.
        histogram: (contexts, SHIFTS) errors of the offsets found, masked, -REACH first.
        genuine, false: distances of pairs, float32.
        moved: offset found after each of MOVES, frames; empty without the shift test.
        own: the offset that is right, frames; 0 unless another is known.
        random: distances to genuine and to random sound (`trainer.score.random_pairs`); empty
            without a protocol.
    """

    record: ClipRecord
    score: Score
    starts: NDArray[np.int64]
    right: NDArray[np.int64]
    right_padded: NDArray[np.int64]
    parts: dict[str, NDArray[np.int64]]
    histogram: NDArray[np.int64]
    genuine: NDArray[np.float32]
    false: NDArray[np.float32]
    moved: tuple[int, ...] = ()
    own: int = 0
    random: tuple[NDArray[np.float32], ...] = ()


def evaluate(
    shards: Path,
    model: SyncNet,
    options: EvaluationOptions,
    *,
    own: Mapping[str, int] | None = None,
    device: str = "cpu",
    threads: int = 0,
) -> tuple[list[ClipMeasurement], dict[str, str]]:
    """Measure every clip of a split.

    Args:
        model: folded, on `device`.
        own: the offset that is right for each clip, by its key, frames within +-REACH; a clip
            without one is left out. By default all are in sync.
        threads: of decoding; 0 is one per core.

    Returns:
        the clips in the order of the shards, and those left out by key with the reason.

    Raises:
        RecordError, LoaderError: bad data.
        EvaluationError, UsageError: no clip can be measured, or the options do not fit them.
    """
    dataset = Dataset(shards, options.split)
    records = [record for shard in dataset.shards for record in shard.records]
    clips = _evenly(len(dataset), options.max_clips)
    heard = clips  # whose sound each clip gets
    if options.swapped:
        heard = clips[_partners([records[clip].source for clip in clips])]
    sound_of = dict(zip(clips.tolist(), heard.tolist(), strict=True))
    pairs = max(SHIFTS, _PAIRS // len(clips))
    measured: dict[int, ClipMeasurement] = {}
    left_out: dict[str, str] = {}
    with progress("evaluating", len(clips), "clips") as advance:
        for clip in embed_clips(dataset, model, clips.tolist(), device=device, threads=threads):
            advance(1)
            record = records[clip.clip]
            if isinstance(clip, Unreadable):
                left_out[record.key] = clip.reason
            elif own is not None and record.key not in own:
                left_out[record.key] = "its own offset is not listed"
            else:
                sound = clip.sound_KD
                if options.swapped:
                    sound = clip_sound(dataset, model, sound_of[clip.clip], device=device)
                moved = _moved_offsets(dataset, model, clip, device, options)
                speech = dataset.loud(clip.clip, SPEECH)
                true = own[record.key] if own else 0
                measured[clip.clip] = measure_clip(
                    record, clip.lips_KD, sound, options, pairs, moved, speech, true
                )
    if not measured:
        reasons = ", ".join(sorted(set(left_out.values())))
        raise EvaluationError(
            f"no clip of the {options.split} split of {shards} can be measured: {reasons}"
        )
    return [measured[clip] for clip in sorted(measured)], dict(sorted(left_out.items()))


def measure_clip(
    record: ClipRecord,
    lips_KD: torch.Tensor,
    sound_LD: torch.Tensor,
    options: EvaluationOptions,
    pairs: int,
    moved: tuple[int, ...] = (),
    speech_K: NDArray[np.bool_] | None = None,
    own: int = 0,
) -> ClipMeasurement:
    """One clip from its embeddings.

    Args:
        lips_KD, sound_LD: (K, D) and (L, D) float32, window i of both beginning with frame i.
        pairs: false pairs that are kept at most, evenly spaced.
        moved: offsets found after each of MOVES, frames.
        speech_K: which windows hold speech; by default all.
        own: the offset that is right, frames.
    """
    speech_K = np.ones(len(lips_KD), np.bool_) if speech_K is None else speech_K
    distances, valid = clip_distances(lips_KD, sound_LD, REACH)
    score = score_distances(distances, valid)
    costs: NDArray[np.floating] = distances
    if options.mode == "centred":
        both = lips_KD[: len(distances)], sound_LD[: len(distances)]
        score, costs = score_centred(*both, REACH), -centred_products(*both, REACH)
    counts, right, padded, histogram = [], [], [], []
    parts: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
    for context in CONTEXTS:
        width = context - 4
        starts = _evenly(max(0, len(distances) - width + 1), options.starts)
        errors = offsets(sliding_means(costs, valid, width)[starts]) - own
        zeros = offsets(sliding_means(costs, np.ones_like(valid), width)[starts]) - own
        counts.append(len(starts))
        right.append(_count_right(errors))
        padded.append(_count_right(zeros))
        inside = (starts >= REACH) & (starts + width + REACH <= len(distances))
        heard = np.array([speech_K[start : start + width].any() for start in starts], np.bool_)
        for part, chosen in zip(PARTS, (inside, inside & heard), strict=True):
            parts[part].append((int(chosen.sum()), _count_right(errors[chosen])))
        histogram.append(error_histogram(errors))
    apart = abs(np.arange(SHIFTS) - REACH + own) >= options.min_shift
    false = distances[:, apart][valid[:, apart]]
    return ClipMeasurement(
        record,
        score,
        np.array(counts),
        np.array(right),
        np.array(padded),
        {part: np.array(each) for part, each in parts.items()},
        np.array(histogram),
        distances[:, REACH - own][valid[:, REACH - own]],
        false[_evenly(len(false), pairs)],
        moved,
        own,
        _random(record, lips_KD, sound_LD, options, pairs, own),
    )


def _random(
    record: ClipRecord,
    lips_KD: torch.Tensor,
    sound_LD: torch.Tensor,
    options: EvaluationOptions,
    pairs: int,
    own: int,
) -> tuple[NDArray[np.float32], ...]:
    """The random pairs of a clip, where a protocol asks for them."""
    if options.protocol is None:
        return ()
    seed = (options.seed, crc32(record.key.encode()))
    most = max(SHIFTS, pairs // _RANDOM_SHARE)
    return random_pairs(lips_KD, sound_LD, options.min_shift, most, seed, own)


def error_histogram(errors: NDArray[np.int64]) -> NDArray[np.int64]:
    """(SHIFTS,) counts of -REACH..REACH frames; what is beyond counts as the farthest."""
    return np.bincount(np.clip(errors, -REACH, REACH) + REACH, minlength=SHIFTS)


def sliding_means(
    distances_KS: NDArray[np.floating], valid_KS: NDArray[np.bool_], width: int
) -> NDArray[np.float64]:
    """(K - width + 1, S) means over `width` windows from each on, over the valid ones.

    Infinite where a shift has no valid window; as `mean_over_windows` of every run.
    """
    if len(distances_KS) < width:
        return np.empty((0, distances_KS.shape[1]))

    def sums(values: NDArray[Any]) -> NDArray[np.float64]:
        whole = np.vstack([np.zeros(values.shape[1]), values.cumsum(0, dtype=np.float64)])
        return np.asarray(whole[width:] - whole[:-width])

    count = sums(valid_KS).round()
    total = sums(np.where(valid_KS, distances_KS, 0))
    return np.where(count > 0, total / np.maximum(count, 1), np.inf)


def read_offsets(path: Path) -> dict[str, int]:
    """By how many frames clips are off, from a CSV with columns clip and offset_frames.

    Lines without an offset (dubbed clips of `synth`, clips left out) are passed over.

    Raises:
        EvaluationError: the file cannot be read or holds no such offsets.
    """
    try:
        table = read_table(path)
        _, head = next(table, ("", []))
        if missing := {"clip", "offset_frames"} - set(head):
            raise EvaluationError(f"{path} has no column {' and no '.join(sorted(missing))}")
        if len(set(head)) < len(head):
            raise EvaluationError(f"{path} has a column twice: which one counts?")
        clip_column, offset_column = head.index("clip"), head.index("offset_frames")
        offset_of: dict[str, int] = {}
        for where, fields in table:
            clip, offset = fields[clip_column], fields[offset_column]
            if offset:
                if clip in offset_of:
                    raise EvaluationError(f"{where}: clip {clip[:80]!r} is twice")
                offset_of[clip] = _offset(where, clip[:80], offset[:80])
        return offset_of
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from None
    except RecordError as error:
        raise EvaluationError(str(error)) from None


def _offset(where: str, clip: str, text: str) -> int:
    offset = whole_number(text)
    if offset is None:
        raise EvaluationError(
            f"{where}: the offset of {clip}, {text!r}, is no whole number of frames"
        )
    if abs(offset) > REACH:
        raise EvaluationError(f"{where}: {clip} is off by {offset} frames, more than {REACH}")
    return offset


def _moved_offsets(
    dataset: Dataset, model: SyncNet, clip: Embedded, device: str, options: EvaluationOptions
) -> tuple[int, ...]:
    """The offset found after each of MOVES; none without the shift test."""
    found = []
    for move in MOVES if options.shift_test else ():
        early = clip_sound(dataset, model, clip.clip, move, device)
        if options.mode == "centred":  # where the sound that was moved exists
            own = slice(max(0, -move), max(0, len(early) - max(0, move)))
            lips_KD, early = clip.lips_KD[own], early[own]
            found.append(score_centred(lips_KD, early, REACH).offset if len(early) else 0)
        else:
            distances, valid = clip_distances(clip.lips_KD, early, REACH, move)
            found.append(score_distances(distances, valid).offset)
    return tuple(found)


def _partners(sources: list[str]) -> list[int]:
    """For each clip the next one, of another source where there is one."""
    if len(sources) < 2:
        raise EvaluationError("one clip only: no other sound to swap in")
    partners = []
    for at, source in enumerate(sources):
        following = [(at + step) % len(sources) for step in range(1, len(sources))]
        others = (place for place in following if sources[place] != source)
        partners.append(next(others, following[0]))
    return partners


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Of 0 .. count - 1 at most so many, evenly spaced; 0 is all."""
    if most == 0 or count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


def _count_right(errors: NDArray[np.int64]) -> int:
    return int((abs(errors) <= TOLERANCE).sum())
