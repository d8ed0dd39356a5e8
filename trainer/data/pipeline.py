"""DALI's graph: what happens to a batch of JPEGs on its way to frames."""

from typing import Any

import torch
from nvidia.dali import fn, pipeline_def
from nvidia.dali import types as dali_types

from trainer.data.batch import Shape
from trainer.data.decoding import ON_CPU, Decoding

dali: Any = dali_types  # its members are made at import time, unseen by type checkers


_PREFETCH = 2  # batches inside DALI
# Type and axes of what varies each frame, by the names of `Augment.pictures`.
_ARGUMENTS = {
    "matrix": (dali.FLOAT, 2),
    "brightness": (dali.FLOAT, 0),
    "contrast": (dali.FLOAT, 0),
    "quality": (dali.INT32, 0),
}


def to_torch(output: Any) -> torch.Tensor:
    """A view of an output that `Pipeline.run()` returned; it lives as long as the tensor does.

    A GPU's output can be used on every stream at once, and its memory is not used anew before the
    work queued on it has run. From the source of DALI 2.4 (files below dali/):

    - `run()` without a stream returns when the host has waited for the event recorded behind this
      batch (pipeline/executor/executor2/exec2.cc, `PopOutputs`), and takes the event off the
      outputs. So they are ready, whatever stream reads them.
    - `__dlpack__(stream)` without that event makes the stream wait for all that DALI's own stream
      has been given until now (python/backend_impl.cc, `ToDLMTensor`): the batches after this one,
      decoded ahead. -1 waits for nothing, and nothing is left to wait for.
    - A tensor that is dropped goes to a thread that first calls `cudaDeviceSynchronize`
      (pipeline/data/dltensor.cc, `DLTensorGraveyard`). The host has to wait, for nvJPEG's hardware
      writes as soon as it is called, whatever its stream still has to wait for
      (github.com/meta-pytorch/torchcodec/pull/1634).
    """
    tensor: torch.Tensor = torch.from_dlpack(output.as_tensor().__dlpack__(stream=-1))
    return tensor


def built(
    source: Any, shape: Shape, resize: bool, decoding: Decoding, *, threads: int, cached: bool
) -> Any:
    """A `training_pipeline`, or beside a cache a `missing_pipeline`, that is ready to run."""
    pipeline = (missing_pipeline if cached else training_pipeline)(
        source,
        shape,
        resize,
        decoding,
        batch_size=shape.samples * shape.sample_frames,
        num_threads=threads,
        device_id=decoding.device,
        exec_dynamic=True,
        prefetch_queue_depth=_PREFETCH,
    )
    pipeline.build()
    return pipeline


@pipeline_def
def training_pipeline(source: Any, shape: Shape, resize: bool, decoding: Decoding) -> Any:
    """From JPEGs, MFCC columns and arguments of the augmentation to frames and MFCC.

    Args:
        source: called for each batch: all of these as lists or arrays, one row per frame.
        shape: of a batch.
        resize: whether some frames are of another size.
        decoding: how frames are decoded, and where the outputs lie.

    Returns:
        (H, W, C) uint8 and (columns per frame, 13) float32 of each frame.
    """
    varied = () if shape.augment is None else shape.augment.pictures
    kinds = [(dali.UINT8, 1), (dali.FLOAT, 2), *(_ARGUMENTS[name] for name in varied)]
    jpegs, sound, *arguments = fn.external_source(
        source=source,
        num_outputs=len(kinds),
        batch=True,
        # The views stay valid: they point into the mapped shards.
        no_copy=True,
        dtype=[kind for kind, _ in kinds],
        ndim=[axes for _, axes in kinds],
    )
    frames = _as_taken(jpegs, shape, resize, decoding)
    if decoding.device is not None:
        sound = sound.gpu()
    frames = _augmented(
        frames, dict(zip(varied, arguments, strict=True)), shape.size, shape.channels
    )
    return frames, sound


