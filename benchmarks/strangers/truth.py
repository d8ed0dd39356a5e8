"""How right a network is on strangers, and whether it knows: what the product would have answered.

Every clip is embedded once. It is asked as a whole and in parts of several lengths, each time as
`syncnet` would: the mode of the weights, their calibration, the share of speech in that very sound.

Where the offset is known, an answer is right within a frame of it. Where it is not, the sound is
moved by a random number of frames, and the answer is right within a frame of the unmoved answer
plus the move, if that unmoved answer is plausible (`groups.PLAUSIBLE`). To follow is a weak test:
what fits by chance moves with the sound, so that a network which hears nothing follows more often
than not. How often it does is measured on other speakers' sound; and a stronger test stands beside
it: the two halves of a clip, which share nothing, must agree within a frame after the sound of one
was moved (chance: about 3 of 31).

Sound of a clip of another speaker is asked about too: no answer to that can be right, so none
should be trusted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.strangers.groups import JUDGED, Group, Video
from data_tools.manifest import ClipRecord
from data_tools.mfcc import FPS, SAMPLES_PER_FRAME, WINDOW_FRAMES
from data_tools.progress import progress
from data_tools.video.speech import speech_share
from trainer.data.dataset import Dataset
from trainer.model.network import Network
from trainer.score.answers import score_part
from trainer.score.clip_distances import Embedded, embed_clips
from trainer.score.evaluation import (
    CONTEXTS,
    SPEECH,
    ClipMeasurement,
    EvaluationOptions,
    measure_clip,
)
from trainer.score.intervals import Figure, Sources
from trainer.score.scoring import REACH, TOLERANCE
from trainer.score.trust import TrackResult, judge_track

# Frames: clips of at least so many are cut into parts of about the middle of the class.
LENGTHS = {"1-2 s": (25, 38), "2-4 s": (50, 75), "4-8 s": (100, 150), "> 8 s": (200, 300)}
WHOLE, LONG = "whole", "whole, >= 3 s"
_LONG_FRAMES = 3 * FPS - 1  # GRID's sentences of three seconds lose one frame at their ends
_MOVES = [move for move in range(-10, 11) if abs(move) >= 3]  # frames
_FARTHEST = REACH - 3  # frames: beyond, an answer is doubted for being at the edge
_OTHERS = 5  # sounds of other speakers that each part is asked about
_RESAMPLES = 1000

Judge = Callable[["Stranger", int, "Stranger", int, int], TrackResult]


@dataclass(frozen=True)
class Stranger:
    """A clip of a stranger, through a network.

    Attributes:
        video: that it is from.
        record: of its shard.
        audio: (samples,) int16 at 16 kHz.
        lips_KD, sound_KD: its embeddings, window k of both beginning with frame k.
        loud_K: which windows are louder than 20 dB below its loud parts.
    """

    video: Video
    record: ClipRecord
    audio: NDArray[np.int16]
    lips_KD: torch.Tensor
    sound_KD: torch.Tensor
    loud_K: NDArray[np.bool_]

    @property
    def windows(self) -> int:
        """How many there are of lips with sound."""
        return min(len(self.lips_KD), len(self.sound_KD))


@dataclass(frozen=True)
class Asked:
    """A part of a clip and what was answered.

    Attributes:
        of: the clip.
        length: a name of LENGTHS, or WHOLE.
        weight: of a clip's parts of one length all weights add up to 1.
        offset: the answer to the part as it is, frames.
        right, trusted: of the answer that is counted, see above.
        others_trusted: share of the answers about other speakers' sound that are trusted.
    """

    of: Stranger
    length: str
    weight: float
    offset: int
    right: bool
    trusted: bool
    others_trusted: float


def embed_strangers(
    network: Network, clips: Path, shards: Path, videos: Sequence[Video]
) -> list[Stranger]:
    """Every clip of the videos that can be read, in the order of the shards."""
    import soundfile

    of = {video.name: video for video in videos}
    dataset = Dataset(shards, "test")
    records = [record for shard in dataset.shards for record in shard.records]
    chosen = [at for at, record in enumerate(records) if record.source in of]
    found = {}
    with progress("embedding", len(chosen), "clips") as advance:
        for clip in embed_clips(dataset, network.model, chosen, device=network.device):
            advance(1)
            if isinstance(clip, Embedded):
                record = records[clip.clip]
                audio, _ = soundfile.read(clips / record.clip / "audio.wav", dtype="int16")
                found[clip.clip] = Stranger(
                    of[record.source],
                    record,
                    audio,
                    clip.lips_KD,
                    clip.sound_KD,
                    dataset.loud(clip.clip, SPEECH),
                )
    return [found[clip] for clip in sorted(found)]


def product_judge(network: Network) -> Judge:
    """What `syncnet` says of lips from one place and sound from another: judge(stranger, first
    window, stranger of the sound, its first window, windows)."""

    @cache
    def speech(key: str, first: int, frames: int) -> float:
        return speech_share(
            audio_of[key][first * SAMPLES_PER_FRAME :][: frames * SAMPLES_PER_FRAME]
        )

    audio_of: dict[str, NDArray[np.int16]] = {}

    def judge(seen: Stranger, first: int, heard: Stranger, at: int, windows: int) -> TrackResult:
        audio_of[heard.record.key] = heard.audio
        frames = windows + WINDOW_FRAMES - 1
        lips, sound = seen.lips_KD[first:], heard.sound_KD[at:]
        return judge_track(
            seen.video.name,
            "",
            (first / FPS, (first + frames) / FPS),
            speech(heard.record.key, at, frames),
            score_part(lips[:windows], sound[:windows], network.mode),
            network.calibration,
            network.mode,
        )

    return judge


def parts_of(windows: int) -> list[tuple[str, int, int]]:
    """The whole of a clip and its parts: (length, first window, windows), none overlapping.

    Windows overlap by four frames, so parts share no frame either.
    """
    frames = windows + WINDOW_FRAMES - 1
    parts = [(WHOLE, 0, windows)]
    for length, (least, middle) in LENGTHS.items():
        if frames >= least:
            size = min(frames, middle)
            parts += [
                (length, first, size - WINDOW_FRAMES + 1)
                for first in range(0, frames - size + 1, size)
            ]
    return parts


def ask(strangers: Sequence[Stranger], judge: Judge, seed: int = 0) -> list[Asked]:
    """Everything that is asked about the clips."""
    asked = []
    with progress("asking", len(strangers), "clips") as advance:
        for number, stranger in enumerate(strangers):
            rng = np.random.default_rng([seed, number])
            parts = parts_of(stranger.windows)
            share = {length: 1 / sum(one[0] == length for one in parts) for length, _, _ in parts}
            for length, first, windows in parts:
                answer = judge(stranger, first, stranger, first, windows)
                counted, truth, plausible = answer, stranger.video.offset, True
                if truth is None:
                    counted, move = _moved(
                        stranger, first, windows, answer.offset_frames, judge, rng
                    )
                    truth = answer.offset_frames + move
                    plausible = stranger.video.plausible(answer.offset_frames)
                asked.append(
                    Asked(
                        stranger,
                        length,
                        share[length],
                        answer.offset_frames,
                        plausible and abs(counted.offset_frames - truth) <= TOLERANCE,
                        counted.trusted,
                        _others_trusted(stranger, strangers, first, windows, judge, rng),
                    )
                )
            advance(1)
    return asked


def _moved(
    stranger: Stranger, first: int, windows: int, found: int, judge: Judge, rng: np.random.Generator
) -> tuple[TrackResult, int]:
    """The answer after the sound was moved, and by how much; where that exists in the clip."""
    move = int(rng.choice([move for move in _MOVES if abs(found + move) <= _FARTHEST]))
    # Sound that begins `move` windows later than the lips is early by as much.
    begin, end = max(first, -move), min(first + windows, stranger.windows - move)
    return judge(stranger, begin, stranger, begin + move, end - begin), move


def _others_trusted(
    stranger: Stranger,
    strangers: Iterable[Stranger],
    first: int,
    windows: int,
    judge: Judge,
    rng: np.random.Generator,
) -> float:
    """Share of trusted answers about sound of other speakers, from anywhere; nan without one."""
    others = _longer_others(stranger, strangers, windows)
    trusted = []
    for _ in range(_OTHERS if others else 0):
        other = others[int(rng.integers(len(others)))]
        at = int(rng.integers(other.windows - windows + 1))
        trusted.append(judge(stranger, first, other, at, windows).trusted)
    return float(np.mean(trusted)) if trusted else float("nan")


def _longer_others(
    stranger: Stranger, strangers: Iterable[Stranger], windows: int
) -> list[Stranger]:
    """Clips of other speakers of so many windows at least."""
    return [
        other
        for other in strangers
        if other.video.speaker != stranger.video.speaker and other.windows >= windows
    ]


@dataclass(frozen=True)
class Doubtful:
    """How a clip whose offset is unknown behaves.

    Attributes:
        of: the clip.
        halves_agree: whether the answers to its halves do, one with its sound moved.
        follows_by_chance: whether the answer to another speaker's sound follows it.
    """

    of: Stranger
    halves_agree: bool
    follows_by_chance: bool


def try_unknown(strangers: Sequence[Stranger], judge: Judge, seed: int = 0) -> list[Doubtful]:
    """The tests of clips without a known offset; those that no other speaker's sound fills are
    left out."""
    found = []
    for number, stranger in enumerate(strangers):
        rng = np.random.default_rng([seed, number, 1])
        windows = stranger.windows
        others = _longer_others(stranger, strangers, windows)
        if stranger.video.offset is not None or not others:
            continue
        half = (windows - WINDOW_FRAMES + 1) // 2  # windows overlap by four frames
        first = judge(stranger, 0, stranger, 0, half).offset_frames
        second, move = _moved(stranger, windows - half, half, first, judge, rng)
        agree = abs(second.offset_frames - first - move) <= TOLERANCE
        other = others[int(rng.integers(len(others)))]
        dubbed = replace(stranger, record=other.record, audio=other.audio, sound_KD=other.sound_KD)
        unmoved = judge(dubbed, 0, dubbed, 0, windows).offset_frames
        moved, move = _moved(dubbed, 0, windows, unmoved, judge, rng)
        follows = abs(moved.offset_frames - unmoved - move) <= TOLERANCE
        found.append(Doubtful(stranger, agree, follows))
    return found


def doubtful_shares(found: Sequence[Doubtful]) -> dict[str, Any]:
    """Shares of `Doubtful`, with intervals over speakers."""
    speakers = Sources.of([one.of.video.speaker for one in found], _RESAMPLES, 0)
    ones = np.ones(len(found))
    return {
        "clips": len(found),
        "halves_agree": _plain(speakers.ratio([one.halves_agree for one in found], ones)),
        "follows_by_chance": _plain(speakers.ratio([one.follows_by_chance for one in found], ones)),
    }


def tally(asked: Sequence[Asked]) -> dict[str, Any]:
    """Figures of some answers, shares with intervals over speakers."""
    speakers = Sources.of([one.of.video.speaker for one in asked], _RESAMPLES, 0)
    weight = np.array([one.weight for one in asked])
    right = np.array([one.right for one in asked])
    trusted = np.array([one.trusted for one in asked])
    others = np.array([one.others_trusted for one in asked])
    known = np.isfinite(others)
    return {
        "asked": len(asked),
        "clips": round(float(weight.sum())),
        "speakers": speakers.count,
        "right": _plain(speakers.ratio(weight * right, weight)),
        "trusted": _plain(speakers.ratio(weight * trusted, weight)),
        "trusted_and_wrong": int((trusted & ~right).sum()),
        "others_trusted": _plain(
            speakers.ratio(weight * np.where(known, others, 0), weight * known)
        ),
    }


def by_length(asked: Sequence[Asked]) -> dict[str, dict[str, Any]]:
    """`tally` of whole clips, of those of three seconds or more, and of each length of parts."""
    found = {}
    for length in (WHOLE, LONG, *LENGTHS):
        chosen = [one for one in asked if one.length == (WHOLE if length == LONG else length)]
        if length == LONG:
            chosen = [one for one in chosen if one.of.record.frames >= _LONG_FRAMES]
        if chosen:
            found[length] = tally(chosen)
    return found


def accuracy_by_context(asked: Sequence[Asked], mode: str) -> dict[str, Any]:
    """Within a frame from K frames of context where there is speech, every shift inside the clip.

    Where no offset is known it is held against the network's own answer about the whole clip.

    Args:
        asked: of whole clips.
    """
    measured = [_measured(one, mode) for one in asked]
    speakers = Sources.of([one.of.video.speaker for one in asked], _RESAMPLES, 0)
    return {
        f"k{context}": _plain(
            speakers.ratio(
                [clip.parts["speech"][at, 1] for clip in measured],
                [clip.parts["speech"][at, 0] for clip in measured],
            )
        )
        for at, context in enumerate(CONTEXTS)
    }


def _measured(one: Asked, mode: str) -> ClipMeasurement:
    stranger, own = one.of, one.of.video.offset
    options = replace(EvaluationOptions(), mode="masked" if mode == "masked" else "centred")
    return measure_clip(
        stranger.record,
        stranger.lips_KD,
        stranger.sound_KD,
        options,
        2 * REACH + 1,
        speech_K=stranger.loud_K,
        own=one.offset if own is None else own,
    )


def zero(asked: Sequence[Asked]) -> dict[str, Any]:
    """Where the network puts whole clips: mean offset in frames, with its interval over speakers.

    Those of GRID say where GRID's zero lies for this network, the others how far it is from theirs.
    """
    speakers = Sources.of([one.of.video.speaker for one in asked], _RESAMPLES, 0)
    offsets = [one.offset for one in asked]
    return _plain(speakers.ratio(offsets, np.ones(len(offsets)))) | {
        "smallest": min(offsets),
        "largest": max(offsets),
    }


def measure(network: Network, clips: Path, shards: Path, videos: Sequence[Video]) -> dict[str, Any]:
    """All figures of one network: by group, of all of JUDGED, and where the groups' zeros lie.

    Args:
        clips, shards: of `benchmarks.strangers.groups.prepare`.
    """
    strangers = embed_strangers(network, clips, shards, videos)
    judge = product_judge(network)
    asked = ask(strangers, judge)
    doubtful = try_unknown(strangers, judge)

    def of(*groups: Group) -> list[Asked]:
        return [one for one in asked if one.of.video.group in groups]

    present = [group for group in JUDGED if of(group)]
    whole = {group: [one for one in of(group) if one.length == WHOLE] for group in present}
    example = [one.offset for one in of("example") if one.length == WHOLE]
    return {
        "mode": network.mode,
        "parameters": sum(values.numel() for values in network.model.parameters()),
        "groups": {
            group: {
                "lengths": by_length(of(group)),
                "speech": accuracy_by_context(whole[group], network.mode),
            }
            for group in present
        },
        "all": by_length(of(*JUDGED)),
        "zero": {group: zero(whole[group]) for group in present},
        "unknown": doubtful_shares(doubtful) if doubtful else None,
        "example_224": {"official": 3, "found": example[0] if example else None},
        "clips": [
            {
                "clip": one.of.record.clip,
                "group": one.of.video.group,
                "seconds": round(one.of.record.frames / FPS, 2),
                "listed": one.of.video.offset,
                "found": one.offset,
                "right": one.right,
                "trusted": one.trusted,
            }
            for one in asked
            if one.length == WHOLE
        ],
    }


def _plain(figure: Figure) -> dict[str, Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {name: rounded(getattr(figure, name)) for name in ("value", "low", "high")}
