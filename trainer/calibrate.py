"""How far can an answer be trusted?

    python -m trainer.calibrate --weights W --data.shards DIR OUT.safetensors

Asks a network for the offset of held-out clips, cut to lengths from a second up, each once with its
own sound and once with unrelated sound, to which no offset is right; one video in five is taken to
be of that kind. The share of right answers over the clearness of their minimum (a rising curve, by
isotonic regression) goes into OUT, a safetensors file, as the calibration that
`python -m trainer.sync` shows as the chance of being right. The clips must be in sync: what is off
in them would count as the network's error.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from data_tools.atomic import try_writing
from data_tools.clips import SPLITS
from data_tools.errors import UserError
from data_tools.names import print_anything
from data_tools.progress import progress
from data_tools.records import RecordError
from trainer.data.dataset import Dataset
from trainer.data.loader import LoaderError
from trainer.export import write_safetensors
from trainer.model.syncnet import SyncNet
from trainer.model.weights import Calibration, WeightsError, load_model
from trainer.score.clip_distances import Embedded, embed_clips
from trainer.score.embed import fold
from trainer.score.scoring import TOLERANCE, score

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

REACH = 15
LENGTHS = (25, 38, 50, 75, 125, 250)  # windows
UNRELATED = 0.2  # share of videos to whose lips no sound belongs
_POINTS = 12  # of the curve at most
_FEWEST = 60  # answers that a calibration can rest on


class CalibrationError(UserError):
    """There is too little to calibrate with; says why in one sentence."""


def answers(
    model: SyncNet, dataset: Dataset
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Clearness of each answer, whether it is right, whether its sound is the clip's: (N,) each.

    Unrelated sound is that of the next clip, its halves exchanged: a corpus whose sentences all
    begin and end alike would else give every clip's sound a clear minimum.

    Args:
        model: folded.
    """
    clips: list[Embedded] = []
    with progress("embedding", len(dataset), "clips") as advance:
        for one in embed_clips(dataset, model):
            advance(1)
            if isinstance(one, Embedded):
                clips.append(one)
    found = []
    for number, clip in enumerate(clips):
        other = clips[(number + 1) % len(clips)].sound_KD
        unrelated = other.roll(len(other) // 2, 0)
        for length in LENGTHS:
            for first in range(0, len(clip.lips_KD) - length + 1, length):
                part = slice(first, first + length)
                for sound, own in ((clip.sound_KD, True), (unrelated, False)):
                    if len(sound) >= first + length:
                        told = score(clip.lips_KD[part], sound[part], REACH)
                        hit = own and abs(told.offset) <= TOLERANCE
                        found.append((told.clearness, hit, own))
    clearness, right, own_sound = np.array(found, np.float64).reshape(-1, 3).T
    return clearness, right > 0, own_sound > 0


def calibrate(
    clearness: NDArray[np.float64], right: NDArray[np.bool_], own: NDArray[np.bool_]
) -> Calibration:
    """The share of right answers as a rising curve of a few points.

    Answers weigh so that a share UNRELATED of them is about unrelated sound. Shares are those of
    Laplace's rule, (right + 1) / (answers + 2), so that none is ever certain.

    Raises:
        CalibrationError: too few answers.
    """
    if len(clearness) < _FEWEST:
        raise CalibrationError(
            f"{len(clearness)} answers are too few to calibrate with: {_FEWEST} are needed; give "
            "more or longer held-out clips"
        )
    weight = np.where(own, (1 - UNRELATED) / max(own.mean(), 1e-9), 0.0)
    weight[~own] = UNRELATED / max((~own).mean(), 1e-9)
    order = np.argsort(clearness, kind="stable")
    parts = np.array_split(order, min(_POINTS, len(order) // 5))
    at = np.array([clearness[part].mean() for part in parts])
    total = np.array([weight[part].sum() for part in parts])
    hits = np.array([weight[part][right[part]].sum() for part in parts])
    rising = isotonic_regression((hits + 1) / (total + 2), weights=total).x
    distinct = np.concatenate([[True], np.diff(at) > 1e-9])
    return Calibration(
        tuple(np.round(at[distinct], 4).tolist()), tuple(np.round(rising[distinct], 4).tolist())
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 written, 1 bad data, 2 wrong usage."""
    print_anything()
    parser = argparse.ArgumentParser(
        prog="python -m trainer.calibrate",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a .safetensors file")
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="W",
        help="best.pt of a run, or any SyncNet's weights; not changed",
    )
    parser.add_argument(
        "--data.shards",
        dest="shards",
        type=Path,
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
    args = parser.parse_args(argv)
    if args.out.suffix != ".safetensors":
        parser.error(f"{args.out} must end in .safetensors, which can hold a calibration")
    if args.out.exists() and args.weights.exists() and args.out.samefile(args.weights):
        parser.error(f"{args.out} is the input, which is never overwritten")
    try:
        try_writing(args.out)
    except OSError as error:
        parser.error(str(error))
    try:
        model = load_model(args.weights)
        found = calibrate(*answers(fold(model), Dataset(args.shards, args.split)))
        write_safetensors(model.half() if args.half else model, args.out, found)
    except (CalibrationError, WeightsError, RecordError, LoaderError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("calibrate: interrupted; nothing was written", file=sys.stderr)
        return 130
    for clearness, share in zip(found.clearness, found.share_right, strict=True):
        print(f"clearness {clearness:5.2f}: {share:.0%} of the answers right")
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
