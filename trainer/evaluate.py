"""How well does a network find offsets?  `python -m trainer.evaluate --weights W --data.shards DIR`

As in the literature, the sound is moved by up to 15 frames to either side, and the shift at which
it fits the lips best must be right within one frame. K says how many frames of context there are to
tell by: from 5, a fifth of a second and one window of the network, to 15, whose K - 4 windows are
averaged. Wherever in a clip K frames begin is a start, and each start is one question.

A shift that leads beyond the clip is left out of the search, which makes starts near an end easier.
So three more columns stand beside the share of starts that are right: "inside" counts only starts
from which every shift lies inside the clip; "speech" of these only those that are louder than 20 dB
below the clip's loud parts, since nothing can be told in a pause; "zero-padded" counts all starts,
with zeros for the sound beyond the clip, as the official code does.

Then there are the AUC and the equal error rate of telling genuine pairs from false ones, and LSE-C
and LSE-D of whole clips. The 95 % intervals come from resampled sources, since clips of one source
are alike. The same command gives the same files.
"""

import argparse
import csv
import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_tools.atomic import atomic_path, try_folder, write_json
from data_tools.clips import SPLITS
from data_tools.errors import MissingPackage, UserError
from data_tools.lock import InUse, locked
from data_tools.manifest import ClipRecord
from data_tools.names import print_anything
from data_tools.progress import progress
from data_tools.records import RecordError, read_table, whole_number
from trainer.data.dataset import Dataset
from trainer.data.loader import LoaderError
from trainer.model.syncnet import SyncNet
from trainer.model.weights import WeightsError, load_model
from trainer.score.clip_distances import Unreadable, clip_distances, clip_sound, embed_clips
from trainer.score.embed import fold
from trainer.score.scoring import TOLERANCE, Score, auc, eer, in_words, offsets, score_distances
from trainer.train.distributed import find_device

_EPILOG = """\
examples:
  python -m trainer.evaluate --weights runs/x/best.pt --data.shards shards
      every clip of the test split, into evaluations/best-test
  python -m trainer.evaluate --weights runs/x/best.pt --data.shards shards --split val --shift-test
      does the offset follow when the sound is moved?
  python -m trainer.evaluate --weights runs/x/best.pt --data.shards shards --swapped --out control
      the control: with the sound of another clip, which must score at chance

exit status: 0 measured, 1 bad data or a shift test that fails, 2 wrong usage
"""

REACH = 15  # frames to either side, as in the literature
SHIFTS = 2 * REACH + 1
CHANCE = (2 * TOLERANCE + 1) / SHIFTS
CONTEXTS = (5, 7, 9, 11, 13, 15)  # K, frames
MOVES = (-12, -6, -3, 3, 6, 12)  # of the shift test, frames; positive: the sound is made early
# Starts that are counted on their own: where every shift lies inside the clip, and of these those
# whose frames hold speech.
PARTS = ("inside", "speech")
SPEECH = 20  # dB below a clip's loud parts there are breath and room
_PAIRS = 4_000_000  # false pairs kept for AUC and EER, over all clips
_BINS = 1024  # of the distances, for intervals of AUC and EER


