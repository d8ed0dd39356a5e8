"""How far can a network be trusted on strangers?  python -m benchmarks.strangers.calibrate

Runs `trainer.calibrate` over the strangers of clips.csv, each speaker left out in turn: their clips
are prepared and packed, what is known of their offsets becomes offsets.csv, and of the others the
moved sound must be found. The weights that come with the package got their calibration by this.
"""

import csv
import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import ClosedUnitInterval

from benchmarks.processes import run_module
from benchmarks.strangers.groups import JUDGED, Video, listed, prepare
from data_tools import cli
from data_tools.atomic import atomic_path
from trainer.data.dataset import Dataset
from trainer.model.weights import find_weights
from trainer.score.calibration import NEEDED

# One person where names begin alike; the eight sentences of GRID's other speakers are of three.
SPEAKERS = "s[0-9]+_|grid_other"


def write_offsets(path: Path, shards: Path, videos: list[Video]) -> None:
    """A CSV (clip, offset_frames) of the clips whose offset is known."""
    known = {video.name: video.offset for video in videos if video.offset is not None}
    dataset = Dataset(shards, "test")
    records = [record for shard in dataset.shards for record in shard.records]
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["clip", "offset_frames"])
        rows.writerows((one.key, known[one.source]) for one in records if one.source in known)


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 if a step fails, 2 wrong usage."""
    parser = cli.command("python -m benchmarks.strangers.calibrate", __doc__ or "")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real clips")
    parser.add_argument("--weights", type=find_weights, required=True, help="to be calibrated")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--plot", type=Path, help="reliability diagram, as PNG")
    parser.add_argument(
        "--least-chance", type=ClosedUnitInterval, default=NEEDED[0], help="as of trainer.calibrate"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/strangers"), help="clips, shards")
    return cli.exit_status(
        "strangers.calibrate", lambda: _calibrate(cli.parse(parser, argv)), "stopped"
    )


def _calibrate(args: Namespace) -> None:
    videos = [video for video in listed() if video.group in JUDGED]
    _, shards = prepare(args.data, videos, args.work / "calibration")
    offsets = args.work / "calibration" / "offsets.csv"
    write_offsets(offsets, shards, videos)
    which = ["--data.shards", shards, "--split", "test", "--offsets", offsets, "--relative"]
    how = ["--weights", args.weights, "--half", "--speakers", SPEAKERS]
    how += ["--least-chance", args.least_chance]
    drawn = ["--plot", args.plot] if args.plot else []
    run_module("trainer.calibrate", *which, *how, *drawn, args.out)


if __name__ == "__main__":
    sys.exit(main())
