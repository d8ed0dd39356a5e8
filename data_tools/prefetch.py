"""Items made by a thread of their own, ahead of whoever takes them: decoding beside computing."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """The last entry of the queue: nothing more is made."""

    error: BaseException | None


class Prefetcher(Generic[Item]):
    """Iterates over `items`, which a thread makes up to `depth` ahead; close it when done.

    Args:
        items: made in the thread from now on; a generator is closed there, too.
        depth: items kept ready.
        name: of the thread.

    Attributes:
        error: what making an item raised, once it has been raised by `__next__` as well.
    """

    def __init__(self, items: Iterable[Item], depth: int, name: str) -> None:
        self.error: BaseException | None = None
        self._ready: queue.Queue[Item | _End] = queue.Queue(depth)
        self._stop = threading.Event()
        # Only the thread holds the items: they, and what they hold, go when it ends.
        self._thread = threading.Thread(target=self._make, args=(items,), name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        """The next item.

        Raises:
            StopIteration: there is none, or this is closed.
            BaseException: what making it raised.
        """
        while not self._stop.is_set():
            try:
                entry = self._ready.get(timeout=5.0)
            except queue.Empty:
                continue
            if not isinstance(entry, _End):
                return entry
            self._stop.set()
            if entry.error is not None:
                self.error = entry.error
                raise entry.error
        raise StopIteration

    def close(self, timeout: float | None = None) -> None:
        """Stop the thread after the item that it is making; safe to call twice.

        Args:
            timeout: seconds to wait for it; None: for as long as it takes.
        """
        self._stop.set()
        self._drain()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._drain()

    def _drain(self) -> None:
        while True:
            try:
                self._ready.get_nowait()
            except queue.Empty:
                return

    def _make(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    break
            else:
                self._put(_End(None))
        except BaseException as error:  # raised again in the consumer's thread
            self._put(_End(error))
        finally:
            if isinstance(items, Generator):
                items.close()

    def _put(self, entry: Item | _End) -> bool:
        """Whether the entry was put; not if this was closed meanwhile."""
        while not self._stop.is_set():
            try:
                self._ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def ahead(items: Iterable[Item], depth: int = 2, name: str = "decode") -> Iterator[Item]:
    """The items, made by a thread of their own up to `depth` ahead.

    What making them raises is raised here; a consumer that stops early stops the thread.
    """
    ready = Prefetcher(items, depth, name)
    try:
        yield from ready
    finally:
        ready.close()
