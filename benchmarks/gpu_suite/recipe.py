"""The seed's recipe: how fast is the loader alone, the step alone, and both together.

The seed's figures stand beside: 4,920 samples/s of compute, 512 in truth, and 3 h 15 min for 300
epochs of 15 steps.
"""

import inspect
import io
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from rich.console import Console

from benchmarks.gpu_suite.lab import Lab
from benchmarks.processes import cpu_seconds
from benchmarks.step import replay, synchronise, training_step
from trainer.config.settings import Config, Data, Model, Run, Train
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader
from trainer.train import timing
from trainer.train.compiling import compile_forward
from trainer.train.distributed import Processes
from trainer.train.setup import open_run
from trainer.train.step import TrainStep
from trainer.train.timing import StepClock, StepLog

SEED = {"compute_samples_per_s": 4920, "real_samples_per_s": 512, "hours_300_epochs": 3.25}
CACHE = "data.cache"  # an option of a way: that setting of a run
# Of both streams, forward: the published network on one window; backward takes twice that.
FLOP_PER_SAMPLE = 3 * 3.604e9
# Dense bfloat16, of the data sheets, without sparsity.
DATA_SHEET = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "B200": 2250e12}


def recipe(lab: Lab) -> None:
    """Peak, step alone, each way to load alone, and those that can be, together with the step."""
    lab.note("seed", SEED)
    top = peak(lab)
    lab.note("peak", top)
    step = training_step(lab.setting.model, lab.device)
    batch = lab.batch(lab.setting.batch_size)
    step_ms = replay(step, batch, 3 if lab.quick else 12)
    del batch
    rate = lab.setting.batch_size / step_ms * 1e3
    lab.note(
        "step_alone",
        {"step_ms": round(step_ms, 2), "samples_per_s": round(rate)} | mfu(lab, rate, top),
    )
    alone: dict[str, Any] = {}
    together: dict[str, Any] = {}
    open_ways, closed = ways(lab)
    lab.note("not_there", closed)
    names = _in_order(open_ways)
    for name in names:
        if lab.left() < 8:
            alone[name] = {"skipped": "no time was left"}
        else:
            alone[name] = _attempt(loader_alone, lab, open_ways[name])
        lab.note("loader_alone", alone)
    mixed = [name for name in names if name.startswith("mixed")]
    best = max(mixed, key=lambda name: alone[name].get("samples_per_s", 0), default=None)
    both = [name for name in names if name not in mixed or name == best]
    for name in sorted(both, key=lambda name: CACHE not in open_ways[name]):
        needed = lab.setting.epochs * lab.setting.steps * step_ms / 1e3 + 6
        if lab.left() < min(needed, 15):
            together[name] = {"skipped": "no time was left"}
        else:
            together[name] = _attempt(_together, lab, step, open_ways[name], step_ms, top)
        lab.note("together", together)
    fastest = max(together, key=lambda name: together[name].get("samples_per_s", 0))
    if lab.cuda and lab.left() > 45:
        lab.note("compiled", _attempt(_compiled, lab, step, fastest, open_ways[fastest], top))


def _compiled(
    lab: Lab, step: TrainStep, name: str, options: dict[str, Any], top: dict[str, Any]
) -> dict[str, Any]:
    """The fastest way again, behind a step that torch.compile has made faster."""
    compile_forward(step.model)
    batch = lab.batch(lab.setting.batch_size)
    step_ms = replay(step, batch, 12)
    del batch
    rate = lab.setting.batch_size / step_ms * 1e3
    return {
        "step_alone": {"step_ms": round(step_ms, 2), "samples_per_s": round(rate)},
        "way": name,
        "together": _together(lab, step, options, step_ms, top),
    }


