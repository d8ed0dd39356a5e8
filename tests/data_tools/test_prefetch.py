"""Items made ahead: in order, with their errors, and no thread left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from data_tools.prefetch import Prefetcher, ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_items_come_in_order_from_another_thread() -> None:
    makers = []

    def items() -> Iterator[int]:
        for number in range(20):
            makers.append(threading.current_thread().name)
            yield number

    assert list(ahead(items(), depth=3, name="made")) == list(range(20))
    assert set(makers) == {"made"} and "made" not in threads()
    assert list(ahead([])) == []


def test_no_more_than_the_depth_is_made_ahead() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with_depth = Prefetcher(items(), 2, "deep")
    assert next(with_depth) == 0
    time.sleep(0.3)
    assert len(made) <= 4  # one was taken, two are ready, one waits for room
    with_depth.close()
    with_depth.close()
    assert "deep" not in threads()
    with pytest.raises(StopIteration):
        next(with_depth)


def test_what_making_raises_is_raised_after_the_items_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    made = Prefetcher(items(), 2, "failing")
    assert next(made) == 1 and made.error is None
    with pytest.raises(KeyError, match="two") as caught:
        next(made)
    assert made.error is caught.value
    with pytest.raises(StopIteration):
        next(made)
    made.close()
    with pytest.raises(KeyError):
        list(ahead(items()))


def test_a_consumer_that_leaves_early_stops_the_thread_and_closes_the_generator() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    for item in ahead(items(), name="left"):
        assert item == 1
        break
    deadline = time.monotonic() + 10
    while "left" in threads():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert closed == ["left"]


def test_ahead_passes_items_and_errors_on_and_stops() -> None:
    assert list(ahead(range(10))) == list(range(10))

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("cannot be decoded")

    with pytest.raises(ValueError, match="cannot be decoded"):
        list(ahead(broken()))
    before = threading.active_count()
    endless = ahead(iter(int, 1))
    next(endless)
    endless.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
