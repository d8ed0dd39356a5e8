"""Which clips are in sync, and training on those: `python -m trainer.refine --data.shards DIR`

As Chung and Zisserman 2016: train on what there is, measure the genuine pairs of every training
clip with that network, leave out those that do not fit, train again from fresh weights. `--rounds`
counts the trainings, every option of `python -m trainer.run` goes on to them, and a refinement that
was stopped goes on where it was. `--weights W --score-only` only scores.

A clip's score says by how much the smallest distance within a frame of no offset lies below the
smallest one elsewhere within +-15, as a share of the clip's median distance: above 0 if no other
offset fits better. The outcome is `keep.csv` (`data_tools.keep`), which `trainer.run
--data.manifest` honours; shards stay as they are.
"""

import argparse
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jsonargparse import ArgumentError
from msgspec import Meta
from numpy.typing import NDArray
from rich.console import Console

from data_tools import keep
from data_tools.atomic import atomic_path, sync, try_folder, write_json
from data_tools.errors import UserError
from data_tools.keep import Row, write_keep
from data_tools.lock import locked
from data_tools.names import print_anything
from data_tools.progress import progress
from data_tools.records import Count, RecordError, decode_record, read_lines, read_record
from trainer.config import check, parse
from trainer.data.dataset import Dataset
from trainer.data.loader import LoaderError
from trainer.model.weights import WeightsError, load_model
from trainer.score.clip_distances import Unreadable, clip_distances, embed_clips
from trainer.score.embed import fold
from trainer.score.scoring import TOLERANCE, in_words, score_distances
from trainer.train import checkpoint
from trainer.train.checkpoint import CheckpointError
from trainer.train.distributed import find_device

_EPILOG = """\
All other options go to trainer.run: --config FILE, --train.epochs 40 ...

examples:
  python -m trainer.refine --data.shards shards --config grid.yaml
      train, score, leave out, train again: the second network is in runs/refine-shards/round-2
  python -m trainer.refine --data.shards shards --weights W --score-only --out scores
      only say which clips are off, in scores/keep.csv and scores/scores.png
  python -m trainer.refine --data.shards shards --weights W --realign
      W stands in for the first training; clips that are merely shifted are put in place

exit status: 0 done, 1 bad data or a training that failed, 2 wrong usage
"""

REACH = 15  # frames to either side
MIN_WINDOWS = 21  # a second of video; fewer average too little to be judged
MIN_LEARNT = 0.03  # score of a usual clip below which a network has not learnt to tell
_APART = 3  # frames: offsets nearer than this belong to the same minimum
_TRIM = 0.1  # share of the windows left out at each end
_VERSION = 1  # raise when the same files come to give other scores
SCORES, PARTIAL, KEEP = "scores.jsonl", "scores.jsonl.partial", "keep.csv"


class RefineError(UserError):
    """A refinement that cannot go on; says why in one sentence."""


@dataclass(frozen=True)
class Judged:
    """What was measured of one clip.

    Attributes:
        clip: its key.
        windows: five-frame windows.
        score: of no offset, see above.
        offset: of the smallest distance; positive: the audio is early.
        best_score: the score that the clip would have if that offset were mended.
        fault: why it could not be measured; "" if it was.
    """

    clip: str
    windows: Count
    score: float = 0.0
    offset: Annotated[int, Meta(ge=-REACH, le=REACH)] = 0
    best_score: float = 0.0
    fault: str = ""

    @property
    def judged(self) -> bool:
        """Whether its score means anything."""
        return not self.fault and self.windows >= MIN_WINDOWS


@dataclass(frozen=True)
class Summary:
    """What we read of a run's summary.json; scores are None where there are none."""

    finished: bool = False
    seconds: float = 0.0
    steps: Count = 0
    parameters: Count = 0
    first_step_wait_ms: float | None = None
    utilisation: float = 0.0
    val_accuracy_k5: float | None = None
    val_accuracy_k15: float | None = None
    val_auc: float | None = None
    test_accuracy_k5: float | None = None
    test_accuracy_k15: float | None = None
    test_auc: float | None = None


