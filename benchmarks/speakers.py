"""Which of two faces speaks?  python -m benchmarks.speakers --data DIR --work DIR --heads BEST

Two faces side by side, with the sound of one of them, of the first and then of the second, or of
neither: put together from single-face recordings, whose lips are all moving. Each face is measured
against the sound as `syncnet` measures a track, and `trainer.score.speaking` says who speaks. Right
is who was put there; an answer about the face that does not speak is wrong, no answer is "not
sure". With --videos some are also written as videos, side by side, and measured from the file on.

Clips: all of speakers that no network was trained on (benchmarks.strangers.groups), GRID's short
ones joined; with --heads, synthetic heads, by a network of their own. The thresholds of
`trainer.score.speaking` were chosen on the 8 s pairs of "talking" and GRID; all others are new.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import simplejpeg
import torch
from jsonargparse import Namespace
from numpy.typing import NDArray

from benchmarks.changes import strangers
from benchmarks.markdown import table
from benchmarks.options import command_line, run
from benchmarks.planted import BEYOND, Take, head
from benchmarks.result import report
from benchmarks.strangers.groups import listed
from benchmarks.videos import write_video
from data_tools.errors import UsageError
from data_tools.mfcc import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.progress import progress
from trainer.model.network import Network, load_network
from trainer.model.weights import find_weights
from trainer.score.centred import score_centred_in_pieces
from trainer.score.embed import embed_sound, features
from trainer.score.faces import measure_faces
from trainer.score.options import MeasureOptions
from trainer.score.scoring import REACH
from trainer.score.speaking import tell_speakers
from trainer.score.trust import TrackResult, judge_track

SECONDS = (8.0, 5.0)
WORDS = {
    "one": "one of two speaks",
    "turns": "each speaks for half of it",
    "none": "a third one speaks, who is not seen",
    "videos": "one of two speaks, from the video file on",
}
GROUPS = {
    "talking": "videos from the wild",
    "grid": "GRID, new speakers, joined",
    "talkvid": "TalkVid",
    "example": "the official clip",
    "heads": "synthetic heads",
    "mixed": "of two groups",
}
_MOST_PAIRS = 100  # of a length and a network, drawn from all
_MOST_THIRDS = 1  # voices of others, for each pair
_SIDE = 360  # pixels of a face's half of a video


@dataclass
class Tally:
    """What was said of the pairs of one kind.

    Attributes:
        pairs: how many.
        right: said of everybody who speaks that they speak, of nobody else.
        wrong: said of one who does not speak that they do.
        shares: of the windows, of those who speak throughout.
    """

    pairs: int = 0
    right: int = 0
    wrong: int = 0
    shares: list[float] | None = None

    def add(self, tracks: Sequence[TrackResult], speak: set[int]) -> None:
        """Count what was said of tracks, of which those numbered `speak` do."""
        said = {
            number
            for number, track in enumerate(tracks)
            if track.speaking and track.speaking.role == "speaks"
        }
        self.pairs += 1
        self.right += said == speak
        self.wrong += bool(said - speak)
        shares = [each.speaking.share for each in tracks if each.speaking]
        if len(speak) == 1 and len(shares) > max(speak):
            self.shares = [*(self.shares or []), shares[next(iter(speak))]]

    def figures(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pairs": self.pairs,
            "right": _share(self.right, self.pairs),
            "not_sure": _share(self.pairs - self.right - self.wrong, self.pairs),
            "wrong": _share(self.wrong, self.pairs),
            "median_share": round(float(np.median(self.shares)), 3) if self.shares else None,
        }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def pieces(takes: Sequence[Take], seconds: float) -> list[Take]:
    """Parts of takes of just so long, one after the other."""
    frames = round(seconds * FPS)
    return [
        take.part(first, first + frames)
        for take in takes
        for first in range(0, len(take.frames_NHW) - frames + 1, frames)
    ]


class Pairs:
    """What is said of faces that are seen with a sound; each sound is embedded once.

    Args:
        network: that measures.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._sounds: dict[str, torch.Tensor] = {}

    def told(
        self, faces: Sequence[Take], audio: NDArray[np.int16], name: str = ""
    ) -> list[TrackResult]:
        """What is said of them.

        name: of the sound, if it is asked about again.
        """
        sound_LD = self._sounds.get(name)
        if sound_LD is None:
            padded = np.pad(audio, (0, BEYOND))
            sound_LD = embed_sound(self._network.model, features(padded))
            if name:
                self._sounds[name] = sound_LD
        return tell_speakers([self._track(face, sound_LD) for face in faces])

    def _track(self, face: Take, sound_LD: torch.Tensor) -> TrackResult:
        lips_KD = face.lips_KD
        score = score_centred_in_pieces([lips_KD], [sound_LD], REACH, len(lips_KD), follow=True)
        span, calibration = (0.0, face.seconds), self._network.calibration
        return judge_track("pair", face.name, span, 1.0, score, calibration, "centred")


