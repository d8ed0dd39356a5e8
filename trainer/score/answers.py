"""Answers of a network to calibrate by: parts of held-out clips, whose offset is known.

Each clip is cut to several lengths, and its sound moved by a known number of frames. A fifth of the
answers are about sound of another clip, to which no offset is right. However long a clip is, it
weighs as much as any other at each length that it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.progress import progress
from trainer.data.dataset import Dataset
from trainer.model.calibration import Evidence, Mode
from trainer.model.syncnet import SyncNet
from trainer.score.centred import score_centred
from trainer.score.clip_distances import Embedded, embed_clips
from trainer.score.scoring import REACH, TOLERANCE, Score, score

LENGTHS = (25, 38, 50, 60, 75, 100, 125, 250, 500, 1000, 1500)  # windows: 1 to 60 s
MOVES = 12  # frames to either side by which the sound is moved
UNRELATED = 0.2  # share of videos to whose lips no sound belongs
OWN, OTHER = 8, 4  # answers a clip and length, about its own sound and about another's
_LAST = REACH - 2  # frames: an answer beyond lies at the edge and is never trusted


@dataclass(frozen=True)
class HeldOut:
    """A clip to ask about.

    Attributes:
        speaker: who speaks: answers about one speaker are alike.
        lips_KD, sound_KD: its embeddings, window k of both beginning with frame k.
        own: the offset that is right for it, frames; None: the one found for the whole clip.
    """

    speaker: str
    lips_KD: torch.Tensor
    sound_KD: torch.Tensor
    own: int | None = 0


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        evidence: what is known of it without the truth.
        length: one of LENGTHS.
        at_edge: whether the offset lies at the edge of the search, where none is trusted.
        right: whether it is within a frame of the truth.
        own: whether the sound is the clip's.
        speaker: of the lips.
        weight: of one clip and length all weights add up to 1.
    """

    evidence: Evidence
    length: int
    at_edge: bool
    right: bool
    own: bool
    speaker: str
    weight: float


def score_part(lips_KD: torch.Tensor, sound_KD: torch.Tensor, mode: Mode) -> Score:
    """The score of embeddings within +-REACH, in mode "centred" or "masked"."""
    return (score_centred if mode == "centred" else score)(lips_KD, sound_KD, REACH)


def embed_held_out(
    model: SyncNet,
    dataset: Dataset,
    speaker_of: Mapping[str, str],
    own: Mapping[str, int | None],
) -> list[HeldOut]:
    """The clips of a split through the network; without those that cannot be read.

    Args:
        model: folded.
        speaker_of: who speaks, by the source of a clip.
        own: offsets as `HeldOut` has them, by the clips' keys; a clip without one is left out.
    """
    records = [record for shard in dataset.shards for record in shard.records]
    chosen = [clip for clip, record in enumerate(records) if record.key in own]
    clips = []
    with progress("embedding", len(chosen), "clips") as advance:
        for clip in embed_clips(dataset, model, chosen):
            advance(1)
            if isinstance(clip, Embedded):
                record = records[clip.clip]
                speaker = speaker_of[record.source]
                clips.append(HeldOut(speaker, clip.lips_KD, clip.sound_KD, own[record.key]))
    return clips


def ask(clips: Sequence[HeldOut], mode: Mode, seed: int = 0) -> list[Answer]:
    """The network's answers about parts of clips.

    Unrelated sound is that of another clip, another speaker's if there is one, turned round: of a
    corpus whose sentences all begin and end alike every clip's sound would fit every other's lips.

    Args:
        clips: those of one set of shards: sound of others is taken from among them.
        mode: of scoring, "centred" or "masked".
        seed: of where parts begin and how far sound is moved.
    """
    answers: list[Answer] = []
    with progress("asking", len(clips), "clips") as advance:
        for number, clip in enumerate(clips):
            rng = np.random.default_rng([seed, number])
            true = clip.own
            if true is None:
                true = score_part(clip.lips_KD, clip.sound_KD, mode).offset
            others = [other for other in clips if other.speaker != clip.speaker]
            others = others or [other for other in clips if other is not clip]
            for length in LENGTHS:
                answers += _of_own_sound(clip, true, length, mode, rng)
                answers += _of_other_sound(clip, others, length, mode, rng)
            advance(1)
    return answers


def _of_own_sound(
    clip: HeldOut, true: int, length: int, mode: Mode, rng: np.random.Generator
) -> list[Answer]:
    answers = []
    for move in _moves(len(clip.lips_KD) - length, true, rng):
        # Sound that begins `move` windows later than the lips is early by as much.
        room = len(clip.lips_KD) - length - abs(move)
        first = max(0, -move) + int(rng.integers(room + 1))
        lips, sound = clip.lips_KD[first:], clip.sound_KD[first + move :]
        found = score_part(lips[:length], sound[:length], mode)
        right = abs(found.offset - true - move) <= TOLERANCE
        answers.append(_answer(found, length, right, True, clip.speaker))
    return answers


def _moves(room: int, true: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """By how many windows the sound is moved, a few times; what leaves the search is left out."""
    if room < 0:
        return np.empty(0, np.int64)
    most = min(MOVES, room)
    moves = np.arange(-most, most + 1)
    moves = moves[abs(moves + true) <= _LAST]
    return rng.choice(moves, OWN) if len(moves) else moves


def _of_other_sound(
    clip: HeldOut,
    others: Sequence[HeldOut],
    length: int,
    mode: Mode,
    rng: np.random.Generator,
) -> list[Answer]:
    others = [other for other in others if len(other.sound_KD) >= length]
    if len(clip.lips_KD) < length or not others:
        return []
    answers = []
    for _ in range(OTHER):
        sound = others[int(rng.integers(len(others)))].sound_KD
        sound = sound.roll(int(rng.integers(len(sound) // 4, 3 * len(sound) // 4 + 1)), 0)
        first = int(rng.integers(len(clip.lips_KD) - length + 1))
        lips = clip.lips_KD[first : first + length]
        found = score_part(lips, sound[:length], mode)
        answers.append(_answer(found, length, False, False, clip.speaker))
    return answers


def _answer(found: Score, length: int, right: bool, own: bool, speaker: str) -> Answer:
    weight = (1 - UNRELATED) / OWN if own else UNRELATED / OTHER
    at_edge = abs(found.offset) >= REACH - 1
    return Answer(found.evidence, length, at_edge, right, own, speaker, weight)
