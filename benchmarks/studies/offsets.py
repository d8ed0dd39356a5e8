"""By how much clips are off that a study measures on, where they are not in sync."""

from collections.abc import Sequence
from pathlib import Path

from data_tools.errors import UserError
from data_tools.keep import COLUMNS, read_keep
from data_tools.records import RecordError, read_table
from trainer.data.dataset import Dataset
from trainer.score.evaluation import read_offsets
from trainer.score.scoring import REACH


def own_offsets(path: Path) -> dict[str, int]:
    """By how many frames clips are off themselves, by key.

    Args:
        path: a keep.csv of `trainer.refine`, whose clips to be used count where it would move them
            from, or a CSV with columns clip and offset_frames (`trainer.evaluate --offsets`).

    Raises:
        UserError: it cannot be read, or an offset is farther than can be searched.
    """
    try:
        _, head = next(read_table(path), ("", []))
    except (OSError, RecordError):
        head = []  # read_offsets says why
    if head != COLUMNS:
        return read_offsets(path)
    found = {clip: -row.audio_shift for clip, row in read_keep(path).items() if row.used}
    if far := [clip for clip, offset in found.items() if abs(offset) > REACH]:
        raise UserError(f"{path}: {far[0]} is off by more than {REACH} frames")
    return found


def count_unseen(unseen: Sequence[Path], offsets: Sequence[Path | None]) -> int:
    """Test clips that accuracy is measured on.

    Raises:
        UserError: a CSV cannot be read, or lists no clip of its set.
    """
    total = 0
    for shards, path in zip(unseen, offsets or [None] * len(unseen), strict=True):
        keys = Dataset(shards, "test").keys
        if path is not None:
            known = own_offsets(path)
            keys = [key for key in keys if key in known]
        if not keys:
            raise UserError(f"{path} lists no clip of the test split of {shards}")
        total += len(keys)
    return total
