"""Weights in the formats of other programs, compared with the network itself before they appear.

.model, .pt, .pth: the bare state dict in the published layout; .safetensors: the same tensors, and
a calibration; .torchscript: one module with forward(frames, mfcc), lips(frames) and sound(mfcc);
.onnx: two files, -lips.onnx and -sound.onnx, since a sound and the faces before it differ in
length.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from data_tools.atomic import atomic_path
from data_tools.errors import MissingPackage, UserError
from data_tools.mfcc import CEPSTRA, WINDOW_COLUMNS, WINDOW_FRAMES
from data_tools.names import first_line
from trainer.model.calibration import AnyCalibration
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet
from trainer.model.torch_file import write
from trainer.model.weights import DIGEST, Crop, digest, public_state

TOLERANCE = 1e-4  # of the longest embedding; rounding is some 1e-6
_SHAPES = ((1, 1), (2, 3), (3, 12))  # batch, windows that exports are compared on


class ExportError(UserError):
    """An export that cannot be made, or does not compute what the network does; says why."""


def export(
    model: SyncNet,
    out: Path,
    calibration: AnyCalibration | None = None,
    crop: Crop | None = None,
) -> list[Path]:
    """Write `model` in the format that the suffix of `out` names, one of WRITERS.

    Args:
        model: in evaluation mode, not folded, on the CPU.
        calibration: goes along into .safetensors.
        crop: that it was trained on; goes along as well.

    Returns:
        The files that were written.

    Raises:
        ExportError: the export cannot be made or does not compute what `model` does.
        MissingPackage: the extra [export] is needed and not installed.
        OSError: a file cannot be written.
    """
    if out.suffix == ".safetensors":
        return write_safetensors(model, out, calibration, crop)
    return WRITERS[out.suffix](model, out)


def write_state(model: SyncNet, path: Path) -> list[Path]:
    """The bare state dict under the published keys, as torch.save writes it."""
    with atomic_path(path) as partial:
        write(public_state(model), partial)
    return [path]


def write_safetensors(
    model: SyncNet,
    path: Path,
    calibration: AnyCalibration | None = None,
    crop: Crop | None = None,
) -> list[Path]:
    """The same tensors without pickle; a calibration and the crop go into the metadata."""
    metadata = {"model": model.name}
    if crop is not None:
        metadata["crop"] = crop
    if calibration is not None:
        metadata["calibration"] = json.dumps(calibration.as_dict())
    state = public_state(model)
    metadata[DIGEST] = digest(state, metadata)
    with atomic_path(path) as partial:
        partial.write_bytes(save(state, metadata))  # save_file: for its owner alone
    return [path]


def write_torchscript(model: SyncNet, path: Path) -> list[Path]:
    """One traced module with forward(frames, mfcc), lips(frames) and sound(mfcc).

    Raises:
        ExportError: it does not compute what `model` does.
    """
    folded = fold(model)
    frames, mfcc = _inputs(model, 2, 3)
    with atomic_path(path) as partial:
        with _exporting(path):
            traced = torch.jit.trace_module(
                folded,
                {"forward": (frames, mfcc), "lips": (frames,), "sound": (mfcc,)},
                check_trace=False,  # compared below, on other shapes
            )
            with open(partial, "wb") as stream:  # torch's own errors do not say what the matter is
                torch.jit.save(traced, stream)
            loaded = torch.jit.load(str(partial))
        _compare(model, "lips", lambda given: loaded.lips(given), path)
        _compare(model, "sound", lambda given: loaded.sound(given), path)
        both = loaded(frames, mfcc)
        _close((both[0], both[1]), model(frames, mfcc), path)
    return [path]


def write_onnx(model: SyncNet, path: Path) -> list[Path]:
    """Two files, one a stream, with the suffixes -lips.onnx and -sound.onnx.

    Raises:
        ExportError: onnxruntime does not compute what `model` does.
        MissingPackage: the extra [export] is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter imports it, late and unclearly)
    except ImportError as error:
        raise MissingPackage(
            f"{error.name} is not installed; ONNX needs: pip install 'syncnet-trainer[export]'"
        ) from None
    folded = fold(model)
    written = []
    for name, given, argument, least in (
        ("lips", _inputs(model, 2, 3)[0], ("frames", "time"), WINDOW_FRAMES),
        ("sound", _inputs(model, 2, 3)[1], ("mfcc", "columns"), WINDOW_COLUMNS),
    ):
        out = path.with_name(f"{path.stem}-{name}.onnx")
        axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim(argument[1], min=least)}
        with atomic_path(out) as partial:
            with _exporting(out):
                torch.onnx.export(
                    _Stream(folded, name).eval(),
                    (given,),
                    str(partial),
                    dynamo=True,
                    dynamic_shapes=(axes,),
                    input_names=[argument[0]],
                    output_names=["embeddings"],
                    external_data=False,  # one file each
                    verbose=False,
                )
            session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
            run = _runner(session, argument[0])
            _compare(model, name, run, out)
        written.append(out)
    return written


def _runner(session: Any, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda given: torch.from_numpy(session.run(None, {name: given.numpy()})[0])


def _inputs(model: SyncNet, batch: int, windows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames and features of that many windows; two columns more than the windows need."""
    made = torch.Generator().manual_seed(windows)
    size, channels = model.preset.size, model.preset.channels
    shape = (batch, windows + WINDOW_FRAMES - 1, size, size, channels)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=made)
    columns = 4 * (windows - 1) + WINDOW_COLUMNS + 2
    return frames, 5 * torch.randn(batch, columns, CEPSTRA, generator=made)


@torch.inference_mode()
def _compare(
    model: SyncNet, name: str, run: Callable[[torch.Tensor], torch.Tensor], path: Path
) -> None:
    """Compare an export of one stream with the network, on batches and lengths of several sizes."""
    for batch, windows in _SHAPES:
        given = _inputs(model, batch, windows)[0 if name == "lips" else 1]
        _close((run(given),), (getattr(model, name)(given),), path)


def _close(given: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...], path: Path) -> None:
    for own, network in zip(given, wanted, strict=True):
        if own.shape != network.shape:
            shapes = tuple(own.shape), tuple(network.shape)
            raise ExportError(f"{path.name} gives {shapes[0]} where the network gives {shapes[1]}")
        error = float(((own - network).norm(dim=-1).max() / network.norm(dim=-1).max()).detach())
        if not error <= TOLERANCE:
            raise ExportError(
                f"{path.name} differs from the network by {error:.1e} (allowed {TOLERANCE:g}), so "
                "it was not written"
            )


@contextmanager
def _exporting(path: Path) -> Iterator[None]:
    """Without torch's warnings of TorchScript's age and its own internals, at every export.

    Raises:
        ExportError: torch's exporter could not do it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RuntimeError as error:
        raise ExportError(f"{path.name} cannot be made: {first_line(error)}") from None


WRITERS: dict[str, Callable[[SyncNet, Path], list[Path]]] = {
    ".model": write_state,
    ".pt": write_state,
    ".pth": write_state,
    ".safetensors": write_safetensors,
    ".torchscript": write_torchscript,
    ".onnx": write_onnx,
}


class _Stream(nn.Module):
    """One stream of a network as a module of its own."""

    def __init__(self, model: SyncNet, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = getattr(self.model, self.name)(given)
        return embeddings
