"""Draws docs/front.png, the picture of the README:  python -m benchmarks.front_picture

Left: a synthetic talking head whose sound is moved by five frames (200 ms), measured by the command
`python -m trainer.sync` as anybody's video would be: faces found, mouths cropped, offset searched.
Right: how long the first step of an epoch waits with each loader, from results/compare_loaders.json
(`python -m benchmarks.compare_loaders`).
"""

import contextlib
import io
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.draw import new_figure, plain, save_figure
from benchmarks.options import VideoSeconds
from benchmarks.result import RESULTS, try_writing
from data_tools.cli import command, exit_status, parse
from data_tools.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[1] / "docs" / "front.png"
EARLY = 5  # frames
FRAME_MS = 40
LOADERS = {  # as the README's table has them, and what lies between
    "torch-seed": "torch, one epoch's workers",
    "torch-persistent": "torch, persistent workers",
    "torch-endless": "torch, tuned",
    "webdataset": "webdataset",
    "dali-reader": "DALI's reader",
    "spdl-simplejpeg": "SPDL, tuned",
    "ours": "this project",
}
_GREY, _RED, _BLUE = "#9aa5b1", "#c8452f", "#2f6f9f"


@dataclass(frozen=True)
class Curve:
    """What was found in a video.

    Attributes:
        distances: mean distance of sound and lips by the offset in frames.
        offset: of the minimum, frames.
    """

    distances: dict[int, float]
    offset: int


def measure_video(folder: Path, seconds: float, early: int) -> Curve:
    """Make the video in `folder`, run the command on it.

    Args:
        early: frames by which the sound is early.

    Raises:
        UserError: the command finds no offset.
    """
    from benchmarks.videos import synthetic_video
    from trainer import sync

    video, out = synthetic_video(folder, seconds, early), folder / "offset.json"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = sync.main([str(video), "--json", str(out)])
    if status != 0:
        raise UserError(f"trainer.sync ended with status {status}: {said.getvalue().strip()}")
    track = json.loads(out.read_text(encoding="utf-8"))["tracks"][0]
    distances = {
        -int(shift): distance
        for shift, distance in track["mean_distance_by_shift"].items()
        if distance is not None
    }
    return Curve(dict(sorted(distances.items())), int(track["offset_frames"]))


def draw(curve: Curve, compared: dict[str, Any], picture: Path) -> None:
    """Draw both halves.

    Args:
        compared: result of compare_loaders.
        picture: PNG to write.
    """
    import matplotlib

    with matplotlib.rc_context({"font.size": 15, "axes.titlesize": 17}):
        figure = new_figure(12, 4.2)
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
        _draw_curve(left, curve)
        _draw_waits(right, compared)
        save_figure(figure, picture, dpi=100)


def _draw_curve(axes: "Axes", curve: Curve) -> None:
    axes.plot([*curve.distances], [*curve.distances.values()], "o-", color=_BLUE, ms=5, lw=2)
    lowest = curve.distances[curve.offset]
    axes.plot([curve.offset], [lowest], "o", color=_RED, ms=11)
    span = max(curve.distances.values()) - lowest
    axes.set_ylim(lowest - 0.3 * span, max(curve.distances.values()) + 0.1 * span)
    axes.annotate(
        f"{curve.offset:+d} frames, {FRAME_MS * curve.offset:+d} ms",
        (curve.offset, lowest),
        (0, -16),
        textcoords="offset points",
        ha="center",
        va="top",
        color=_RED,
    )
    axes.set(
        title=f"Sound {FRAME_MS * EARLY} ms early",
        xlabel="offset, frames (> 0: sound early)",
        ylabel="distance, sound to lips",
    )
    plain(axes)


def _draw_waits(axes: "Axes", compared: dict[str, Any]) -> None:
    names = [name for name in LOADERS if name in compared["loaders"]]
    waits = [compared["loaders"][name]["first_step_wait_ms"] for name in names]
    colours = [_RED if name == "ours" else _GREY for name in names]
    bars = axes.barh([LOADERS[name] for name in names], waits, color=colours)
    axes.bar_label(bars, [_milliseconds(wait) for wait in waits], padding=5)
    axes.set_xscale("log")
    axes.set_xlim(0.05, 20 * max(waits))
    axes.set_xticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1,000"])
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.set(title="First step of an epoch waits", xlabel="milliseconds")
    plain(axes)


def _milliseconds(wait: float) -> str:
    return f"{wait:,.0f} ms" if wait >= 10 else f"{wait:.1f} ms"


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 if the picture cannot be made."""
    parser = command("python -m benchmarks.front_picture", __doc__ or "")
    parser.add_argument("--out", type=Path, default=PICTURE, help="PNG to write")
    parser.add_argument("--seconds", type=VideoSeconds, default=12.0, help="of the video")

    def work() -> None:
        args = parse(parser, argv)
        try_writing(args.out)
        compared = json.loads((RESULTS / "compare_loaders.json").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            curve = measure_video(Path(folder), args.seconds, EARLY)
        draw(curve, compared, args.out)
        print(f"wrote {args.out}")

    return exit_status("front_picture", work, "stopped")


if __name__ == "__main__":
    sys.exit(main())
