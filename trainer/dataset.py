"""The clips of one split, over all of its shards: what the loader slices frames and sound from."""

from collections import Counter
from functools import cached_property
from mmap import MADV_WILLNEED, PAGESIZE
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.mfcc import CEPSTRA, COLUMNS_PER_FRAME, window_count
from data_tools.shards import Shard, ShardError, open_shards
from trainer.sampler import Runs


class Dataset:
    """Frames and MFCC of all clips of a split, numbered through the shards.

    Attributes:
        keys: one a clip.
        windows: (clips,) int64, 5-frame windows in each clip.

    Raises:
        ShardError: shards are missing or damaged (all named), or the split holds no clip.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.shards: list[Shard] = open_shards(folder, split)
        if not self.shards:
            raise ShardError(f"{folder} holds no clip of the {split} split; see `data_tools info`")
        self.keys = [key for shard in self.shards for key in shard.keys]
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
        self.windows = np.array([window_count(r.frames, r.columns) for r in records])
        self.frame_shapes = Counter((r.height, r.width, r.channels) for r in records)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def _bytes(self) -> list[NDArray[np.uint8]]:
        return [shard.bytes for shard in self.shards]

    def jpegs(self, runs: Runs, run_frames: int) -> list[NDArray[np.uint8]]:
        """The JPEGs of all runs, frame by frame: N * run_frames views, nothing is copied."""
        frame = (self._first_frame[runs.clip] + runs.start)[:, None] + np.arange(run_frames)
        begin = self._offset[frame].ravel().tolist()
        end = self._end[frame].ravel().tolist()
        shard = np.repeat(self._shard[runs.clip], run_frames).tolist()
        tars = self._bytes
        return [tars[s][b:e] for s, b, e in zip(shard, begin, end, strict=True)]

    def mfcc(self, runs: Runs, audio_frames: int, columns: int) -> NDArray[np.float32]:
        """(N, columns, 13) float32: the sound of `audio_frames` frames from `audio_start` on.

        Zero outside the clip, and in the columns past 4 * audio_frames.
        """
        span = COLUMNS_PER_FRAME * audio_frames
        sound = np.zeros((len(runs), columns, CEPSTRA), dtype=np.float32)
        starts = (COLUMNS_PER_FRAME * runs.audio_start).tolist()
        for row, (clip, start) in enumerate(zip(runs.audio_clip.tolist(), starts, strict=True)):
            shard = self._shard[clip]
            features = self.shards[shard].mfcc(clip - self._first_clip[shard])
            begin, end = max(start, 0), min(start + span, len(features))
            if end > begin:
                sound[row, begin - start : end - start] = features[begin:end]
        return sound

    def advise(self, runs: Runs, run_frames: int) -> None:
        """Ask the kernel to read the runs ahead: one range each, since frames lie in a row."""
        first = self._first_frame[runs.clip] + runs.start
        begin = self._offset[first] // PAGESIZE * PAGESIZE
        length = self._end[first + run_frames - 1] - begin
        shards = self._shard[runs.clip].tolist()
        for shard, at, size in zip(shards, begin.tolist(), length.tolist(), strict=True):
            self.shards[shard].map.madvise(MADV_WILLNEED, at, size)

    def frame_name(self, clip: int, frame: int) -> str:
        """Where a frame lies, for people: shard and member."""
        shard = self.shards[self._shard[clip]]
        return f"{self.keys[clip]}.{frame:05d}.jpg in {shard.tar}"
