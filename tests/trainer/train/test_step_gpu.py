"""What a warm step on a GPU must not do: wait for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from trainer.config.settings import Config, Data, Loss, Model, Train
from trainer.data.batch import Batch, Whole
from trainer.data.sampler import Segments
from trainer.train import timing
from trainer.train.distributed import Processes
from trainer.train.guard import Guard
from trainer.train.step import TrainStep
from trainer.train.timing import StepClock, StepLog

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SAMPLES = 8
SETTINGS = {
    "independent": (Data(), Loss(), 5, 5),
    "paired": (Data(pairing="paired", skip_quiet=True), Loss("bins"), 5, 10),
    "multiway": (
        Data(pairing="multiway", run_frames=7, skip_quiet=False),
        Loss("infonce"),
        7,
        7,
    ),
    "multiway, others, quiet": (
        Data(pairing="multiway", run_frames=7, skip_quiet=True),
        Loss("infonce", others=0.1),
        7,
        7,
    ),
}


def parts(frames: int, audio_frames: int, count: int) -> list[Batch]:
    """A step's batch in so many parts, pixels and features on the GPU as the loader gives them."""
    draw = np.random.default_rng(0)
    number = np.arange(SAMPLES)
    segments = Segments(number // 2, number, number // 2, number, number % 2)
    quiet = draw.random((SAMPLES, audio_frames - 4)) < 0.3
    pixels = torch.from_numpy(draw.integers(0, 256, (SAMPLES, frames, 64, 64, 1), np.uint8)).cuda()
    mfcc = torch.from_numpy(draw.normal(size=(SAMPLES, 4 * audio_frames, 13)).astype(np.float32))
    mfcc = mfcc.cuda()
    whole = Batch(0, segments, pixels, mfcc, quiet)
    if count == 1:
        return [whole]
    size = SAMPLES // count
    cuts = [slice(at, at + size) for at in range(0, SAMPLES, size)]
    return [
        Batch(0, segments[at], pixels[at], mfcc[at], quiet[at], Whole(segments, quiet))
        for at in cuts
    ]


def repeated(batches: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from (replace(batch) for batch in batches)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("pairing", SETTINGS)
def test_no_warm_step_synchronises(
    tmp_path: Path, pairing: str, precision: Literal["bf16", "fp16"], accumulate: int
) -> None:
    data, loss, frames, audio_frames = SETTINGS[pairing]
    train = Train(
        batch_size=SAMPLES, accumulate=accumulate, precision=precision, average=0.9, clip_grad=1.0
    )
    device = torch.device("cuda")
    guard = Guard(1e-3, 10, SAMPLES)
    step = TrainStep(Config(data, Model("small"), loss, train=train), device, 100, guard=guard)
    clock, log = StepClock(device), StepLog(tmp_path / timing.STEPS, device, Processes())
    batches = repeated(parts(frames, audio_frames, accumulate))
    assert step.autocast().fast_dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    try:
        for number in range(30):
            if number == 20:  # the guard has looked, workspaces and pinned memory are there
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
            clock.begin()
            value = step.take(batches, number, clock)
            log.add(1, number, "train", value, clock.end())
        with pytest.raises(RuntimeError, match="synchroniz"):  # it would have been noticed
            value.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    log.flush()
    log.close()
    rows = timing.read_rows(tmp_path / timing.STEPS)
    assert [row.step for row in rows] == list(range(30))
    assert all(row.loss is not None for row in rows)
    for row in rows:
        phases = sum(row.spent(phase) for phase in timing.PHASES)
        assert 0 < phases <= row.total_ms + 0.01 and row.host_wait_ms is not None
    assert step.average is not None and int(step.average.n_averaged) == 30


def test_the_gap_that_a_late_batch_makes_is_data_time_and_a_busy_device_waits_for_none() -> None:
    """Kernels of known length stand in for decoding and for the step."""
    device = torch.device("cuda")
    loader = torch.cuda.Stream(device)
    clock, steps = StepClock(device), []
    cycles = 20_000_000  # about 10 ms at 2 GHz
    torch.cuda._sleep(5 * cycles)  # the kernel is loaded, the clock up
    torch.cuda.synchronize()
    for decoding in (5, 1, 1, 5):  # times `cycles`; the step takes two of them
        clock.begin()
        decoded = torch.cuda.Event()
        with torch.cuda.stream(loader):
            torch.cuda._sleep(decoding * cycles)
            decoded.record()
        torch.cuda.current_stream(device).wait_event(decoded)
        clock.mark("data")
        torch.cuda._sleep(2 * cycles)
        clock.mark("forward")
        steps.append(clock.end())
    rows = [each.milliseconds() for each in steps]
    unit = rows[0]["forward_ms"] / 2
    waits = [row["data_ms"] / unit for row in rows]
    # The decoder is done at 5, 6, 7 and 12, the steps at 7, 9, 11 and 14.
    assert waits == pytest.approx([5, 0, 0, 1], abs=0.4)
    assert [row["total_ms"] / unit for row in rows] == pytest.approx([7, 2, 2, 3], abs=0.4)
    assert all(row["host_wait_ms"] < unit for row in rows)


def test_an_average_resumes_on_the_gpu() -> None:
    config = Config(train=Train(average=0.9))
    step = TrainStep(config, torch.device("cuda"), 10)
    batch, clock = parts(5, 5, 1)[0], StepClock(torch.device("cuda"))
    for number in range(3):
        step(batch, number, clock)
    saved = step.state_dict()
    assert step.average is not None and step.average.n_averaged.device.type == "cpu"
    again = TrainStep(config, torch.device("cuda"), 10)
    assert again.average is not None
    again.average.load_state_dict({name: value.cpu() for name, value in saved["average"].items()})
    assert again.average.n_averaged.device.type == "cpu" and int(again.average.n_averaged) == 3
    for name, value in again.average.module.state_dict().items():
        assert torch.equal(value, step.average.module.state_dict()[name])
