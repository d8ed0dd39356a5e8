"""How far can an answer be trusted?

    python -m trainer.calibrate --weights W --data.shards DIR [DIR ...] OUT.safetensors

Asks a network for the offset of held-out clips, cut to lengths from 1 to 60 s (as far as clips are
so long), their sound moved by up to 12 frames; a fifth of the answers are about sound of another
clip, to which no offset is right. A logistic regression of right and wrong over what is known of an
answer (how clear it is, how far it stands out of chance, how many windows it rests on) goes into
OUT, a safetensors file, as the calibration that `syncnet` shows as the chance of being right. Each
group of speakers is left out in turn, and what is stated of it is set beside what came true: give
clips of many speakers that the network has not learnt from.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import ClosedUnitInterval

from data_tools import cli
from data_tools.clips import SPLITS
from data_tools.errors import UsageError
from data_tools.fetch_ahead import fetching_splits, note
from data_tools.manifest import ShardError, read_manifest
from data_tools.mirror import name_of, open_sets
from data_tools.names import shown
from data_tools.remote_options import add_local_options, local_options, set_name
from trainer.config.crops import crop_of, measured_notes
from trainer.data.dataset import Dataset
from trainer.model.fold import fold
from trainer.model.formats import write_safetensors
from trainer.model.weights import PACKAGED, find_weights, load_model, read_crop
from trainer.score.answers import ask, embed_held_out
from trainer.score.calibration import NEEDED, calibrate
from trainer.score.calibration_report import lines, plot
from trainer.score.evaluation import read_offsets
from trainer.score.speakers import speaker_finder

_EPILOG = """\
examples:
  python -m trainer.calibrate --weights runs/x/best.pt --data.shards shards mine.safetensors
      what the val split says, in a copy of the weights
  python -m trainer.calibrate --weights W --data.shards grid new --split test all \\
    --speakers '^grid|s[0-9]+_' OUT
      the test split of one set, all one speaker, and all clips of another, whose sources that begin
      alike (s26_, s31_) are one speaker each
  python -m trainer.calibrate --weights W --data.shards wild --split all --relative --plot r.png OUT
      clips of which nobody knows how far they are off: the moved sound must be found relative to
      the answer for the whole clip
  syncnet --weights mine.safetensors talk.mp4
      shows the chance of being right beside each offset

exit status: 0 written, 1 bad data or too little of it, 2 wrong usage
"""


def _parser() -> ArgumentParser:
    parser = cli.command("python -m trainer.calibrate", __doc__ or "", _EPILOG)
    add = parser.add_argument
    add("out", type=cli.file_name, nargs="?", metavar="OUT", help="a .safetensors file")
    add(
        "--weights",
        type=find_weights,
        required=True,
        metavar="W",
        help="best.pt of a run, any SyncNet's weights, or of the package: "
        f"{', '.join(PACKAGED)}; not changed",
    )
    add(
        "--data.shards",
        type=set_name,
        nargs="+",
        required=True,
        metavar="DIR",
        help="shards that `data_tools pack` wrote, or their URL; the clips must be in sync, or "
        "see --offsets and --relative",
    )
    add_local_options(parser, "data")
    add(
        "--split",
        type=str,
        nargs="+",
        default=["val"],
        metavar="SPLIT",
        help="which of their clips: train, val, test or all, one for every DIR or one each: some "
        "that the network has not learnt from (default: val)",
    )
    _add_judgement(parser)
    add(
        "--least-chance",
        type=ClosedUnitInterval,
        default=NEEDED[0],
        metavar="P",
        help="never trust an answer whose chance of being right is less (default: %(default)s). "
        "More where much sound is of other recordings, read from like sentences: it can fit by "
        "chance",
    )
    add("--plot", type=cli.file_name, metavar="FILE", help="draw the reliability diagram, as PNG")
    add("--half", action="store_true", help="store 16 bits a number: half the size")
    return parser


def _add_judgement(parser: ArgumentParser) -> None:
    """Options of what is asked, and which answers are right."""
    add = parser.add_argument
    add(
        "--mode",
        choices=["centred", "masked"],
        default="centred",
        help="the way of scoring that it is for, the weights' default then (default: centred)",
    )
    add(
        "--offsets",
        type=cli.file_name,
        metavar="CSV",
        help="by how much clips are off themselves (columns clip and offset_frames); clips that it "
        "does not list are left out, unless --relative is given",
    )
    add(
        "--relative",
        action="store_true",
        help="of clips that --offsets does not list, nobody knows the offset: right is what "
        "follows the sound as it is moved, relative to the answer for the whole clip",
    )
    add(
        "--speakers",
        type=str,
        metavar="REGEX",
        help="what this regular expression finds in DIR/source, the names of the folder and of a "
        "clip's source (its group, if it has one) says who speaks; where it finds nothing, and by "
        "default, the whole name does",
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 written, 1 bad data, 2 wrong usage."""
    return cli.exit_status("calibrate", lambda: _run(argv), "interrupted; nothing was written")