def judge(
    clips: Sequence[Take], speakers: dict[str, str], network: Network, tallies: dict[Any, Tally]
) -> None:
    """Every pair of speakers, with the sound of one, of both in turns, and of a third.

    Args:
        clips: of one length.
        speakers: who speaks in each, by the take's name.
        tallies: by kind and group; added to.
    """
    rng = np.random.default_rng(20)
    pairs = [
        (one, two)
        for one, two in permutations(range(len(clips)), 2)
        if speakers[clips[one].name] != speakers[clips[two].name]
    ]
    pairs = [pairs[place] for place in rng.permutation(len(pairs))[:_MOST_PAIRS]]
    told = Pairs(network).told
    with progress("who speaks", len(pairs), "pairs") as advance:
        for one, two in pairs:
            group = clips[one].group if clips[one].group == clips[two].group else "mixed"
            faces = clips[one], clips[two]

            def add(kind: str, said: list[TrackResult], speak: set[int], of: str = group) -> None:
                tallies.setdefault((kind, of), Tally()).add(said, speak)

            add("one", told(faces, clips[one].audio, str(one)), {0})
            half = len(clips[one].audio) // 2
            turns = np.concatenate([clips[one].audio[:half], clips[two].audio[half:]])
            add("turns", told(faces, turns), {0, 1})
            own = {speakers[face.name] for face in faces}
            thirds = [n for n, other in enumerate(clips) if speakers[other.name] not in own]
            for place in rng.permutation(len(thirds))[:_MOST_THIRDS]:
                third = thirds[place]
                add("none", told(faces, clips[third].audio, str(third)), set())
            advance(1)


def decoded(path: Path, seconds: float) -> tuple[NDArray[np.uint8], NDArray[np.int16]] | None:
    """The first so many seconds of a video as square pictures at 25 a second, and its sound.

    None where it is shorter.
    """
    frames: list[NDArray[np.uint8]] = []
    parts: list[NDArray[np.int16]] = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        last: Any = None
        for frame in container.decode(video=0, audio=0):
            if isinstance(frame, av.AudioFrame):
                parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            elif isinstance(frame, av.VideoFrame) and len(frames) < seconds * FPS:
                while last is not None and frame.time and len(frames) / FPS < frame.time:
                    frames.append(last)
                height, width = frame.height, frame.width
                picture = frame.to_ndarray(format="rgb24")
                side = min(height, width)
                top, left = (height - side) // 2, (width - side) // 2
                square = picture[top : top + side, left : left + side]
                last = np.asarray(cv2.resize(square, (_SIDE, _SIDE)), np.uint8)
    sound = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    count = round(seconds * FPS)
    if len(frames) < count or len(sound) < count * SAMPLES_PER_FRAME:
        return None
    return np.stack(frames[:count]), sound[: count * SAMPLES_PER_FRAME]


def from_videos(takes: Sequence[Take], data: Path, seconds: float, network: Network) -> Tally:
    """What `syncnet` says of videos of two faces side by side, with the sound of either.

    Args:
        takes: of which each is put beside the next; shorter ones are left out.
        data: folder of their videos.
    """
    files = {video.name: data / video.path for video in listed()}
    clips = [
        (take, clip)
        for take in takes
        if (clip := decoded(files[take.name.split()[0]], seconds)) is not None
    ]
    tally = Tally()
    with progress("videos", 2 * len(clips), "videos") as advance:
        for number, (left, (left_NHWC, left_sound)) in enumerate(clips):
            right, (right_NHWC, right_sound) = clips[(number + 1) % len(clips)]
            pictures = np.concatenate([left_NHWC, right_NHWC], 2)
            for speaker, sound in ((left, left_sound), (right, right_sound)):
                with tempfile.TemporaryDirectory(prefix="speakers-") as folder:
                    path = Path(folder) / "pair.mp4"
                    write_video(path, pictures, sound, (2 * _SIDE, _SIDE))
                    tracks, _ = measure_faces(path, network, MeasureOptions(), Path(folder))
                    faces = [_whose(Path(folder), track.track, (left, right)) for track in tracks]
                tally.add(tracks, {n for n, face in enumerate(faces) if face is speaker})
                advance(1)
    return tally


