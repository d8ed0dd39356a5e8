"""Turn videos into clips, in any number of processes: what is done, what is left, what died.

A run that was stopped goes on where it was; videos already done are not read again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from data_tools.atomic import remove_partials, write_json
from data_tools.errors import UsageError
from data_tools.inputs import SAME_FILE, same_file_key
from data_tools.lock import InUse, locked_file
from data_tools.names import UNPLAIN, is_unplain, real_path, shown
from data_tools.progress import progress
from data_tools.records import read_record as read_json_record
from data_tools.video.cut_clips import prepare_video
from data_tools.video.options import PrepareOptions, as_called_now
from data_tools.video.record import (
    FAILED,
    HIDDEN,
    VideoRecord,
    failed_row,
    fault_in_words,
    is_of,
    montage_file,
    open_record,
    read_record,
    stalled_file,
    write_record,
)

FORMAT = "syncnet-clips/1"
_FORMER = {
    "audio_stream": None,
    "box": None,
    "face_crops": False,
    "no_shots": False,
    "no_speech": False,
}
_NOT_OURS = "is not empty and was not made by prepare; choose another folder"


@dataclass(frozen=True)
class Task:
    """One video to prepare; everything that a worker is told."""

    path: Path
    name: str
    out: Path
    options: PrepareOptions
    threads: int
    stall_limit: float  # seconds; 0: none


Engine = Callable[
    [Callable[..., None], list[Task], Callable[[int], None]], Iterable[tuple[Task, str | None]]
]


def prepare(
    videos: list[tuple[str, str, str]],
    out: Path,
    options: PrepareOptions,
    run: Engine,
    threads: int = 1,
    stall_limit: float = 120.0,
    retry_failed: bool = False,
    earlier: Sequence[tuple[str, VideoRecord]] = (),
) -> list[tuple[str, VideoRecord]]:
    """Prepare every video that `out` holds no record of; returns the record of each, by name.

    Args:
        videos: as `inputs.settle_names` gives them.
        run: an engine of data_tools.engines with its own arguments bound.
        threads: of each process.
        stall_limit: seconds without a new picture after which a video is given up; 0: never.
        earlier: records of other videos in `out`; none of their files is prepared again.

    Raises:
        UsageError: `out` holds something else, or clips made with other options.
        RecordError: what an earlier run left in `out` is damaged.
    """
    claim(out, options)
    before_by_file = {
        same_file_key(Path(record.file.path)): name for name, record in earlier if record.clips
    }
    records: dict[str, VideoRecord] = {}
    todo: list[Task] = []
    for file, name, why in videos:
        path = Path(file)
        record = read_record(name, out)
        if record is not None and not path.exists():
            records[name] = record  # what was made of it stays good
            continue
        clash = _other_file(record, path) or why or _in_the_way(path, name, out, before_by_file)
        if clash or is_unplain(path):
            # Never under a name that another file's record has; one that was settled is unlike any.
            own = name if why or not clash else f"{name} ({shown(path)})"
            records[own] = _refuse(path, own, out, clash)
        elif record is None or _is_due(
            record, path, options.montage and not montage_file(out, name).exists(), retry_failed
        ):
            todo.append(Task(path, name, out, options, threads, stall_limit))
        else:
            records[name] = record
    return sorted((records | _run(todo, out, run)).items())


def earlier_records(out: Path, names: set[str]) -> list[tuple[str, VideoRecord]]:
    """The records of videos in `out` that are not among `names`: earlier runs prepared them.

    Raises:
        RecordError: one of them is damaged.
    """
    records = [open_record(file) for file in sorted((out / HIDDEN / "videos").glob("*.json"))]
    return [(record.name, record) for record in records if record.name not in names]


def prepare_task(task: Task, on_bytes: Callable[[int], None] | None) -> None:
    """Prepare one video in a worker process; what became of it is in its record."""
    cv2.setNumThreads(task.threads)
    told = 0

    def count(size: int) -> None:
        nonlocal told
        told += size
        if on_bytes is not None:
            on_bytes(size)

    try:
        prepare_video(
            task.path, task.name, task.out, task.options, task.threads, task.stall_limit, count
        )
    except Exception as error:
        words = fault_in_words(error)
        row = failed_row(task.name, "internal error", words)
        write_record(task.path, task.name, task.out, [row])
    count(max(_size(task.path) - told, 0))


def claim(out: Path, options: PrepareOptions) -> None:
    """Record the options in `out`, or check that its clips were made with them.

    Raises:
        UsageError: they were made with others, or by something else.
        RecordError: the options of an earlier run are damaged.
    """
    chosen = json.loads(json.dumps({"format": FORMAT, **asdict(options)}))  # lists, no tuples
    chosen.pop("montage")
    file = out / HIDDEN / "options.json"
    if file.exists():
        before = read_json_record(
            file, dict[str, Any], "does not hold the options of prepare", "choose another folder"
        )
        before = _FORMER | as_called_now(before, out)  # a folder from before there was a choice
        if before != chosen:
            differing = [key for key in chosen | before if before.get(key) != chosen.get(key)]
            raise UsageError(
                f"{out} holds clips made with another {', '.join(differing)}; "
                "choose another folder or the same options"
            )
    elif any(entry.name != HIDDEN for entry in out.iterdir()):
        raise UsageError(f"{out} {_NOT_OURS}")
    else:
        file.parent.mkdir(exist_ok=True)
        write_json(file, chosen)


@contextmanager
def locked_clips(out: Path, part: str = "") -> Iterator[None]:
    """Keep a second run off the same part of the videos; parts run side by side.

    part: its name in the report's; none for a run over everything.

    Raises:
        UsageError: `out` was not made by prepare, or another run is writing there.
    """
    if any(entry.name != HIDDEN for entry in out.iterdir()) and not (out / HIDDEN).is_dir():
        raise UsageError(f"{out} {_NOT_OURS}")
    (out / HIDDEN).mkdir(exist_ok=True)
    # Parts run side by side, but not beside a run over everything.
    with ExitStack() as held:
        try:
            held.enter_context(locked_file(out / HIDDEN / "lock", shared=bool(part)))
            held.enter_context(locked_file(out / HIDDEN / f"lock{part or '-all'}"))
        except BlockingIOError:
            raise InUse(f"another prepare is writing to {out}; wait for it") from None
        if not part:
            remove_partials(out)
        yield


def _other_file(record: VideoRecord | None, path: Path) -> str:
    """Why a video cannot have its name: an earlier run gave it to another file; or nothing."""
    if record is None or is_of(record, path):
        return ""
    # The same file, changed since, is prepared anew; another one of its name is not.
    before = Path(record.file.path)
    if real_path(before) == real_path(path) or not before.exists():
        return ""
    return f"an earlier run prepared {shown(before)} under that name; rename one of them"


def _in_the_way(path: Path, name: str, out: Path, before_by_file: dict[object, str]) -> str:
    """What of earlier runs stands in the way of a video, in words; or nothing."""
    if read_record(name, out) is None:
        if (other := before_by_file.get(same_file_key(path))) is not None:
            return f"{SAME_FILE} {other}, which an earlier run prepared"
        if any((out / name).glob("*/*/clip.json")):
            return f"the folder {name} holds clips of other videos; rename one of them"
    for folder in Path(name).parents:
        above = read_record(str(folder), out)
        if above is not None and above.clips:
            return "its clips would lie among those of another video; rename one of them"
    return ""


def _refuse(path: Path, name: str, out: Path, clash: str) -> VideoRecord:
    """The record of a video that is not read: something stands in its way, or it is no file."""
    reason = "not a file"
    if clash:
        reason = "same file" if clash.startswith(SAME_FILE) else "name taken"
    return write_record(path, name, out, [failed_row(name, reason, clash or UNPLAIN)])


def _is_due(record: VideoRecord, path: Path, lacks_montage: bool, retry_failed: bool) -> bool:
    """Whether a video that has a record is to be prepared all the same."""
    if not is_of(record, path):
        return True
    if record.status == FAILED:
        return retry_failed
    return lacks_montage


def _run(todo: list[Task], out: Path, run: Engine) -> dict[str, VideoRecord]:
    """Do the tasks, those whose process dies twice; the record of each."""
    records: dict[str, VideoRecord] = {}
    size = sum(_size(task.path) for task in todo)
    read = 0
    with progress("preparing", max(1, size // 10**6), "MB") as advance:

        def on_bytes(count: int) -> None:
            nonlocal read
            advance((read + count) // 10**6 - read // 10**6)
            read += count

        for attempt in (1, 2):
            died: dict[str, tuple[str, str]] = {}
            for task, words in run(prepare_task, todo, on_bytes):
                record = read_record(task.name, out)
                if words is None and record is not None:
                    records[task.name] = record
                    continue
                died[task.name] = _cause(task, words)
            todo = [task for task in todo if task.name in died]
            if not todo:
                break
            for task in todo:
                reason, why = died[task.name]
                if attempt == 1:
                    print(f"{task.name}: {why}; trying once more", file=sys.stderr)
                    continue
                row = failed_row(task.name, reason, f"{why}, twice")
                records[task.name] = write_record(task.path, task.name, out, [row])
    return records


def _cause(task: Task, words: str | None) -> tuple[str, str]:
    """Why a task has no record: the class that the summary counts, and in words."""
    file = stalled_file(task.out, task.name)
    if file.exists() and file.stat().st_size:
        return "stalled", f"nothing new for {task.stall_limit:g} s (--stall-limit)"
    return "process died", words or "it left no record"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
