"""What every benchmark shares: the machine it ran on, its result file, data to run on."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import simplejpeg

from data_tools.atomic import write_json
from data_tools.pack import PackOptions, pack
from data_tools.synth import synthesize
from trainer.dataset import Dataset
from trainer.loader import Loader, Shape
from trainer.model import PRESETS
from trainer.sampler import TrainSampler

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "simplejpeg", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores, GPU and versions, so that a figure can be judged."""
    import torch

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    model = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": model[0] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def report(name: str, figures: dict[str, Any], path: Path | None) -> None:
    """Write a benchmark's figures with machine and command to `path` or results/<name>.json."""
    path = path or RESULTS / f"{name}.json"
    command = " ".join(["python", "-m", f"benchmarks.{name}", *_told(sys.argv[1:])])
    write_json(path, {"command": command, "machine": machine(), **figures})
    print(json.dumps(figures, indent=1))
    print(f"wrote {path}")


def _told(arguments: list[str]) -> list[str]:
    """The arguments that bear on the figures: where files lie on this machine does not."""
    places = {i for i, word in enumerate(arguments) if word in ("--cache", "--json", "--shards")}
    return [word for i, word in enumerate(arguments) if i not in places and i - 1 not in places]


def synthetic_shards(folder: Path, clips: int, size: int, gray: bool = False) -> Path:
    """Shards of synthetic clips of 3 s below `folder`, made once."""
    made = folder / f"synth-{clips}-{size}{'-gray' if gray else ''}"
    if not (made / "shards" / "manifest.json").exists():
        made.mkdir(parents=True, exist_ok=True)
        synthesize(made / "clips", clips, seed=0, size=size)
        pack(made / "clips", made / "shards", PackOptions(gray=gray, ratios=(80, 10, 10)))
    return made / "shards"


def open_loader(
    dataset: Dataset, sampler: TrainSampler, model: str | None = None, **options: Any
) -> Loader:
    """The training loader over `dataset` for `model`, or at the frames' own size and colour."""
    if model is not None:
        height, channels = PRESETS[model].size, PRESETS[model].channels
    else:
        ((height, _, channels),) = dataset.frame_shapes
    return Loader(
        dataset,
        lambda step, quarantine: sampler.batch(step, 0, 1, quarantine),
        Shape(sampler.batch_size, 5, 5, height, channels),
        **options,
    )


def decode_all(jpegs: list[bytes], channels: int) -> Callable[[], None]:
    """A function that decodes `jpegs` with libjpeg-turbo into fresh rows of one reused array."""
    import numpy as np

    colour = "RGB" if channels == 3 else "GRAY"
    first = simplejpeg.decode_jpeg(jpegs[0], colour)
    rows = np.empty((len(jpegs), *first.shape), np.uint8)

    def decode() -> None:
        for row, jpeg in zip(rows, jpegs, strict=True):
            simplejpeg.decode_jpeg(jpeg, colour, fastdct=False, fastupsample=False, buffer=row)

    return decode