def ways(lab: Lab) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Options of `Loader` by the name of each way to feed the device, and those it lacks."""
    known = inspect.signature(Loader.__init__).parameters
    caches = "cache" in [field.name for field in fields(Data)]
    found: dict[str, dict[str, Any]] = {}
    lacking: dict[str, str] = {}
    if caches:
        found["cache in memory"] = {CACHE: str(lab.folder / "frames")}
    else:
        lacking["cache in memory, cache on the GPU"] = "trainer.run has no data.cache"
    if not lab.cuda:
        return {"CPU": {}} | found, lacking | {"mixed decoding": "the device is a CPU"}
    for load in (0.65, 0.0, 1.0):
        found[f"mixed, hw_decoder_load {load:g}"] = {"hw_decoder_load": load}
    if "decode_device" in known:
        found["CPU decoding"] = {"decode_device": "cpu"}
    else:
        lacking["CPU decoding"] = "Loader has no decode_device"
    if caches:
        found["cache on the GPU"] = {CACHE: "gpu"}
    return found, lacking


@contextmanager
def open_way(lab: Lab, options: dict[str, Any]) -> Iterator[Loader]:
    """The loader of one of `ways`; of a cache, the one that `trainer.run` would open."""
    if CACHE not in options:
        with lab.loader(**options) as loader:
            yield loader
        return
    clips = len(Dataset(lab.large, "train"))
    setting = lab.setting
    data: dict[str, Any] = {
        "shards": str(lab.large),
        "windows_per_clip": -(-setting.steps * setting.batch_size // clips),
        "val_clips": 1,
        "cache": options[CACHE],
        "decode_device": lab.decoder,
    }
    folder = lab.folder / f"run-{time.monotonic_ns()}"
    config = Config(
        data=Data(**data),
        model=Model(setting.model),  # type: ignore[arg-type]
        train=Train(batch_size=setting.batch_size, device=setting.device),
        run=Run(dir=str(folder)),
    )
    with open_run(config, console=Console(file=io.StringIO())) as opened:
        yield opened.loader


def _in_order(names: Any) -> list[str]:
    """Those that are wanted most first, should time run out."""
    return sorted(names, key=lambda name: name.startswith("mixed") and "0.65" not in name)


def _attempt(measure: Any, *arguments: Any) -> dict[str, Any]:
    """Its figures, or why there are none: the other ways are measured all the same."""
    try:
        found: dict[str, Any] = measure(*arguments)
    except Exception as error:
        torch.cuda.empty_cache()
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return found


def peak(lab: Lab) -> dict[str, Any]:
    """FLOP/s of a bfloat16 product of large square matrices, and the data sheet's."""
    n = 8192 if lab.cuda else 256
    a, b = (torch.randn(n, n, device=lab.device, dtype=torch.bfloat16) for _ in range(2))
    milliseconds = kernel_ms(lambda: a @ b, lab.device, 10)
    name = torch.cuda.get_device_name(lab.device) if lab.cuda else ""
    return {
        "matrix": n,
        "measured_tflop_per_s": round(2 * n**3 / milliseconds / 1e9, 2),
        "data_sheet_tflop_per_s": next(
            (round(flop / 1e12) for card, flop in DATA_SHEET.items() if card in name), None
        ),
    }


def kernel_ms(work: Any, device: torch.device, times: int, warm: int = 3) -> float:
    """Median milliseconds of `work()`; on a GPU between CUDA events, without waiting between."""
    for _ in range(warm):
        work()
    synchronise(device)
    if device.type != "cuda":
        spent = []
        for _ in range(times):
            start = time.perf_counter()
            work()
            spent.append(1e3 * (time.perf_counter() - start))
        return median(spent)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    synchronise(device)
    return median(a.elapsed_time(b) for a, b in pairwise(marks))


def mfu(lab: Lab, samples_per_s: float, top: dict[str, Any]) -> dict[str, Any]:
    """Model FLOP utilisation of the published network, by both peaks of `peak`."""
    if lab.setting.model != "syncnet":
        return {}
    tflop = FLOP_PER_SAMPLE * samples_per_s / 1e12
    found = {"tflop_per_s": round(tflop, 1)}
    for kind in ("measured", "data_sheet"):
        if most := top[f"{kind}_tflop_per_s"]:
            found[f"mfu_of_{kind}_peak"] = round(tflop / most, 4)
    return found


def loader_alone(lab: Lab, options: dict[str, Any]) -> dict[str, Any]:
    """Samples/s of a loader with nothing behind it, at most 4 s of them; the JPEG unit's load."""
    began = time.monotonic()
    with open_way(lab, options) as loader, jpeg_load(lab) as load:
        next(loader)
        synchronise(lab.device)
        first = time.monotonic() - began
        filling = time.monotonic()
        for _ in range(5):  # those that were ready, or under way
            next(loader)
        while _share_filled(loader) < 1 and time.monotonic() - filling < 30:  # a disk may be slow
            next(loader)
        synchronise(lab.device)
        taken, cpu, start = 0, cpu_seconds(), time.perf_counter()
        while taken < max(3, lab.setting.steps) and time.perf_counter() - start < 4:
            next(loader)
            taken += 1
        synchronise(lab.device)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    samples = taken * lab.setting.batch_size
    return {
        "first_batch_s": round(first, 2),
        "cached": _share_filled(loader) if CACHE in options else None,
        "samples_per_s": round(samples / seconds),
        "cpu_s_per_1000": round(1e3 * cpu / samples, 3),
        "jpeg_unit_percent": load,
    }


