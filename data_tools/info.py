"""What a folder of shards holds, as a table and as a picture: `python -m data_tools info OUT`."""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from data_tools.clips import decode_jpeg
from data_tools.mfcc import COLUMNS_PER_FRAME
from data_tools.pack import MAX_SEED, summarise
from data_tools.shards import Shard, ShardError, open_shards, read_manifest

MAX_CLIPS, MAX_FRAMES = 50, 50  # of a montage
_DRAWN = 256  # pixels of a frame's longer side, more than are seen


def montage(folder: Path, picture: Path, clips: int = 6, frames: int = 12, seed: int = 0) -> None:
    """Draw `clips` clips chosen by `seed`: a strip of consecutive frames above their MFCC.

    Raises:
        ShardError: the shards are damaged or hold no clip.
    """
    from matplotlib.figure import Figure  # half a second to import, for this picture alone

    manifest = read_manifest(folder)
    found: list[tuple[Shard, int, str]] = []
    for split in manifest.splits:
        for shard in open_shards(folder, split):
            found += [(shard, clip, split) for clip in range(len(shard.keys))]
    if not found:
        raise ShardError(f"{folder} holds no clip to draw")
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(len(found), min(clips, len(found)), replace=False))
    figure = Figure(figsize=(12, 1.9 * len(chosen)), layout="constrained")
    axes = figure.subplots(2 * len(chosen), 1, height_ratios=[2, 1] * len(chosen), squeeze=False)
    for row, index in enumerate(chosen):
        shard, clip, split = found[index]
        record = shard.records[clip]
        count = min(frames, record.frames)
        start = int(rng.integers(record.frames - count + 1))
        pictures = [
            decode_jpeg(bytes(shard.jpeg(clip, start + i)), record.key) for i in range(count)
        ]
        stored = (record.height, record.width, record.channels)
        if any(picture.shape != stored for picture in pictures):
            raise ShardError(f"{shard.tar}: frames of {record.key} are not {stored}; run verify")
        strip = np.concatenate([_small(picture) for picture in pictures], axis=1)
        columns = shard.mfcc(clip)[start * COLUMNS_PER_FRAME : (start + count) * COLUMNS_PER_FRAME]
        above, below = axes[2 * row, 0], axes[2 * row + 1, 0]
        # The extent is in frames on both axes' x, so that picture and sound stand aligned.
        extent = (start, start + count)
        gray = {"cmap": "gray", "vmin": 0, "vmax": 255} if strip.shape[2] == 1 else {}
        pixels = strip[:, :, 0] if strip.shape[2] == 1 else strip
        above.imshow(pixels, aspect="auto", extent=(*extent, 0, 1), **gray)
        above.set_title(
            f"{record.clip} ({split}, {record.width}x{record.height}, {record.frames} frames)",
            fontsize=8,
            loc="left",
            parse_math=False,  # a name may hold dollars
        )
        above.axis("off")
        below.imshow(
            columns[:, 1:].T,  # c0, the log energy, would drown the others
            aspect="auto",
            origin="lower",
            extent=(start, start + len(columns) / COLUMNS_PER_FRAME, 1, 13),
        )
        below.set_xlim(*extent)
        below.set_ylabel("MFCC", fontsize=7)
        below.tick_params(labelsize=6)
    axes[-1, 0].set_xlabel("frame", fontsize=7)
    figure.savefig(picture, dpi=110)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, channels = pixels.shape
    scale = _DRAWN / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(scale * width)), max(1, round(scale * height))
    smaller = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8).reshape(*size[::-1], channels)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `info`."""
    parser.add_argument("out", type=Path, help="folder of shards")
    parser.add_argument(
        "--montage", type=Path, metavar="FILE.png", help="draw frames and MFCC of sampled clips"
    )
    parser.add_argument("--clips", type=int, default=6, help="clips in the montage (default 6)")
    parser.add_argument("--frames", type=int, default=12, help="frames a clip in it (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="which clips (default 0)")


def main(args: argparse.Namespace) -> int:
    """Run `info` from the command line."""
    if not (1 <= args.clips <= MAX_CLIPS and 1 <= args.frames <= MAX_FRAMES):
        raise ValueError(
            f"--clips must be at least 1 and at most {MAX_CLIPS}, --frames must be at least 1 and "
            f"at most {MAX_FRAMES}"
        )
    if not 0 <= args.seed <= MAX_SEED:
        raise ValueError(f"--seed must not be negative or above {MAX_SEED}")
    console = Console(markup=False, highlight=False, emoji=False)  # a name may hold [brackets]
    summarise(read_manifest(args.out), args.out, console)
    if args.montage is not None:
        montage(args.out, args.montage, args.clips, args.frames, args.seed)
        print(f"montage: {args.montage}")
    return 0
