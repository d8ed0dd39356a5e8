"""Embeddings as a network that tells offsets would give them."""

from typing import Any

import numpy as np
import torch

from data_tools.shards import ClipRecord

RECORD = ClipRecord("clip", "clip", "source", 60, 240, 64, 64, 1, 0, "")


def embeddings(early: int, windows: int, noise: float, seed: int = 0) -> Any:
    """(windows, 8) float32 of lips, and of sound that is early by so many frames."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(windows + 100, 8))
    lips = content[50 : 50 + windows] + noise * rng.normal(size=(windows, 8))
    sound = content[50 + early : 50 + early + windows]
    return torch.from_numpy(lips).float(), torch.from_numpy(sound).float()
