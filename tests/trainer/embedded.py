"""Embeddings as a network that tells offsets would give them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_tools.manifest import ClipRecord
from trainer.score.clip_scores import ClipScore, score_clip

RECORD = ClipRecord("clip", "clip", "source", 60, 240, 64, 64, 1, 0, "")


def embeddings(early: int, windows: int, noise: float, seed: int = 0) -> Any:
    """(windows, 8) float32 of lips, and of sound that is early by so many frames."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(windows + 100, 8))
    lips = content[50 : 50 + windows] + noise * rng.normal(size=(windows, 8))
    sound = content[50 + early : 50 + early + windows]
    return torch.from_numpy(lips).float(), torch.from_numpy(sound).float()


def moving(whole: torch.Tensor) -> NDArray[np.float64]:
    """What is left of every window without the mean of the 31 around it."""
    rows, width = whole.double().numpy(), min(31, len(whole))
    firsts = [min(max(0, at - 15), len(rows) - width) for at in range(len(rows))]
    return rows - np.array([rows[first : first + width].mean(0) for first in firsts])


def scored(early: int | None, seed: int = 0, hidden: int = 0) -> ClipScore:
    """A clip whose audio is `early`, or dubbed (None); `hidden` windows see nothing of the lips."""
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(200, 16))
    lips = said[60:130] + 0.5 * rng.normal(size=(70, 16))
    lips[:hidden] = rng.normal(size=(hidden, 16))
    heard = rng.normal(size=(200, 16)) if early is None else said
    sound = heard[60 + (early or 0) :][:70]
    parts = (lips, sound, rng.normal(size=(70, 16)))
    return score_clip(f"{early}-{seed}", *(torch.from_numpy(part).float() for part in parts))
