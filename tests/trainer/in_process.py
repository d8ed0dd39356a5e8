"""An engine for batches that needs no other process."""

from collections.abc import Callable, Iterator
from typing import Any


class InProcess:
    """An engine in this process; `dies` says of a video whether and how its process dies."""

    def __init__(self, dies: Callable[[str], str | None] = lambda name: None) -> None:
        self.dies, self.measured = dies, list[str]()

    def __call__(
        self, function: Callable[..., None], tasks: list[Any], on_bytes: Callable[[int], None]
    ) -> Iterator[tuple[Any, str | None]]:
        for task in tasks:
            name = task.video.path.name
            self.measured.append(name)
            if words := self.dies(name):
                yield task, words
            else:
                function(task, on_bytes)
                yield task, None
