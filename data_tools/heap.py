"""A million small objects made at once, without the garbage collector going through them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collecting() -> Iterator[None]:
    """Let the collector of cycles rest; also a decorator.

    It looks through all objects again whenever their number has grown by a quarter: a sixth of the
    time that a plan of a million videos takes, and none of its objects ever goes before the end.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
