"""What an evaluation says: a table for the terminal, evaluation.json, clips.csv and offsets.png."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from data_tools.atomic import atomic_path, write_json
from data_tools.figure import save_figure
from data_tools.mfcc import FPS
from trainer.score.evaluation import CONTEXTS, MOVES, PARTS, ClipMeasurement, EvaluationOptions
from trainer.score.intervals import Evaluation, Figure, ShiftRow
from trainer.score.protocol import Protocol
from trainer.score.scoring import REACH, TOLERANCE, in_words

JSON, CLIPS, PICTURE = "evaluation.json", "clips.csv", "offsets.png"
_FRAME_MS = 1000 // FPS


def write_report(
    out: Path,
    evaluation: Evaluation,
    measured: list[ClipMeasurement],
    left_out: dict[str, str],
    *,
    options: EvaluationOptions,
    weights: Path,
    model: str,
    own_offsets: Path | None = None,
    protocol: Protocol | None = None,
) -> None:
    """Write all files into the folder `out`.

    Args:
        left_out: clips that could not be measured, and why.
        weights: their file, whose digest is noted.
        model: its name.
        own_offsets: file of the offsets that are right.
        protocol: its figures, if one was asked for.

    Raises:
        OSError: a file cannot be read or written.
    """
    with open(weights, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    figures = evaluation.as_dict() | {
        "options": asdict(options),
        "model": model,
        "weights_sha256": digest,
        "left_out": left_out,
        "own_offsets": None if own_offsets is None else own_offsets.name,
    }
    if protocol is not None:
        figures["protocol"] = protocol.as_dict()
    write_json(out / JSON, figures)
    write_rows(measured, left_out, out / CLIPS)
    plot(evaluation, out / PICTURE)


def table(evaluation: Evaluation) -> Table:
    """For the terminal."""
    shown = Table("measure", "value", "95 % interval", *PARTS, "zero-padded", "of")

    def add(
        name: str,
        figure: Figure,
        say: Callable[[float], str],
        of: str,
        others: Sequence[Figure | None] = (None,) * 3,
    ) -> None:
        value = "none long enough" if figure.value is None else say(figure.value)
        between = "one source"
        if figure.low is not None and figure.high is not None:
            between = f"{say(figure.low)} to {say(figure.high)}"
        more = [
            "" if other is None or other.value is None else say(other.value) for other in others
        ]
        shown.add_row(name, value, between, *more, of)

    share, number = "{:.1%}".format, "{:.2f}".format
    for context in CONTEXTS:
        name = f"k{context}"
        others = [
            evaluation.accuracy_inside[name],
            evaluation.accuracy_speech[name],
            evaluation.accuracy_zero_padded[name],
        ]
        starts = f"{evaluation.starts[name]:,} starts"
        add(f"within +-1 frame, K={context}", evaluation.accuracy[name], share, starts, others)
    clips = f"{evaluation.clips:,} clips, {evaluation.sources:,} sources"
    pairs = f"{evaluation.pairs.genuine:,} genuine, {evaluation.pairs.false:,} false"
    add("within +-1 frame, clip", evaluation.accuracy["clip"], share, clips)
    add("AUC", evaluation.auc, "{:.4f}".format, pairs)
    add("equal error rate", evaluation.eer, share, pairs)
    add("LSE-C (confidence)", evaluation.lse_c, number, clips)
    add("LSE-D (distance)", evaluation.lse_d, number, clips)
    return shown


def shift_lines(rows: list[ShiftRow]) -> Iterator[str]:
    """What the shift test found, in words: one line per move."""
    for row in rows:
        move = row.moved_early_frames
        way = "early" if move > 0 else "late"
        what = f"sound made {abs(move)} frames ({_FRAME_MS * abs(move)} ms) {way}"
        if row.clips == 0:
            yield f"{what}: no clip has room for it"
            continue
        line = (
            f"{what}: the offset moves by {row.median_change:+g} (median of {row.clips:,} clips), "
            f"within +-1 of {move:+d} in {row.share_right:.1%}"
        )
        if not row.follows:
            line += f"; IT DOES NOT FOLLOW ({row.share_wrong_sign:.1%} with the wrong sign)"
        yield line


def plot(evaluation: Evaluation, path: Path) -> None:
    """Histograms of the errors of the offsets found, as PNG: K = 5, K = 15 and whole clips."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(11, 3.2), layout="constrained")
    names = {"k5": "K = 5", f"k{CONTEXTS[-1]}": f"K = {CONTEXTS[-1]}", "clip": "whole clips"}
    for axes, (name, title) in zip(picture.subplots(1, 3, sharey=True), names.items(), strict=True):
        counts = np.array(evaluation.offset_histogram[name])
        errors = np.arange(-REACH, REACH + 1)
        right = abs(errors) <= TOLERANCE
        axes.bar(errors, counts / max(1, counts.sum()), color=np.where(right, "#2a78b5", "#c8452f"))
        value = evaluation.accuracy[name].value
        share = "" if value is None else f": {value:.1%} within +-1"
        axes.set(title=title + share, xlabel="offset error, frames (positive: found early)")
        axes.spines[["top", "right"]].set_visible(False)
    picture.axes[0].set_ylabel("share")
    save_figure(picture, path)


def write_rows(measured: list[ClipMeasurement], left_out: dict[str, str], path: Path) -> None:
    """Write one row per clip; what was left out has only its name and the reason."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(csv_row(measured[0])), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(csv_row(clip) for clip in measured)
    writer.writerows({"clip": clip, "left_out": reason} for clip, reason in left_out.items())
    with atomic_path(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def csv_row(clip: ClipMeasurement) -> dict[str, Any]:
    """A clip's row of clips.csv: plain values by column."""
    score = clip.score
    row: dict[str, Any] = {
        "clip": clip.record.key,
        "source": clip.record.source,
        "windows": len(score.frames_K),
        "offset_frames": score.offset,
        "offset_ms": _FRAME_MS * score.offset,
        "own_offset_frames": clip.own,
        "meaning": in_words(score.offset),
        "lse_c": round(score.confidence, 6),
        "lse_d": round(score.distance, 6),
        "clearness": round(score.clearness, 4),
    }
    for at, context in enumerate(CONTEXTS):
        row[f"k{context}_starts"] = int(clip.starts[at])
        row[f"k{context}_right"] = int(clip.right[at])
        row[f"k{context}_right_padded"] = int(clip.right_padded[at])
        for part, counts in clip.parts.items():
            row[f"k{context}_starts_{part}"] = int(counts[at, 0])
            row[f"k{context}_right_{part}"] = int(counts[at, 1])
    moves = MOVES[: len(clip.moved)]
    row |= {
        f"offset_moved_{move:+d}": offset for move, offset in zip(moves, clip.moved, strict=True)
    }
    return row | {"left_out": ""}
