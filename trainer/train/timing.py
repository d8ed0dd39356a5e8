"""Every step timed: where each millisecond goes, without slowing the step.

`StepClock` takes marks (on a GPU: CUDA events that are read some steps later, so that nothing
synchronises); `StepLog` turns them into rows of steps.jsonl; `summarise` and `plot` read those.

A row: epoch (from 1), step (from 0, over all epochs), phase ("train" or "val"), loss, data_ms,
forward_ms, loss_ms, backward_ms, optimizer_ms, total_ms. Where the loss is not finite it is null
(NaN in files of earlier versions).

On a CPU all times are the host's. `data_ms` is what it waited for the batch; total_ms is the whole
step; validation and checkpoints lie between steps.

On a GPU all times are the device's, which computes while the host is steps ahead:

- `data_ms` is how long the device had nothing to do for want of the batch: from where the step
  begins in its queue (at once behind the step before, or when the host came to it, if that was
  later) until the batch is there. Of a step in parts, also from the end of each part.
- `total_ms` goes from the last event of the step before to the last event of this one. So whatever
  kept the device idle in between counts, in no phase if it was not the batch. The first step of a
  run, and the first after a validation or a checkpoint (`interrupt`), has none before it and counts
  from its own beginning: validating and saving are no part of any step.
- `host_wait_ms`, on a GPU alone, is what the host spent fetching the batch: waiting for it, or for
  the device to be done with earlier ones. It costs nothing while the device has work.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import torch
from msgspec import Meta

from data_tools.atomic import atomic_path
from data_tools.figure import save_figure
from data_tools.records import Count, RecordError, decode_record, read_lines
from trainer.train.distributed import Processes
from trainer.train.stream import Event, NewEvent, Readback, plain_events, timed_events

STEPS = "steps.jsonl"
PHASES = ("data", "forward", "loss", "backward", "optimizer")
# GPU or several processes: the most rows that wait to be complete. The host is never further ahead.
_LAG = 8


Milliseconds = Annotated[float, Meta(ge=0, le=1e12)]


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of steps.jsonl, see above; None: a loss that is not finite.

    `host_wait_ms` is in rows of a GPU only; `compute_ms` and `validation_ms` (after the step) are
    in what benchmarks write only.
    """

    epoch: Annotated[int, Meta(ge=1, le=10**9)]
    step: Count
    phase: Literal["train", "val"]
    data_ms: Milliseconds
    total_ms: Milliseconds
    loss: float | None = None
    forward_ms: Milliseconds = 0.0
    loss_ms: Milliseconds = 0.0
    backward_ms: Milliseconds = 0.0
    optimizer_ms: Milliseconds = 0.0
    compute_ms: Milliseconds = 0.0
    validation_ms: Milliseconds = 0.0
    host_wait_ms: Milliseconds | None = None

    def spent(self, phase: str) -> float:
        """Milliseconds of one of PHASES."""
        spent: float = getattr(self, f"{phase}_ms")
        return spent


class StepClock:
    """Marks the ends of a step's phases. On a CPU: host time; on a GPU: also an event a mark.

    Args:
        device: where the step computes.
        new_event: makes the events, whose times count instead of the host's; default: those of
            CUDA on a GPU, none on a CPU.
    """

    def __init__(self, device: torch.device, new_event: NewEvent | None = None) -> None:
        self._new_event = new_event or timed_events(device)
        self._spare: list[Event] = []
        self._before: Event | None = None
        self.begin()

    def begin(self) -> None:
        """A step begins."""
        self._names: list[str] = []
        self._times = [time.perf_counter()]
        self._events: list[Event] = []
        self._put_event()

    def mark(self, phase: str) -> None:
        """`phase` ends here; it began at the mark before."""
        self._names.append(phase)
        self._times.append(time.perf_counter())
        self._put_event()

    def _put_event(self) -> None:
        if self._new_event is not None:
            event = self._spare.pop() if self._spare else self._new_event()
            event.record()
            self._events.append(event)

    def end(self) -> "StepTimes":
        """The step is over; read the result later."""
        total = time.perf_counter() - self._times[0]
        times = StepTimes(self._names, self._times, total, self._events, self._before, self._spare)
        self._before = self._events[-1] if self._events else None
        return times

    def interrupt(self) -> None:
        """What comes between the last step and the next is part of neither."""
        self._before = None


