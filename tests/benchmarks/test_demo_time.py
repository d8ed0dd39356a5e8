"""How soon the demonstration knows lips, measured small."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import demo_time
from benchmarks.cpu_step import PUBLISHED, compute
from benchmarks.result import machine
from trainer.train.setup import open_run


@pytest.mark.parametrize(("goal", "arrived"), [(0.0, True), (1.01, False)])
def test_it_trains_until_the_goal_or_its_last_epoch(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: float, arrived: bool
) -> None:
    monkeypatch.setattr(demo_time, "GOAL", goal)
    made = demo_time.settings(demo_time.Demo(4), 0, tmp_path / "run")
    data = replace(made.data, shards=str(shards_folder), val_clips=1, val_runs=1)
    config = replace(made, data=data, train=replace(made.train, batch_size=8))
    with open_run(config, console=Console(quiet=True)) as opened:
        compute(opened.step, PUBLISHED)
        spent, found = demo_time.train(opened, 2)
    assert (spent is not None) == arrived and len(found) == (1 if arrived else 2)


def test_ratios_are_of_the_rounds_in_which_both_arrived() -> None:
    rows = [
        {"way": "a", "seconds": [30.0, None, 20.0], "epochs": [9, 40, 8]},
        {"way": "b", "seconds": [10.0, 9.0, 10.0], "epochs": [3, 3, 3]},
    ]
    told = demo_time.readme({"rows": rows, "machine": machine()})
    assert "| a | 30 s, never, 20 s | 9, 40, 8 | 1.00 x |" in told
    assert "| b | 10 s, 9 s, 10 s | 3, 3, 3 | 2.50 x |" in told
