"""The baseline that a network must beat: how loud is it, told from how the mouth moves, by ridge
regression (no network, seconds to fit). Its "embeddings" are the five frames' energies, predicted
and heard, so that it is scored as a network is.
"""

import sys
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from benchmarks.options import part_of
from data_tools.mfcc import COLUMNS_PER_FRAME, WINDOW_FRAMES
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments
from trainer.score.evaluation import (
    SPEECH,
    ClipMeasurement,
    EvaluationOptions,
    measure_clip,
)

_SIDE = 12  # pixels to which frames are reduced
_PENALTY = 100.0  # on standardised features


def measure(shards_train: Dataset, test: Dataset) -> list[ClipMeasurement]:
    """Fit on the one, measure every clip of the other as `trainer.evaluate` does."""
    seen, heard = zip(*_windows(shards_train), strict=True)
    x, y = np.concatenate(seen), np.concatenate(heard)
    x_mean, x_scale = x.mean(0), x.std(0) + 1e-6
    y_mean, y_scale = y.mean(0), y.std(0) + 1e-6
    x = (x - x_mean) / x_scale
    gram = x.T @ x + _PENALTY * len(x) / 1000 * np.eye(x.shape[1], dtype=x.dtype)
    weights = np.linalg.solve(gram, x.T @ ((y - y_mean) / y_scale))
    records = [record for shard in test.shards for record in shard.records]
    options = EvaluationOptions()
    return [
        measure_clip(
            record,
            torch.from_numpy(((pictures - x_mean) / x_scale) @ weights).float(),
            torch.from_numpy((sound - y_mean) / y_scale).float(),
            options,
            10**5,
            speech_K=test.loud(clip, SPEECH),
        )
        for clip, (record, (pictures, sound)) in enumerate(
            zip(records, _windows(test), strict=True)
        )
    ]


def _windows(dataset: Dataset) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Each clip's windows: (K, 5 * 2 * side^2) pictures and movements, (K, 5) energies."""
    for clip in range(len(dataset)):
        count = int(dataset.windows[clip])
        frames = count + WINDOW_FRAMES - 1
        one, none = np.array([clip]), np.array([0])
        segments = Segments(one, none, one, none, one)
        small = np.stack(
            [
                cv2.resize(
                    simplejpeg.decode_jpeg(jpeg, "GRAY")[:, :, 0],
                    (_SIDE, _SIDE),
                    interpolation=cv2.INTER_AREA,
                )
                for jpeg in dataset.jpegs(segments, frames)
            ]
        ).reshape(frames, -1)
        pictures = small.astype(np.float32) - small.mean()
        moved = np.abs(np.diff(pictures, axis=0, prepend=pictures[:1]))
        sound = dataset.mfcc(segments, frames, COLUMNS_PER_FRAME * frames)[0, :, 0]
        energy = sound.reshape(frames, COLUMNS_PER_FRAME).mean(1)
        each = np.concatenate([pictures, moved], 1)
        index = np.arange(count)[:, None] + np.arange(WINDOW_FRAMES)
        yield each[index].reshape(count, -1), energy[index]


if __name__ == "__main__":
    sys.exit(part_of("real_speech"))
