"""Marks become rows, rows become figures; cut and damaged files are handled."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.records import RecordError
from mutations import changed_bytes, changed_json, documented
from trainer.train import timing
from trainer.train.distributed import Processes
from trainer.train.timing import StepClock, StepLog, StepRow, plot


def row(
    epoch: int, step: int, data: float, total: float, phase: Literal["train", "val"] = "train"
) -> StepRow:
    return StepRow(epoch, step, phase, data, total, 0.5, 1.0, 1.0, 1.0, 1.0)


def text(row: StepRow) -> str:
    """As a training writes it."""
    names = ("epoch", "step", "phase", "loss", *(f"{name}_ms" for name in timing.PHASES))
    return json.dumps({name: getattr(row, name) for name in (*names, "total_ms")})


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
    (line,) = (tmp_path / timing.STEPS).read_text().splitlines()
    assert set(json.loads(line)) == {"epoch", "step", "phase", "loss", "total_ms"} | {
        f"{name}_ms" for name in timing.PHASES
    }
    (written,) = timing.read_rows(tmp_path / timing.STEPS)
    assert written.loss == 2.5
    assert written.data_ms >= 20 and written.backward_ms >= 10 > written.forward_ms
    assert written.loss_ms == written.optimizer_ms == 0
    assert written.total_ms >= written.data_ms + written.backward_ms


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
    found = [row.step for row in timing.read_rows(disk / timing.STEPS)]
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
    lines = [text(row(1, step, 0, 1)) for step in range(5)]
    path.write_text("\n".join(lines) + '\n{"epoch": 1, "st')  # killed while writing
    timing.cut_rows(path, 3)
    assert [r.step for r in timing.read_rows(path)] == [0, 1, 2]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / timing.STEPS
    path.write_text("nonsense\n" + text(row(1, 0, 0, 1)) + "\n")
    with pytest.raises(RecordError, match="line 1"):
        timing.read_rows(path)


def test_plot_draws_a_picture(tmp_path: Path) -> None:
    plot([row(e, 2 * e + s, 1, 5) for e in (1, 2) for s in (0, 1)], tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_any_line_among_the_steps(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    known = json.loads(text(row(1, 1, 2.0, 3.0)))
    line = data.draw(changed_json(known) | changed_bytes(json.dumps(known).encode()))
    check_steps(line, tmp_path_factory.getbasetemp())


def check_steps(line: bytes, folder: Path) -> None:
    """A resumed run and its summary, where one line of steps.jsonl is `line`."""
    path = folder / timing.STEPS
    path.write_bytes(
        b"\n".join([text(row(1, 0, 1, 1)).encode(), line, text(row(2, 2, 1, 1)).encode(), b""])
    )

    def resume() -> None:
        timing.cut_rows(path, 2)
        rows = timing.read_rows(path)
        timing.summarise(rows, 8)
        timing.epoch_table(rows, 8)

    documented(resume)


def test_a_loss_that_is_not_finite_is_null_and_nan_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / timing.STEPS
    clock = StepClock(torch.device("cpu"))
    steps = StepLog(path, torch.device("cpu"), Processes())
    for loss in (float("nan"), float("inf"), 1.5):
        clock.begin()
        steps.add(1, 0, "train", torch.tensor(loss), clock.end())
    steps.close()
    written = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
    assert written == [None, None, 1.5]
    old = text(row(1, 0, 1, 2)).replace("0.5", "NaN", 1)
    path.write_text(path.read_text() + old + "\n")
    rows = timing.read_rows(path)
    assert [r.loss for r in rows[:3]] == written and math.isnan(rows[3].loss or 0)
    plot(rows, tmp_path / "t.png")


def test_lines_that_are_kept_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / timing.STEPS
    lines = [text(row(1, 0, 0, 1)).replace("}", ', "later": [1]}'), text(row(1, 1, 0, 1))]
    path.write_text("\n".join(lines))  # whole, but for the end of the line
    timing.cut_rows(path, 1)
    assert path.read_text() == lines[0] + "\n"
    path.write_text("\n".join(lines))
    timing.cut_rows(path, 2)
    assert path.read_text() == "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"step": "3"}, "step: expected int, got str"),
        ({"epoch": 0}, "epoch: expected int >= 1"),
        ({"data_ms": None}, "data_ms: expected float, got null"),
        ({"total_ms": float("nan")}, "total_ms: expected float"),
        ({"phase": "test"}, "phase: invalid enum value"),
    ],
)
def test_a_field_of_a_row_that_is_wrong_is_named(
    tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    path = tmp_path / timing.STEPS
    path.write_text(json.dumps(json.loads(text(row(1, 0, 0, 1))) | changed) + "\n")
    with pytest.raises(RecordError, match=f"line 1 is not a row of step times: {named}"):
        timing.cut_rows(path, 5)
    assert path.exists()


def test_steps_that_took_no_time_have_figures(tmp_path: Path) -> None:
    (line,) = timing.epoch_table([row(1, 0, 0, 0)], 8)
    assert line["utilisation"] == line["samples_per_s"] == 0
