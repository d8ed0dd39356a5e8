"""A full disk, under each program that writes."""

import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faults.kills import NAMES
from benchmarks.faults.lab import Kind, Lab, Outcome


def way(folder: Path) -> str:
    """How a disk is made full here: "tmpfs" or "RLIMIT_FSIZE"."""
    disk = folder / "disk-there"
    disk.mkdir()
    if _mount(disk, 100_000):
        subprocess.run(["umount", str(disk)], check=True)
        return "tmpfs"
    return "RLIMIT_FSIZE"


def _mount(folder: Path, size: int, *how: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *how]), "tmpfs"]
    try:
        return subprocess.run([*command, str(folder)], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def full(lab: Lab, seed: int, name: str) -> Outcome:
    """Give it a random share of the room that it needs, then enough: it must end as ever."""
    rng, program = np.random.default_rng(seed), lab.programs[name]
    lab.expected(program)
    place = lab.folder / f"undisturbed-{name.replace(' ', '-')}"
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    disk = lab.new("disk")
    disk.mkdir()
    out = disk / "out"
    if lab.disk != "tmpfs":
        most = int(rng.uniform(0.02, 0.98) * max(sizes))
        done = lab.run(replace(program.job(out), file_limit=max(4096, most)))
        return lab.again(program, out, None if done.status == 0 else lab.refused(done))
    if not _mount(disk, max(8192, int(rng.uniform(0, 1) * sum(sizes)))):
        raise RuntimeError("the small disk cannot be mounted any more")
    try:
        done = lab.run(program.job(out))
        first = Outcome("survived") if done.status == 0 else lab.refused(done)
        if first.verdict == "lost":
            return first
        if not _mount(disk, 10 * sum(sizes), "remount"):
            raise RuntimeError("the small disk cannot be made larger")
        return lab.again(program, out, first)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def kinds() -> list[Kind]:
    """One for each program."""
    return [
        Kind(
            f"disk {name}",
            f"a full disk under `{name}`",
            4,
            partial(full, name=name),
            1 if name == "pack" else 0,
        )
        for name in NAMES
    ]
