"""A remote set's copy in a local folder: fetched shard by shard, checked, shared and kept.

    DIR/<name>-<key>/   one folder a set, laid out as a folder of shards: once it holds all of them
                        it is one
        .mirror/        where it came from; shards that are being fetched; locks

Whoever reads a tar maps it and holds a shared lock on it for as long (the kernel's, so that it ends
with the process). What is evicted to make room is not locked, came from the set's source, and is
there still.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from msgspec import Meta

from data_tools.atomic import atomic_path, sync, write_json
from data_tools.errors import UsageError, UserError
from data_tools.lock import locked_file, waiting_lock
from data_tools.manifest import MANIFEST, Manifest, ShardEntry, ShardError, read_manifest
from data_tools.mirror_check import check_statistics, content_fault
from data_tools.mirror_room import OWN, SOURCE, Room
from data_tools.names import real_path
from data_tools.progress import progress
from data_tools.records import RecordError, decode_record, read_record
from data_tools.remote import Remote, RemoteMissing, is_remote
from data_tools.split_index import user_cache

_SMALL_AT_ONCE = 16  # statistics and indices

_open: dict[Path, "Mirror"] = {}


def _ignore(count: int) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class LocalOptions:
    """Where copies of remote shards are kept.

    Attributes:
        local: Folder on a local disk for copies of shards that are given as a URL (default:
            syncnet-trainer/shards in XDG_CACHE_HOME or ~/.cache). All processes of a machine and
            all later runs share it.
        local_gb: Gigabytes that the copies may take; those used longest ago make room, never one
            that is in use or no longer at its source. 0: as many as the disk has.
    """

    local: str | None = None
    local_gb: Annotated[float, Meta(ge=0, le=1e9)] = 0.0


_DEFAULTS = LocalOptions()


@dataclass(frozen=True)
class _Source:
    """source.json: where a copy came from, without credentials."""

    url: str


def folder_of(name: str | Path, local: str | None = None) -> Path:
    """The folder that holds a set, or a copy of it where `name` is a URL; nothing is looked up.

    Raises:
        UsageError: it is a URL of no known kind.
    """
    if not is_remote(name):
        return Path(name)
    remote = Remote(str(name))
    last = re.sub(r"[^A-Za-z0-9_.-]+", "_", remote.shown.rpartition("/")[2])[:40].strip(".")
    base = Path(local) if local else user_cache() / "shards"
    return base / f"{last or 'shards'}-{remote.key()}"


def open_sets(names: Iterable[str | Path], options: LocalOptions = _DEFAULTS) -> list[Path]:
    """The folder of each set: of a URL that of its copy, from where shards come as they are read.

    Raises:
        UsageError: a URL is of no known kind, or the options are.
        RemoteError, MissingPackage: the source cannot be read.
        ShardError: it is no set of shards, or the copy is of another version of it.
    """
    return [open_set(name, options) for name in names]


def open_set(name: str | Path, options: LocalOptions = _DEFAULTS) -> Path:
    """As `open_sets`, of one."""
    folder = folder_of(name, options.local)
    if is_remote(name):
        mirror = Mirror(Remote(str(name)), folder, int(options.local_gb * 1e9))
        mirror.refresh()
        _open[real_path(folder)] = mirror
    return folder


def mirror_at(folder: Path) -> "Mirror | None":
    """What fetches the shards of a folder; None for a folder that is no opened copy."""
    return _open.get(real_path(folder)) if _open else None


def argument_of(folder: Path) -> str:
    """What another process is to be given for a folder: the URL, if it is the copy of one."""
    mirror = mirror_at(folder)
    return str(folder) if mirror is None else mirror.remote.url


def name_of(folder: Path) -> str:
    """What a set is called: the name of its folder, at its source if this is a copy."""
    mirror = mirror_at(folder)
    return folder.name if mirror is None else mirror.remote.shown.rpartition("/")[2]


def shown_name(name: str | Path) -> str:
    """A set's name as messages and files may show it."""
    return Remote(str(name)).shown if is_remote(name) else str(name)


