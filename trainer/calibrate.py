"""How far can an answer be trusted?

    python -m trainer.calibrate --weights W --data.shards DIR OUT.safetensors

Asks a network for the offset of held-out clips, cut to lengths from a second up, each once with its
own sound and once with unrelated sound, to which no offset is right; one video in five is taken to
be of that kind. The share of right answers over the clearness of their minimum (a rising curve, by
isotonic regression) goes into OUT, a safetensors file, as the calibration that
`python -m trainer.sync` shows as the chance of being right. The clips must be in sync: what is off
in them would count as the network's error.
"""

import sys

from data_tools import cli
from data_tools.clips import SPLITS
from data_tools.errors import UsageError
from trainer.data.dataset import Dataset
from trainer.model.fold import fold
from trainer.model.formats import write_safetensors
from trainer.model.weights import PACKAGED, find_weights, load_model
from trainer.score.calibration import answers, calibrate

_EPILOG = """\
examples:
  python -m trainer.calibrate --weights runs/x/best.pt --data.shards shards mine.safetensors
      what the val split says, in a copy of the weights
  python -m trainer.calibrate --weights runs/x/best.pt --data.shards shards --half mine.safetensors
      the same in half of the bytes
  syncnet --weights mine.safetensors talk.mp4
      shows the chance of being right beside each offset

exit status: 0 written, 1 bad data or too little of it, 2 wrong usage
"""


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 written, 1 bad data, 2 wrong usage."""
    parser = cli.command("python -m trainer.calibrate", __doc__, _EPILOG)
    parser.add_argument("out", type=cli.file_name, metavar="OUT", help="a .safetensors file")
    parser.add_argument(
        "--weights",
        type=find_weights,
        required=True,
        metavar="W",
        help="best.pt of a run, any SyncNet's weights, or of the package: "
        f"{', '.join(PACKAGED)}; not changed",
    )
    parser.add_argument(
        "--data.shards",
        type=cli.file_name,
        required=True,
        metavar="DIR",
        help="shards that `data_tools pack` wrote, of clips that are in sync",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="val",
        help="which of their clips: some that the network has not learnt from (default: val)",
    )
    parser.add_argument("--half", action="store_true", help="store 16 bits a number: half the size")

    def work() -> None:
        args = cli.parse(parser, argv)
        if args.out.suffix != ".safetensors":
            raise UsageError(f"{args.out} must end in .safetensors, which can hold a calibration")
        cli.check_outputs({"OUT": args.out}, {"the input": [args.weights]})
        model = load_model(args.weights)
        dataset = Dataset(args["data.shards"], args.split)
        calibration = calibrate(*answers(fold(model), dataset))
        write_safetensors(model.half() if args.half else model, args.out, calibration)
        points = zip(calibration.clearness, calibration.share_right, strict=True)
        for clearness, share in points:
            print(f"clearness {clearness:5.2f}: {share:.0%} of the answers right")
        print(f"wrote {args.out}")

    return cli.exit_status("calibrate", work, "interrupted; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
