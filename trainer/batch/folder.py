"""The folder of a batch's results: what lies where in it, whose it is, who is at work there."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_tools.atomic import atomic_path, remove_partials, write_json
from data_tools.errors import UsageError
from data_tools.lock import InUse, locked_file
from data_tools.names import real_path, shown
from data_tools.records import read_record, utf8
from trainer.score.options import MeasureOptions

FORMAT = "syncnet-results/1"
HIDDEN = ".syncnet"
_TEMPORARY = "syncnet-batch-"
_FREE = ("device", "precision")  # options that may differ: a run may go on on another machine
_NOT_OURS = "is not empty and was not made by syncnet --out; choose another folder"


@dataclass(frozen=True)
class Batch:
    """Where results go, and how videos are measured.

    Attributes:
        out: the folder of results.
        weights: their file.
        options: how each video is measured.
        fix_dir: the folder of mended copies; None: none are made.
        force: whether a copy may overwrite a file.
    """

    out: Path
    weights: Path
    options: MeasureOptions
    fix_dir: Path | None = None
    force: bool = False

    @property
    def hidden(self) -> Path:
        """The folder of what the batch knows besides its results."""
        return self.out / HIDDEN

    def results(self, part: str) -> Path:
        """The file of results of a part of the videos; "": of all."""
        return self.out / f"results{part}.jsonl"


@contextmanager
def held(batch: Batch, part: str) -> Iterator[None]:
    """Make the folder, claim it for these options, and keep other runs off the same part.

    Parts run side by side, but not beside a run over all videos.

    part: its name; "" of a run over all videos.

    Raises:
        UsageError: the folder holds something else or results of other options, cannot be written
            to, or another run is at work there.
    """
    out = batch.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        # In this order: another part may make it meanwhile, and it is the first thing made.
        if any(out.iterdir()) and not batch.hidden.is_dir():
            raise UsageError(f"--out: {shown(out)} {_NOT_OURS}")
        batch.hidden.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        why = str(error.strerror).lower()
        raise UsageError(f"--out: the folder {shown(out)} cannot be written to: {why}") from None
    with ExitStack() as locks:
        try:
            locks.enter_context(locked_file(batch.hidden / "lock", shared=bool(part)))
            locks.enter_context(locked_file(batch.hidden / f"lock{part or '-all'}"))
        except BlockingIOError:
            raise InUse(f"another syncnet is writing to {shown(out)}; wait for it") from None
        if not part:
            remove_partials(out)
        _claim(batch)
        yield


def _claim(batch: Batch) -> None:
    """Record in the folder how its videos are measured, or check that it is the same way."""
    with batch.weights.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    options = {key: value for key, value in asdict(batch.options).items() if key not in _FREE}
    fix_dir = None if batch.fix_dir is None else utf8(str(real_path(batch.fix_dir)))
    chosen = {"format": FORMAT, **options, "weights": digest, "fix_dir": fix_dir}
    file = batch.hidden / "options.json"
    if not file.exists():
        write_json(file, chosen)
        return
    before = read_record(
        file, dict[str, Any], "does not hold the options of a batch", "choose another folder"
    )
    if before != chosen:
        differing = [key for key in chosen | before if before.get(key) != chosen.get(key)]
        raise UsageError(
            f"--out: {shown(batch.out)} holds results of another {', '.join(differing)}; choose "
            "another folder or the same options"
        )


@contextmanager
def work_folders(batch: Batch, part: str) -> Iterator[tuple[Path, Path]]:
    """Two folders for this run alone: in the batch's own and for temporary files of this machine.

    What runs that were killed left in either is removed.
    """
    for old in batch.hidden.glob(f"work{part or '-all'}-*"):
        shutil.rmtree(old, ignore_errors=True)
    noted = batch.hidden / f"temporary{part or '-all'}"
    remove_partials(batch.hidden, noted.name)
    if noted.exists():
        left = Path(noted.read_text(encoding="utf-8", errors="surrogateescape"))
        # Only what lies where this program makes such folders: the note is but a file.
        if left.name.startswith(_TEMPORARY) and left.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"work{part or '-all'}-", dir=batch.hidden))
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    try:
        with atomic_path(noted) as partial:
            partial.write_text(str(temporary), encoding="utf-8", errors="surrogateescape")
        yield work, temporary
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
        noted.unlink(missing_ok=True)
