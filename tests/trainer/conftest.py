"""Fixtures that several tests of the trainer share: weights and a video."""

from pathlib import Path

import pytest
import torch

from trainer.model.syncnet import SyncNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that has learnt nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fresh.pt"
    torch.save(SyncNet("small").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talking head of 60 frames, 96x96, with its sound."""
    from videos import head, write_video  # needs the extra [prepare]

    pictures, sound = head(5, 60, 96)
    return write_video(tmp_path_factory.mktemp("video") / "head.mp4", pictures, sound)
