"""The loop itself: what it holds while it waits."""

import weakref
from pathlib import Path
from typing import Any

import pytest

from runs import command
from trainer.data.batch import Batch
from trainer.data.loader import Loader
from trainer.run import main


def test_a_batch_is_freed_before_the_next_one_is_waited_for(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freed while the next is fetched, it would be measured as waiting, and take memory twice."""
    training: list[Loader] = []
    before: list[Any] = []
    alive: list[bool] = []
    fetch = Loader.__next__

    def watched(loader: Loader) -> Batch:
        training[:] = training or [loader]  # the first to be asked; validations have their own
        if loader is not training[0]:
            return fetch(loader)
        alive.extend(ref() is not None for ref in before)
        batch = fetch(loader)
        before[:] = [weakref.ref(batch.frames_NRHWC)]
        return batch

    monkeypatch.setattr(Loader, "__next__", watched)
    assert main(command(shards_folder, tmp_path / "run", "--train.epochs", "2")) == 0
    assert len(alive) > 2 and not any(alive)
