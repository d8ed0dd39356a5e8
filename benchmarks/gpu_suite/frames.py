"""The loader's frames: GPU's against CPU's, and whether a batch is whole while it is used."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_suite.lab import Lab
from benchmarks.loaders.ours import open_loader
from benchmarks.step import synchronise
from trainer.data.dataset import Dataset
from trainer.data.loader import Loader
from trainer.data.sampler import TrainSampler


def decode(lab: Lab) -> None:
    """Frames of the same batch by the device's decoder and by the CPU's, colour and gray."""
    loads = (0.0, 0.65, 1.0) if lab.cuda else (0.65,)
    for kind, shards, model in (
        ("recipe", lab.large, lab.setting.model),
        ("gray", lab.small, "small"),
    ):
        for load in loads:
            name = f"{kind}, hw_decoder_load {load:g}"
            lab.note(name, agreement(shards, model, str(lab.device), 8 if lab.quick else 64, load))


def agreement(
    shards: Path, model: str, device: str, batch_size: int, load: float
) -> dict[str, float]:
    """Difference in grey levels: mean, largest, share of the bytes that differ by more than 4."""
    dataset = Dataset(shards, "train")
    sampler = TrainSampler(dataset.windows, batch_size)
    with open_loader(dataset, sampler, model, device=device, hw_decoder_load=load) as loader:
        ours = next(loader).frames_NRHWC.cpu().int()
    with open_loader(dataset, sampler, model) as loader:
        cpu = next(loader).frames_NRHWC.int()
    difference = (ours - cpu).abs().float()
    return {
        "mean": round(float(difference.mean()), 4),
        "max": float(difference.max()),
        "share_over_4": round(float((difference > 4).float().mean()), 6),
    }


def reuse(lab: Lab) -> None:
    """Sums of every batch, read at once and behind a sleeping kernel, against a synchronised run.

    A batch that is handed over before it is decoded would be read too early at once; memory that
    is decoded into again while it is in use would be found changed behind the sleep (torchcodec
    issue 1634: nvJPEG's hardware decoder ignored its stream).
    """
    size = 8 if lab.quick else 256
    batches = 4 if lab.quick else 24
    truth = _sums(lab, size, batches, "synchronised")
    again = _sums(lab, size, batches, "synchronised")
    lab.note("batches", batches)
    lab.note("batch_size", size)
    lab.note("synchronised_twice", _compared(truth, again))
    for how in ("at once", "behind a sleep"):
        lab.note(how.replace(" ", "_"), _compared(truth, _sums(lab, size, batches, how)))


def _sums(lab: Lab, size: int, batches: int, how: str) -> torch.Tensor:
    """(batches * size * 5, 2) float64 on the CPU: mean and place-weighted mean of every frame."""
    found = []
    with lab.loader(size) as loader:
        for _ in range(batches):
            found.append(_sum(loader, how, lab.device))
        synchronise(lab.device)
    return torch.cat([each.cpu() for each in found])


def _sum(loader: Loader, how: str, device: torch.device) -> torch.Tensor:
    """Of the next batch, which is let go at once."""
    frames = next(loader).frames_NRHWC
    if how == "synchronised":
        synchronise(device)
    elif how == "behind a sleep" and device.type == "cuda":
        torch.cuda._sleep(40_000_000)  # cycles: about 20 ms
    flat = frames.flatten(0, 1).flatten(1)
    weight = torch.linspace(0.0, 2.0, flat.shape[1], device=device)
    sums = torch.stack([flat.float().mean(1), (flat.float() * weight).mean(1)], dim=1)
    if how == "synchronised":
        synchronise(device)
    return sums.double()


def _compared(truth: torch.Tensor, found: torch.Tensor) -> dict[str, Any]:
    """How many frames differ at all, how many by more than half a level, and the most."""
    difference = (truth - found).abs().amax(1)
    return {
        "frames": len(truth),
        "differ": int((difference > 1e-3).sum()),
        "differ_by_half_a_level": int((difference > 0.5).sum()),
        "most_levels": round(float(difference.max()), 4),
    }
