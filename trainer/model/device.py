"""Where a network computes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from data_tools.errors import UsageError, UserError
from data_tools.names import first_line

# What a network computes in. auto: bfloat16 where the device does so by itself, else float32.
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]


def find_device(asked: str, option: str) -> str:
    """The device that "auto" means, or `asked`, "cpu" or "cuda[:n]", if torch can use it.

    Args:
        option: what the user set, for the message.

    Raises:
        UsageError: no such device.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", asked):
        raise UsageError(f"{option} {asked!r} must be auto, cpu or cuda[:n]")
    if asked != "cpu" and not torch.cuda.is_available():
        raise UsageError(
            f"{option} {asked}: torch {torch.__version__} finds no GPU; use cpu, or install "
            "a CUDA build of torch and a driver"
        )
    if ":" in asked and int(asked.split(":")[1]) >= torch.cuda.device_count():
        raise UsageError(f"{option} {asked}: there are {torch.cuda.device_count()} GPUs, from 0 on")
    return asked


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself; emulating it is slower than float32.

    GPUs do from Ampere, 2020, on, and CPUs that have AVX512-BF16 or AMX, unless torch is kept from
    such instructions (ATEN_CPU_CAPABILITY).
    """
    if device.type != "cuda":
        return device.type == "cpu" and _cpu_has_bf16()
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def _cpu_has_bf16() -> bool:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    allowed = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return allowed and ("avx512_bf16" in flags or "amx_bf16" in flags)


def is_device_fault(error: RuntimeError) -> bool:
    """Whether torch raised it for memory that is full or a GPU that failed, not for a bug."""
    faults = torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError)
    return isinstance(error, faults) or "DefaultCPUAllocator" in str(error)


@contextmanager
def naming_device_faults() -> Iterator[None]:
    """Raise as `UserError`, in one line, what torch raises for full memory or a failed GPU."""
    try:
        yield
    except RuntimeError as error:
        if not is_device_fault(error):
            raise
        raise UserError(first_line(error)) from None
