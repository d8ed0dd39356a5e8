"""What does timing every step cost?  python -m benchmarks.timing_cost

Takes the marks of a training step around nothing, turns them into a row and writes it, as the loop
does; the cost is set against the step of the small model at the same batch on this machine.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measure import at_least, check_device, exit_status, report
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


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny: shows only that it works")
    args = parser.parse_args(argv)
    if args.quick:
        args.batch_size, args.repetitions = 2, 20

    def work() -> None:
        at_least(args, batch_size=2, repetitions=1)
        check_device(args.device)
        figures = measure(torch.device(args.device), args.batch_size, args.repetitions)
        report("timing_cost", figures, args.json, quick=args.quick)

    return exit_status("timing_cost", args.json, work)


if __name__ == "__main__":
    sys.exit(main())
