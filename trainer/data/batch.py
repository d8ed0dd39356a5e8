"""What the loader gives: one step's frames and sound, and the shape they come in."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.mfcc import COLUMNS_PER_FRAME, WINDOW_FRAMES
from trainer.data.augment import Augment
from trainer.data.dataset import Dataset
from trainer.data.sampler import Segments, TrainSampler


@dataclass(frozen=True)
class Shape:
    """What a batch looks like.

    Attributes:
        samples: N runs at most; of a part, where a step comes in parts.
        sample_frames: R, consecutive frames a run.
        audio_frames: A, frames of sound a run; 4 A MFCC columns.
        size: frames are size x size.
        channels: 3 (RGB) or 1 (gray).
        augment: how samples are varied; None where they are not.
        quiet: whether to find the windows in which nothing is to be heard.
        windows: samples a run: the first is its first window, the next its second, each with an
            equal part of the sound (`TrainSampler.windows_per_run`). 1: the run is the sample.
    """

    samples: int
    sample_frames: int
    audio_frames: int
    size: int
    channels: int
    augment: Augment | None = None
    quiet: bool = False
    windows: int = 1

    @property
    def sound_frames(self) -> int:
        """Frames of sound a sample."""
        return self.audio_frames // self.windows

    @property
    def columns_per_frame(self) -> int:
        """MFCC columns that travel with each frame-sample, so that all outputs have one length."""
        return -(-COLUMNS_PER_FRAME * self.audio_frames // self.sample_frames)

    def runs(self, segments: Segments) -> Segments:
        """The runs of frames that samples are the windows of: the first window of each."""
        return segments if self.windows == 1 else segments[:: self.windows]


@dataclass(frozen=True)
class Whole:
    """All samples of a step, of which a batch is one of several equal parts.

    Attributes:
        segments: what the parts hold together.
        quiet_NA: as in `Batch`, of all of them.
    """

    segments: Segments
    quiet_NA: NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """One step's data, or one of the equal parts that it comes in (`Loader(parts=...)`).

    Attributes:
        step: the step it was asked for.
        segments: what it holds, N samples.
        frames_NRHWC: (N, R, H, W, C) uint8, RGB or gray; N / K runs, where K samples are windows
            of one (`Shape.windows`).
        mfcc_NFC: (N, 4 A, 13) float32, the sound of each sample.
        quiet_NA: (N, A - 4) bool on the host: windows of sound in which nothing is to be heard;
            (N, 0) if not asked for.
        whole: all samples of the step; None where they are those of this batch.
    """

    step: int
    segments: Segments
    frames_NRHWC: torch.Tensor
    mfcc_NFC: torch.Tensor
    quiet_NA: NDArray[np.bool_]
    whole: Whole | None = None


def shape_of(dataset: Dataset, sampler: TrainSampler) -> Shape:
    """The shape of the sampler's batches, at the size and colour that most of the clips have.

    Frames that are not square are taken at their height. Nothing is augmented.
    """
    (height, _, channels), _ = dataset.frame_shapes.most_common(1)[0]
    windows, sounds = sampler.windows_per_run, 2 if sampler.pairing == "paired" else 1
    frames = sampler.sample_frames if sampler.pairing == "multiway" else WINDOW_FRAMES
    return Shape(
        sampler.batch_size // windows,
        frames + windows - 1,
        windows * sounds * frames,
        height,
        channels,
        quiet=sampler.pairing != "independent",
        windows=windows,
    )