class StepTimes:
    """The marks of one step; `milliseconds` waits for the GPU only if it is not done by then."""

    def __init__(
        self,
        names: list[str],
        times: list[float],
        total: float,
        events: list[Event],
        before: Event | None,
        spare: list[Event],
    ) -> None:
        self._names, self._times, self._total = names, times, total
        self._events, self._before, self._spare = events, before, spare
        self._result: dict[str, float] | None = None

    def milliseconds(self) -> dict[str, float]:
        """`<phase>_ms` of every phase in PHASES (0 if not marked) or marked, and `total_ms`.

        With events also `host_wait_ms`.
        """
        if self._result is None:
            host = [1e3 * (b - a) for a, b in pairwise(self._times)]
            found = self._by_host(host) if not self._events else self._by_device(host)
            self._result = {name: round(value, 4) for name, value in found.items()}
        return self._result

    def _by_host(self, host: list[float]) -> dict[str, float]:
        return self._phases(host) | {"total_ms": 1e3 * self._total}

    def _by_device(self, host: list[float]) -> dict[str, float]:
        events, last = self._events, self._events[-1]
        last.synchronize()
        device = [a.elapsed_time(b) for a, b in pairwise(events)]
        total = (self._before or events[0]).elapsed_time(last)
        # The last one stays: the next step counts from it, and may be read much later.
        self._spare += events[:-1]
        self._events, self._before = [], None
        wait = self._phases(host)["data_ms"]
        return self._phases(device) | {"total_ms": total, "host_wait_ms": wait}

    def _phases(self, spent: list[float]) -> dict[str, float]:
        result = {f"{phase}_ms": 0.0 for phase in PHASES}
        for name, milliseconds in zip(self._names, spent, strict=True):
            result[f"{name}_ms"] = result.get(f"{name}_ms", 0.0) + milliseconds
        return result


