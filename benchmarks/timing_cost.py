"""What does timing every step cost?  python -m benchmarks.timing_cost

Takes the marks of a training step around nothing, turns them into a row and writes it, as the loop
does; the cost is set against the step of the small model at the same batch on this machine.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jsonargparse import Namespace

from benchmarks.markdown import Row
from benchmarks.options import AtLeastOne, AtLeastTwo, check_device, command_line, run
from benchmarks.result import report
from trainer.model.losses import labelled, make_loss
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.train.distributed import Processes
from trainer.train.timing import PHASES, STEPS, StepClock, StepLog


def measure(device: torch.device, batch_size: int, repetitions: int) -> dict[str, Any]:
    """Milliseconds of the timing of one step, of the step, and their ratio."""
    clock = StepClock(device)
    loss = torch.zeros((), device=device)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        steps = StepLog(Path(folder) / STEPS, device, Processes())
        for step in range(repetitions):
            start = time.perf_counter()
            clock.begin()
            for phase in PHASES:
                clock.mark(phase)
            steps.add(1, step, "train", loss, clock.end())
            costs.append(1e3 * (time.perf_counter() - start))
        steps.close()
    cost = sum(costs) / len(costs)  # the mean: on a GPU most steps only queue, a few write
    step_ms = _step_ms(device, batch_size)
    return {
        "device": str(device),
        "model": "small",
        "batch_size": batch_size,
        "repetitions": repetitions,
        "timing_ms": round(cost, 4),
        "step_ms": round(step_ms, 3),
        "share": round(cost / step_ms, 6),
    }


def _step_ms(device: torch.device, batch_size: int) -> float:
    preset = PRESETS["small"]
    shape = (batch_size, 5, preset.size, preset.size, preset.channels)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    mfcc = torch.randn(batch_size, 20, 13, device=device)
    label = torch.arange(batch_size, device=device) % 2
    model = SyncNet("small").to(device)
    loss = make_loss("contrastive", preset.margin, preset.embedding)
    optimizer = torch.optim.AdamW(model.parameters())
    times = []
    for _ in range(12):
        start = time.perf_counter()
        value = loss(*model(frames, mfcc), labelled(label))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return median(times[2:])


def readme_rows(result: dict[str, Any]) -> list[Row]:
    """Row of the table of the loader."""
    what = "cost of timing a step, share of a step of the small model"
    return [[what, f"{result['share']:.3%}"]]


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage."""
    parser = command_line("timing_cost", __doc__, cache=False)
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda (default: cuda if there is one)",
    )
    parser.add_argument("--batch-size", type=AtLeastTwo, default=128)
    parser.add_argument("--repetitions", type=AtLeastOne, default=2000)
    return run("timing_cost", parser, argv, _measure, {"batch_size": 2, "repetitions": 20})


def _measure(args: Namespace) -> None:
    check_device(args.device)
    figures = measure(torch.device(args.device), args.batch_size, args.repetitions)
    report("timing_cost", figures, args.json, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