def _whose(work: Path, track: str, takes: Sequence[Take]) -> Take:
    """Whose mouth a track shows: the take that it looks most like."""
    names = sorted((work / "video").glob(f"{track}-*/frames/frame?.jpg"))
    own = np.mean([simplejpeg.decode_jpeg(name.read_bytes(), "GRAY") for name in names], 0)[:, :, 0]
    means = [take.frames_NHW[:10].mean(0) for take in takes]
    alike = [np.corrcoef(own.ravel(), mean.ravel())[0, 1] for mean in means]
    return takes[int(np.argmax(alike))]


def measure_all(
    takes: Sequence[tuple[Take, Network]], speakers: dict[str, str], seconds: Sequence[float]
) -> dict[str, Any]:
    """Figures of every length, kind and group."""
    lengths: dict[str, Any] = {}
    for length in seconds:
        tallies: dict[tuple[str, str], Tally] = {}
        for network in dict.fromkeys(network for _, network in takes):
            own = pieces([take for take, its in takes if its is network], length)
            judge(own, speakers, network, tallies)
        kinds: dict[str, Any] = {}
        for (kind, group), tally in sorted(tallies.items()):
            kinds.setdefault(kind, {})[group] = tally.figures()
            every = Tally(
                *(
                    sum(getattr(each, name) for (its, _), each in tallies.items() if its == kind)
                    for name in ("pairs", "right", "wrong")
                )
            )
            kinds[kind]["all"] = every.figures()
        lengths[f"{length:g}"] = kinds
    return lengths


def readme(result: dict[str, Any]) -> str:
    """Who was named, by length and kind."""
    rows = []
    for length, kinds in result["lengths"].items():
        for kind in (kind for kind in WORDS if kind in kinds):
            for group in [*(group for group in GROUPS if group in kinds[kind]), "all"]:
                if kind == "one" or group == "all":
                    rows.append(_row(f"{length} s", kind, group, kinds[kind][group]))
    if result.get("videos"):
        rows.append(_row("8 s", "videos", "talking", result["videos"]))
    header = ["clips", "two faces", "of", "pairs", "right", "not sure", "wrong", "share"]
    return table(header, rows) + (
        "\nSingle-face recordings side by side with one sound; all faces move their lips. Right: "
        "those who speak are said to, and nobody else. Wrong: one who does not speak is said to. "
        "Share: of the time in which the speaker fits best, the median. The thresholds were chosen "
        "on the 8 s pairs of the wild videos and GRID.\n"
    )


def _row(length: str, kind: str, group: str, figures: dict[str, Any]) -> list[str]:
    words = "**all**" if group == "all" else GROUPS[group]
    share = figures["median_share"]
    return [
        *(length, WORDS[kind], words, str(figures["pairs"])),
        *(f"{figures[name]:.1%}" for name in ("right", "not_sure", "wrong")),
        "" if share is None else f"{share:.0%}",
    ]


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 bad data, 2 wrong usage."""
    parser = command_line("speakers", __doc__, cache=False)
    parser.add_argument("--data", type=Path, help="folder of the strangers' videos")
    parser.add_argument("--work", type=Path, help="folder of what is made of them once")
    parser.add_argument("--heads", type=Path, help="weights of the demonstration")
    parser.add_argument("--weights", type=find_weights, help="default: the package's")
    parser.add_argument(
        "--videos",
        action="store_true",
        help="also write videos of the wild ones side by side, and measure those",
    )
    return run("speakers", parser, argv, _measure)


def _measure(args: Namespace) -> None:
    if (args.data is None) != (args.work is None):
        raise UsageError("--data and --work go together")
    if not (args.data or args.heads):
        raise UsageError("--data or --heads must be given")
    if args.videos and not args.data:
        raise UsageError("--videos needs --data")
    network = load_network(args.weights, "cpu")
    takes: list[tuple[Take, Network]] = []
    speakers = {}
    if args.data:
        takes += [(take, network) for take in strangers(args.data, args.work, network)]
        known = {video.name: video.speaker for video in listed()}
        speakers = {take.name: known.get(take.name.split()[0], take.name) for take, _ in takes}
    if args.heads:
        own = load_network(args.heads, "cpu")
        for number in range(3 if args.quick else 12):
            take = head(2_100_000 + number, 8.0, own)
            takes.append((take, own))
            speakers[take.name] = take.name
    seconds = SECONDS[-1:] if args.quick else SECONDS
    result: dict[str, Any] = {"lengths": measure_all(takes, speakers, seconds), "videos": None}
    if args.videos:
        wild = [take for take, _ in takes if take.group == "talking"]
        result["videos"] = from_videos(wild, args.data, 8.0, network).figures()
    report("speakers", result, args.json, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
