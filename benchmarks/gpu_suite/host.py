"""What pinned memory is worth: for JPEGs on their way to the GPU, and for bytes as such."""

import inspect
from typing import Any

import torch

from benchmarks.gpu_suite.lab import Lab
from benchmarks.gpu_suite.recipe import kernel_ms, loader_alone
from trainer.data.loader import Loader


def host(lab: Lab) -> None:
    """The loader alone with its JPEGs pinned and not; copies of 64 MB to the device, likewise."""
    if lab.cuda:
        lab.note("copy_gb_per_s", {kind: _copy(lab, kind) for kind in ("pinned", "pageable")})
    if "pinned" not in inspect.signature(Loader.__init__).parameters:
        lab.note("loader", "not measured: Loader has no option `pinned`")
        return
    found: dict[str, Any] = {}
    for pinned in (True, False):
        rate = loader_alone(lab, {"pinned": pinned})["samples_per_s"]
        found.setdefault("pinned" if pinned else "not pinned", []).append(rate)
        lab.note("loader_samples_per_s", found)


def _copy(lab: Lab, kind: str) -> float:
    source = torch.empty(64_000_000, dtype=torch.uint8, pin_memory=kind == "pinned")
    target = torch.empty_like(source, device=lab.device)
    milliseconds = kernel_ms(lambda: target.copy_(source, non_blocking=True), lab.device, 10)
    return round(64_000_000 / milliseconds / 1e6, 2)
