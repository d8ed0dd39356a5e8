"""DALI's graph: what happens to a batch of JPEGs on its way to frames."""

from typing import Any

import torch
from nvidia.dali import fn, pipeline_def
from nvidia.dali import types as dali_types

from trainer.data.augment import augmented
from trainer.data.batch import Shape

dali: Any = dali_types  # its members are made at import time, unseen by type checkers


def to_torch(output: Any) -> torch.Tensor:
    """A view of DALI's output, which stays alive as long as the tensor does."""
    tensor: torch.Tensor = torch.from_dlpack(output.as_tensor())
    return tensor


@pipeline_def
def training_pipeline(
    source: Any, shape: Shape, resize: bool, mixed: bool, hw_decoder_load: float
) -> Any:
    """From JPEGs, MFCC columns and arguments of the augmentation to frames and MFCC.

    Args:
        source: called for each batch: all of these as lists or arrays, one row per frame.
        shape: of a batch.
        resize: whether some frames are of another size.
        mixed: decode on the GPU, where the outputs then lie.
        hw_decoder_load: share of the frames that its hardware decoder gets.

    Returns:
        (H, W, C) uint8 and (columns per frame, 13) float32 of each frame.
    """
    varied = {} if shape.augment is None else shape.augment.pictures
    kinds = [(dali.UINT8, 1), (dali.FLOAT, 2), *varied.values()]
    jpegs, sound, *arguments = fn.external_source(
        source=source,
        num_outputs=len(kinds),
        batch=True,
        # The views stay valid: they point into the mapped shards.
        no_copy=True,
        dtype=[kind for kind, _ in kinds],
        ndim=[axes for _, axes in kinds],
    )
    frames = _decoded(jpegs, shape.channels, mixed, hw_decoder_load)
    if resize:
        frames = fn.resize(frames, size=[shape.size, shape.size])
    frames = augmented(
        frames, dict(zip(varied, arguments, strict=True)), shape.size, shape.channels
    )
    return frames, (sound.gpu() if mixed else sound)


@pipeline_def
def decode_pipeline(source: Any, channels: int, mixed: bool) -> Any:
    """From JPEGs to frames as stored, decoded as `training_pipeline` does."""
    jpegs = fn.external_source(source=source, batch=True, dtype=dali.UINT8, ndim=1)
    return _decoded(jpegs, channels, mixed, 0.65)


def _decoded(jpegs: Any, channels: int, mixed: bool, hw_decoder_load: float) -> Any:
    # RGB, although SyncNet's weights are for BGR: DALI 2.4 decodes to BGR 2.4 times slower
    # (measured on a CPU), so the model turns its first kernel round instead.
    output = dali.RGB if channels == 3 else dali.GRAY
    # A header that cannot be parsed must not reach the decoder: DALI 2.4 parses part of the batch
    # in the executor's thread, and when that part throws, it unwinds the frame that its pool is
    # still working in, which ends the process (SIGSEGV). This operator throws safely, and the
    # decoder waits for it through `rel_shape`, which is always [1].
    # Pictures are taken as stored, as `verify` and every other decoder here takes them.
    upright: Any = {"adjust_orientation": False}
    height = fn.peek_image_shape(jpegs, dtype=dali.FLOAT, **upright)[0:1]
    jpegs = fn.reinterpret(jpegs, rel_shape=height / height)
    if mixed:
        return fn.decoders.image(
            jpegs,
            device="mixed",
            output_type=output,
            hw_decoder_load=hw_decoder_load,
            jpeg_fancy_upsampling=True,  # as the CPU's decoder does
            **upright,
        )
    return fn.decoders.image(jpegs, device="cpu", output_type=output, **upright)
