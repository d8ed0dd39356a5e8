"""--fix-dir: a copy of each video that can be trusted, its sound in place, measured again."""

import hashlib
import os
from pathlib import Path
from typing import Any

from data_tools.atomic import remove_partials_of, sync
from data_tools.errors import UsageError, UserError
from data_tools.names import first_line, shown
from trainer.batch.folder import Batch
from trainer.batch.inputs import BatchVideo
from trainer.model.network import Network
from trainer.score.course import plan_mend
from trainer.score.mend import done_in_words, mend_video, mended_as_json
from trainer.score.options import MeasureOptions
from trainer.score.report import row
from trainer.score.trust import SyncError, TrackResult

MENDED, IN_SYNC, NOT_MENDED, FAILED = "mended", "in sync", "not mended", "failed"


def mark_of(hidden: Path, target: Path) -> Path:
    """The file that says that a copy at `target` is ours: it was begun, and has no result yet."""
    name = hashlib.sha1(os.fsencode(target.absolute())).hexdigest()[:20]
    return hidden / "mending" / name


def mend(
    video: BatchVideo,
    batch: Batch,
    tracks: list[TrackResult],
    network: Network,
    options: MeasureOptions,
) -> dict[str, Any] | None:
    """Write the copy of a video, if it can be trusted; what was done, as `mended_row`.

    A file that is in the way is overwritten by --force alone, or where a run that was killed left
    it. None without --fix-dir.

    Args:
        tracks: what was measured.

    Raises:
        OSError: the disk is full, or the folder of copies cannot be written to.
    """
    from data_tools.video.remux import check_target

    target = video.target
    if target is None:
        return None
    if not tracks:
        return nothing_to_mend()
    if video.clash:
        return mended_row(FAILED, video.clash)
    try:
        if plan_mend(tracks) == 0:
            return mended_row(IN_SYNC, "in sync within a frame, so nothing was written")
    except SyncError as error:
        return mended_row(NOT_MENDED, first_line(error))
    mark = mark_of(batch.hidden, target)
    try:
        check_target(video.path, target)
    except UsageError as error:
        return mended_row(FAILED, first_line(error))
    if os.path.lexists(target) and not (batch.force or mark.exists()):
        why = f"{shown(target)} exists; give --force --retry-failed to overwrite it"
        return mended_row(FAILED, why)
    if mark.exists():  # of a process that died: what it had of the copy
        remove_partials_of(target)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    sync(mark.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        mended = mend_video(video.path, target, tracks, network, options)
    except UserError as error:
        return mended_row(FAILED, first_line(error))
    if mended.against:
        about = mended_as_json(mended) | {"words": mended.against}
        return mended_row(FAILED, **about)
    again = "; ".join(
        f"{track.track} {track.meaning}".strip() for track in mended.tracks if track.trusted
    )
    about = mended_as_json(mended) | {"tracks": [row(track) for track in mended.tracks]}
    anew = [] if mended.course is None else [done_in_words(mended), *mended.encoded]
    words = "; ".join([*anew, f"measured again: {again}", *mended.lacking])
    return mended_row(MENDED, **about | {"words": words, "file": str(target)})


def nothing_to_mend() -> dict[str, Any]:
    """What --fix-dir did with a video that gave no offset."""
    return mended_row(NOT_MENDED, "nothing was measured")


def mended_row(done: str, words: str, file: str = "", **about: Any) -> dict[str, Any]:
    """What --fix-dir did with a video, as its result holds it.

    Args:
        done: MENDED, IN_SYNC, NOT_MENDED (nothing to trust) or FAILED (a file in the way, or a copy
            that is no better).
        words: how it went, or why not.
        file: the copy.
        about: as `trainer.score.mend.mended_as_json`.
    """
    return {"done": done, "words": words, "file": file, **about}
