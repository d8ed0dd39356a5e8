"""Videos whose offset changes at a known moment or drifts at a known rate, made from others.

Sound is moved sample by sample and embedded anew; pictures are cut and what spans the cut is
embedded anew. So a track need not be decoded again for every change that is planted in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import soundfile
import torch
from numpy.typing import NDArray

from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, WINDOW_FRAMES
from data_tools.synth.clips import render_clip
from data_tools.video.speech import speech_share
from trainer.model.network import Network
from trainer.score.centred import score_centred_in_pieces
from trainer.score.embed import embed_lips, embed_sound, features
from trainer.score.scoring import REACH
from trainer.score.trust import TrackResult, judge_track

BEYOND = 240  # samples that the last window reaches beyond the last frame
_AT_ONCE = 25  # frames


@dataclass(frozen=True)
class Take:
    """A track as it was recorded.

    Attributes:
        name, group: of its video.
        frames_NHW: gray mouths, uint8.
        lips_KD: their embeddings.
        audio: int16 at 16 kHz, as long as the pictures.
    """

    name: str
    group: str
    frames_NHW: NDArray[np.uint8]
    lips_KD: torch.Tensor
    audio: NDArray[np.int16]

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.frames_NHW) / FPS

    def part(self, first: int, last: int) -> "Take":
        """Frames `first` to `last`, the latter not among them."""
        return Take(
            self.name,
            self.group,
            self.frames_NHW[first:last],
            self.lips_KD[first : last - WINDOW_FRAMES + 1],
            self.audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME],
        )

    @property
    def moments(self) -> NDArray[np.float64]:
        """(samples,) when each sample is heard, seconds."""
        return np.arange(len(self.audio)) / SAMPLE_RATE

    def heard(self, early: NDArray[np.floating] | float) -> "Take":
        """The same with its sound early by so many frames at each sample, late where negative."""
        at = np.arange(len(self.audio), dtype=float)
        sound = np.interp(at + SAMPLES_PER_FRAME * early, at, self.audio, left=0, right=0)
        return Take(
            self.name, self.group, self.frames_NHW, self.lips_KD, np.rint(sound).astype(np.int16)
        )

    def cut(self, network: Network, at: int, frames: int) -> "Take":
        """The same without so many of its pictures from `at` on: the sound is late from there."""
        span = WINDOW_FRAMES - 1
        kept = np.concatenate([self.frames_NHW[:at], self.frames_NHW[at + frames :]])
        seam = embed_lips(network.model, [kept[at - span : at + span, :, :, None]])
        lips = torch.cat([self.lips_KD[: at - span], seam, self.lips_KD[at + frames :]])
        sound = self.audio[: len(kept) * SAMPLES_PER_FRAME]
        return Take(self.name, self.group, kept, lips, sound)

    def speech_seconds(self, begin: float, end: float) -> float:
        """How long there is speech between two moments."""
        part = self.audio[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        return speech_share(part) * len(part) / SAMPLE_RATE


def pause(take: Take, moment: float) -> tuple[float, float]:
    """Between which seconds nobody speaks around a moment; the moment itself where somebody does.

    A frame is silent whose power lies 30 dB below that of the loud ones (the 95th percentile)).
    """
    frames = take.audio[: len(take.audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    power_T = (frames.reshape(-1, SAMPLES_PER_FRAME).astype(float) ** 2).mean(1)
    silent_T = power_T < 1e-3 * np.quantile(power_T, 0.95)
    at = min(round(moment * FPS), len(silent_T) - 1)
    # The moment is between two frames.
    loud_before = np.flatnonzero(~silent_T[:at])
    loud_behind = np.flatnonzero(~silent_T[at:])
    begin = (loud_before[-1] + 1) / FPS if len(loud_before) else 0.0
    end = (at + loud_behind[0]) / FPS if len(loud_behind) else take.seconds
    return min(begin, moment), max(end, moment)


def measure(take: Take, network: Network) -> TrackResult:
    """What `syncnet` says of a track."""
    sound_KD = embed_sound(network.model, features(np.pad(take.audio, (0, BEYOND))))
    count = min(len(take.lips_KD), len(sound_KD))
    lips_KD, sound_KD = take.lips_KD[:count], sound_KD[:count]
    score = score_centred_in_pieces([lips_KD], [sound_KD], REACH, count, follow=True)
    span = 0.0, take.seconds
    share = speech_share(take.audio)
    return judge_track(take.name, "", span, share, score, network.calibration, "centred")


def read_take(name: str, group: str, clips: Sequence[Path], network: Network) -> Take:
    """Clips of one speaker, one after the other."""
    read = [_read(clip) for clip in clips]
    frames = np.concatenate([frames for frames, _ in read])
    return _take(name, group, frames, np.concatenate([audio for _, audio in read]), network)


def alike(clips: Sequence[Path], network: Network) -> list[Path]:
    """Those clips of a speaker whose own offset is the most frequent among them.

    Joined, clips of several offsets would jump by themselves.
    """
    own = [measure(read_take(clip.name, "", [clip], network), network) for clip in clips]
    offsets = [track.offset_frames for track in own]
    usual = max(set(offsets), key=offsets.count)
    return [clip for clip, offset in zip(clips, offsets, strict=True) if offset == usual]


def head(seed: int, seconds: float, network: Network) -> Take:
    """A synthetic head."""
    rng = np.random.default_rng(seed)
    size = network.model.preset.size
    pictures, audio = render_clip(rng, round(seconds * FPS), size)
    gray = np.rint(pictures @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return _take(f"head {seed}", "heads", gray, audio, network)


def _read(clip: Path) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """The gray frames of a clip in the seed's layout, and its sound, as long as they are."""
    count = len(list((clip / "frames").glob("frame*.jpg")))
    names = [clip / "frames" / f"frame{number}.jpg" for number in range(count)]
    frames = [simplejpeg.decode_jpeg(name.read_bytes(), "GRAY")[:, :, 0] for name in names]
    audio, _ = soundfile.read(clip / "audio.wav", dtype="int16")
    samples = count * SAMPLES_PER_FRAME
    return np.stack(frames), np.pad(audio, (0, max(0, samples - len(audio))))[:samples]


def _take(
    name: str,
    group: str,
    frames_NHW: NDArray[np.uint8],
    audio: NDArray[np.int16],
    network: Network,
) -> Take:
    pieces = (
        frames_NHW[first : first + _AT_ONCE, :, :, None]
        for first in range(0, len(frames_NHW), _AT_ONCE)
    )
    return Take(name, group, frames_NHW, embed_lips(network.model, pieces), audio)