class Mirror:
    """Fetches a set's shards into a folder, as they are asked for, and makes room for them.

    Args:
        remote: where the set lies.
        folder: for the copy, which may be there already.
        most: bytes that all copies beside it may take, its own among them; 0: no limit.

    Attributes:
        listed: all shards of the manifest; of one that kept no clip there are statistics alone.
        entries: those that have a tar, by its name.
    """

    listed: list[ShardEntry]
    entries: dict[str, ShardEntry]

    def __init__(self, remote: Remote, folder: Path, most: int = 0) -> None:
        self.remote, self.folder, self.most = remote, folder, most
        self._own = folder / OWN
        self._room = Room(folder.parent, most, self._mirror_of)
        self.on_want: Callable[[Mirror, str], None] | None = None

    def refresh(self) -> None:
        """Read the source's manifest, and let the copy have it.

        Raises:
            RemoteError, ShardError: as `open_sets`.
            UsageError: the limit holds no two shards.
        """
        try:
            content = self.remote.read(MANIFEST)
        except RemoteMissing:
            raise ShardError(
                f"{self.remote.file(MANIFEST)} is missing: not a set of shards, or its "
                "packing did not end"
            ) from None
        try:
            manifest = decode_record(content, Manifest)
        except RecordError as error:
            raise ShardError(
                f"{self.remote.file(MANIFEST)} is not a manifest of shards: {error}"
            ) from None
        self._check_limit(manifest)
        self._own.mkdir(parents=True, exist_ok=True)
        with self._locked("manifest"):
            path = self.folder / MANIFEST
            if not path.exists() or path.read_bytes() != content:
                # Before the manifest goes that others may be at work with.
                for entry in manifest.shards:
                    self._has_small(entry)
            write_json(self._own / SOURCE, {"url": self.remote.shown})
            if not path.exists() or path.read_bytes() != content:
                with atomic_path(path) as partial:
                    partial.write_bytes(content)
        self._list(manifest)

    def reopen(self) -> None:
        """As `refresh`, from the copy's manifest alone: in a worker of who has refreshed it."""
        self._list(read_manifest(self.folder))

    def _list(self, manifest: Manifest) -> None:
        self.listed = manifest.shards
        self.entries = {entry.name: entry for entry in manifest.shards if entry.clips}

    @property
    def scarce(self) -> bool:
        """Whether there is less room than all opened sets beside it take."""
        near = real_path(self.folder.parent)
        sets = [each for at, each in _open.items() if at.parent == near] or [self]
        return 0 < self.most < sum(each.bytes for each in sets)

    @property
    def at_once(self) -> int:
        """How many shards there is room for at once, whichever they are; two or more."""
        largest = max((entry.bytes for entry in self.entries.values()), default=0)
        return self.most // largest if self.most and largest else len(self.entries)

    @property
    def bytes(self) -> int:
        """Of all tars of the set."""
        return sum(entry.bytes for entry in self.entries.values())

    def fetch_small(self, entries: Iterable[ShardEntry]) -> None:
        """Have the statistics and indices of shards here, compared with the manifest.

        Raises:
            RemoteError, ShardError: some cannot be had, or are not what the manifest says.
        """
        wanted = list(entries)
        with self._locked("small"):
            missing = [entry for entry in wanted if not self._has_small(entry)]
            if not missing:
                return
            with (
                progress(f"{self.remote.shown}: indices", len(missing), "shards") as advance,
                ThreadPoolExecutor(_SMALL_AT_ONCE) as pool,
            ):
                try:
                    for _ in pool.map(self._fetch_small, missing):
                        advance(1)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise

    def has(self, name: str) -> bool:
        """Whether a tar is here."""
        return _has(self.folder / name, self.entries[name].bytes)

    def want(self, name: str) -> None:
        """Let a tar come soon, if anybody fetches ahead."""
        if self.on_want is not None:
            self.on_want(self, name)

    def fetch(
        self,
        name: str,
        ahead: bool = False,
        on_bytes: Callable[[int], None] = _ignore,
        stopped: Callable[[], bool] = _never,
    ) -> bool:
        """Have a tar here, whole and as the manifest says; returns whether there is room for it.

        Args:
            ahead: of need: nothing is evicted for it, and if another process is about to fetch it,
                it is left to that.
            on_bytes: is told of the bytes that came, or went again.
            stopped: whether to leave off; what came is kept.

        Raises:
            RemoteError: it cannot be had.
            ShardError: what is there is not what the manifest says.
            Stopped: as asked.
            OSError: the disk is full, say.
        """
        tar, size = self.folder / name, self.entries[name].bytes
        if _has(tar, size):
            return True
        partial = self._own / f"{name}.{size}.part"
        with ExitStack() as held:
            try:
                held.enter_context(self._locked(name, wait=not ahead))
            except BlockingIOError:
                return True
            if _has(tar, size):  # another process fetched it meanwhile
                return True
            if not self._room.take(partial, size, evict=not ahead):
                return False
            for again in (True, False):
                self.remote.fetch(name, size, partial, on_bytes, stopped)
                fault = content_fault(partial, tar)
                if fault is None:
                    break
                on_bytes(-size)
                partial.unlink()
                # a beginning may be of an earlier version, and any network may turn a bit
                if not again:
                    # what it was compared with may be what is stale: it is fetched anew as well
                    tar.with_suffix(".json").unlink(missing_ok=True)
                    tar.with_suffix(".idx").unlink(missing_ok=True)
                    raise ShardError(
                        f"{self.remote.file(name)} is not what its manifest says ({fault}): a "
                        "damaged or stale copy; put the set there anew"
                    )
            # Of a tar that goes and comes again the time is the same: indices go by it.
            written = tar.with_suffix(".json").stat().st_mtime_ns
            os.utime(partial, ns=(time.time_ns(), written))
            sync(partial)
            os.replace(partial, tar)
            sync(self.folder)
            return True

    def stamp(self, name: str) -> tuple[int, int]:
        """Size in bytes and time of writing in ns that a tar has whenever it is here."""
        written = (self.folder / name).with_suffix(".json").stat().st_mtime_ns
        return self.entries[name].bytes, written

    def open(self, name: str) -> BinaryIO:
        """A tar, fetched if it is not here; it stays here until the file, and maps of it, close.

        Raises:
            RemoteError, ShardError, OSError: as `fetch`.
        """
        tar = self.folder / name
        while True:
            self.fetch(name)
            with suppress(FileNotFoundError):  # evicted between these lines
                stream = tar.open("rb")
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(stream, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(stream.fileno()), tar.stat()):
                    status = os.fstat(stream.fileno())
                    with suppress(OSError):
                        os.utime(tar, ns=(time.time_ns(), status.st_mtime_ns))
                    return stream
                stream.close()

    def trim(self) -> None:
        """Evict until what is there fits the limit, or no more can be."""
        self._room.trim()

    def evict(self, name: str) -> int:
        """Remove a tar unless it is in use or its source lacks it; returns the bytes won."""
        tar, entry = self.folder / name, self.entries.get(name)
        if entry is None:
            return 0
        try:
            # Before the lock, for which readers wait: a server may be slow to answer.
            if not self._is_at_source(entry):
                return 0
            with tar.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(stream.fileno())
                if not os.path.samestat(status, tar.stat()) or status.st_size != entry.bytes:
                    return 0
                tar.unlink()
                return entry.bytes
        except (OSError, UserError):  # in use, gone already, no locks, no answer: it stays
            return 0

    def _is_at_source(self, entry: ShardEntry) -> bool:
        """Whether the source has a shard as it is here; of another version this may be all."""
        if self.remote.size(entry.name) != entry.bytes:
            return False
        manifest = decode_record(self.remote.read(MANIFEST), Manifest)
        return manifest == read_manifest(self.folder)

    def _check_limit(self, manifest: Manifest) -> None:
        largest = max((entry.bytes for entry in manifest.shards), default=0)
        if self.most and self.most < 2 * largest:
            raise UsageError(
                f"local_gb {self.most / 1e9:g} is too little for {self.remote.shown}: its largest "
                f"shard has {largest / 1e9:.3g} GB, and two must fit"
            )

    def _has_small(self, entry: ShardEntry) -> bool:
        tar = self.folder / entry.name
        path = tar.with_suffix(".json")
        if not path.exists() or (entry.clips and not tar.with_suffix(".idx").exists()):
            return False
        if (fault := check_statistics(entry, path.read_bytes())) is not None:
            raise ShardError(
                f"{path} is not what the manifest of {self.remote.shown} says ({fault}): the copy "
                f"is damaged or of another version; delete {self.folder} to fetch it anew"
            )
        return True

    def _fetch_small(self, entry: ShardEntry) -> None:
        tar = self.folder / entry.name
        statistics, idx = tar.with_suffix(".json"), tar.with_suffix(".idx")
        content = self.remote.read(statistics.name)
        if (fault := check_statistics(entry, content)) is not None:
            raise ShardError(
                f"{self.remote.file(statistics.name)} is not what the manifest says of "
                f"{entry.name} ({fault}): a damaged or stale copy; put the set there anew"
            )
        # The statistics last: they say that both are there.
        if entry.clips:  # else there is neither tar nor idx
            found = self.remote.read(idx.name)
            with atomic_path(idx) as partial:
                partial.write_bytes(found)
        with atomic_path(statistics) as partial:
            partial.write_bytes(content)

    def _mirror_of(self, folder: Path) -> "Mirror | None":
        """Who knows the source of a copy beside this one; it may need credentials we lack."""
        if real_path(folder) == real_path(self.folder):
            return self
        if (known := mirror_at(folder)) is not None:
            return known
        try:
            source = read_record(folder / OWN / SOURCE, _Source, "is damaged", "delete its folder")
            mirror = Mirror(Remote(source.url), folder, self.most)
            mirror.reopen()
        except (OSError, UserError):
            return None
        return mirror

    @contextmanager
    def _locked(self, what: str, wait: bool = True) -> Iterator[None]:
        with (waiting_lock if wait else locked_file)(self._own / f"{what}.lock"):
            yield


def _has(tar: Path, size: int) -> bool:
    try:
        return tar.stat().st_size == size
    except FileNotFoundError:
        return False