@pipeline_def
def missing_pipeline(source: Any, shape: Shape, resize: bool, decoding: Decoding) -> Any:
    """From JPEGs to frames as a cache keeps them: as `training_pipeline`'s, before augmentation.

    Args:
        source: called for each batch: a list of JPEGs.
        shape, resize, decoding: as in `training_pipeline`.
    """
    jpegs = fn.external_source(source=source, batch=True, no_copy=True, dtype=dali.UINT8, ndim=1)
    return _as_taken(jpegs, shape, resize, decoding)


@pipeline_def
def augment_pipeline(source: Any, shape: Shape, decoding: Decoding) -> Any:
    """From frames and arguments of the augmentation to frames, as `training_pipeline` changes them.

    Args:
        source: called for each batch: frames (H, W, C) uint8, on the GPU if `decoding` says so,
            and the arguments, one row per frame.
        shape: of a batch; its `augment.pictures` is not empty.
    """
    assert shape.augment is not None
    varied = shape.augment.pictures
    on = "cpu" if decoding.device is None else "gpu"
    frames = fn.external_source(
        source=lambda: source()[0],
        batch=True,
        device=on,
        no_copy=on == "cpu",  # they stay as they are until the output is there
        dtype=dali.UINT8,
        ndim=3,
        layout="HWC",
    )
    kinds = [_ARGUMENTS[name] for name in varied]
    arguments = fn.external_source(
        source=lambda: source()[1:],
        num_outputs=len(kinds),
        batch=True,
        dtype=[kind for kind, _ in kinds],
        ndim=[axes for _, axes in kinds],
    )
    return _augmented(frames, dict(zip(varied, arguments, strict=True)), shape.size, shape.channels)


def _as_taken(jpegs: Any, shape: Shape, resize: bool, decoding: Decoding) -> Any:
    """Frames of the size and colour that the model takes, where `decoding` says."""
    if decoding.pinned:
        jpegs = fn.copy(jpegs)  # what a GPU's operator takes from the host, DALI pins
    frames = _decoded(jpegs, shape.channels, decoding)
    if decoding.device is not None:
        # A copy from pinned memory, on DALI's stream, where the frames aren't there already.
        frames = frames.gpu()
    return fn.resize(frames, size=[shape.size, shape.size]) if resize else frames


@pipeline_def
def decode_pipeline(source: Any, channels: int) -> Any:
    """From JPEGs to frames as stored, decoded on the CPU as `training_pipeline` does."""
    jpegs = fn.external_source(source=source, batch=True, dtype=dali.UINT8, ndim=1)
    return _decoded(jpegs, channels, ON_CPU)


def _decoded(jpegs: Any, channels: int, decoding: Decoding) -> Any:
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
    if decoding.decoder == "gpu":
        return fn.decoders.image(
            jpegs,
            device="mixed",
            output_type=output,
            hw_decoder_load=decoding.hw_decoder_load,
            jpeg_fancy_upsampling=True,  # as the CPU's decoder does
            **upright,
        )
    return fn.decoders.image(jpegs, device="cpu", output_type=output, **upright)


def _augmented(frames: Any, arguments: dict[str, Any], size: int, channels: int) -> Any:
    """DALI's operators over a batch of uint8 frames of size x size, on whatever device it is."""
    if "matrix" in arguments:
        # without a fill value the border is repeated
        frames = fn.warp_affine(frames, matrix=arguments["matrix"], size=[size, size])
    if "brightness" in arguments:
        frames = fn.brightness_contrast(
            frames,
            brightness_shift=arguments["brightness"],
            contrast=arguments["contrast"],
            contrast_center=128.0,
            dtype=dali.UINT8,
        )
    if "quality" in arguments:
        # the operator takes colour only
        if channels == 1:
            frames = fn.color_space_conversion(frames, image_type=dali.GRAY, output_type=dali.RGB)
        frames = fn.jpeg_compression_distortion(frames, quality=arguments["quality"])
        if channels == 1:
            frames = fn.color_space_conversion(frames, image_type=dali.RGB, output_type=dali.GRAY)
    return frames
