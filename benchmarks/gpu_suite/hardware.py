"""Which GPU, driver and versions, and whether the hardware JPEG decoder (NVJPG) serves."""

import os
import platform
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from benchmarks.gpu_suite.lab import Lab
from data_tools.versions import versions

_PACKAGES = (
    "nvidia-dali-cuda120", "nvidia-dali-cuda130", "nvidia-nvimgcodec-cu12",
    "nvidia-nvimgcodec-cu13", "nvidia-nvjpeg", "nvidia-nvjpeg-cu12", "numpy", "simplejpeg",
)  # fmt: skip
_DECODE = """
import sys
from pathlib import Path
from benchmarks.loaders.ours import open_loader
from trainer.data.dataset import Dataset
from trainer.data.sampler import TrainSampler

shards, model, device = sys.argv[1:]
dataset = Dataset(Path(shards), "train")
with open_loader(dataset, TrainSampler(dataset.windows, 16), model, device=device) as loader:
    next(loader)
"""


def hardware(lab: Lab) -> None:
    """Names, versions, and the decoders that a batch's log names."""
    lab.note("file_system", file_system(lab.folder))
    lab.note("cores", len(os.sched_getaffinity(0)))
    lab.note("python", platform.python_version())
    lab.note("torch", torch.__version__)
    lab.note("packages", versions(*_PACKAGES))
    if lab.cuda:
        properties = torch.cuda.get_device_properties(lab.device)
        lab.note("gpu", properties.name)
        lab.note("gpu_memory_gb", round(properties.total_memory / 1e9, 1))
        lab.note("cuda", torch.version.cuda)
        lab.note("cudnn", torch.backends.cudnn.version())
        lab.note("driver", _ask_smi("driver_version"))
        lab.note("clocks", _ask_smi("clocks.sm,clocks.max.sm,power.limit"))
    lab.note("decoders", decoders(lab))


def file_system(folder: Path) -> str | None:
    """Its kind, as the kernel names it ("tmpfs": in memory); None where that is not told."""
    kinds = {}
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines():
            _, mounted, kind, *_ = line.split()
            kinds[Path(mounted)] = kind
    folder = folder.resolve()
    return next((kinds[each] for each in (folder, *folder.parents) if each in kinds), None)


def _ask_smi(what: str) -> str | None:
    """A field of nvidia-smi; None where it cannot be had."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() or None
    return None


def decoders(lab: Lab) -> dict[str, Any]:
    """What DALI's log of one batch says of decoders, hardware's among them.

    `DALI_NVIMGCODEC_LOG_LEVEL` (1 errors ... 5 all) lets nvImageCodec tell which of its decoders
    it made and used.
    """
    words = [sys.executable, "-c", _DECODE, str(lab.large), lab.setting.model, lab.setting.device]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            status: int | str = subprocess.run(
                words,
                env=os.environ | {"DALI_NVIMGCODEC_LOG_LEVEL": "5"},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=max(5.0, min(20.0, lab.left())),
            ).returncode
        except subprocess.TimeoutExpired:
            status = "its time was up"
        return {"status": status} | read_log(log)


def read_log(log: IO[str]) -> dict[str, Any]:
    """How often each decoder is named in a log, and the first lines that name NVJPG's.

    Returns:
        "named": decoder -> lines; "hardware_lines": up to 12 of them, cut to 200 letters;
        "lines": of the whole log.
    """
    log.seek(0)
    named: dict[str, int] = {}
    told: list[str] = []
    count = 0
    for line in log:
        count += 1
        for name in set(re.findall(r"\w*nvjpeg\w*|libjpeg_turbo\w*|opencv_\w*decoder\w*", line)):
            named[name] = named.get(name, 0) + 1
        about = re.search(r"nvjpeg_hw|hw_decoder|hardware|HW_GPU|hw engine", line, re.IGNORECASE)
        if about and len(told) < 12:
            told.append(line.strip()[:200])
    most = sorted(named, key=lambda name: -named[name])[:20]
    return {
        "named": {name: named[name] for name in most},
        "hardware_lines": told,
        "lines": count,
    }
