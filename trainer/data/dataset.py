"""The clips of one split, over all of its shards: what the loader slices frames and sound from."""

import resource
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from mmap import MADV_WILLNEED, PAGESIZE
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from data_tools.jpeg import MAX_SIDE, jpeg_size
from data_tools.manifest import ShardError
from data_tools.mfcc import CEPSTRA, COLUMNS_PER_FRAME, WINDOW_COLUMNS, window_counts
from data_tools.shards import OpenSplit, Shard, more_descriptors, open_split
from data_tools.tar_index import BLOCK, NPY_HEADER
from trainer.data.sampler import Segments

# Natural logarithm: 40 dB below a clip's loud parts there is no speech.
_QUIET = 40 / 10 * np.log(10)
# Beginnings of JPEGs, up to their size, that are worth remembering.
_LONG_HEAD, _MANY_HEADS = 2048, 1000
_GATHERED = 2**16  # bytes of sound that one call copies, of about the processor's fastest memory
_NO_JPEG = np.zeros(1, np.uint8)
_NOT_USED = np.iinfo(np.int64).min  # no clip is as late


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
        sets: (clips,) int64, the number of each clip's set, 0 on.
        used: (clips,) bool, whether `keep` lets the clip through.
        windows: (clips,) int64, 5-frame windows in each clip; 0 for a clip that is not used.
        frame_shapes: (height, width, channels) -> clips that have it.
        remote: whether any shards are fetched from elsewhere.

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
        self.shards: list[Shard] = [shard for each in by_set for shard in each.shards]
        clips = _joined([each.clips for each in by_set])
        # (frames, 2) uint32, block and size: mapped from the index of a large set
        self._frames: NDArray[np.uint32] = _joined([each.frames for each in by_set])
        self.sets = np.repeat(np.arange(len(by_set)), [len(each.clips) for each in by_set])
        counts = [len(shard) for shard in self.shards]
        self._shard = np.repeat(np.arange(len(counts)), counts)
        self._first_clip = np.cumsum([0, *counts])
        self.frames = clips["frames"].astype(np.int64)
        self._first_frame = np.cumsum(self.frames) - self.frames
        self._columns = clips["columns"].astype(np.int64)
        self._mfcc_block = clips["mfcc"]
        early = _early(by_set, keep)
        self.used = early != _NOT_USED
        # Sound that is early by k frames: frame k goes with the sound's beginning.
        self._skip_frames = np.where(self.used, np.maximum(early, 0), 0)
        self._skip_sound = np.where(self.used, np.maximum(-early, 0), 0)
        self.windows = np.where(self.used, self._windows(), 0)
        self._loud: dict[int, float] = {}
        self._rows: dict[int, NDArray[np.uint8]] = {}  # of `_memory`
        self._shape = _shape_codes(clips)
        self.frame_shapes = _shapes(self._shape)
        self._tallest = min(MAX_SIDE, max(height for height, _, _ in self.frame_shapes))
        self._widest = min(MAX_SIDE, max(width for _, width, _ in self.frame_shapes))
        # Zeros take memory only where they are written to, as training goes.
        self._fits = np.zeros(len(self._frames), np.bool_)  # frames: looked at, and not too large
        # runs, by their first frame: of which round of asking the kernel for them (`advise`)
        self._asked_for = np.zeros(len(self._frames), np.uint8)
        self._round, self._faults = 1, 0
        self._heads: dict[int, frozenset[bytes]] = {}  # by their length
        self.remote = any(shard.mirror is not None for shard in self.shards)

    @cached_property
    def keys(self) -> list[str]:
        """One a clip; clips of two sets may have the same (see `name`).

        The statistics of all shards are read for them.

        Raises:
            ShardError: some are missing, damaged or changed.
        """
        return [key for shard in self.shards for key in shard.keys]

    def _windows(self) -> NDArray[np.int64]:
        """(clips,) windows of picture with sound, from where both exist."""
        columns = self._columns - COLUMNS_PER_FRAME * self._skip_sound
        return window_counts(self.frames - self._skip_frames, columns)

    @property
    def early(self) -> NDArray[np.int64]:
        """(clips,) int64, by how many frames `keep` says that each clip's sound is early."""
        return np.asarray(self._skip_frames - self._skip_sound)

    def __len__(self) -> int:
        return len(self.frames)

    def name(self, clip: int) -> str:
        """A clip's key; of several sets, "<set>/<key>" with the set's number from 1 on.

        So a name is one clip's alone, and the same wherever the shards lie.
        """
        key = self._key(clip)
        return key if len(self.folders) == 1 else f"{self.sets[clip] + 1}/{key}"

    def _key(self, clip: int) -> str:
        """A clip's key; of its shard alone the statistics are read."""
        shard = int(self._shard[clip])
        return self.shards[shard].keys[clip - int(self._first_clip[shard])]

    @property
    def shard(self) -> NDArray[np.int64]:
        """(clips,) the number of each clip's shard."""
        return self._shard

    @property
    def clip_bytes(self) -> float:
        """Of a clip in its shard, on the average."""
        return sum(shard.tar_bytes for shard in self.shards) / max(1, len(self))

    def shards_of(self, clips: NDArray[np.int64]) -> list[int]:
        """The numbers of the shards that hold these clips, in the clips' order, each once."""
        return list(dict.fromkeys(self._shard[clips].tolist()))

    def shapes_of(self, number: int) -> Counter[tuple[int, int, int]]:
        """As `frame_shapes`, of one set."""
        return _shapes(self._shape[self.sets == number])

    @cached_property
    def _bytes(self) -> list[NDArray[np.uint8]]:
        more_descriptors(len(self.shards))
        return [shard.bytes for shard in self.shards]

    @cached_property
    def _buffers(self) -> list[memoryview]:
        return [each.data for each in self._bytes]

    def jpegs(self, segments: Segments, sample_frames: int) -> list[NDArray[np.uint8]]:
        """The JPEGs of all segments, frame by frame: N * sample_frames views, nothing is copied.

        A JPEG that is larger than any frame of the records, and would take memory to match, is
        given as bytes that no decoder takes.
        """
        return self._cut(segments, sample_frames, buffers=False)

    def buffers(self, segments: Segments, sample_frames: int) -> list[memoryview]:
        """As `jpegs`, but no arrays: these cost half as much to cut, and less to read."""
        return self._cut(segments, sample_frames, buffers=True)

    def _cut(self, segments: Segments, sample_frames: int, buffers: bool) -> list[Any]:
        frame = (self.first_frames(segments)[:, None] + np.arange(sample_frames)).ravel()
        begins, sizes = self._places(frame)
        begin, end = begins.tolist(), (begins + sizes).tolist()
        shards = self._shard[segments.clip]
        views: list[Any]
        if self.remote:
            views = self._fetched(np.repeat(shards, sample_frames).tolist(), begin, end)
            if buffers:
                views = [view.data for view in views]
        else:
            tars: Any = self._buffers if buffers else self._bytes
            if len(tars) == 1:
                views = [tars[0][b:e] for b, e in zip(begin, end, strict=True)]
            else:
                each = np.repeat(shards, sample_frames).tolist()
                views = [tars[s][b:e] for s, b, e in zip(each, begin, end, strict=True)]
        fit = self._fits[frame]
        if not fit.all():
            no_jpeg: Any = _NO_JPEG.data if buffers else _NO_JPEG
            for at in self._too_large(frame, views, np.flatnonzero(~fit).tolist()):
                views[at] = no_jpeg
        return views

    def _fetched(
        self, shards: list[int], begin: list[int], end: list[int]
    ) -> list[NDArray[np.uint8]]:
        """Parts of tars that may be still to come: each tar is waited for once."""
        places: dict[int, list[int]] = {}
        for place, shard in enumerate(shards):
            places.setdefault(shard, []).append(place)
        views = [_NO_JPEG] * len(shards)
        for shard, own in places.items():
            cuts = self.shards[shard].cuts([begin[at] for at in own], [end[at] for at in own])
            for at, view in zip(own, cuts, strict=True):
                views[at] = view
        return views

    def _places(self, frame: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) int64 each: where in its tar each frame's JPEG begins, and its bytes."""
        rows = self._frames[frame].astype(np.int64)
        return BLOCK * rows[:, 0], rows[:, 1]

    def _too_large(self, frame: NDArray[np.int64], views: list[Any], left: list[int]) -> list[int]:
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
            size = jpeg_size(np.asarray(views[at]))
            if size is None or size[0] > self._tallest or size[1] > self._widest:
                found.append(at)
            elif size[2] < _LONG_HEAD:
                length = size[2]
                heads = self._heads.get(length, frozenset())
                if len(heads) < _MANY_HEADS:
                    # A new dict: another loader may be going through the former one.
                    head = views[at][:length].tobytes()
                    self._heads = {**self._heads, length: heads | {head}}
        self._fits[frame[fit]] = True
        self._fits[frame[found]] = False
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
        if self.remote:
            self._fill_fetched(sound, clips, starts)
            return
        within = (starts >= 0) & (starts + span <= self._columns[clips])
        inside = np.flatnonzero(within)
        source = self._sound_at[clips[inside]] + 4 * CEPSTRA * starts[inside]
        # Many in one call, straight from the mapped tars; fresh memory for all would cost more.
        row_bytes = 4 * span * CEPSTRA
        memory, many = self._memory(row_bytes), max(1, _GATHERED // row_bytes)
        for at in range(0, len(inside), many):
            rows = memory[source[at : at + many]].view(np.float32).reshape(-1, span, CEPSTRA)
            if len(inside) == len(sound):
                sound[at : at + many] = rows
            else:
                sound[inside[at : at + many]] = rows
        outside = np.flatnonzero(~within)
        rows = zip(outside.tolist(), clips[outside].tolist(), starts[outside].tolist(), strict=True)
        for row, clip, start in rows:
            features = self._features(clip)
            begin, end = max(start, 0), min(start + span, len(features))
            if end > begin:
                sound[row, begin - start : end - start] = features[begin:end]

    def _fill_fetched(
        self, sound: NDArray[np.float32], clips: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> None:
        """`_fill` out of tars that may be still to come."""
        span, row_bytes = sound.shape[1], 4 * CEPSTRA
        begin = np.clip(starts, 0, self._columns[clips])
        end = np.clip(starts + span, begin, self._columns[clips])
        base = BLOCK * self._mfcc_block[clips].astype(np.int64) + NPY_HEADER
        found = self._fetched(
            self._shard[clips].tolist(),
            (base + row_bytes * begin).tolist(),
            (base + row_bytes * end).tolist(),
        )
        at = (begin - starts).tolist()
        for row, (first, data) in enumerate(zip(at, found, strict=True)):
            if len(data):
                features = data.view(np.float32).reshape(-1, CEPSTRA)
                sound[row, first : first + len(features)] = features

    @cached_property
    def _sound_at(self) -> NDArray[np.int64]:
        """(clips,) int64: where each clip's features begin, from the lowest mapping on in bytes."""
        base = np.array([each.ctypes.data for each in self._bytes], np.int64)
        within = BLOCK * self._mfcc_block.astype(np.int64) + NPY_HEADER
        return np.asarray(base[self._shard] - base.min() + within)

    def _memory(self, row_bytes: int) -> NDArray[np.uint8]:
        """(anything, row_bytes) uint8: row i is what begins at place i of `_sound_at`.

        Between the mapped tars there is nothing: no row may be read that is not within one.
        """
        if row_bytes not in self._rows:
            lowest = min(self._bytes, key=lambda each: each.ctypes.data)
            last = max(each.ctypes.data + len(each) for each in self._bytes) - lowest.ctypes.data
            self._rows[row_bytes] = as_strided(
                lowest, (last - row_bytes + 1, row_bytes), (1, 1), writeable=False
            )
        return self._rows[row_bytes]

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
        """Ask the kernel to read the segments ahead: one range each, since frames lie in a row.

        Those that were asked for before are in memory, unless this process has since had to wait
        for a page of any file.
        """
        if self.remote:
            for number in np.unique(self._shard[segments.clip]).tolist():
                if (source := self.shards[number].source) is not None:
                    source[0].want(source[1])
            return
        first = self.first_frames(segments)
        new = np.flatnonzero(self._asked_for[first] != self._asking())
        if not len(new):
            return
        first = first[new]
        self._asked_for[first] = self._round
        begin = self._places(first)[0] // PAGESIZE * PAGESIZE
        last, size = self._places(first + sample_frames - 1)
        length = last + size - begin
        shards = self._shard[segments.clip[new]].tolist()
        for shard, at, size in zip(shards, begin.tolist(), length.tolist(), strict=True):
            self.shards[shard].map.madvise(MADV_WILLNEED, at, size)

    def _asking(self) -> int:
        """The round of asking: another one whenever a page had to be waited for."""
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        if faults != self._faults:
            self._faults = faults
            self._round += 1
            if self._round > 255:
                self._round, self._asked_for[:] = 1, 0
        return self._round

    def frame_name(self, clip: int, frame: int) -> str:
        """Where a frame of a run lies, for people: shard and member."""
        shard = self.shards[self._shard[clip]]
        frame += int(self._skip_frames[clip])
        return f"{self._key(clip)}.{frame:05d}.jpg in {shard.tar}"


def _open_set(folder: Path, split: str) -> OpenSplit:
    opened = open_split(folder, split)
    if not opened.shards:
        raise ShardError(f"{folder} holds no clip of the {split} split; see `data_tools info`")
    return opened


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    # that of one set stays mapped
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _early(by_set: list[OpenSplit], keep: Keep | Sequence[Keep | None] | None) -> NDArray[np.int64]:
    """(clips,) int64: frames by which each clip's sound is early, or _NOT_USED."""
    one = [keep] if isinstance(keep, Mapping) else keep
    keeps = [None] * len(by_set) if one is None else one
    found = [
        np.zeros(len(opened.clips), np.int64)
        if each is None
        else np.array([each.get(key, _NOT_USED) for shard in opened.shards for key in shard.keys])
        for each, opened in zip(keeps, by_set, strict=True)
    ]
    return np.concatenate(found)


def _shape_codes(clips: NDArray[Any]) -> NDArray[np.int64]:
    """(clips,) int64: height, width and channels of each clip's frames in one number."""
    height, width = clips["height"].astype(np.int64), clips["width"].astype(np.int64)
    return np.asarray((height << 32) + (width << 16) + clips["channels"])


def _shapes(codes: NDArray[np.int64]) -> Counter[tuple[int, int, int]]:
    """Height, width and channels -> clips that have them, those of the first clip first."""
    code, first, count = np.unique(codes, return_index=True, return_counts=True)
    found: Counter[tuple[int, int, int]] = Counter()
    for at in np.argsort(first).tolist():
        one = int(code[at])
        found[one >> 32, one >> 16 & 0xFFFF, one & 0xFFFF] = int(count[at])
    return found
