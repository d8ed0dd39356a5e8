"""Which clips are in sync, as a network sees it: one score per clip, and going on after a kill.

A clip's score says by how much the smallest distance within a frame of no offset lies below the
smallest one elsewhere within +-15, as a share of the clip's median distance: above 0 if no other
offset fits better.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, sync
from data_tools.progress import progress
from data_tools.records import Count, RecordError, decode_record, read_lines
from trainer.data.dataset import Dataset
from trainer.model.fold import fold
from trainer.model.weights import WeightsError, load_model
from trainer.score.clip_distances import Unreadable, clip_distances, embed_clips
from trainer.score.scoring import REACH, TOLERANCE, score_distances

SCORES, PARTIAL = "scores.jsonl", "scores.jsonl.partial"
MIN_WINDOWS = 21  # a second of video; fewer average too little to be judged
_APART = 3  # frames: offsets nearer than this belong to the same minimum
_TRIM = 0.1  # share of the windows left out at each end
_VERSION = 1  # raise when the same files come to give other scores


@dataclass(frozen=True)
class ClipScore:
    """What was measured of one clip.

    Attributes:
        clip: its key.
        windows: five-frame windows.
        score: of no offset, see above.
        offset: of the smallest distance, frames; positive: the audio is early.
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


def score_clip(
    clip: str, distances_KS: NDArray[np.float32], valid_KS: NDArray[np.bool_]
) -> ClipScore:
    """Score one clip from its distances (`trainer.score.clip_distances.clip_distances`).

    A hand before the mouth or a broken sound gives wild windows: at each shift the tenth of the
    windows with the smallest and the tenth with the largest distance are left out. (The median
    over windows would leave out more, but tells less: a network that has learnt little finds the
    offset in the sum of many weak hints.)
    """
    track = score_distances(distances_KS, valid_KS, _TRIM)
    means, none = track.means_S, track.reach
    best = none - track.offset
    return ClipScore(clip, len(distances_KS), _lead(means, none), track.offset, _lead(means, best))


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
) -> list[ClipScore]:
    """Measure every training clip in one streaming pass; goes on where a killed pass stopped.

    Writes folder/scores.jsonl when done, until then scores.jsonl.partial; both begin with what they
    belong to, and are used again only for the same weights and clips.

    Args:
        threads: of decoding; 0 is one per core.

    Returns:
        one score per clip, sorted by key.

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
        for clip in embed_clips(dataset, model, left, device=device, threads=threads):
            key = dataset.keys[clip.clip]
            if isinstance(clip, Unreadable):
                done[key] = ClipScore(key, windows[key], fault=clip.reason)
            else:
                done[key] = score_clip(key, *clip_distances(clip.lips_KD, clip.sound_KD, REACH))
            stream.write(json.dumps(asdict(done[key])) + "\n")
            stream.flush()
            advance(1)
    partial.replace(folder / SCORES)
    sync(folder)
    return [done[key] for key in sorted(done)]


def _read_scores(
    path: Path, identity: dict[str, Any], windows: dict[str, int]
) -> dict[str, ClipScore]:
    """What a file of scores holds for the same weights and clips; nothing if it is of others.

    What cannot be read, such as the line at which a killed pass stopped, is measured again.

    Args:
        windows: of every clip; a score of another clip counts for nothing.
    """
    scores: dict[str, ClipScore] = {}
    try:
        for number, line in read_lines(path):
            try:
                if number > 1:
                    score = decode_record(line, ClipScore)
                elif decode_record(line, dict[str, Any]) != identity:
                    break
                else:
                    continue
            except RecordError:
                break
            if windows.get(score.clip) == score.windows:
                scores[score.clip] = score
    except (FileNotFoundError, NotADirectoryError):
        pass
    return scores


def _write_scores(path: Path, identity: dict[str, Any], scores: Iterable[ClipScore]) -> None:
    lines = [json.dumps(identity), *(json.dumps(asdict(score)) for score in scores)]
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