class EvaluationError(UserError):
    """Nothing can be measured; says why in one sentence."""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        split: of the shards.
        starts: start positions of a clip, evenly spaced; 0 is all.
        max_clips: clips, evenly spaced through the split; 0 is all.
        min_shift: frames that the sound of a false pair is off, at least.
        swapped: each clip with the sound of another.
        shift_test: whether the offset follows sound that is moved.
        resamples: of the sources, for the intervals.
        seed: of the resampling.
    """

    split: str = "test"
    starts: int = 0
    max_clips: int = 0
    min_shift: int = 3
    swapped: bool = False
    shift_test: bool = False
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """What one clip gives.

    Attributes:
        record: of the clip.
        score: over the whole clip.
        runs: (contexts,) start positions.
        right, right_padded: (contexts,) of these within a frame, masked and with zeros.
        parts: start positions and right ones, (contexts, 2), of each of PARTS.
        histogram: (contexts, SHIFTS) errors of the offsets found, masked, -REACH first.
        genuine, false: distances of pairs.
        moved: offset found after each of MOVES; empty without the shift test.
        own: the offset that is right, 0 unless another is known.
    """

    record: ClipRecord
    score: Score
    runs: NDArray[np.int64]
    right: NDArray[np.int64]
    right_padded: NDArray[np.int64]
    parts: dict[str, NDArray[np.int64]]
    histogram: NDArray[np.int64]
    genuine: NDArray[np.float32]
    false: NDArray[np.float32]
    moved: tuple[int, ...] = ()
    own: int = 0

    def row(self) -> dict[str, Any]:
        """Plain values, for the CSV."""
        found = self.score
        row: dict[str, Any] = {
            "clip": self.record.key,
            "source": self.record.source,
            "windows": len(found.frames_K),
            "offset_frames": found.offset,
            "offset_ms": 40 * found.offset,
            "own_offset_frames": self.own,
            "meaning": in_words(found.offset),
            "lse_c": round(found.confidence, 6),
            "lse_d": round(found.distance, 6),
            "clearness": round(found.clearness, 4),
        }
        for i, context in enumerate(CONTEXTS):
            row[f"k{context}_starts"] = int(self.runs[i])
            row[f"k{context}_right"] = int(self.right[i])
            row[f"k{context}_right_padded"] = int(self.right_padded[i])
            for part, counts in self.parts.items():
                row[f"k{context}_starts_{part}"] = int(counts[i, 0])
                row[f"k{context}_right_{part}"] = int(counts[i, 1])
        moves = MOVES[: len(self.moved)]
        row |= {f"offset_moved_{m:+d}": f for m, f in zip(moves, self.moved, strict=True)}
        return row | {"left_out": ""}


def evaluate(
    shards: Path,
    model: SyncNet,
    options: Options,
    *,
    own: Mapping[str, int] | None = None,
    device: str = "cpu",
    threads: int = 0,
) -> tuple[list[Measured], dict[str, str]]:
    """Measure every clip of a split.

    Args:
        model: folded, on `device`.
        own: the offset that is right for each clip, by its key, frames within +-REACH; a clip
            without one is left out. By default all are in sync.

    Returns:
        the clips in the order of the shards, and those left out by key with the reason.

    Raises:
        RecordError, LoaderError: bad data.
        EvaluationError: no clip can be measured, or none other to swap with.
    """
    dataset = Dataset(shards, options.split)
    records = [record for shard in dataset.shards for record in shard.records]
    clips = np.arange(len(dataset))
    if 0 < options.max_clips < len(clips):
        clips = np.unique(np.linspace(0, len(clips) - 1, options.max_clips).round().astype(int))
    partners = _partners([records[clip].source for clip in clips]) if options.swapped else None
    pairs = max(SHIFTS, _PAIRS // len(clips))
    found: dict[int, Measured] = {}
    left_out: dict[str, str] = {}
    with progress("evaluating", len(clips), "clips") as advance:
        for one in embed_clips(dataset, model, clips.tolist(), device=device, threads=threads):
            advance(1)
            key = records[one.clip].key
            if isinstance(one, Unreadable):
                left_out[key] = one.reason
                continue
            if own is not None and key not in own:
                left_out[key] = "its own offset is not listed"
                continue
            sound = one.sound_KD
            if partners is not None:
                partner = int(clips[partners[int(np.searchsorted(clips, one.clip))]])
                sound = clip_sound(dataset, model, partner, device=device)
            moved = []
            for move in MOVES if options.shift_test else ():
                early = clip_sound(dataset, model, one.clip, move, device)
                parts = clip_distances(one.lips_KD, early, REACH, move)
                moved.append(score_distances(*parts).offset)
            found[one.clip] = measure_clip(
                records[one.clip],
                one.lips_KD,
                sound,
                options,
                pairs,
                tuple(moved),
                dataset.loud(one.clip, SPEECH),
                own[key] if own else 0,
            )
    if not found:
        reasons = ", ".join(sorted(set(left_out.values())))
        raise EvaluationError(
            f"no clip of the {options.split} split of {shards} can be measured: {reasons}"
        )
    return [found[clip] for clip in sorted(found)], dict(sorted(left_out.items()))


def measure_clip(
    record: ClipRecord,
    lips_KD: torch.Tensor,
    sound_LD: torch.Tensor,
    options: Options,
    pairs: int,
    moved: tuple[int, ...] = (),
    speech_K: NDArray[np.bool_] | None = None,
    own: int = 0,
) -> Measured:
    """One clip from its embeddings; at most `pairs` false pairs are kept, evenly spaced.

    `speech_K` says which windows hold speech, by default all; `own` is the offset that is right.
    """
    speech_K = np.ones(len(lips_KD), np.bool_) if speech_K is None else speech_K
    distances, valid = clip_distances(lips_KD, sound_LD, REACH)
    runs, right, padded, histogram = [], [], [], []
    parts: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
    for context in CONTEXTS:
        width = context - 4
        starts = np.arange(max(0, len(distances) - width + 1))
        if 0 < options.starts < len(starts):
            chosen = np.linspace(0, len(starts) - 1, options.starts).round().astype(int)
            starts = np.unique(chosen)
        found = offsets(sliding_means(distances, valid, width)[starts]) - own
        zeros = offsets(sliding_means(distances, np.ones_like(valid), width)[starts]) - own
        runs.append(len(starts))
        right.append(int((abs(found) <= TOLERANCE).sum()))
        padded.append(int((abs(zeros) <= TOLERANCE).sum()))
        inside = (starts >= REACH) & (starts + width + REACH <= len(distances))
        heard = np.array([speech_K[start : start + width].any() for start in starts], np.bool_)
        for part, chosen in zip(PARTS, (inside, inside & heard), strict=True):
            right_ones = int((abs(found[chosen]) <= TOLERANCE).sum())
            parts[part].append((int(chosen.sum()), right_ones))
        histogram.append(_histogram(found))
    apart = abs(np.arange(SHIFTS) - REACH + own) >= options.min_shift
    false = distances[:, apart][valid[:, apart]]
    if len(false) > pairs:
        false = false[np.linspace(0, len(false) - 1, pairs).round().astype(int)]
    return Measured(
        record,
        score_distances(distances, valid),
        np.array(runs),
        np.array(right),
        np.array(padded),
        {part: np.array(counts) for part, counts in parts.items()},
        np.array(histogram),
        distances[:, REACH - own][valid[:, REACH - own]],
        false,
        moved,
        own,
    )


def _histogram(errors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of -REACH..REACH; what is beyond counts as the farthest."""
    return np.bincount(np.clip(errors, -REACH, REACH) + REACH, minlength=SHIFTS)


