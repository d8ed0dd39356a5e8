"""Weights for other programs: `python -m trainer.export WEIGHTS OUT...`

What is written follows from the suffix: .model, .pt, .pth the bare state dict in the published
layout, .safetensors the same tensors (a calibration and the crop go along), .torchscript one module
with forward(frames, mfcc), lips(frames) and sound(mfcc), .onnx two files, OUT-lips.onnx and
OUT-sound.onnx, since a sound and the faces before it differ in length. TorchScript and ONNX are
compared with the network itself before the file appears.
"""

import sys

from data_tools import cli
from data_tools.errors import UsageError
from trainer.model.formats import WRITERS, export
from trainer.model.weights import (
    CROPS,
    PACKAGED,
    find_weights,
    load_model,
    read_calibration,
    read_crop,
)

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


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 written, 1 the weights are bad or an export differs, 2 wrong usage."""
    parser = cli.command("python -m trainer.export", __doc__, _EPILOG)
    parser.add_argument(
        "weights",
        type=find_weights,
        help="best.pt, syncnet_v2.model or .safetensors, or the name of a network of the package: "
        f"{', '.join(PACKAGED)}",
    )
    parser.add_argument(
        "--crop",
        choices=CROPS,
        help="the crop that the weights were trained on, which .safetensors tells whoever uses it "
        "(default: what WEIGHTS say)",
    )
    parser.add_argument("outs", nargs="+", type=cli.file_name, metavar="OUT", help="files to write")

    def work() -> None:
        args = cli.parse(parser, argv)
        for out in args.outs:
            if out.suffix not in WRITERS:
                raise UsageError(f"{out} must end in {', '.join(WRITERS)}")
        for out in args.outs:  # an output may be named twice, as ever
            cli.check_outputs({"OUT": out}, {"the input": [args.weights]})
        model = load_model(args.weights)
        calibration = read_calibration(args.weights)
        crop = args.crop or read_crop(args.weights)
        for out in args.outs:
            for path in export(model, out, calibration, crop):
                print(f"wrote {path}")

    return cli.exit_status("export", work, "interrupted; what it said it wrote is whole")


if __name__ == "__main__":
    sys.exit(main())
