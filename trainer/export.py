"""Weights for other programs: `python -m trainer.export WEIGHTS OUT...`

What is written follows from the suffix: .model, .pt, .pth the bare state dict in the published
layout, .safetensors the same tensors (a calibration goes along), .torchscript one module with
forward(frames, mfcc), lips(frames) and sound(mfcc), .onnx two files, OUT-lips.onnx and
OUT-sound.onnx, since a sound and the faces before it differ in length. TorchScript and ONNX are
compared with the network itself before the file appears.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from data_tools.atomic import atomic_path, try_writing
from data_tools.errors import MissingPackage, UserError
from data_tools.mfcc import CEPSTRA, WINDOW_COLUMNS, WINDOW_FRAMES
from data_tools.names import print_anything
from trainer.model.syncnet import SyncNet
from trainer.model.weights import (
    Calibration,
    WeightsError,
    load_model,
    public_state,
    read_calibration,
)
from trainer.score.embed import fold
from trainer.train.checkpoint import write

_EPILOG = """\
examples:
  python -m trainer.export runs/x/best.pt mine.model mine.safetensors mine.torchscript mine.onnx
  python -m trainer.export syncnet_v2.model syncnet.onnx

inputs of TorchScript and ONNX, of any batch size and length:
  frames  (batch, time, size, size, channels) uint8, RGB or gray, time >= 5
  mfcc    (batch, columns, 13) float32, 100 columns a second, columns >= 20
outputs: embeddings (batch, windows, D) float32; window i begins with frame i and column 4 i.
Batch normalisation is folded in. .onnx needs: pip install 'syncnet-trainer[export]'

exit status: 0 written, 1 the weights are bad or an export differs, 2 wrong usage
"""

TOLERANCE = 1e-4  # of the longest embedding; rounding is some 1e-6
_SHAPES = ((1, 1), (2, 3), (3, 12))  # batch, windows that exports are compared on


class ExportError(UserError):
    """An export that does not compute what the network does; says by how much."""


class _Stream(nn.Module):
    """One stream of a network as a module of its own."""

    def __init__(self, model: SyncNet, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = getattr(self.model, self.name)(given)
        return found


def write_state(model: SyncNet, path: Path) -> list[Path]:
    """The bare state dict under the published keys, as torch.save writes it."""
    with atomic_path(path) as partial:
        write(public_state(model), partial)
    return [path]


def write_safetensors(
    model: SyncNet, path: Path, calibration: Calibration | None = None
) -> list[Path]:
    """The same tensors without pickle; a calibration goes into the metadata."""
    metadata = {"model": model.name}
    if calibration is not None:
        metadata["calibration"] = json.dumps(calibration.as_dict())
    with atomic_path(path) as partial:
        partial.write_bytes(save(public_state(model), metadata))  # save_file: for its owner alone
    return [path]


def write_torchscript(model: SyncNet, path: Path) -> list[Path]:
    """One traced module with forward(frames, mfcc), lips(frames) and sound(mfcc).

    Raises:
        ExportError: it does not compute what `model` does.
    """
    folded = fold(model)
    frames, mfcc = _inputs(model, 2, 3)
    with atomic_path(path) as partial:
        with _quiet():
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
            with _quiet():
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


def _close(found: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...], path: Path) -> None:
    for one, other in zip(found, wanted, strict=True):
        if one.shape != other.shape:
            shapes = tuple(one.shape), tuple(other.shape)
            raise ExportError(f"{path.name} gives {shapes[0]} where the network gives {shapes[1]}")
        error = float(((one - other).norm(dim=-1).max() / other.norm(dim=-1).max()).detach())
        if not error <= TOLERANCE:
            raise ExportError(
                f"{path.name} differs from the network by {error:.1e} (allowed {TOLERANCE:g}), so "
                "it was not written"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    # torch warns of TorchScript's age and of its own internals at every export.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


WRITERS: dict[str, Callable[[SyncNet, Path], list[Path]]] = {
    ".model": write_state,
    ".pt": write_state,
    ".pth": write_state,
    ".safetensors": write_safetensors,
    ".torchscript": write_torchscript,
    ".onnx": write_onnx,
}


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 written, 1 the weights are bad or an export differs, 2 wrong usage."""
    print_anything()
    parser = argparse.ArgumentParser(
        prog="python -m trainer.export",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("weights", type=Path, help="best.pt, syncnet_v2.model or .safetensors")
    parser.add_argument("outs", nargs="+", type=Path, metavar="OUT", help="files to write")
    args = parser.parse_args(argv)
    for out in args.outs:
        if out.suffix not in WRITERS:
            parser.error(f"{out} must end in {', '.join(WRITERS)}")
        if out.exists() and args.weights.exists() and out.samefile(args.weights):
            parser.error(f"{out} is the input, which is never overwritten")
        try:
            try_writing(out)
        except OSError as error:
            parser.error(str(error))
    try:
        model = load_model(args.weights)
        calibration = read_calibration(args.weights)
        for out in args.outs:
            if out.suffix == ".safetensors":
                written = write_safetensors(model, out, calibration)
            else:
                written = WRITERS[out.suffix](model, out)
            for path in written:
                print(f"wrote {path}")
    except (WeightsError, ExportError, OSError, RuntimeError) as error:
        # RuntimeError: a package is missing, or torch's exporter could not do it
        print(f"export: {(str(error) or type(error).__name__).splitlines()[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export: interrupted; what it said it wrote is whole", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