def sliding_means(
    distances_KS: NDArray[np.float32], valid_KS: NDArray[np.bool_], width: int
) -> NDArray[np.float64]:
    """(K - width + 1, S) means over `width` windows from each on, over the valid ones.

    Infinite where a shift has no valid window; as `mean_over_windows` of every run.
    """
    if len(distances_KS) < width:
        return np.empty((0, distances_KS.shape[1]))

    def sums(values: NDArray[Any]) -> NDArray[np.float64]:
        whole = np.vstack([np.zeros(values.shape[1]), values.cumsum(0, dtype=np.float64)])
        return np.asarray(whole[width:] - whole[:-width])

    count = sums(valid_KS).round()
    total = sums(np.where(valid_KS, distances_KS, 0))
    return np.where(count > 0, total / np.maximum(count, 1), np.inf)


def _partners(sources: list[str]) -> list[int]:
    """For each clip the next one, of another source where there is one."""
    if len(sources) < 2:
        raise EvaluationError("one clip only: no other sound to swap in")
    found = []
    for at, source in enumerate(sources):
        following = [(at + step) % len(sources) for step in range(1, len(sources))]
        other = (place for place in following if sources[place] != source)
        found.append(next(other, following[0]))
    return found


def figures(measured: list[Measured], options: Options) -> dict[str, Any]:
    """Every figure with its 95 % interval: {"value", "low", "high"}; null where there is none."""
    sources = sorted({one.record.source for one in measured})
    number = {source: at for at, source in enumerate(sources)}
    owner = np.array([number[one.record.source] for one in measured])
    rng = np.random.default_rng(options.seed)
    count = len(sources)
    # (resamples, sources): how often each source was drawn
    weights = rng.multinomial(count, np.full(count, 1 / count), options.resamples)

    def ratio(parts: Any, wholes: Any) -> dict[str, float | None]:
        above = np.bincount(owner, parts, count)
        below = np.bincount(owner, wholes, count)
        with np.errstate(invalid="ignore"):
            drawn = (weights @ above) / (weights @ below)
        return _figure(above.sum() / below.sum() if below.sum() else np.nan, drawn, count)

    ones = np.ones(len(measured))
    result: dict[str, Any] = {
        "clips": len(measured),
        "sources": count,
        "chance": CHANCE,
        "accuracy": {},
        "accuracy_zero_padded": {},
        **{f"accuracy_{part}": {} for part in PARTS},
        "starts": {},
        "offset_histogram": {},
    }
    for i, context in enumerate(CONTEXTS):
        runs = [one.runs[i] for one in measured]
        name = f"k{context}"
        result["accuracy"][name] = ratio([one.right[i] for one in measured], runs)
        result["accuracy_zero_padded"][name] = ratio(
            [one.right_padded[i] for one in measured], runs
        )
        for part in PARTS:
            result[f"accuracy_{part}"][name] = ratio(
                [one.parts[part][i, 1] for one in measured],
                [one.parts[part][i, 0] for one in measured],
            )
        result["starts"][name] = int(sum(runs))
        result["offset_histogram"][name] = sum(one.histogram[i] for one in measured).tolist()
    whole = np.array([one.score.offset - one.own for one in measured])
    result["offset_histogram"]["clip"] = _histogram(whole).tolist()
    result["accuracy"]["clip"] = ratio(abs(whole) <= TOLERANCE, ones)
    result["lse_c"] = ratio([one.score.confidence for one in measured], ones)
    result["lse_d"] = ratio([one.score.distance for one in measured], ones)
    genuine = np.concatenate([one.genuine for one in measured])
    false = np.concatenate([one.false for one in measured])
    result["pairs"] = {"genuine": len(genuine), "false": len(false)}
    drawn = _drawn_rates(measured, owner, weights)
    for name, measure in (("auc", auc), ("eer", eer)):
        result[name] = _figure(measure(genuine, false), drawn[name], count)
    if options.shift_test:
        result["shift_test"] = shift_test(measured)
    return result


