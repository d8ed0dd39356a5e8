"""Ways to stop a program: Ctrl-C while it still loads its libraries, SIGTERM, a closed terminal."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

_ONE_WISH = 5.0  # seconds within which signals are one: a terminal that closes sends several


@dataclass
class Stop:
    """Whether a signal has asked to stop: its number, if one did."""

    number: int | None = None


@contextmanager
def stopping_signals() -> Iterator[Stop]:
    """Let SIGTERM and SIGHUP end what is done meanwhile as Ctrl-C does, so that it cleans up.

    What is ignored stays so (nohup), as does what has a handler. In other threads than the main
    one, which alone may have handlers, and in forked children nothing changes.

    Yields: what has been asked so far.
    """
    stop = Stop()
    own, last = os.getpid(), float("-inf")

    def ask(number: int, frame: object) -> None:
        nonlocal last
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        stop.number = stop.number or number
        again, last = time.monotonic() - last < _ONE_WISH, time.monotonic()
        if not again:  # else it would break off the cleaning up
            raise KeyboardInterrupt

    caught: list[int] = []
    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGTERM, signal.SIGHUP)
        caught += [each for each in numbers if signal.getsignal(each) == signal.SIG_DFL]
    for each in caught:
        signal.signal(each, ask)
    try:
        yield stop
    finally:
        for each in caught:
            signal.signal(each, signal.SIG_DFL)


def watch_start(program: str) -> None:
    """Let Ctrl-C that comes before a program's own handling end it with a sentence, status 130."""
    before = sys.excepthook

    def told(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, traceback)
            return
        print(f"{program}: interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # half-loaded libraries have nothing to finish, and some would crash

    sys.excepthook = told
