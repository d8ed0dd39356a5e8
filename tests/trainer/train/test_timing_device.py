"""Times of steps on a device that runs behind the host (a double of it, in milliseconds)."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fake_device import FakeDevice
from trainer.train import timing
from trainer.train.distributed import Processes
from trainer.train.stream import Readback
from trainer.train.timing import PHASES, StepClock, StepLog, StepTimes

CPU = torch.device("cpu")


def take(clock: StepClock, gpu: FakeDevice, batches: Sequence[float], work: float) -> StepTimes:
    """A step whose parts are there at the moments `batches` and take `work` each."""
    clock.begin()
    for moment in batches:
        gpu.wait_for(moment)
        clock.mark("data")
        gpu.queue(work)
        clock.mark("forward")
    clock.mark("optimizer")
    return clock.end()


def read(gpu: FakeDevice, steps: list[StepTimes]) -> list[dict[str, float]]:
    gpu.now = max(gpu.now, gpu.free)
    return [step.milliseconds() for step in steps]


def test_a_host_that_is_ahead_waits_for_nothing_that_counts() -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    # the batch of step n is decoded at n * 8, long before the device gets to it
    rows = read(gpu, [take(clock, gpu, [8.0 * n], 10) for n in range(9)])
    assert [row["data_ms"] for row in rows] == [0.0] * 9
    assert [row["total_ms"] for row in rows] == [10.0] * 9
    assert all(row["forward_ms"] == 10 and row["host_wait_ms"] >= 0 for row in rows)
    assert rows[0].keys() == {f"{name}_ms" for name in (*PHASES, "total", "host_wait")}


def test_a_device_that_runs_dry_counts_its_gap() -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    # first the loader needs 100 ms, then 15 a batch
    rows = read(gpu, [take(clock, gpu, [100 + 15.0 * n], 10) for n in range(3)])
    assert [row["data_ms"] for row in rows] == [100, 5, 5]
    assert [row["total_ms"] for row in rows] == [110, 15, 15]


def test_each_part_waits_for_its_own_data() -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    (row,) = read(gpu, [take(clock, gpu, [3, 20, 25], 10)])
    assert row["data_ms"] == 3 + 7 and row["forward_ms"] == 30 and row["total_ms"] == 40


def test_what_the_host_does_between_steps_counts_only_once_the_device_is_idle() -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    steps = [take(clock, gpu, [0], 10)]
    gpu.host(7)  # rows are written while the device computes
    steps.append(take(clock, gpu, [0], 10))
    gpu.host(20)  # at 27: the device has been idle from 20 on, but not for want of data
    steps.append(take(clock, gpu, [0], 10))
    rows = read(gpu, steps)
    assert [row["total_ms"] for row in rows] == [10, 10, 17]
    assert [row["data_ms"] for row in rows] == [0, 0, 0]


def test_validations_and_checkpoints_are_part_of_no_step() -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    steps = [take(clock, gpu, [0], 10)]
    clock.interrupt()
    gpu.queue(500)
    gpu.host(800)
    steps.append(take(clock, gpu, [804], 10))
    steps.append(take(clock, gpu, [0], 10))
    rows = read(gpu, steps)
    assert [row["total_ms"] for row in rows] == [10, 14, 10]
    assert [row["data_ms"] for row in rows] == [0, 4, 0]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 99), st.integers(1, 20), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_steps_that_follow_each_other_fill_the_time(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    gpu = FakeDevice(now=5)
    clock = StepClock(CPU, gpu.event)
    found: list[dict[str, float]] = []
    unread: list[StepTimes] = []
    for between, ready, work, look in steps:
        unread.append(take(clock, gpu, [ready], work))
        gpu.host(between)
        if look:  # events of rows that were read are used again
            found += [step.milliseconds() for step in unread]
            unread.clear()
    found += [step.milliseconds() for step in unread]
    assert sum(row["total_ms"] for row in found) == gpu.free - 5
    for row, (_, _, work, _) in zip(found, steps, strict=True):
        assert row["forward_ms"] == work
        assert 0 <= row["data_ms"] <= row["total_ms"] - work


def test_times_may_be_read_twice() -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    times = take(clock, gpu, [1], 2)
    assert times.milliseconds() == times.milliseconds()
    assert times.milliseconds()["total_ms"] == 3


def test_a_number_is_read_once_the_device_has_come_to_it() -> None:
    gpu = FakeDevice()
    value = torch.zeros(())
    gpu.queue(10)
    number = Readback(value, gpu.event)
    assert not number.here()
    value += 4  # what the device computes until then
    gpu.host(10)
    assert number.here() and float(number.read()) == 4 and gpu.waits == []
    gpu.queue(3)
    later = Readback(value, gpu.event)
    assert float(later.read()) == 4 and gpu.waits == [3]
    assert Readback(value, None).here()


def test_rows_appear_when_the_device_is_done_and_the_log_does_not_wait(tmp_path: Path) -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    log = StepLog(tmp_path / timing.STEPS, CPU, Processes(), gpu.event)
    written = []
    for number in range(8):
        times = take(clock, gpu, [0], 10)
        written.append(len(log.add(1, number, "train", torch.tensor(1.0 * number), times)))
        gpu.host(10 if number > 3 else 0)
    # four steps behind; from then on one is done while one is added
    assert written == [0, 0, 0, 0, 0, 1, 1, 1]
    assert gpu.waits == []
    assert [row["step"] for row in log.flush()] == [3, 4, 5, 6, 7]
    assert len(gpu.waits) > 0
    log.close()
    rows = timing.read_rows(tmp_path / timing.STEPS)
    assert [row.loss for row in rows] == list(range(8))
    assert all(row.total_ms == 10 and row.host_wait_ms is not None for row in rows)


def test_a_host_that_never_waits_is_held_back_at_last(tmp_path: Path) -> None:
    gpu = FakeDevice()
    clock = StepClock(CPU, gpu.event)
    log = StepLog(tmp_path / timing.STEPS, CPU, Processes(), gpu.event)
    for number in range(20):
        log.add(1, number, "train", torch.tensor(0.0), take(clock, gpu, [0], 10))
        assert gpu.free - gpu.now <= 80  # there is always work for the device
    assert gpu.waits == [10.0] * 12
    log.close()


@pytest.mark.parametrize("events", [True, False])
def test_several_processes_write_alike(tmp_path: Path, events: bool) -> None:
    """How many rows are averaged at once must not depend on one process's device."""
    gpu = FakeDevice()
    shared = Processes(rank=0, world=2)
    object.__setattr__(shared, "mean", lambda values: values)
    log = StepLog(tmp_path / timing.STEPS, CPU, shared, gpu.event if events else None)
    clock = StepClock(CPU, gpu.event if events else None)
    written = []
    for number in range(20):
        times = take(clock, gpu, [0], 10)
        written.append(len(log.add(1, number, "train", torch.tensor(0.0), times)))
    assert written == [0] * 8 + [5] + [0] * 4 + [5] + [0] * 4 + [5, 0]
    assert len(log.flush()) == 5
    log.close()