def _figure(value: float, drawn: NDArray[np.float64], sources: int) -> dict[str, float | None]:
    known = drawn[np.isfinite(drawn)]
    if sources < 2 or len(known) == 0:
        low = high = None  # one source says nothing of others
    else:
        low, high = (float(edge) for edge in np.percentile(known, [2.5, 97.5]))
    return {"value": float(value) if np.isfinite(value) else None, "low": low, "high": high}


def _drawn_rates(
    measured: list[Measured], owner: NDArray[np.int64], weights: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """AUC and EER of each resample, from histograms of the distances of each source."""
    everything = [one.genuine for one in measured] + [one.false for one in measured]
    top = max((float(part.max()) for part in everything if len(part)), default=1.0)
    shape = (weights.shape[1], _BINS)
    histograms = {"genuine": np.zeros(shape, np.float32), "false": np.zeros(shape, np.float32)}
    for source, one in zip(owner, measured, strict=True):
        for kind, own in histograms.items():
            own[source] += np.histogram(getattr(one, kind), _BINS, (0, max(top, 1e-9)))[0]
    found: dict[str, list[float]] = {"auc": [], "eer": []}
    for drawn in weights.astype(np.float32):
        near, far = drawn @ histograms["genuine"], drawn @ histograms["false"]
        if near.sum() == 0 or far.sum() == 0:
            continue
        near, far = near / near.sum(), far / far.sum()
        farther = 1 - far.cumsum()
        found["auc"].append(float((near * (farther + far / 2)).sum()))
        refused, accepted = 1 - near.cumsum(), far.cumsum()
        at = int(np.argmax(accepted >= refused))
        found["eer"].append(float((accepted[at] + refused[at]) / 2))
    return {name: np.array(values) for name, values in found.items()}


def shift_test(measured: list[Measured]) -> list[dict[str, Any]]:
    """For each of MOVES how the offset moved; "follows": by the median clip, within a frame.

    Clips whose offset would leave the search are not counted.
    """
    rows = []
    before = np.array([one.score.offset for one in measured])
    for i, move in enumerate(MOVES):
        inside = abs(before + move) <= REACH
        change = np.array([one.moved[i] for one in measured])[inside] - before[inside]
        none = len(change) == 0
        rows.append(
            {
                "moved_early_frames": move,
                "clips": len(change),
                "median_change": None if none else float(np.median(change)),
                "share_right": None if none else float((abs(change - move) <= TOLERANCE).mean()),
                "share_wrong_sign": None
                if none
                else float((abs(change + move) <= TOLERANCE).mean()),
                "follows": not none and bool(abs(np.median(change) - move) <= TOLERANCE),
            }
        )
    return rows


def read_offsets(path: Path) -> dict[str, int]:
    """By how many frames clips are off, from a CSV with columns clip and offset_frames.

    Lines without an offset (dubbed clips of `synth`, clips left out) are passed over.

    Raises:
        EvaluationError: the file cannot be read or holds no such offsets.
    """
    try:
        table = read_table(path)
        _, head = next(table, ("", []))
        if missing := {"clip", "offset_frames"} - set(head):
            raise EvaluationError(f"{path} has no column {' and no '.join(sorted(missing))}")
        if len(set(head)) < len(head):
            raise EvaluationError(f"{path} has a column twice: which one counts?")
        name, off = head.index("clip"), head.index("offset_frames")
        found: dict[str, int] = {}
        for where, fields in table:
            clip, offset = fields[name], fields[off]
            if offset:
                if clip in found:
                    raise EvaluationError(f"{where}: clip {clip[:80]!r} is twice")
                found[clip] = _offset(where, clip[:80], offset[:80])
        return found
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from None
    except RecordError as error:
        raise EvaluationError(str(error)) from None


def _offset(where: str, clip: str, text: str) -> int:
    offset = whole_number(text)
    if offset is None:
        raise EvaluationError(
            f"{where}: the offset of {clip}, {text!r}, is no whole number of frames"
        )
    if abs(offset) > REACH:
        raise EvaluationError(f"{where}: {clip} is off by {offset} frames, more than {REACH}")
    return offset


def table(result: dict[str, Any]) -> Table:
    """For the terminal."""
    shown = Table("measure", "value", "95 % interval", *PARTS, "zero-padded", "of")
    count = result["sources"]

    def add(
        name: str, figure: Any, say: Callable[[float], str], others: Sequence[Any], of: str
    ) -> None:
        value = "none long enough" if figure["value"] is None else say(figure["value"])
        between = (
            "one source"
            if figure["low"] is None
            else f"{say(figure['low'])} to {say(figure['high'])}"
        )
        more = ["" if not one or one["value"] is None else say(one["value"]) for one in others]
        shown.add_row(name, value, between, *more, of)

    for context in CONTEXTS:
        name = f"k{context}"
        add(
            f"within +-1 frame, K={context}",
            result["accuracy"][name],
            "{:.1%}".format,
            [result[f"accuracy_{part}"][name] for part in (*PARTS, "zero_padded")],
            f"{result['starts'][name]:,} starts",
        )
    clips = f"{result['clips']:,} clips, {count:,} sources"
    add("within +-1 frame, clip", result["accuracy"]["clip"], "{:.1%}".format, [None] * 3, clips)
    pairs = f"{result['pairs']['genuine']:,} genuine, {result['pairs']['false']:,} false"
    add("AUC", result["auc"], "{:.4f}".format, [None] * 3, pairs)
    add("equal error rate", result["eer"], "{:.1%}".format, [None] * 3, pairs)
    add("LSE-C (confidence)", result["lse_c"], "{:.2f}".format, [None] * 3, clips)
    add("LSE-D (distance)", result["lse_d"], "{:.2f}".format, [None] * 3, clips)
    return shown


def shift_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What the shift test found, in words."""
    for row in rows:
        move = row["moved_early_frames"]
        way = "early" if move > 0 else "late"
        what = f"sound made {abs(move)} frames ({40 * abs(move)} ms) {way}: "
        if row["clips"] == 0:
            yield what + "no clip has room for it"
            continue
        yield (
            what + f"the offset moves by {row['median_change']:+g} (median of {row['clips']:,} "
            f"clips), within +-1 of {move:+d} in {row['share_right']:.1%}"
            + (
                ""
                if row["follows"]
                else f"; IT DOES NOT FOLLOW ({row['share_wrong_sign']:.1%} with the wrong sign)"
            )
        )


def plot(result: dict[str, Any], path: Path) -> None:
    """Histograms of the offsets found, as PNG: K = 5, K = 15 and whole clips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    names = {"k5": "K = 5", f"k{CONTEXTS[-1]}": f"K = {CONTEXTS[-1]}", "clip": "whole clips"}
    for axes, (name, title) in zip(figure.subplots(1, 3, sharey=True), names.items(), strict=True):
        counts = np.array(result["offset_histogram"][name])
        found = np.arange(-REACH, REACH + 1)
        right = abs(found) <= TOLERANCE
        axes.bar(found, counts / max(1, counts.sum()), color=np.where(right, "#2a78b5", "#c8452f"))
        value = result["accuracy"][name]["value"]
        share = "" if value is None else f": {value:.1%} within +-1"
        axes.set(title=title + share, xlabel="offset error, frames (positive: found early)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("share")
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def write_rows(measured: list[Measured], left_out: dict[str, str], path: Path) -> None:
    """One row a clip; what was left out has only its name and the reason."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(measured[0].row()), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(one.row() for one in measured)
    writer.writerows({"clip": clip, "left_out": reason} for clip, reason in left_out.items())
    with atomic_path(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="best.pt of a run, or any SyncNet's weights")
    add(
        "--data.shards",
        dest="shards",
        type=Path,
        required=True,
        metavar="DIR",
        help="shards that `data_tools pack` wrote; the clips must be in sync, or see --offsets",
    )
    add("--split", choices=SPLITS, default="test", help="which of their clips (default: test)")
    add("--out", type=Path, help="folder for the files; default evaluations/<weights>-<split>")
    add("--starts", type=int, default=0, help="starts of a clip, evenly spaced (default 0: all)")
    add("--max-clips", type=int, default=0, help="clips, evenly spaced (default 0: all)")
    add("--min-shift", type=int, default=3, help="frames a false pair is off (default 3)")
    add(
        "--swapped",
        action="store_true",
        help="control: each clip with another clip's sound, which must score at chance",
    )
    add(
        "--shift-test",
        action="store_true",
        help="move each clip's sound; exit 1 if the offset does not follow with the right sign",
    )
    add(
        "--offsets",
        type=Path,
        metavar="CSV",
        help="by how much clips are off themselves, which is then right instead of 0 (columns clip "
        "and offset_frames: truth.csv of `data_tools synth`, or clips.csv of another network here)",
    )
    add("--resamples", type=int, default=1000, help="of the sources (default 1000)")
    add("--seed", type=int, default=0, help="of the resampling (default 0)")
    add("--device", default="auto", help="auto (default: a GPU if there is one), cpu or cuda[:n]")
    add("--threads", type=int, default=0, help="of decoding (default: one a core)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 measured, 1 bad data or a shift test that fails, 2 wrong usage."""
    print_anything()
    parser = _parser()
    args = parser.parse_args(argv)
    for name, least in (("starts", 0), ("max_clips", 0), ("min_shift", 1), ("resamples", 1)):
        if getattr(args, name) < least:
            option = name.replace("_", "-")
            parser.error(f"--{option} must be at least {least}, not {getattr(args, name)}")
    if args.min_shift > REACH or args.seed < 0 or args.threads < 0:
        parser.error(f"--min-shift must be at most {REACH}, --seed and --threads at least 0")
    if args.swapped and (args.shift_test or args.offsets):
        option = "--shift-test" if args.shift_test else "--offsets"
        parser.error(f"{option} needs each clip's own sound: leave out --swapped")
    try:
        device = find_device(args.device, "--device")
    except ValueError as error:
        parser.error(str(error))
    options = Options(
        args.split,
        args.starts,
        args.max_clips,
        args.min_shift,
        args.swapped,
        args.shift_test,
        args.resamples,
        args.seed,
    )
    name = f"{args.weights.stem}-{args.split}{'-swapped' if args.swapped else ''}"
    out = args.out or Path("evaluations") / name
    try:
        try_folder(out)
    except OSError as error:
        parser.error(f"--out: {error}")
    console = Console(
        width=None if sys.stdout.isatty() else 120, markup=False, highlight=False, emoji=False
    )
    try:
        with locked(out, "evaluate"):
            result, left_out = _measure(args, options, device, out)
    except InUse as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except (
        WeightsError,
        RecordError,
        LoaderError,
        EvaluationError,
        MissingPackage,
        OSError,
        RuntimeError,
    ) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("evaluate: interrupted; files it had written are whole", file=sys.stderr)
        return 130
    say = _sayer(console)
    console.print(table(result))
    if args.swapped:
        say(f"every clip had another clip's sound: chance is {CHANCE:.1%}")
    for clip, reason in left_out.items():
        say(f"left out: {clip}: {reason}")
    status = 0
    if options.shift_test:
        for line in shift_lines(result["shift_test"]):
            say(line)
        if not all(row["follows"] for row in result["shift_test"] if row["clips"]):
            print("evaluate: the offset does not follow the moved sound", file=sys.stderr)
            status = 1
        if not any(row["clips"] for row in result["shift_test"]):
            print("evaluate: no clip has room for the shift test", file=sys.stderr)
            status = 1
    for name, what in (
        ("evaluation.json", "these figures"),
        ("clips.csv", "a row a clip"),
        ("offsets.png", "histograms of the offsets"),
    ):
        say(f"wrote {out / name}: {what}")
    return status


def _measure(
    args: argparse.Namespace, options: Options, device: str, out: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """Measure and write all files; returns the figures, and what was left out and why."""
    model = fold(load_model(args.weights)).to(device)
    own = read_offsets(args.offsets) if args.offsets else None
    measured, left_out = evaluate(
        args.shards, model, options, own=own, device=device, threads=args.threads
    )
    result = figures(measured, options)
    with open(args.weights, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    result |= {
        "options": asdict(options),
        "model": model.name,
        "weights_sha256": digest,
        "left_out": left_out,
        "own_offsets": None if own is None else args.offsets.name,
    }
    write_json(out / "evaluation.json", result)
    write_rows(measured, left_out, out / "clips.csv")
    plot(result, out / "offsets.png")
    return result, left_out


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
