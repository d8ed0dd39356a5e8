"""Which shots, tracks and clips of a video are kept, and why the others are not.

A track's pictures are cut into clips, and given their sound, when the video has ended; a `Sink`
takes those that are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.clips import ClipError
from data_tools.mfcc import FPS
from data_tools.video.follow import Followed
from data_tools.video.options import PrepareOptions
from data_tools.video.record import Level, Row
from data_tools.video.sound import Sound, VideoError
from data_tools.video.speech import speech_share
from data_tools.video.stages import StageClock
from data_tools.video.tracks import Track


@dataclass(frozen=True)
class KeptClip:
    """A clip that is kept.

    Attributes:
        item: its name within the video.
        about: what clip.json says of it.
        jpegs: its frames in order.
        audio: (640 * frames,) int16 at 16 kHz.
    """

    item: str
    about: dict[str, Any]
    jpegs: Iterator[bytes]
    audio: NDArray[np.int16]


TOO_SHORT = "track too short"  # the reason of tracks of fewer frames than --min-frames
Sink = Callable[[KeptClip], None]


def track_fault(row: Row, with_sound: int, options: PrepareOptions) -> tuple[str, str]:
    """Why a track is not kept: the class that the summary counts, and in words; or two empty ones.

    with_sound: how many of its frames have sound; negative if it lies that far outside.
    """
    if with_sound < options.min_frames:
        silent = ""
        if with_sound != row.frames:
            silent = f", of which {max(with_sound, 0)} have sound,"
        words = f"track of {row.frames} frames{silent} < {options.min_frames} (--min-frames)"
        return TOO_SHORT, words
    if row.face_size is not None and row.face_size < options.min_face:
        words = f"face of {row.face_size:.0f} px < {options.min_face} (--min-face)"
        return "face too small", words
    if row.confidence is not None and row.confidence < options.min_confidence:
        words = f"confidence {row.confidence:.2f} < {options.min_confidence} (--min-confidence)"
        return "face uncertain", words
    return "", ""


def clip_fault(row: Row, options: PrepareOptions) -> tuple[str, str]:
    """Why a clip is not kept, as `track_fault`."""
    if (row.sharpness or 0) < options.min_sharpness:
        return "blurred", f"{row.sharpness} < {options.min_sharpness} (--min-sharpness)"
    if (row.speech or 0) < options.min_speech:
        found = "speech not measured" if row.speech is None else f"speech in {row.speech:.0%}"
        words = f"{found} < {options.min_speech:.0%} (--min-speech)"
        return "little speech", words
    return "", ""


def sum_up(rows: list[Row], options: PrepareOptions) -> tuple[str, str]:
    """Reason and words for something of which every track was dropped."""
    tracks = [row for row in rows if row.level == "track"]
    if not tracks:
        return "no face", "no face found"
    counts = Counter(row.reason for row in tracks)
    words = []
    for reason, count in counts.most_common():
        own = [row for row in tracks if row.reason == reason]
        if reason == TOO_SHORT:
            case = max(own, key=lambda row: row.frames).detail.removesuffix(" (--min-frames)")
        elif reason == "face too small":
            largest = max(row.face_size or 0 for row in own)
            case = f"largest face {largest:.0f} px < {options.min_face}"
        else:
            case = own[0].detail
        words.append(f"{count} x {reason} ({case})")
    return "no usable face", ", ".join(words)


class Verdicts:
    """Judges what was followed through a video, and hands over the clips that are kept.

    Args:
        name: of the video.
        sink: takes the clips; one that it refuses by a `ClipError` is not kept.
        sound: all of the video's.
        origin: presentation time of picture 0, seconds.
        clock: told of the stages speech and write.
        beat: called before each clip.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        options: PrepareOptions,
        followed: Followed,
        sound: Sound,
        origin: Fraction,
        clock: StageClock,
        beat: Callable[[], None],
    ) -> None:
        self._name, self._sink, self._options = name, sink, options
        self._followed = followed
        self._sound, self._origin = sound, origin
        self._clock, self._beat = clock, beat

    def rows(self, notes: list[str]) -> list[Row]:
        """The rows of the report: the video's first, then each shot's with its tracks and clips.

        notes: what else the video's row says, in words.

        Raises:
            VideoError: there is no sound beside the picture.
        """
        span = self._sound.span(self._origin)
        end = self._followed.shots[-1][1]
        if span[0] == span[1] or span[0] >= end or span[1] <= 0:
            raise VideoError("no sound", "the audio stream holds no sound beside the picture")
        below: list[Row] = []
        for shot, (first, last) in enumerate(self._followed.shots):
            below += self._shot_rows(shot, first, last, span)
        kept = any(row.kept for row in below)
        reason, detail = ("", "") if kept else sum_up(below, self._options)
        video = replace(
            self._row("video", "", 0, end),
            frames=self._followed.pictures,
            kept=kept,
            reason=reason,
            detail="; ".join(filter(None, [detail, *notes])),
        )
        return [video, *below]

    def _row(self, level: Level, item: str, first: int, end: int, **more: Any) -> Row:
        return Row(self._name, level, item, first / FPS, end / FPS, end - first, False, **more)

    def _shot_rows(self, shot: int, first: int, end: int, span: tuple[int, int]) -> list[Row]:
        tracks = [track for track in self._followed.tracks if track.shot == shot]
        rows = [row for track in tracks for row in self._track_rows(track, span)]
        kept = any(row.kept for row in rows)
        reason = detail = ""
        if not tracks:
            reason, detail = "no face", "no face found in the shot"
        elif not kept:
            reason, detail = sum_up(rows, self._options)
        row = self._row("shot", f"shot {shot}", first, end)
        return [replace(row, kept=kept, reason=reason, detail=detail), *rows]

    def _track_rows(self, track: Track, span: tuple[int, int]) -> list[Row]:
        crops = self._followed.crops[track.number]
        first, end = max(track.first, span[0]), min(track.last + 1, span[1])
        confidence = face_size = None
        if track.faces:  # of a picture that is taken as a whole nothing is known of the face
            boxes = np.array([face.box for face in track.faces])
            face_size = round(float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1))), 1)
            confidence = round(float(np.mean([face.score for face in track.faces])), 3)
        row = self._row(
            "track",
            f"track {track.number}",
            track.first,
            track.last + 1,
            confidence=confidence,
            face_size=face_size,
            sharpness=_median(crops.sharpness, track.first, track.last + 1),
        )
        reason, detail = track_fault(row, end - first, self._options)
        if reason:
            return [replace(row, reason=reason, detail=detail)]
        clips = self._clip_rows(track, row, first, end)
        if any(clip.kept for clip in clips):
            return [replace(row, kept=True), *clips]
        detail = f"every clip of it: {clips[0].detail}"
        return [replace(row, reason=clips[0].reason, detail=detail), *clips]

    def _clip_rows(self, track: Track, whole: Row, first: int, end: int) -> list[Row]:
        """Cut a track into clips of equal length, none longer than allowed, and write them."""
        crops = self._followed.crops[track.number]
        longest = max(1, int(self._options.max_clip * FPS))
        pieces = -(-(end - first) // longest)
        edges = [first + (end - first) * piece // pieces for piece in range(pieces + 1)]
        rows = []
        for piece, (begin, stop) in enumerate(pairwise(edges)):
            self._beat()
            sharp = _median(crops.sharpness, begin, stop)
            self._clock.lap("write")
            audio = self._sound.read(begin, stop - begin, self._origin)
            speech = None
            if not self._options.no_speech:
                speech = round(speech_share(audio), 3)
                self._clock.lap("speech")
            row = self._row(
                "clip",
                f"{track.number:03d}-{piece:02d}",
                begin,
                stop,
                confidence=whole.confidence,
                face_size=whole.face_size,
                sharpness=sharp,
                speech=speech,
            )
            reason, detail = clip_fault(row, self._options)
            row = replace(row, kept=not reason, reason=reason, detail=detail)
            if row.kept:
                try:
                    self._write_clip(track, row, range(begin, stop), audio)
                except ClipError as error:
                    row = replace(row, kept=False, reason=error.reason, detail=error.detail)
            rows.append(row)
        return rows

    def _write_clip(
        self, track: Track, row: Row, pictures: range, audio: NDArray[np.int16]
    ) -> None:
        crops = self._followed.crops[track.number]
        about = {
            "source": self._name,
            "shot": track.shot,
            "track": track.number,
            "start_seconds": row.start_seconds,
            "end_seconds": row.end_seconds,
            "frames": row.frames,
            "repeated_frames": sum(index in pictures for index in crops.held),
            "crop": self._options.crop,
            "confidence": row.confidence,
            "face_size": row.face_size,
            "sharpness": row.sharpness,
            "speech": row.speech,
        }
        self._sink(KeptClip(row.item, about, crops.read(pictures), audio))


def _median(values: dict[int, float], begin: int, end: int) -> float | None:
    inside = [value for index, value in values.items() if begin <= index < end]
    return round(float(np.median(inside)), 1) if inside else None