class StepLog:
    """Writes rows to steps.jsonl on the first process; losses are means over all processes.

    What cannot be written (a full disk) is no error yet: `failure` holds it, so that all processes
    can end together. The file then ends with the last row that is whole.
    """

    def __init__(
        self,
        path: Path,
        device: torch.device,
        processes: Processes,
        new_event: NewEvent | None = None,
    ) -> None:
        """Open the file, which may hold rows already.

        Args:
            path: of steps.jsonl.
            device: where the losses are.
            processes: whose losses are averaged; all call the same methods in the same order.
            new_event: makes the events behind the copies of losses; default: those of CUDA on a
                GPU, none on a CPU.
        """
        self._new_event = new_event or plain_events(device)
        self._lag = _LAG if self._new_event is not None or processes.world > 1 else 0
        self._processes = processes
        self._path = path
        self._pending: deque[tuple[dict[str, Any], Readback, StepTimes]] = deque()
        # unbuffered: a killed run loses no finished row, and closing has nothing left to fail with
        self._file = open(path, "ab", buffering=0) if processes.first else None  # noqa: SIM115
        self.failure: OSError | None = None

    def add(
        self, epoch: int, step: int, phase: str, loss: torch.Tensor, times: StepTimes
    ) -> list[dict[str, Any]]:
        """Take a step; returns the rows that became complete (none while the GPU may be busy)."""
        place = {"epoch": epoch, "step": step, "phase": phase}
        self._pending.append((place, Readback(loss, self._new_event), times))
        return self._write(self._ready())

    def _ready(self) -> int:
        """How many rows to write now: on a GPU those that it is done with."""
        pending = self._pending
        if self._processes.world > 1:
            # The same on all processes, and a collective for several rows at once. The newer half
            # may still be running.
            return len(pending) - self._lag // 2 if len(pending) > self._lag else 0
        late = max(0, len(pending) - self._lag)
        done = takewhile(lambda row: row[1].here(), islice(pending, late, None))
        return late + sum(1 for _ in done)

    def add_now(self, epoch: int, step: int, phase: str, loss: float, times: StepTimes) -> None:
        """Take a step of this process alone, whose loss is known; it is written at once."""
        row = {"epoch": epoch, "step": step, "phase": phase, "loss": loss, **times.milliseconds()}
        self._keep([row])

    def flush(self) -> list[dict[str, Any]]:
        """Complete every pending row, waiting for the GPU (and all processes); returns them."""
        return self._write(len(self._pending))

    def _write(self, count: int) -> list[dict[str, Any]]:
        ready = [self._pending.popleft() for _ in range(count)]
        losses = self._processes.mean([float(loss.read()) for _, loss, _ in ready])
        rows = [
            {**place, "loss": loss, **times.milliseconds()}
            for (place, _, times), loss in zip(ready, losses, strict=True)
        ]
        self._keep(rows)
        return rows

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        if self._file is None or self.failure is not None or not rows:
            return
        whole = os.fstat(self._file.fileno()).st_size
        lines = []
        for row in rows:
            loss = row["loss"] if math.isfinite(row["loss"]) else None  # JSON has no NaN
            lines.append(json.dumps(row | {"loss": loss}) + "\n")
        left = "".join(lines).encode()
        try:
            while left:  # a disk that is all but full takes a part
                left = left[self._file.write(left) :]
        except OSError as error:
            self.failure = OSError(error.errno, error.strerror, str(self._path))
            with suppress(OSError):
                self._file.truncate(whole)

    def check(self) -> None:
        """Raise what has kept rows from being written, if anything has.

        Raises:
            OSError: names the file.
        """
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Close the file; rows still pending are left to `flush`, which needs every process."""
        if self._file is not None:
            self._file.close()


def read_rows(path: Path) -> list[StepRow]:
    """The rows of a steps.jsonl; a last line cut short by a kill is left out.

    Raises:
        RecordError: a line is no row.
    """
    return [row for _, row in _rows(path)]


def _rows(path: Path) -> Iterator[tuple[bytes, StepRow]]:
    """Each line with its row."""
    for number, line in read_lines(path):
        try:
            yield line, decode_record(line, StepRow, as_python=True)
        except RecordError as error:
            if not line.endswith(b"\n"):
                return
            raise RecordError(
                f"{path}, line {number} is not a row of step times: {error}; delete that line"
            ) from None


def cut_rows(path: Path, step: int) -> None:
    """Drop the rows from `step` on, which a resumed run will write again.

    Raises:
        RecordError: a line is no row.
    """
    if not path.exists():
        return
    with atomic_path(path) as partial, open(partial, "wb") as stream:
        for line, row in _rows(path):
            if row.step < step:
                stream.write(line.removesuffix(b"\n") + b"\n")


def by_epoch(rows: Iterable[StepRow]) -> dict[int, list[StepRow]]:
    """Training rows by epoch, in the order of steps."""
    epochs: dict[int, list[StepRow]] = {}
    for row in rows:
        if row.phase == "train":
            epochs.setdefault(row.epoch, []).append(row)
    return epochs


def summarise(rows: list[StepRow], batch_size: int) -> dict[str, Any]:
    """Figures of a run from its rows.

    `first_step_wait_ms` and `other_step_wait_ms` are medians over epochs >= 2 (None with a single
    epoch), `utilisation` is the share of all step time, first steps included, that was not spent
    waiting for data, `samples_per_s` counts all step time.
    """
    epochs = by_epoch(rows)
    train = [row for epoch in epochs.values() for row in epoch]
    later = [epochs[epoch] for epoch in sorted(epochs) if epoch >= 2]
    first = [epoch[0].data_ms for epoch in later]
    others = [row.data_ms for epoch in later for row in epoch[1:]]
    total = sum(row.total_ms for row in train)
    waited = sum(row.data_ms for row in train)
    return {
        "epochs": len(epochs),
        "steps": len(train),
        "samples_per_s": len(train) * batch_size / total * 1e3 if total else 0.0,
        "first_step_wait_ms": median(first) if first else None,
        "other_step_wait_ms": median(others) if others else None,
        "utilisation": 1 - waited / total if total else 0.0,
    }


def epoch_table(rows: list[StepRow], batch_size: int) -> list[dict[str, Any]]:
    """Per epoch: first step against the median of the rest, utilisation, samples/s."""
    table = []
    for epoch, steps in sorted(by_epoch(rows).items()):
        rest = steps[1:] or steps
        total = sum(row.total_ms for row in steps)
        table.append(
            {
                "epoch": epoch,
                "first_wait_ms": steps[0].data_ms,
                "first_total_ms": steps[0].total_ms,
                "rest_wait_ms": median(row.data_ms for row in rest),
                "rest_total_ms": median(row.total_ms for row in rest),
                "utilisation": 1 - sum(row.data_ms for row in steps) / total if total else 0.0,
                "samples_per_s": len(steps) * batch_size / total * 1e3 if total else 0.0,
            }
        )
    return table


def plot(rows: list[StepRow], picture: Path) -> None:
    """Draw the data wait of first and other steps by epoch, and where a step's time goes."""
    from matplotlib.figure import Figure  # half a second to import, for this picture alone

    epochs = sorted(by_epoch(rows).items())
    if not epochs:
        return
    x = [epoch for epoch, _ in epochs]
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    wait, share, loss = figure.subplot_mosaic("AB;CC").values()
    wait.plot(x, [steps[0].data_ms for _, steps in epochs], "o-", ms=3, lw=1, label="first step")
    rest = [[row.data_ms for row in steps[1:]] or [math.nan] for _, steps in epochs]
    wait.plot(x, [median(values) for values in rest], "o-", ms=3, lw=1, label="others, median")
    step = median(row.total_ms for _, steps in epochs for row in steps)
    wait.axhline(step, color="gray", linestyle=":", label="whole step, median")
    wait.set(title="waiting for data", xlabel="epoch", ylabel="ms", yscale="symlog")
    wait.legend(fontsize=8)
    parts = {
        phase: [sum(row.spent(phase) for row in steps) / len(steps) for _, steps in epochs]
        for phase in PHASES
    }
    share.stackplot(x, *parts.values(), labels=parts.keys())
    share.set(title="a step's time, mean of the epoch", xlabel="epoch", ylabel="ms")
    share.legend(fontsize=8, loc="upper right")
    train = [row for _, steps in epochs for row in steps]
    losses = [math.nan if row.loss is None else row.loss for row in train]
    loss.plot([row.step for row in train], losses, linewidth=0.8)
    loss.set(title="training loss", xlabel="step")
    save_figure(figure, picture)
