"""What one GPU does with the seed's recipe, in under eight minutes:  python -m benchmarks.gpu_suite

Batch 1,024, the published architecture on 224 x 224 colour, 3 epochs of 15 steps, on shards that it
makes itself. Three questions in one run, so that they can be compared: how fast is the loader alone
(mixed decoding), how fast is the step alone (one batch replayed), and what is left of that when
both run together. The seed's figures stand beside them: 4,920 samples/s of compute, 512 in truth.

`--device cpu` runs the same code small, to show that it works; its figures say nothing of a GPU.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from benchmarks.loaders.ours import open_loader
from benchmarks.options import AtLeastOne, AtLeastTwo, check_device, command_line, run
from benchmarks.result import report
from benchmarks.sources import synthetic_shards
from benchmarks.step import replay, synchronise, training_step
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler
from trainer.model.syncnet import PRESETS
from trainer.train import timing
from trainer.train.distributed import Processes
from trainer.train.step import TrainStep
from trainer.train.timing import StepClock, StepLog

SEED = {"compute_samples_per_s": 4920, "real_samples_per_s": 512}


def measure(
    shards: Path, device: torch.device, model: str, batch_size: int, epochs: int, steps: int
) -> dict[str, Any]:
    """Loader alone over hw_decoder_load, step alone, both together, memory, decode agreement."""
    dataset = Dataset(shards, "train")
    per_clip = -(-steps * batch_size // len(dataset))
    sampler = TrainSampler(dataset.windows, batch_size, windows_per_clip=per_clip)
    loads = (0.0, 0.65, 0.9) if device.type == "cuda" else (0.65,)
    alone = {
        str(load): _loader_alone(dataset, sampler, model, device, max(6, steps), load)
        for load in loads
    }
    best_load = float(max(alone, key=lambda load: alone[load]["samples_per_s"]))
    with open_loader(
        dataset, sampler, model, device=str(device), hw_decoder_load=best_load
    ) as loader:
        replayed = next(loader)
    step = training_step(model, device)
    replay_ms = replay(step, replayed, max(6, steps))
    together = _together(dataset, sampler, model, device, step, epochs, steps, best_load)
    replay_rate = batch_size / replay_ms * 1e3
    figures: dict[str, Any] = {
        "device": str(device),
        "model": model,
        "batch_size": batch_size,
        "loader_alone_by_hw_decoder_load": alone,
        "hw_decoder_load": best_load,
        "step_alone": {"step_ms": round(replay_ms, 2), "samples_per_s": round(replay_rate)},
        "together": together,
        "together_share_of_step_alone": round(together["samples_per_s"] / replay_rate, 4),
        "seed": SEED,
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        figures["gpu_memory_gb"] = {
            "torch_peak": round(torch.cuda.max_memory_allocated(device) / 1e9, 2),
            "in_use_at_end_with_dali": round((total - free) / 1e9, 2),
        }
        figures["decode_agreement"] = _decode_agreement(dataset, sampler, model, device)
        figures["host_to_device_mb_per_batch"] = round(_batch_bytes(dataset, sampler) / 1e6, 1)
    return figures


def _loader_alone(
    dataset: Dataset,
    sampler: TrainSampler,
    model: str,
    device: torch.device,
    batches: int,
    load: float,
) -> dict[str, float]:
    with open_loader(dataset, sampler, model, device=str(device), hw_decoder_load=load) as loader:
        for _ in range(6):
            next(loader)
        synchronise(device)
        cpu, start = time.process_time(), time.perf_counter()
        for _ in range(batches):
            next(loader)
        synchronise(device)
        seconds = time.perf_counter() - start
    samples = batches * sampler.batch_size
    return {
        "samples_per_s": round(samples / seconds),
        "cpu_seconds_per_1000_samples": round(1e3 * (time.process_time() - cpu) / samples, 3),
    }


def _together(
    dataset: Dataset,
    sampler: TrainSampler,
    model: str,
    device: torch.device,
    step: TrainStep,
    epochs: int,
    steps: int,
    load: float,
) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_loader(dataset, sampler, model, device=str(device), hw_decoder_load=load) as loader,
    ):
        path = Path(folder) / timing.STEPS
        log = StepLog(path, device, Processes())
        clock = StepClock(device)
        start = time.perf_counter()
        for number in range(epochs * steps):
            clock.begin()
            batch = next(loader)
            clock.mark("data")
            value = step(batch, number, clock)
            log.add(number // steps + 1, number, "train", value, clock.end())
            if number == steps - 1:  # the first epoch holds all the warming up
                synchronise(device)
                start = time.perf_counter()
        synchronise(device)
        seconds = time.perf_counter() - start
        log.flush()
        log.close()
        summary = timing.summarise(timing.read_rows(path), sampler.batch_size)
    later = (epochs - 1) * steps * sampler.batch_size
    return summary | {"samples_per_s": round(later / seconds), "epochs": epochs}


def _decode_agreement(
    dataset: Dataset, sampler: TrainSampler, model: str, device: torch.device
) -> dict[str, float]:
    """Difference of GPU and CPU decoding of the same frames, in grey levels."""
    with open_loader(dataset, sampler, model, device=str(device)) as loader:
        gpu = next(loader).frames_NRHWC.cpu().int()
    with open_loader(dataset, sampler, model) as loader:
        cpu = next(loader).frames_NRHWC.int()
    difference = (gpu - cpu).abs().float()
    return {
        "mean": round(float(difference.mean()), 4),
        "max": float(difference.max()),
        "share_over_4": round(float((difference > 4).float().mean()), 6),
    }


def _batch_bytes(dataset: Dataset, sampler: TrainSampler) -> int:
    """JPEG and MFCC bytes of one batch: what crosses to the GPU instead of pixels."""
    jpegs = dataset.jpegs(sampler.batch(0), 5)
    return sum(len(jpeg) for jpeg in jpegs) + sampler.batch_size * 20 * 13 * 4


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 the data cannot be read."""
    parser = command_line("gpu_suite", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try it out")
    parser.add_argument("--model", default="syncnet", choices=sorted(PRESETS))
    parser.add_argument("--batch-size", type=AtLeastTwo, default=1024)
    parser.add_argument("--epochs", type=AtLeastTwo, default=3)
    parser.add_argument("--steps", type=AtLeastTwo, default=15, help="of an epoch")
    parser.add_argument("--clips", type=AtLeastOne, default=320, help="synthetic clips to make")
    quick = {"model": "small", "batch_size": 8, "epochs": 2, "steps": 2, "clips": 20}
    return run("gpu_suite", parser, argv, _measure, quick)


def _measure(args: Namespace) -> None:
    check_device(args.device)
    preset = PRESETS[args.model]
    shards = synthetic_shards(args.cache, args.clips, preset.size, gray=preset.channels == 1)
    figures = measure(
        shards, torch.device(args.device), args.model, args.batch_size, args.epochs, args.steps
    )
    report("gpu_suite", figures, args.json, quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
