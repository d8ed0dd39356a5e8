"""Damaged frames: that exactly their clip is left out, and how long it takes to find it."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from benchmarks.gpu_suite.lab import Lab
from benchmarks.loaders.ours import open_loader
from trainer.data.dataset import Dataset

_CLIP = 1  # of the train split, whose frames are damaged


def faults(lab: Lab) -> None:
    """Every frame of a clip cut short, of another size, or no JPEG: batches until it is found.

    What a decoder makes of half a JPEG is its own choice: it may refuse it, or fill up with gray.
    """
    copy = lab.folder / "shards"
    shutil.copytree(lab.large, copy)
    clean = _run(lab, copy, batches=4)
    lab.note("none", clean)
    for kind in ("truncated", "cut in its header", "wrong size", "no JPEG"):
        lab.note(kind, _damaged(lab, copy, kind, clean["seconds"]))


def _damaged(lab: Lab, folder: Path, kind: str, clean_s: float) -> dict[str, Any]:
    """One kind of damage, taken back afterwards."""
    shard = Dataset(folder, "train").shards[0]
    first = int(shard.first_frame[_CLIP])
    places = [
        (int(shard.offset[at]), int(shard.size[at]))
        for at in range(first, first + shard.records[_CLIP].frames)
    ]
    rng = np.random.default_rng(0)
    with shard.tar.open("r+b") as stream:
        before = []
        for offset, size in places:
            stream.seek(offset)
            before.append(stream.read(size))
            stream.seek(offset)
            stream.write(damage(before[-1], kind, rng))
    try:
        found = _run(lab, folder, batches=12, until=1)
    finally:
        with shard.tar.open("r+b") as stream:
            for (offset, _), jpeg in zip(places, before, strict=True):
                stream.seek(offset)
                stream.write(jpeg)
    found["longer_than_clean_s"] = round(found["seconds"] - clean_s, 2)
    found["right"] = found["quarantined"] == [_CLIP]
    found["accepted"] = not found["quarantined"]
    return found


def damage(jpeg: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """As many bytes as `jpeg` has, damaged as `kind` says."""
    if kind == "truncated":
        return jpeg[: len(jpeg) // 2].ljust(len(jpeg), b"\0")
    if kind == "cut in its header":
        return jpeg[:100].ljust(len(jpeg), b"\0")
    if kind == "wrong size":
        other = simplejpeg.encode_jpeg(np.full((32, 32, 3), 90, np.uint8), 50, "RGB", "420")
        return bytes(other[: len(jpeg)]).ljust(len(jpeg), b"\0")
    return rng.bytes(len(jpeg))


def _run(lab: Lab, folder: Path, batches: int, until: int = 0) -> dict[str, Any]:
    """Batches from a loader's opening on, until so many clips are in quarantine."""
    size = lab.setting.batch_size
    dataset = Dataset(folder, "train")
    began = time.monotonic()
    taken = 0
    options: dict[str, Any] = {"device": lab.setting.device}
    sampler = lab.sampler(dataset, size)
    with open_loader(dataset, sampler, lab.setting.model, **options) as loader:
        for _ in range(batches):
            next(loader).frames_NRHWC[0, 0, 0, 0, 0].item()
            taken += 1
            if until and len(loader.quarantine) >= until:
                break
        seconds = time.monotonic() - began
        quarantined = sorted(loader.quarantine)
    return {"seconds": round(seconds, 2), "batches": taken, "quarantined": quarantined}