def _run(argv: list[str] | None) -> None:
    args = cli.parse(_parser(), argv)
    args.out = args.out or _swallowed(args)
    if args.out.suffix != ".safetensors":
        raise UsageError(f"{args.out} must end in .safetensors, which can hold a calibration")
    if args.plot and args.plot.suffix.lower() != ".png":
        raise UsageError(f"--plot: {shown(args.plot)} must end in .png, which is what is drawn")
    inputs = [args.weights, *([args.offsets] if args.offsets else [])]
    cli.check_outputs({"OUT": args.out, "--plot": args.plot}, {"the input": inputs})
    folders = args["data.shards"]
    if wrong := [split for split in args.split if split not in (*SPLITS, "all")]:
        raise UsageError(f"--split must be train, val, test or all, not {wrong[0]!r} (see --help)")
    if len(args.split) not in (1, len(folders)):
        raise UsageError(f"--split: {len(args.split)} given for {len(folders)} folders of shards")
    speaker = speaker_finder(args.speakers)
    offsets = read_offsets(args.offsets) if args.offsets else None
    model = load_model(args.weights)
    folded = fold(model)
    answers = []
    splits = args.split * len(folders) if len(args.split) == 1 else args.split
    folders = open_sets(folders, local_options(args.data))
    for told in measured_notes(args.weights, folders):
        print(told)
    with fetching_splits(list(zip(folders, splits, strict=True)), note):
        for folder, split in zip(folders, splits, strict=True):
            held_out, name = [], name_of(folder)
            for dataset in _datasets(folder, split):
                records = [record for shard in dataset.shards for record in shard.records]
                own = _own_offsets(dataset.keys, offsets, args.relative)
                who = {record.source: speaker(f"{name}/{record.source}") for record in records}
                held_out += embed_held_out(folded, dataset, who, own)
            answers += ask(held_out, args.mode)
    calibration, rows = calibrate(answers, args.mode, args.least_chance)
    # what they were trained on; the shards' crop is no more than what they were measured with
    crop = read_crop(args.weights) or crop_of(folders)
    write_safetensors(model.half() if args.half else model, args.out, calibration, crop)
    for line in lines(calibration, rows):
        print(line)
    if args.plot:
        plot(calibration, args.plot)
        print(f"wrote {args.plot}")
    print(f"wrote {args.out}")


def _swallowed(args: Namespace) -> Path:
    """OUT where it stands behind an option that takes several values, which took it as its last.

    Raises:
        UsageError: none did.
    """
    for values in (args["data.shards"], args.split):
        if len(values) > 1 and str(values[-1]).endswith(".safetensors"):
            return Path(values.pop())
    raise UsageError("OUT must be given, a .safetensors file (see --help)")


def _datasets(folder: Path, split: str) -> list[Dataset]:
    """One split, or every split that has clips."""
    if split != "all":
        return [Dataset(folder, split)]
    held = {entry.split for entry in read_manifest(folder).shards if entry.clips}
    if not held:
        raise ShardError(f"{folder} holds no clip; see `data_tools info`")
    return [Dataset(folder, name) for name in SPLITS if name in held]


def _own_offsets(
    keys: Iterable[str], offsets: Mapping[str, int] | None, relative: bool
) -> dict[str, int | None]:
    """The offset that is right for each clip, None where it is not known; without those left out.

    Args:
        offsets: that are known; None: every clip is in sync, unless `relative`.
    """
    if offsets is None:
        return dict.fromkeys(keys, None if relative else 0)
    return {key: offsets.get(key) for key in keys if relative or key in offsets}


if __name__ == "__main__":
    sys.exit(main())
