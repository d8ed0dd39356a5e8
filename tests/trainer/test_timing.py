"""Marks become rows, rows become figures; cut and damaged files are handled."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import timing
from trainer.distributed import Processes
from trainer.timing import StepClock, StepLog


def row(epoch: int, step: int, data: float, total: float, phase: str = "train") -> dict[str, Any]:
    times = dict.fromkeys((f"{name}_ms" for name in timing.PHASES), 1.0)
    times |= {"data_ms": data, "total_ms": total}
    return {"epoch": epoch, "step": step, "phase": phase, "loss": 0.5, **times}


def test_a_row_says_where_the_time_went(tmp_path: Path) -> None:
    clock = StepClock(torch.device("cpu"))
    steps = StepLog(tmp_path / timing.STEPS, torch.device("cpu"), Processes())
    clock.begin()
    time.sleep(0.02)
    clock.mark("data")
    clock.mark("forward")
    time.sleep(0.01)
    clock.mark("backward")
    steps.add(1, 0, "train", torch.tensor(2.5), clock.end())
    steps.close()
    (written,) = timing.read_rows(tmp_path / timing.STEPS)
    assert set(written) == {"epoch", "step", "phase", "loss", "total_ms"} | {
        f"{name}_ms" for name in timing.PHASES
    }
    assert written["loss"] == 2.5
    assert written["data_ms"] >= 20 and written["backward_ms"] >= 10 > written["forward_ms"]
    assert written["loss_ms"] == written["optimizer_ms"] == 0
    assert written["total_ms"] >= written["data_ms"] + written["backward_ms"]


def test_a_full_disk_is_kept_for_later_and_leaves_whole_rows(
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(64_000)
    steps = StepLog(disk / timing.STEPS, torch.device("cpu"), Processes())
    clock = StepClock(torch.device("cpu"))
    for step in range(1000):
        clock.begin()
        rows = steps.add(1, step, "train", torch.tensor(2.5), clock.end())
        assert [row["step"] for row in rows] == [step]  # whoever watches is told all the same
    steps.close()
    with pytest.raises(OSError, match=r"No space left on device: .*steps\.jsonl"):
        steps.check()
    assert (disk / timing.STEPS).read_bytes().endswith(b"}\n")
    found = [row["step"] for row in timing.read_rows(disk / timing.STEPS)]
    assert found == list(range(len(found))) and 100 < len(found) < 1000


def test_summary_takes_medians_from_the_second_epoch_on() -> None:
    rows = [row(1, 0, 1000, 2000), row(1, 1, 0, 100)]
    rows += [row(2, 2, 10, 100), row(2, 3, 1, 100), row(3, 4, 30, 100), row(3, 5, 3, 100)]
    rows += [row(3, 5, 500, 500, phase="val")]
    result = timing.summarise(rows, batch_size=64)
    assert result["first_step_wait_ms"] == 20 and result["other_step_wait_ms"] == 2
    assert result["steps"] == 6 and result["epochs"] == 3
    assert result["utilisation"] == pytest.approx(1 - 1044 / 2500)
    assert result["samples_per_s"] == pytest.approx(6 * 64 / 2.5)


def test_one_epoch_or_one_step_an_epoch_has_no_such_medians() -> None:
    assert timing.summarise([row(1, 0, 1, 2)], 8)["first_step_wait_ms"] is None
    single = timing.summarise([row(1, 0, 1, 2), row(2, 1, 1, 2)], 8)
    assert single["first_step_wait_ms"] == 1 and single["other_step_wait_ms"] is None


def test_a_resumed_run_drops_the_rows_it_will_write_again(tmp_path: Path) -> None:
    path = tmp_path / timing.STEPS
    lines = [json.dumps(row(1, step, 0, 1)) for step in range(5)]
    path.write_text("\n".join(lines) + '\n{"epoch": 1, "st')  # killed while writing
    timing.cut_rows(path, 3)
    assert [r["step"] for r in timing.read_rows(path)] == [0, 1, 2]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / timing.STEPS
    path.write_text("nonsense\n" + json.dumps(row(1, 0, 0, 1)) + "\n")
    with pytest.raises(ValueError, match="line 1"):
        timing.read_rows(path)


def test_plot_draws_a_picture(tmp_path: Path) -> None:
    timing.plot([row(e, 2 * e + s, 1, 5) for e in (1, 2) for s in (0, 1)], tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
