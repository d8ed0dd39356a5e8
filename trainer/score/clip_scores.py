"""Which clips are in sync, as a network sees it: one score per clip, and going on after a kill.

Two questions are asked of a clip. Is it in sync as it is? Its score says by how much the smallest
distance within a frame of no offset lies below the smallest one elsewhere within +-15, as a share
of the clip's median distance: above 0 if no other offset fits better. And where does it belong? Its
own offset is that of the largest centred inner product (`trainer.score.centred`), which finds it in
shorter clips and strangers; how clear it is says by how much that peak stands above the next, as a
share of itself. The same is measured with the sound of another clip, which shows what chance gives.
(A share of a clip's own peak does not tell a strong peak from a weak one.)
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray

from data_tools.atomic import atomic_path, sync
from data_tools.progress import progress
from data_tools.records import Count, RecordError, decode_record, read_lines
from trainer.data.dataset import Dataset
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet
from trainer.model.weights import WeightsError, load_model
from trainer.score.centred import score_centred
from trainer.score.clip_distances import (
    Embedded,
    Unreadable,
    clip_distances,
    clip_sound,
    embed_clips,
)
from trainer.score.scoring import REACH, TOLERANCE, score_distances

Offset = Annotated[int, Meta(ge=-REACH, le=REACH)]
SCORES, PARTIAL = "scores.jsonl", "scores.jsonl.partial"
MIN_WINDOWS = 21  # a second of video; fewer average too little to be judged
_APART = 3  # frames: offsets nearer than this belong to the same peak
_TRIM = 0.1  # share of the windows left out at each end
_VERSION = 4  # raise when the same files come to give other scores


@dataclass(frozen=True)
class ClipScore:
    """What was measured of one clip.

    Attributes:
        clip: its key.
        windows: five-frame windows.
        score: of no offset, see above.
        offset: of the peak, frames; positive: the audio is early.
        best_score: how clear that offset is, see above.
        chance_offset, chance_score: offset and best_score with another clip's sound, which has
            none; None where there was no other clip.
        fault: why it could not be measured; "" if it was.
    """

    clip: str
    windows: Count
    score: float = 0.0
    offset: Offset = 0
    best_score: float = 0.0
    chance_offset: Offset | None = None
    chance_score: float | None = None
    fault: str = ""

    @property
    def judged(self) -> bool:
        """Whether its score means anything."""
        return not self.fault and self.windows >= MIN_WINDOWS


def score_clip(
    clip: str, lips_KD: torch.Tensor, sound_LD: torch.Tensor, other_LD: torch.Tensor | None = None
) -> ClipScore:
    """Score one clip from its embeddings.

    A hand before the mouth or a broken sound gives wild windows: of the distances at each shift the
    tenth of the windows with the smallest and the tenth with the largest are left out. (The median
    over windows would leave out more, but tells less: a network that has learnt little finds the
    offset in the sum of many weak hints.)

    Args:
        lips_KD, sound_LD: (K, D) and (L, D) float32, K and L at least 1.
        other_LD: (L, D) the sound of another clip. Its halves are exchanged: clips of a corpus
            whose sentences all begin alike would else fit each other a little.
    """
    curve_S = score_centred(lips_KD, sound_LD, REACH).curve_S
    offset, chance_offset, chance = _peak(curve_S), None, None
    if other_LD is not None and len(other_LD) > 0:
        other_S = score_centred(lips_KD, other_LD.roll(len(other_LD) // 2, 0), REACH).curve_S
        chance_offset = _peak(other_S)
        chance = _lead(other_S, chance_offset)
    means_S = score_distances(*clip_distances(lips_KD, sound_LD, REACH), trim=_TRIM).means_S
    middle = float(np.median(means_S[np.isfinite(means_S)]))
    none = _ahead(-means_S, 0) / max(middle, 1e-12)
    best = _lead(curve_S, offset)
    return ClipScore(clip, len(lips_KD), none, offset, best, chance_offset, chance)


def _peak(curve_S: NDArray[np.float64]) -> int:
    """The offset at which a curve is largest."""
    return len(curve_S) // 2 - int(curve_S.argmax())


def _lead(curve_S: NDArray[np.float64], offset: int) -> float:
    """How clear an offset is: by how much it stands above all others, as a share of the peak."""
    peak = float(curve_S[np.isfinite(curve_S)].max(initial=0.0))
    return _ahead(curve_S, offset) / peak if peak > 0 else 0.0


def _ahead(curve_S: NDArray[np.float64], offset: int) -> float:
    """By how much a curve within a frame of an offset stands above all values farther away."""
    away = abs(np.arange(len(curve_S)) - (len(curve_S) // 2 - offset))
    known = np.isfinite(curve_S)
    near, far = curve_S[(away <= TOLERANCE) & known], curve_S[(away >= _APART) & known]
    return float(near.max() - far.max()) if len(near) and len(far) else 0.0


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
    behind = frozenset(clip for clip, key in enumerate(dataset.keys) if key in done)
    with (
        progress("scoring", len(dataset), "clips") as advance,
        open(partial, "a", encoding="utf-8") as stream,
    ):
        advance(len(done))
        others = _Others(dataset, model, device)
        for clip in embed_clips(dataset, model, done=behind, device=device, threads=threads):
            key = dataset.keys[clip.clip]
            if isinstance(clip, Unreadable):
                done[key] = ClipScore(key, windows[key], fault=clip.reason)
            else:
                done[key] = score_clip(key, clip.lips_KD, clip.sound_KD, others.of(clip))
            stream.write(json.dumps(asdict(done[key])) + "\n")
            stream.flush()
            advance(1)
    partial.replace(folder / SCORES)
    sync(folder)
    return [done[key] for key in sorted(done)]


class _Others:
    """The sound that stands for chance: of each clip, that of the clip before it.

    It depends on the clip alone, so that a pass that goes on measures what a whole one does.
    """

    def __init__(self, dataset: Dataset, model: SyncNet, device: str) -> None:
        self._dataset, self._model, self._device = dataset, model, device
        self._usable = np.flatnonzero(dataset.windows >= MIN_WINDOWS)
        self._last: Embedded | None = None  # mostly it is this one's

    def of(self, clip: Embedded) -> torch.Tensor | None:
        """(L, D) embeddings; None where no other clip is long enough."""
        usable, last = self._usable[self._usable != clip.clip], self._last
        self._last = clip
        if len(usable) == 0:
            return None
        # the first has the last before it
        other = int(usable[np.searchsorted(usable, clip.clip) - 1])
        if last is not None and last.clip == other:
            return last.sound_KD
        return clip_sound(self._dataset, self._model, other, device=self._device)


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
