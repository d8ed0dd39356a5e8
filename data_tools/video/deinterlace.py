"""Interlaced pictures, of which each holds two moments, made whole ones (PyAV's filter graph)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from av.error import BlockingIOError, EOFError
from av.filter import Graph

# bwdif: yadif's motion and a better interpolation, at twice its time. A frame for each frame, since
# 25 pictures a second are wanted; what is not marked as interlaced passes untouched.
_FILTER = "bwdif", "mode=send_frame:deint=interlaced"


class Deinterlacer:
    """Passes pictures on; from the first that is marked as interlaced on through a filter.

    Args:
        threads: of the filter.

    Attributes:
        count: interlaced pictures so far.
    """

    def __init__(self, threads: int = 1) -> None:
        self.count = 0
        self._threads = threads
        self._graph: Any = None
        self._form: tuple[int, int, str] | None = None  # what the graph was made for

    def run(self, frames: Iterable[Any]) -> Iterator[Any]:
        """The same pictures at the same times, in their order; the filter holds back one or two."""
        for frame in frames:
            interlaced = frame.interlaced_frame
            self.count += interlaced
            if self._graph is None and not interlaced:
                yield frame
                continue
            form = frame.width, frame.height, frame.format.name
            if form != self._form:
                yield from self._rest()
                self._graph, self._form = self._made(frame), form
            self._graph.vpush(frame)
            yield from self._ready()
        yield from self._rest()

    def _made(self, frame: Any) -> Any:
        graph = Graph()
        graph.threads = self._threads
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base,
            ),
            graph.add(*_FILTER),
            graph.add("buffersink"),
        )
        graph.configure()
        return graph

    def _ready(self) -> Iterator[Any]:
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return
            yield frame

    def _rest(self) -> Iterator[Any]:
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._ready()
        self._graph = self._form = None