def _share_filled(loader: Loader) -> float:
    """How much of what a loader's cache can hold is there; 1 where there is none."""
    if loader.store is None:
        return 1.0
    cached = loader.store.summary()
    return round(cached.there / max(1, cached.kept), 4)


@contextmanager
def jpeg_load(lab: Lab) -> Any:
    """Collects what `nvidia-smi dmon` says of the JPEG unit's load, once a second."""
    found: list[int] = []
    process = None
    if lab.cuda:
        with suppress(OSError):
            process = subprocess.Popen(
                ["nvidia-smi", "dmon", "-s", "u", "-d", "1"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
    try:
        yield found
    finally:
        if process is not None:
            process.terminate()
            told, _ = process.communicate()
            found += jpeg_column(told)


def jpeg_column(text: str) -> list[int]:
    """The column "jpg" of what `nvidia-smi dmon -s u` prints; none where there is none."""
    at, values = None, []
    for line in text.splitlines():
        words = line.removeprefix("#").split()
        if line.startswith("#"):
            at = words.index("jpg") if "jpg" in words else at
        elif at is not None and len(words) > at and words[at].isdigit():
            values.append(int(words[at]))
    return values


def _together(
    lab: Lab, step: TrainStep, options: dict[str, Any], alone_ms: float, top: dict[str, Any]
) -> dict[str, Any]:
    """Epochs of loader and step; the first warms up and counts in nothing but its own wait."""
    setting, device = lab.setting, lab.device
    path = lab.folder / timing.STEPS
    path.unlink(missing_ok=True)
    if lab.cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with open_way(lab, options) as loader:
        log, clock = StepLog(path, device, Processes()), StepClock(device)
        start, done = time.perf_counter(), 0
        for number in range(setting.epochs * setting.steps):
            if number == setting.steps:
                synchronise(device)
                start = time.perf_counter()
            if lab.left() < 4 and number > 2 * setting.steps:
                break
            clock.begin()
            value = step.take(loader, number, clock)
            log.add(number // setting.steps + 1, number, "train", value, clock.end())
            done += number >= setting.steps
        synchronise(device)
        seconds = time.perf_counter() - start
        log.flush()
        log.close()
        memory = _gpu_memory(device)
    rate = done * setting.batch_size / seconds
    return _summary(path, setting.batch_size) | {
        "samples_per_s": round(rate),
        "of_step_alone": round(rate * alone_ms / 1e3 / setting.batch_size, 4),
        "steps_after_the_first_epoch": done,
        "times_the_seed": round(rate / SEED["real_samples_per_s"], 2),
        "hours_300_epochs": round(300 * setting.steps * setting.batch_size / rate / 3600, 3),
        **mfu(lab, rate, top),
        **memory,
    }


def _summary(path: Path, batch_size: int) -> dict[str, Any]:
    """Waits and utilisation as a run reports them, of the epochs from the second on."""
    rows = timing.read_rows(path)
    epochs = [steps for epoch, steps in timing.by_epoch(rows).items() if epoch >= 2]
    first = mean(steps[0].data_ms for steps in epochs)
    others = mean(row.data_ms for steps in epochs for row in steps[1:])
    later = [row for steps in epochs for row in steps]
    return {
        "first_step_wait_ms": round(first, 3),
        "first_step_waits_ms": [round(steps[0].data_ms, 3) for steps in epochs],
        "other_step_wait_ms": round(others, 3),
        "first_over_others": round(first / others, 2) if others else None,
        "utilisation": round(timing.summarise(later, batch_size)["utilisation"], 5),
        "utilisation_with_first_epoch": round(timing.summarise(rows, batch_size)["utilisation"], 5),
        "step_ms": round(median(row.total_ms for row in later), 2),
    }


def _gpu_memory(device: torch.device) -> dict[str, float]:
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {
        "torch_peak_gb": round(torch.cuda.max_memory_allocated(device) / 1e9, 2),
        "gpu_used_gb": round((total - free) / 1e9, 2),
    }