def read_summary(run: Path) -> Summary | None:
    """What a run's folder says of it; None before its end.

    Raises:
        RecordError: its summary.json is damaged.
    """
    try:
        return read_record(
            run / "summary.json",
            Summary,
            "is not the summary of a run",
            "delete it, and the same command writes it anew",
            as_python=True,  # earlier versions wrote NaN
        )
    except (FileNotFoundError, NotADirectoryError):
        return None


def judge(clip: str, distances_KS: NDArray[np.float32], valid_KS: NDArray[np.bool_]) -> Judged:
    """Score one clip from its distances (`trainer.score.clip_distances.clip_distances`).

    A hand before the mouth or a broken sound gives wild windows: at each shift the tenth of the
    windows with the smallest and the tenth with the largest distance are left out. (The median
    over windows would leave out more, but tells less: a network that has learnt little finds the
    offset in the sum of many weak hints.)
    """
    found = score_distances(distances_KS, valid_KS, _TRIM)
    means, none = found.means_S, found.reach
    best = none - found.offset
    return Judged(clip, len(distances_KS), _lead(means, none), found.offset, _lead(means, best))


def _lead(means_S: NDArray[np.float64], at: int) -> float:
    """By how much the smallest mean within a frame of shift `at` lies below that of all others."""
    away = abs(np.arange(len(means_S)) - at)
    known = np.isfinite(means_S)
    near, far = means_S[(away <= TOLERANCE) & known], means_S[(away >= _APART) & known]
    if len(near) == 0 or len(far) == 0:
        return 0.0
    return float((far.min() - near.min()) / max(float(np.median(means_S[known])), 1e-12))


def score_clips(
    shards: Path, weights: Path, folder: Path, *, device: str = "cpu", threads: int = 0
) -> list[Judged]:
    """Measure every training clip in one streaming pass; goes on where a killed pass stopped.

    Writes folder/scores.jsonl when done, until then scores.jsonl.partial; both begin with what they
    belong to, and are used again only for the same weights and clips.

    Raises:
        WeightsError, RecordError, LoaderError: bad data.
    """
    dataset = Dataset(shards, "train")
    identity = {
        "version": _VERSION,
        "weights_sha256": _file_digest(weights),
        "clips_sha256": _clips_digest(dataset),
        "reach": REACH,
    }
    windows = dict(zip(dataset.keys, dataset.windows.tolist(), strict=True))
    done = _read_scores(folder / SCORES, identity, windows)
    if len(done) == len(dataset):
        return [done[key] for key in sorted(done)]
    model = fold(load_model(weights)).to(device)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / PARTIAL
    done = _read_scores(partial, identity, windows)
    _write_scores(partial, identity, done.values())  # drops a line that was cut off
    left = [clip for clip, key in enumerate(dataset.keys) if key not in done]
    with (
        progress("scoring", len(dataset), "clips") as advance,
        open(partial, "a", encoding="utf-8") as stream,
    ):
        advance(len(done))
        for one in embed_clips(dataset, model, left, device=device, threads=threads):
            key = dataset.keys[one.clip]
            if isinstance(one, Unreadable):
                found = Judged(key, windows[key], fault=one.reason)
            else:
                found = judge(key, *clip_distances(one.lips_KD, one.sound_KD, REACH))
            done[key] = found
            stream.write(json.dumps(asdict(found)) + "\n")
            stream.flush()
            advance(1)
    partial.replace(folder / SCORES)
    sync(folder)
    return [done[key] for key in sorted(done)]


def _read_scores(
    path: Path, identity: dict[str, Any], windows: dict[str, int]
) -> dict[str, Judged]:
    """What a file of scores holds for the same weights and clips; nothing if it is of others.

    What cannot be read, such as the line at which a killed pass stopped, is measured again.

    Args:
        windows: of every clip; a score of another clip counts for nothing.
    """
    found: dict[str, Judged] = {}
    try:
        for number, line in read_lines(path):
            try:
                if number > 1:
                    one = decode_record(line, Judged)
                elif decode_record(line, dict[str, Any]) != identity:
                    break
                else:
                    continue
            except RecordError:
                break
            if windows.get(one.clip) == one.windows:
                found[one.clip] = one
    except (FileNotFoundError, NotADirectoryError):
        pass
    return found


