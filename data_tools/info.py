"""What a folder of shards holds, as a table and as a picture."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cv2
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_tools.cache_file import MAP, Look, content_key, count_filled, in_gb, read_head
from data_tools.cli import check_options
from data_tools.clips import SPLITS
from data_tools.figure import save_figure
from data_tools.jpeg import decode_jpeg
from data_tools.manifest import Manifest, ShardError, in_two_splits, read_manifest
from data_tools.mfcc import COLUMNS_PER_FRAME, FPS
from data_tools.plan import MAX_SEED
from data_tools.shards import Shard, open_shards
from data_tools.single_clip import read_clip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Bytes of a frame, as the models take them.
_TAKEN = {"64 gray": 64 * 64, "111 gray": 111 * 111, "224 RGB": 224 * 224 * 3}
_DRAWN = 256  # pixels of a frame's longer side, more than are seen


@dataclass(frozen=True)
class MontageOptions:
    """What a montage shows.

    Attributes:
        clips: Clips in the montage.
        frames: Consecutive frames of each clip.
        seed: Which clips.
    """

    clips: Annotated[int, Meta(ge=1, le=50)] = 6
    frames: Annotated[int, Meta(ge=1, le=50)] = 12
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] = 0


def summarise(manifest: Manifest, out: Path | str, console: Console) -> None:
    """Print what went into the shards and what was left out, by reason."""
    table = Table(title=f"{out}")
    for name in ("split", "clips", "hours", "frames", "MB"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split in SPLITS:
        total = manifest.splits[split]
        hours = total.frames / FPS / 3600
        table.add_row(
            split,
            f"{total.clips:,}",
            f"{hours:.2f}",
            f"{total.frames:,}",
            f"{total.bytes / 1e6:,.1f}",
        )
    console.print(table)
    dropped = manifest.dropped
    if not dropped:
        return
    reasons = Table(title=f"{len(dropped)} of {manifest.clips_found} clips left out")
    for name in ("reason", "clips", "for example"):
        reasons.add_column(name, justify="right" if name == "clips" else "left")
    for reason, count in Counter(row.reason for row in dropped).most_common():
        example = next(row for row in dropped if row.reason == reason)
        words = f"{example.clip}: {example.detail}"
        reasons.add_row(reason, str(count), printable(words))
    console.print(reasons)


def print_doubts(manifest: Manifest, out: Path, console: Console) -> bool:
    """Print what training or validation will lack; whether a clip lies in two splits."""
    for split in ("train", "val"):
        if manifest.splits[split].clips == 0:
            console.print(f"note: the {split} split is empty; see --ratios and --split-by")
    repeated = in_two_splits(out / shard.name for shard in manifest.shards)
    for words in repeated:
        console.print(f"{printable(words)}; remove one and make the shards anew elsewhere")
    return bool(repeated)


def summarise_cache(manifest: Manifest, out: Path, folder: Path, console: Console) -> None:
    """Print what the decoded frames take, as models take them, and how many of them are cached.

    Args:
        out: folder of the shards.
        folder: of the cache; need not be there.
    """
    frames = sum(total.frames for total in manifest.splits.values())
    sizes = ", ".join(f"{in_gb(frames * size)} as {name}" for name, size in _TAKEN.items())
    console.print(
        f"decoded, all frames take {sizes}: room for a cache of them (`trainer.run --data.cache`), "
        "which copies what would be decoded again and again",
        soft_wrap=True,
    )
    found: Counter[Look] = Counter()
    frames_of = {entry.name: entry.frames for entry in manifest.shards}
    for path in sorted(folder.glob(f"*{MAP}")):
        head = read_head(path)
        if head is None or frames_of.get(tar := Path(head.shard).name) != head.frames:
            continue
        try:  # the path may be that of a copy, which shares the file
            current = content_key(Shard(out / tar), head.look) == head.key
        except (ShardError, OSError):
            current = False
        if current:
            found[head.look] += count_filled(path, head)
    for look, count in sorted(found.items(), key=str):
        colour = "gray" if look.channels == 1 else "RGB"
        console.print(
            f"cached in {printable(str(folder))}: {count:,} of {frames:,} frames as {look.size} "
            f"{colour} ({look.decoder})",
            soft_wrap=True,
        )


def printable(words: str) -> str:
    """`words` on one line: a clip's name may hold line breaks and what turns a line round."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def montage(folder: Path, picture: Path, options: MontageOptions = MontageOptions()) -> None:
    """Draw clips chosen by chance into `picture`: a strip of consecutive frames above their MFCC.

    Raises:
        ShardError: the shards are damaged or hold no clip.
        UsageError: an option is out of range.
    """
    from matplotlib.figure import Figure  # half a second to import, for this picture alone

    check_options(options)
    clips: list[tuple[Shard, int]] = []
    for split in read_manifest(folder).splits:
        for shard in open_shards(folder, split):
            clips += [(shard, clip) for clip in range(len(shard))]
    if not clips:
        raise ShardError(f"{folder} holds no clip to draw")
    rng = np.random.default_rng(options.seed)
    chosen = sorted(rng.choice(len(clips), min(options.clips, len(clips)), replace=False))
    figure = Figure(figsize=(12, 1.9 * len(chosen)), layout="constrained")
    axes = figure.subplots(2 * len(chosen), 1, height_ratios=[2, 1] * len(chosen), squeeze=False)
    for row, index in enumerate(chosen):
        shard, clip = clips[index]
        frames = shard.records[clip].frames
        count = min(options.frames, frames)
        start = int(rng.integers(frames - count + 1))
        _draw_clip(axes[2 * row, 0], axes[2 * row + 1, 0], shard, clip, range(start, start + count))
    axes[-1, 0].set_xlabel("frame", fontsize=7)
    save_figure(figure, picture)


def _draw_clip(above: "Axes", below: "Axes", shard: Shard, clip: int, shown: range) -> None:
    """Draw the `shown` frames of a clip above the MFCC columns that belong to them."""
    record = shard.records[clip]
    jpegs, features = read_clip(shard, clip, shown)
    pictures = [decode_jpeg(jpeg, record.key) for jpeg in jpegs]
    stored = (record.height, record.width, record.channels)
    if any(picture.shape != stored for picture in pictures):
        raise ShardError(f"{shard.tar}: frames of {record.key} are not {stored}; run verify")
    strip = np.concatenate([_small(picture) for picture in pictures], axis=1)
    columns = features[shown.start * COLUMNS_PER_FRAME : shown.stop * COLUMNS_PER_FRAME]
    # The extent is in frames on both axes' x, so that picture and sound stand aligned.
    extent = (shown.start, shown.stop)
    pixels = strip[:, :, 0] if strip.shape[2] == 1 else strip
    # colours need neither map nor range
    above.imshow(pixels, "gray", aspect="auto", extent=(*extent, 0, 1), vmin=0, vmax=255)
    above.set_title(
        f"{record.clip} ({shard.split}, {record.width}x{record.height}, {record.frames} frames)",
        fontsize=8,
        loc="left",
        parse_math=False,  # a name may hold dollars
    )
    above.axis("off")
    below.imshow(
        columns[:, 1:].T,  # c0, the log energy, would drown the others
        aspect="auto",
        origin="lower",
        extent=(shown.start, shown.start + len(columns) / COLUMNS_PER_FRAME, 1, 13),
    )
    below.set_xlim(*extent)
    below.set_ylabel("MFCC", fontsize=7)
    below.tick_params(labelsize=6)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, channels = pixels.shape
    scale = _DRAWN / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(scale * width)), max(1, round(scale * height))
    smaller = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8).reshape(*size[::-1], channels)
