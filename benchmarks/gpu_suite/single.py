"""Single-pass inference: how many frames at once fill the device."""

from typing import Any

import torch

from benchmarks.gpu_suite.lab import Lab
from benchmarks.gpu_suite.recipe import kernel_ms
from trainer.model.fold import fold
from trainer.model.syncnet import PRESETS, SyncNet
from trainer.score import clip_distances, embed

_RUN_FRAMES = 36  # of a segment in `trainer.score.clip_distances`


@torch.inference_mode()
def single(lab: Lab) -> None:
    """Frames/s by piece (`trainer.score.embed`) and by segments at once (`clip_distances`)."""
    lab.note("clip_distances_pixels_now", getattr(clip_distances, "_BATCH_PIXELS", None))
    names = ["small"] if lab.quick else list(dict.fromkeys([lab.setting.model, "medium"]))
    for name in names:
        model = fold(SyncNet(name).eval()).to(lab.device)
        lab.note(f"{name}, piece_now", embed.frames_at_once(model, lab.device))
        pieces = (16, 32) if lab.quick else (32, 64, 128, 256, 512, 1024)
        found: dict[str, Any] = {}
        for frames in pieces:
            found[str(frames)] = _rate(lab, model, 1, frames)
            lab.note(f"{name}, frames_per_s by piece", found)
        segments: dict[str, Any] = {}
        for count in (1, 2) if lab.quick else (1, 4, 16, 32, 64):
            segments[str(count)] = _rate(lab, model, count, _RUN_FRAMES)
            lab.note(f"{name}, frames_per_s by segments of 36", segments)


def _rate(lab: Lab, model: SyncNet, samples: int, frames: int) -> Any:
    """Frames/s from the host's memory to embeddings on the host, as the library does it."""
    if lab.left() < 2:
        return "no time was left"
    preset = PRESETS[model.name]
    shape = (samples, frames, preset.size, preset.size, preset.channels)
    host = torch.randint(0, 256, shape, dtype=torch.uint8)

    def work() -> None:
        with torch.autocast(lab.device.type, torch.bfloat16, enabled=lab.cuda):
            model.lips(host.to(lab.device, non_blocking=True)).float().cpu()

    try:
        milliseconds = kernel_ms(work, lab.device, 2 if lab.quick else 10)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return "does not fit the memory"
    return round(samples * frames / milliseconds * 1e3)
