"""Shards written to a bucket as they are packed: a shard is there whole or not at all."""

from pathlib import Path

from data_tools.atomic import atomic_path, write_json
from data_tools.errors import UsageError
from data_tools.manifest import MANIFEST, read_stats
from data_tools.mirror_room import OWN, SOURCE
from data_tools.plan import PLAN
from data_tools.remote import Remote, RemoteMissing
from data_tools.shard_writer import is_complete


class Upload:
    """Takes what is packed into a folder to a bucket; the folder is then a copy of the set.

    A shard's statistics go there last and say that all of it is there; so does the manifest of the
    set. What was begun goes on where it was, on this machine or another.

    Args:
        remote: the folder in the bucket.
        folder: where shards are packed, that of the set's copy (`data_tools.mirror.folder_of`).
        most: bytes of tars that are kept in it; 0: no limit.

    Raises:
        UsageError: nothing can be written there.
    """

    def __init__(self, remote: Remote, folder: Path, most: int = 0) -> None:
        remote.check_writable()
        self.remote, self.folder, self.most = remote, folder, most
        self._begun = False

    def begin(self) -> None:
        """Take over the plan of what was begun there, if anything was.

        Raises:
            UsageError: a set lies there that was packed otherwise.
            RemoteError: the bucket cannot be read.
        """
        own = self.folder / OWN
        own.mkdir(parents=True, exist_ok=True)
        write_json(own / SOURCE, {"url": self.remote.shown})
        try:
            content = self.remote.read(PLAN)
        except RemoteMissing:
            if self._is_there(MANIFEST):
                raise UsageError(
                    f"{self.remote.shown} holds shards of unknown origin; choose another URL"
                ) from None
            return
        self._begun = True
        self._write(PLAN, content)

    def put_plan(self) -> None:
        """Let whoever goes on know the plan: before any shard."""
        if not self._begun:
            self.remote.put(self.folder / PLAN, PLAN)

    def has(self, name: str) -> bool:
        """Whether a shard is there; its statistics and idx are here, then.

        Raises:
            RemoteError: the bucket cannot be read.
            ShardError: the statistics there are damaged.
        """
        if not self._begun:
            return False
        tar = self.folder / name
        statistics, idx = tar.with_suffix(".json"), tar.with_suffix(".idx")
        try:
            content = self.remote.read(statistics.name)
        except RemoteMissing:
            return False
        here = is_complete(tar)
        if here and statistics.read_bytes() == content:
            return True
        self._write(statistics.name, content)
        stats = read_stats(tar)
        if not stats.clips:
            return True
        if self.remote.size(name) != stats.tar_bytes:
            return False
        self._write(idx.name, self.remote.read(idx.name))
        return True

    def put(self, name: str) -> None:
        """Take a complete shard there; where there is no room for its tar, it goes from here.

        Raises:
            RemoteError: it cannot be written.
        """
        tar = self.folder / name
        holds_clips = bool(read_stats(tar).clips)
        for path in (tar, tar.with_suffix(".idx")) if holds_clips else ():
            self.remote.put(path, path.name)
        self.remote.put(tar.with_suffix(".json"), tar.with_suffix(".json").name)
        if holds_clips and self.most:
            here = sum(path.stat().st_size for path in self.folder.glob("*.tar"))
            if here > self.most:  # `put` has seen that the bucket has all of it
                tar.unlink()

    def end(self) -> None:
        """Let the set be one: its manifest goes there last of all."""
        self.remote.put(self.folder / MANIFEST, MANIFEST)

    def _is_there(self, name: str) -> bool:
        try:
            self.remote.size(name)
        except RemoteMissing:
            return False
        return True

    def _write(self, name: str, content: bytes) -> None:
        with atomic_path(self.folder / name) as partial:
            partial.write_bytes(content)
