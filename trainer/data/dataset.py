"""The clips of one split, over all of its shards: what the loader slices frames and sound from."""

import ctypes
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from mmap import MADV_WILLNEED, PAGESIZE
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.jpeg import MAX_SIDE, jpeg_size
from data_tools.manifest import ClipRecord, ShardError
from data_tools.mfcc import CEPSTRA, COLUMNS_PER_FRAME, WINDOW_COLUMNS, window_count
from data_tools.shards import Shard, open_shards
from trainer.data.sampler import Segments

# Natural logarithm: 40 dB below a clip's loud parts there is no speech.
_QUIET = 40 / 10 * np.log(10)
# Beginnings of JPEGs, up to their size, that are worth remembering.
_LONG_HEAD, _MANY_HEADS = 2048, 1000
_NO_JPEG = np.zeros(1, np.uint8)


Keep = Mapping[str, int]


class Dataset:
    """Frames and MFCC of all clips of a split, numbered through the shards of one set or several.

    Args:
        folder, split: the shards; of several sets, a folder for each.
        keep: clips to use, each with the offset in frames by which its sound is early: picture and
            sound are numbered from where both, so aligned, exist. None: all, as they are. Of
            several sets, one for each.

    Attributes:
        folders: one a set.
        keys: one a clip; clips of two sets may have the same (see `name`).
        sets: (clips,) int64, the number of each clip's set, 0 on.
        used: (clips,) bool, whether `keep` lets the clip through.
        windows: (clips,) int64, 5-frame windows in each clip; 0 for a clip that is not used.
        frame_shapes: (height, width, channels) -> clips that have it.

    Raises:
        ShardError: shards are missing or damaged (all named), or the split of a set holds no clip.
    """

    def __init__(
        self,
        folder: Path | Sequence[Path],
        split: str,
        keep: Keep | Sequence[Keep | None] | None = None,
    ) -> None:
        self.folders = (folder,) if isinstance(folder, Path) else tuple(folder)
        by_set = [_open_set(each, split) for each in self.folders]
        self.shards: list[Shard] = [shard for shards in by_set for shard in shards]
        self.keys = [key for shard in self.shards for key in shard.keys]
        clips = [sum(len(shard.keys) for shard in shards) for shards in by_set]
        self.sets = np.repeat(np.arange(len(clips)), clips)
        counts = [len(shard.keys) for shard in self.shards]
        self._shard = np.repeat(np.arange(len(counts)), counts)
        self._first_clip = np.cumsum([0, *counts])
        frames = [int(shard.first_frame[-1]) for shard in self.shards]
        base = np.cumsum([0, *frames])
        self._first_frame = np.concatenate(
            [shard.first_frame[:-1] + base[i] for i, shard in enumerate(self.shards)]
        )
        self._offset = np.concatenate([shard.offset for shard in self.shards])
        self._end = self._offset + np.concatenate([shard.size for shard in self.shards])
        records = [record for shard in self.shards for record in shard.records]
        self.frames = np.array([record.frames for record in records])
        self._columns = np.array([record.columns for record in records])
        kept = _kept(by_set, keep)
        self.used = np.array([offset is not None for offset in kept])
        early = np.array([offset or 0 for offset in kept])
        # Sound that is early by k frames: frame k goes with the sound's beginning.
        self._skip_frames, self._skip_sound = np.maximum(early, 0), np.maximum(-early, 0)
        self.windows = np.where(self.used, self._windows(records), 0)
        self._loud: dict[int, float] = {}
        self.frame_shapes = Counter(map(_frame_shape, records))
        self._tallest = min(MAX_SIDE, max(height for height, _, _ in self.frame_shapes))
        self._widest = min(MAX_SIDE, max(width for _, width, _ in self.frame_shapes))
        self._doubtful = np.ones(len(self._offset), np.bool_)  # frames: not looked at, or too large
        self._heads: dict[int, frozenset[bytes]] = {}  # by their length

    def _windows(self, records: list[ClipRecord]) -> NDArray[np.int64]:
        """(clips,) windows of picture with sound, from where both exist."""
        skipped = zip(self._skip_frames.tolist(), self._skip_sound.tolist(), strict=True)
        return np.array(
            [
                window_count(record.frames - lips, record.columns - COLUMNS_PER_FRAME * sound)
                for record, (lips, sound) in zip(records, skipped, strict=True)
            ]
        )

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, clip: int) -> str:
        """A clip's key; of several sets, "<set>/<key>" with the set's number from 1 on.

        So a name is one clip's alone, and the same wherever the shards lie.
        """
        key = self.keys[clip]
        return key if len(self.folders) == 1 else f"{self.sets[clip] + 1}/{key}"

    def shapes_of(self, number: int) -> Counter[tuple[int, int, int]]:
        """As `frame_shapes`, of one set."""
        chosen = np.flatnonzero(self.sets == number).tolist()
        records = [record for shard in self.shards for record in shard.records]
        return Counter(_frame_shape(records[clip]) for clip in chosen)

    @cached_property
    def _bytes(self) -> list[NDArray[np.uint8]]:
        return [shard.bytes for shard in self.shards]

    def jpegs(self, segments: Segments, sample_frames: int) -> list[NDArray[np.uint8]]:
        """The JPEGs of all segments, frame by frame: N * sample_frames views, nothing is copied.

        A JPEG that is larger than any frame of the records, and would take memory to match, is
        given as bytes that no decoder takes.
        """
        frame = self.first_frames(segments)[:, None] + np.arange(sample_frames)
        begin = self._offset[frame].ravel().tolist()
        end = self._end[frame].ravel().tolist()
        shard = np.repeat(self._shard[segments.clip], sample_frames).tolist()
        tars = self._bytes
        views = [tars[s][b:e] for s, b, e in zip(shard, begin, end, strict=True)]
        frame = frame.ravel()
        doubtful = self._doubtful[frame]
        if doubtful.any():
            for at in self._too_large(frame, views, np.flatnonzero(doubtful).tolist()):
                views[at] = _NO_JPEG
        return views

    def _too_large(
        self, frame: NDArray[np.int64], views: list[NDArray[np.uint8]], left: list[int]
    ) -> list[int]:
        """Which of the JPEGs at the places `left` are larger than the records say.

        The others are not asked about again. An encoder begins all frames of a size alike, so that
        nearly always a look-up does: reading every header would cost several times as much, and so
        would DALI's own look at them.
        """
        found = []
        fit = np.array(left)
        for length, heads in self._heads.items():
            left = [at for at in left if views[at][:length].tobytes() not in heads]
        for at in left:
            size = jpeg_size(views[at])
            if size is None or size[0] > self._tallest or size[1] > self._widest:
                found.append(at)
            elif size[2] < _LONG_HEAD:
                length = size[2]
                heads = self._heads.get(length, frozenset())
                if len(heads) < _MANY_HEADS:
                    # A new dict: another loader may be going through the former one.
                    head = views[at][:length].tobytes()
                    self._heads = {**self._heads, length: heads | {head}}
        self._doubtful[frame[fit]] = False
        self._doubtful[frame[found]] = True
        return found

    def first_frames(self, segments: Segments) -> NDArray[np.int64]:
        """(N,) int64: the first frame of each segment, counted over all shards."""
        first: NDArray[np.int64] = self._first_frame[segments.clip] + segments.start
        return first + self._skip_frames[segments.clip]

    def mfcc(self, segments: Segments, audio_frames: int, columns: int) -> NDArray[np.float32]:
        """(N, columns, 13) float32: the sound of `audio_frames` frames from `audio_start` on.

        Where segments have a second sound, each gives half of the frames. Zero outside the clip,
        and in the columns past 4 * audio_frames.
        """
        sound = np.zeros((len(segments), columns, CEPSTRA), dtype=np.float32)
        starts = [segments.audio_start]
        if segments.false_start is not None:
            starts.append(segments.false_start)
        span = COLUMNS_PER_FRAME * audio_frames // len(starts)
        for piece, first in enumerate(starts):
            at = COLUMNS_PER_FRAME * (first + self._skip_sound[segments.audio_clip])
            self._fill(sound[:, piece * span : (piece + 1) * span], segments.audio_clip, at)
        return sound

    def _fill(
        self, sound: NDArray[np.float32], clips: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> None:
        span = sound.shape[1]
        within = (starts >= 0) & (starts + span <= self._columns[clips])
        # A plain copy from the mapped tar, for nearly all of them: arrays cost several times more.
        row_bytes = 4 * span * CEPSTRA
        target = (sound.ctypes.data + np.arange(len(sound)) * sound.strides[0])[within]
        source = self._sound_at[clips[within]] + 4 * CEPSTRA * starts[within]
        for to, begin in zip(target.tolist(), source.tolist(), strict=True):
            ctypes.memmove(to, begin, row_bytes)
        outside = np.flatnonzero(~within)
        rows = zip(outside.tolist(), clips[outside].tolist(), starts[outside].tolist(), strict=True)
        for row, clip, start in rows:
            features = self._features(clip)
            begin, end = max(start, 0), min(start + span, len(features))
            if end > begin:
                sound[row, begin - start : end - start] = features[begin:end]

    @cached_property
    def _sound_at(self) -> NDArray[np.int64]:
        """(clips,) int64: where in memory each clip's features begin."""
        of_clips = [
            shard.mfcc(clip).ctypes.data for shard in self.shards for clip in range(len(shard.keys))
        ]
        return np.array(of_clips, np.int64)

    def _features(self, clip: int) -> NDArray[np.float32]:
        shard = self._shard[clip]
        return self.shards[shard].mfcc(clip - self._first_clip[shard])

    def quiet(
        self, segments: Segments, sound_NFC: NDArray[np.float32], columns: int
    ) -> NDArray[np.bool_]:
        """(N, W) bool: which windows of `mfcc`'s first `columns` columns hold no sound to go by.

        That is 40 dB below the clip's loud parts throughout. W windows, one every 4 columns.
        """
        if columns < WINDOW_COLUMNS:
            return np.zeros((len(segments), 0), np.bool_)
        level = np.array([self._loudness(clip) for clip in segments.audio_clip.tolist()]) - _QUIET
        below = sound_NFC[:, :columns, 0] < level[:, None]
        windows = np.lib.stride_tricks.sliding_window_view(below, WINDOW_COLUMNS, axis=1)
        return np.asarray(windows[:, ::COLUMNS_PER_FRAME].all(-1))

    def loud(self, clip: int, decibels: float) -> NDArray[np.bool_]:
        """(windows,) bool: which windows of a clip are louder than so far below its loud parts."""
        count = int(self.windows[clip])
        frames = count + WINDOW_COLUMNS // COLUMNS_PER_FRAME - 1
        one, none = np.array([clip]), np.array([0])
        columns = COLUMNS_PER_FRAME * frames
        energy = self.mfcc(Segments(one, none, one, none, one), frames, columns)[0, :, 0]
        above = energy >= self._loudness(clip) - decibels / 10 * np.log(10)
        windows = np.lib.stride_tricks.sliding_window_view(above, WINDOW_COLUMNS)
        return np.asarray(windows[::COLUMNS_PER_FRAME][:count].any(-1))

    def _loudness(self, clip: int) -> float:
        if clip not in self._loud:
            # c0 is the logarithm of a column's energy
            self._loud[clip] = float(np.percentile(self._features(clip)[:, 0], 90))
        return self._loud[clip]

    def advise(self, segments: Segments, sample_frames: int) -> None:
        """Ask the kernel to read the segments ahead: one range each, since frames lie in a row."""
        first = self.first_frames(segments)
        begin = self._offset[first] // PAGESIZE * PAGESIZE
        length = self._end[first + sample_frames - 1] - begin
        shards = self._shard[segments.clip].tolist()
        for shard, at, size in zip(shards, begin.tolist(), length.tolist(), strict=True):
            self.shards[shard].map.madvise(MADV_WILLNEED, at, size)

    def frame_name(self, clip: int, frame: int) -> str:
        """Where a frame of a run lies, for people: shard and member."""
        shard = self.shards[self._shard[clip]]
        frame += int(self._skip_frames[clip])
        return f"{self.keys[clip]}.{frame:05d}.jpg in {shard.tar}"


def _open_set(folder: Path, split: str) -> list[Shard]:
    shards = open_shards(folder, split)
    if not shards:
        raise ShardError(f"{folder} holds no clip of the {split} split; see `data_tools info`")
    return shards


def _kept(by_set: list[list[Shard]], keep: Keep | Sequence[Keep | None] | None) -> list[int | None]:
    """Of each clip, the frames by which its sound is early; None: it is not used."""
    one = [keep] if isinstance(keep, Mapping) else keep
    keeps = [None] * len(by_set) if one is None else one
    return [
        each.get(key) if each is not None else 0
        for each, shards in zip(keeps, by_set, strict=True)
        for shard in shards
        for key in shard.keys
    ]


def _frame_shape(record: ClipRecord) -> tuple[int, int, int]:
    """Height, width and channels of a clip's frames."""
    return record.height, record.width, record.channels