def _write_scores(path: Path, identity: dict[str, Any], scores: Iterable[Judged]) -> None:
    lines = [json.dumps(identity), *(json.dumps(asdict(one)) for one in scores)]
    with atomic_path(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise WeightsError(f"{path} is no file; give the file with the weights")
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _clips_digest(dataset: Dataset) -> str:
    records = (record for shard in dataset.shards for record in shard.records)
    text = "".join(f"{record.key} {record.hash}\n" for record in records)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Mixture:
    """Two normal distributions fitted to scores, the lower one first.

    Attributes:
        means, deviations, shares: (2,) each.
        separate: whether they are two groups and not one whose shape is not quite normal.
        threshold: between them, where a score is as likely of the one as of the other.
    """

    means: tuple[float, float]
    deviations: tuple[float, float]
    shares: tuple[float, float]
    separate: bool
    threshold: float


def fit_mixture(scores: NDArray[np.float64]) -> Mixture | None:
    """Fit two normal distributions by expectation maximisation; None for fewer than ten scores.

    They count as two groups if together they explain the scores better than one does (by BIC), lie
    apart (Ashman's D > 2), the lower one does not lie clearly above 0, as clips in sync do, and
    the upper one shows a network that has learnt something.
    """
    if len(scores) < 10 or np.ptp(scores) == 0:
        return None
    scores = np.sort(scores)
    floor = 0.02 * float(scores.std())
    best: tuple[float, Any] | None = None
    for share in (0.05, 0.2, 0.5):
        cut = max(1, round(share * len(scores)))
        means = np.array([scores[:cut].mean(), scores[cut:].mean()])
        spread = np.full(2, scores.std() / 2)
        shares = np.array([share, 1 - share])
        for _ in range(300):
            density = shares * _normal(scores[:, None], means, spread)
            weight = density / np.maximum(density.sum(1, keepdims=True), 1e-300)
            total = np.maximum(weight.sum(0), 1e-9)
            means = (weight * scores[:, None]).sum(0) / total
            spread = np.sqrt((weight * (scores[:, None] - means) ** 2).sum(0) / total) + floor
            shares = total / total.sum()
        density = (shares * _normal(scores[:, None], means, spread)).sum(1)
        likelihood = float(np.log(np.maximum(density, 1e-300)).sum())
        if best is None or likelihood > best[0]:
            best = likelihood, (means, spread, shares)
    assert best is not None
    likelihood, (means, spread, shares) = best
    order = np.argsort(means)
    means, spread, shares = means[order], spread[order], shares[order]
    single = float(np.log(_normal(scores, scores.mean(), scores.std())).sum())
    better = likelihood - single > 1.5 * np.log(len(scores))  # three parameters more
    apart = (means[1] - means[0]) > np.sqrt(2 * (spread**2).sum())
    between = np.linspace(means[0], means[1], 1000)
    density = shares * _normal(between[:, None], means, spread)
    threshold = float(between[int(np.argmax(density[:, 1] >= density[:, 0]))])
    return Mixture(
        (float(means[0]), float(means[1])),
        (float(spread[0]), float(spread[1])),
        (float(shares[0]), float(shares[1])),
        bool(better and apart and means[0] < means[1] / 4 and means[1] >= MIN_LEARNT),
        threshold,
    )


def _normal(x: Any, mean: Any, deviation: Any) -> Any:
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class Threshold:
    """The score below which a clip is not in sync, and how it was found, in words."""

    value: float
    words: str
    mixture: Mixture | None = None


def find_threshold(
    scores: NDArray[np.float64], fixed: float | None = None, reject_share: float | None = None
) -> Threshold:
    """By a fixed value, by the share to reject, or from two groups of scores."""
    if fixed is not None:
        return Threshold(fixed, f"threshold {fixed:g} as given")
    if reject_share is not None:
        value = float(np.quantile(scores, reject_share)) if len(scores) else -np.inf
        return Threshold(
            value, f"threshold {value:.3f}: the lowest {reject_share:.0%} are rejected"
        )
    mixture = fit_mixture(scores)
    if mixture is None or not mixture.separate:
        return Threshold(
            -np.inf,
            "no threshold: the scores form one group, so nothing stands out and nothing is "
            "rejected (few are off sync, or the network has not learnt enough to tell)",
            mixture,
        )
    (low, high), (share, _) = mixture.means, mixture.shares
    return Threshold(
        mixture.threshold,
        f"threshold {mixture.threshold:.3f} between two groups: {share:.0%} around {low:.2f}, the "
        f"others around {high:.2f}",
        mixture,
    )


def give_verdicts(judged: Iterable[Judged], threshold: float, realign: bool) -> dict[str, Row]:
    """A row of keep.csv for each clip.

    A clip of under a second is kept: it cannot be judged, and most clips are in sync. The best of
    31 offsets always leads by something, so a clip counts as merely shifted only if it leads by
    half of what is usual among the clips kept.
    """
    judged = list(judged)
    kept = [one.score for one in judged if one.judged and one.score >= threshold]
    clear = max(threshold, float(np.median(kept)) / 2) if kept else np.inf
    rows = {}
    for one in judged:
        if one.fault:
            rows[one.clip] = Row(keep.UNREADABLE, reason=one.fault)
        elif not one.judged:
            reason = f"too short to be judged ({one.windows} windows), so kept"
            rows[one.clip] = Row(keep.KEEP, reason=reason)
        elif one.score >= threshold:
            rows[one.clip] = Row(keep.KEEP, one.score, one.offset)
        elif one.best_score >= clear and TOLERANCE < abs(one.offset) < REACH:
            verdict = keep.REALIGN if realign else keep.SHIFTED
            rows[one.clip] = Row(verdict, one.score, one.offset, in_words(one.offset))
        else:
            reason = f"no offset within {REACH} frames fits the lips clearly better than others"
            rows[one.clip] = Row(keep.NO_MINIMUM, one.score, one.offset, reason)
    return rows


def plot(judged: list[Judged], threshold: Threshold, path: Path) -> None:
    """Histogram of the scores with the fitted groups and the threshold, as PNG."""
    from matplotlib.figure import Figure

    scores = np.array([one.score for one in judged if one.judged])
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    if len(scores):
        _, edges, _ = axes.hist(scores, bins=60, color="#9db8d2")
        if threshold.mixture is not None:
            x = np.linspace(edges[0], edges[-1], 400)
            mixture = threshold.mixture
            scale = len(scores) * (edges[1] - edges[0])
            for mean, deviation, share in zip(
                mixture.means, mixture.deviations, mixture.shares, strict=True
            ):
                axes.plot(x, scale * share * _normal(x, mean, deviation), lw=1.5)
        if np.isfinite(threshold.value):
            axes.axvline(threshold.value, color="#c8452f", lw=1.2)
    axes.set(
        xlabel="score: how much better no offset fits than any other (share of the distance)",
        ylabel="clips",
    )
    axes.set_title(threshold.words, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


@dataclass(frozen=True)
class Options:
    """How clips are judged.

    Attributes:
        threshold: a fixed score; else by `reject_share`, else from two groups.
        reject_share: share of the clips to reject.
        realign: shifted clips are used with their sound moved into place.
        device, threads: of the scoring.
    """

    threshold: float | None = None
    reject_share: float | None = None
    realign: bool = False
    device: str = "cpu"
    threads: int = 0


def score_and_judge(
    shards: Path, weights: Path, folder: Path, options: Options, say: Callable[[str], None]
) -> dict[str, Any]:
    """Score the training clips; write keep.csv, scores.jsonl and scores.png; returns a summary.

    Raises:
        RefineError: nothing would be kept; and as `score_clips`.
    """
    judged = score_clips(shards, weights, folder, device=options.device, threads=options.threads)
    scores = np.array([one.score for one in judged if one.judged])
    threshold = find_threshold(scores, options.threshold, options.reject_share)
    rows = give_verdicts(judged, threshold.value, options.realign)
    plot(judged, threshold, folder / "scores.png")
    say(f"{threshold.words}: {keep.in_words(rows.values())}")
    if len(scores) and np.median(scores) < MIN_LEARNT:
        say(
            f"warning: half of the clips score below {MIN_LEARNT:g}, so this network can hardly "
            "tell: train longer before you reject by it"
        )
    say(f"wrote {folder / 'scores.png'}: histogram of the scores")
    if not any(row.used for row in rows.values()):
        raise RefineError(f"no clip would be kept, see {folder / 'scores.png'}; no {KEEP} written")
    write_keep(folder / KEEP, rows)
    say(
        f"wrote {folder / KEEP}: for `trainer.run --data.manifest` and `data_tools pack --manifest`"
    )
    return {
        "threshold": threshold.value if np.isfinite(threshold.value) else None,
        "threshold_in_words": threshold.words,
        "mixture": asdict(threshold.mixture) if threshold.mixture else None,
        "verdicts": {
            verdict: sum(row.verdict == verdict for row in rows.values())
            for verdict in keep.VERDICTS
        },
    }


def refine(
    shards: Path,
    folder: Path,
    rounds: int,
    options: Options,
    training: list[str],
    say: Callable[[str], None],
    weights: Path | None = None,
) -> Path:
    """Train, score, reject and train again, `rounds` trainings in all; returns the last's weights.

    Every training starts from fresh weights, so that what it learnt from rejected clips is gone,
    and has a folder of its own below `folder`. Finished parts are not done again.

    Args:
        training: options for `trainer.run`.
        weights: stand in for the first training.

    Raises:
        RefineError: a training failed; and as `score_and_judge`.
    """
    summary: list[dict[str, Any]] = []
    manifest: Path | None = None
    for number in range(1, rounds + 1):
        own = folder / f"round-{number}"
        if number == 1 and weights is not None:
            best = weights
        else:
            say(f"round {number} of {rounds}: training" + (f" on {manifest}" if manifest else ""))
            best = _train(shards, own / "run", manifest, training)
        summary.append({"weights": str(best)} | _final_scores(own / "run"))
        if number < rounds:
            summary[-1] |= score_and_judge(shards, best, own, options, say)
            manifest = own / KEEP
        write_json(folder / "refine.json", {"rounds": summary})
    return best


def _train(shards: Path, run: Path, manifest: Path | None, training: list[str]) -> Path:
    """Train in a process of its own, going on where one was stopped; returns the best weights."""
    best = run / checkpoint.BEST
    if _finished(run):
        return best
    command = [sys.executable, "-m", "trainer.run", *_arguments(shards, run, training)]
    if manifest is not None:
        command += ["--data.manifest", str(manifest)]
    status = _wait_for(command)
    if status < 0:
        raise RefineError(
            f"training in {run} was killed by signal {-status}; the same command goes on with it"
        )
    if status > 0:
        raise RefineError(f"training in {run} failed, see above")
    if not _finished(run) or not best.exists():
        raise RefineError(f"training in {run} was stopped; the same command goes on with it")
    return best


def _wait_for(command: list[str]) -> int:
    """Run a training to its end; what would end this process lets it save first."""
    with subprocess.Popen(command) as process:
        before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Ctrl-C in a terminal reaches it as well, any other way it does not; a second SIGINT,
            # unlike this, would interrupt its saving.
            process.terminate()
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


def _arguments(shards: Path, run: Path, training: list[str]) -> list[str]:
    own = ["--data.shards", str(shards), "--run.dir", str(run), "--resume", "auto"]
    return [*training, *own]


def _finished(run: Path) -> bool:
    summary = read_summary(run)
    return summary is not None and summary.finished


def _final_scores(run: Path) -> dict[str, Any]:
    """What the training's own evaluation found, for comparison over the rounds."""
    summary = read_summary(run)
    if summary is None or not summary.finished:
        return {}
    names = ("accuracy_k5", "accuracy_k15", "auc")
    wanted = [f"{split}_{name}" for split in ("val", "test") for name in names]
    scores = {name: getattr(summary, name) for name in wanted}
    return {name: value for name, value in scores.items() if value is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.refine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
        allow_abbrev=False,  # they must not be taken for ours
    )
    add = parser.add_argument
    add(
        "--data.shards",
        dest="shards",
        type=Path,
        required=True,
        metavar="DIR",
        help="shards that `data_tools pack` wrote; their training clips are scored",
    )
    add("--out", type=Path, help="folder of the results; default runs/refine-<name of DIR>")
    add("--rounds", type=int, default=2, metavar="N", help="trainings in all (default 2)")
    add("--weights", type=Path, metavar="W", help="of any SyncNet; stand in for the first training")
    add("--score-only", action="store_true", help="score with --weights, train nothing")
    add("--threshold", type=float, metavar="X", help="reject scores below X (default: found)")
    add("--reject-share", type=float, metavar="P", help="reject the share P (0..1) of the clips")
    add("--realign", action="store_true", help="use clips that are merely shifted, put in place")
    add("--device", default="auto", help="of the scoring: auto (default), cpu or cuda[:n]")
    add("--threads", type=int, default=0, help="of decoding while scoring (default: one a core)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 done, 1 bad data or a training that failed, 2 wrong usage."""
    print_anything()
    parser = _parser()
    args, training = parser.parse_known_args(argv)
    if args.threshold is not None and args.reject_share is not None:
        parser.error("give --threshold or --reject-share, not both")
    if args.reject_share is not None and not 0 <= args.reject_share < 1:
        parser.error(f"--reject-share must lie in 0..1, not {args.reject_share:g}")
    if args.threshold is not None and not np.isfinite(args.threshold):
        parser.error("--threshold must be a number")
    if args.threads < 0:
        parser.error("--threads must be at least 0")
    if args.score_only and args.weights is None:
        parser.error("--score-only needs --weights")
    if args.score_only and training:
        parser.error(f"--score-only trains nothing: what is {training[0]}?")
    if not args.score_only and args.rounds < 2:
        parser.error(f"--rounds must be at least 2 (train, refine, train), not {args.rounds}")
    for word in training:
        if word.split("=")[0] in ("--run.dir", "--resume", "--data.manifest", "--data.clips"):
            parser.error(f"{word.split('=')[0]} is set by the refinement itself")
    console = Console(
        width=None if sys.stdout.isatty() else 120, markup=False, highlight=False, emoji=False
    )

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    out = args.out or Path("runs") / f"refine-{args.shards.resolve().name}"
    try:
        try_folder(out)
    except OSError as error:
        parser.error(f"--out: {error}")
    try:
        device = find_device(args.device, "--device")
    except ValueError as error:
        parser.error(str(error))
    options = Options(args.threshold, args.reject_share, args.realign, device, args.threads)
    try:
        with locked(out, "refine"):
            if args.score_only:
                score_and_judge(args.shards, args.weights, out, options, say)
                return 0
            # refuses wrong options now, and bad shards
            config, _ = parse(_arguments(args.shards, out / "round-1" / "run", training))
            check(config)
            Dataset(args.shards, "train")
            if args.weights is not None:
                load_model(args.weights)
            best = refine(args.shards, out, args.rounds, options, training, say, args.weights)
        say(f"wrote {out / 'refine.json'}: accuracy and verdicts of each round")
        say(f"wrote {best}: the network trained on what was kept")
        return 0
    except ArgumentError as error:
        problem = " ".join(str(error.message).removeprefix("error: ").split())
        print(f"refine: {problem} (see python -m trainer.run --help)", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"refine: {error}", file=sys.stderr)
        return 2
    except (
        RefineError,
        WeightsError,
        RecordError,
        LoaderError,
        CheckpointError,
        OSError,
        RuntimeError,
    ) as error:
        print(f"refine: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("refine: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
