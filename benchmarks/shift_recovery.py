"""Is an offset found, with the right sign, and is it gone after the mend?

    python -m benchmarks.shift_recovery --weights runs/YOURS/best.pt

Synthetic heads that no training has seen become videos whose sound is -12 to +12 frames early.
`python -m trainer.sync` must say by how much, in frames and in words; of those that it trusts it
mends some with `--fix`, after which the offset must be gone.
"""

import contextlib
import csv
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type

from benchmarks.markdown import table
from benchmarks.options import AtLeastOne, command_line, run
from benchmarks.result import report
from data_tools.errors import UserError
from data_tools.mfcc import FPS, SAMPLES_PER_FRAME
from data_tools.progress import progress
from data_tools.synth.clips import render_clip

FARTHEST = 12
_SIZE = 96
Seconds = restricted_number_type("Seconds", float, (">=", 1))
_SEEDS = 1_000_000  # far from those of any demonstration


def shifted_video(path: Path, seed: int, frames: int, early: int) -> Path:
    """A head whose sound is early by so many frames."""
    from benchmarks.videos import write_video

    pictures, sound = render_clip(np.random.default_rng(seed), frames + 2 * FARTHEST, _SIZE)
    heard = (FARTHEST + early) * SAMPLES_PER_FRAME
    write_video(
        path,
        pictures[FARTHEST : FARTHEST + frames],
        sound[heard : heard + frames * SAMPLES_PER_FRAME],
        (_SIZE, _SIZE),
    )
    return path


def said_of(words: str) -> int:
    """The offset that the words state: frames, positive if they say early."""
    if words == "in sync":
        return 0
    found = re.fullmatch(r"audio is (\d+) ms (early|late); .*", words)
    if found is None:
        raise RuntimeError(f"no offset in {words!r}")
    return int(found[1]) * FPS // 1000 * (1 if found[2] == "early" else -1)


def _sync(*arguments: str) -> list[dict[str, str]]:
    """Rows of the command's CSV."""
    from trainer import sync

    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.csv"
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            status = sync.main([*arguments, "--prepared", "--csv", str(out)])
        if not out.exists():
            raise UserError(f"trainer.sync ended with {status}: {quiet.getvalue().strip()}")
        with open(out, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))


def measure(weights: Path, videos: int, seconds: float, mended: int) -> dict[str, Any]:
    """Shifts spread evenly over -12..12, one a video."""
    shifts = np.linspace(-FARTHEST, FARTHEST, videos).round().astype(int).tolist()
    rows: list[tuple[int, int, int, bool]] = []
    after: list[int] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        progress("videos", videos, "videos") as advance,
    ):
        for number, early in enumerate(shifts):
            path = shifted_video(
                Path(folder) / f"{number}.mp4", _SEEDS + number, round(seconds * FPS), early
            )
            (row,) = _sync(str(path), "--weights", str(weights))
            found = int(row["offset_frames"])
            trusted = row["trusted"] == "True"
            rows.append((early, found, said_of(row["meaning"]), trusted))
            if len(after) < mended and found and trusted and number % 3 == 0:
                out = path.with_name(f"{number}-mended.mp4")
                _sync(str(path), "--weights", str(weights), "--fix", str(out))
                (row,) = _sync(str(out), "--weights", str(weights))
                after.append(int(row["offset_frames"]))
            path.unlink()
            advance(1)
    return {
        "videos": videos,
        "seconds": seconds,
        "within_one_frame": round(sum(abs(f - e) <= 1 for e, f, _, _ in rows) / videos, 4),
        "words_agree": round(sum(f == said for _, f, said, _ in rows) / videos, 4),
        "trusted": round(sum(t for *_, t in rows) / videos, 4),
        "mended": len(after),
        "mended_within_one_frame": sum(abs(offset) <= 1 for offset in after),
        "largest_error": max(abs(f - e) for e, f, _, _ in rows),
    }


def readme(result: dict[str, Any]) -> str:
    """Shifts of synthetic videos, found and mended."""
    rows = [
        ["videos of " + f"{result['seconds']:g} s", f"{result['videos']}"],
        ["offset within +-1 frame", f"{result['within_one_frame']:.1%}"],
        ["largest error", f"{result['largest_error']} frames"],
        ["words that state the same offset", f"{result['words_agree']:.1%}"],
        ["trusted", f"{result['trusted']:.1%}"],
        [
            "after `--fix` within +-1 frame of none",
            f"{result['mended_within_one_frame']} of {result['mended']}",
        ],
    ]
    return table(["shift recovery", "measured"], rows)


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 bad data, 2 wrong usage."""
    parser = command_line("shift_recovery", __doc__, cache=False)
    parser.add_argument("--weights", type=Path, required=True, help="of the demonstration")
    parser.add_argument("--videos", type=AtLeastOne, default=50)
    parser.add_argument("--seconds", type=Seconds, default=6.0)
    parser.add_argument("--mended", type=int, default=8, help="videos to mend")
    quick = {"videos": 2, "seconds": 2.0, "mended": 1}
    return run("shift_recovery", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    figures = measure(args.weights, args.videos, args.seconds, args.mended)
    report("shift_recovery", figures, args.json, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
