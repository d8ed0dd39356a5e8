"""One writer a folder: a lock that ends with the process that holds it, however it ends."""

import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from data_tools.errors import UsageError

LOCK = ".syncnet.lock"
_HOLDER = re.compile(r"(\w+) \((process \d+ on [\w.-]+)\)")
_held: set[int] = set()  # descriptors


class InUse(UsageError):
    """Another process is writing there; says what to do."""


@contextmanager
def locked(folder: Path, who: str) -> Iterator[None]:
    """Keep every other process that does the same off `folder`, which is made if need be.

    The folder holds a file .syncnet.lock meanwhile; one that a killed process left locks nothing.
    A folder that was made and into which nothing came is taken away again.

    Args:
        who: what this process is, in a word that fits "another ... is writing to".

    Raises:
        InUse: another process is at work there.
        OSError: the folder cannot be made or written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as held:
            file = folder / LOCK
            try:
                # As earlier versions of `pack` did. Alone it would not do: on network file systems
                # a folder is locked on one machine only, a file on all.
                held.enter_context(_held_folder(folder))
                descriptor = held.enter_context(locked_file(file))
            except BlockingIOError:
                raise InUse(_who_has(file, who, folder)) from None
            held.callback(_remove, file, descriptor)
            with suppress(OSError):  # a full disk locks as well as any
                _say_holder(descriptor, who)
            yield
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def locked_file(file: Path, shared: bool = False) -> Iterator[int]:
    """Hold a lock on `file`, which is made if need be and stays; yields its descriptor.

    A file system that has no locks is told of on stderr, and nothing is locked.

    Args:
        shared: any number may hold it so at once, but none beside one that does not share.

    Raises:
        BlockingIOError: another holds it.
        OSError: the file cannot be opened for writing.
    """
    while True:
        # for writing: over NFS a file that is only read can't be locked for oneself
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(file, flags, 0o666)
        _held.add(descriptor)
        try:
            try:
                fcntl.flock(
                    descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
                )
            except BlockingIOError:
                raise
            except OSError as error:
                print(
                    f"note: the file system of {file.parent} has no locks ({error.strerror}): see "
                    "to it yourself that nothing else writes there",
                    file=sys.stderr,
                )
            if _is(descriptor, file):
                yield descriptor
                return
            # whoever held it removed it just now: what was locked is nobody's file any more
        finally:
            _close(descriptor)


@contextmanager
def waiting_lock(file: Path, poll: float = 0.05) -> Iterator[None]:
    """`locked_file`, as soon as nobody else holds it.

    Args:
        poll: seconds between two tries.
    """
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked_file(file))
                break
            except BlockingIOError:
                time.sleep(poll)
        yield


@contextmanager
def _held_folder(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # not every file system locks folders; the file in it decides
        yield
    finally:
        _close(descriptor)


def _close(descriptor: int) -> None:
    if descriptor in _held:
        _held.discard(descriptor)
        os.close(descriptor)


def _let_go() -> None:
    """In a forked child: what it inherits would hold the lock after the holder's death."""
    for descriptor in tuple(_held):
        _close(descriptor)


os.register_at_fork(after_in_child=_let_go)


def _is(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _remove(file: Path, descriptor: int) -> None:
    # not by a forked child, nor one that stands where ours was removed
    if descriptor in _held and _is(descriptor, file):
        with suppress(OSError):
            file.unlink()


def _say_holder(descriptor: int, who: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{who} (process {os.getpid()} on {socket.gethostname()})".encode(), 0)


def _who_has(file: Path, who: str, folder: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            holder = _HOLDER.fullmatch(stream.read(200))
    except OSError:
        holder = None
    kind, where = holder.groups() if holder else (who, "")
    return f"another {kind} is writing to {folder}; wait for it" + (f" ({where})" if where else "")
