"""Weights that are ready to measure with: loaded, folded, on their device, with what they know of
their own errors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.model.calibration import AnyCalibration, Mode
from trainer.model.device import find_device
from trainer.model.fold import fold
from trainer.model.syncnet import SyncNet
from trainer.model.weights import (
    Crop,
    WeightsError,
    default_weights,
    find_weights,
    load_model,
    read_calibration,
    read_crop,
)


@dataclass(frozen=True)
class Network:
    """A SyncNet for inference.

    Attributes:
        model: folded (`trainer.model.fold`), in evaluation mode, on `device`.
        device: "cpu", "cuda" or "cuda:n".
        calibration: how often its offsets are right; None where the weights do not say.
        trained_crop: what it was trained on; None where the weights do not say.
    """

    model: SyncNet
    device: str = "cpu"
    calibration: AnyCalibration | None = None
    trained_crop: Crop | None = None

    @property
    def crop(self) -> Literal["face", "mouth"]:
        """The crop to take of videos: what it was trained on, or else what its preset is for."""
        if self.trained_crop in ("face", "mouth"):
            return self.trained_crop
        return "face" if self.model.name == "syncnet" else "mouth"

    @property
    def mode(self) -> Mode:
        """The way of scoring that its calibration is for; centred where it has none."""
        return self.calibration.mode if self.calibration else "centred"


def load_network(weights: Path | str | None = None, device: str = "auto") -> Network:
    """The network with the weights of a file.

    Args:
        weights: best.pt of a run, syncnet_v2.model or .safetensors, or the name of a network of
            the package ("mouth"); the package's default if None.
        device: "auto" (a GPU if there is one), "cpu" or "cuda[:n]".

    Raises:
        WeightsError: the file is missing, damaged or holds no SyncNet, or there is none.
        UsageError: there is no such device.
    """
    device = find_device(device, "--device")
    path = default_weights() if weights is None else find_weights(weights)
    if path is None:
        raise WeightsError("this package comes without weights; train or give some")
    model = fold(load_model(path)).to(device)
    return Network(model, device, read_calibration(path), read_crop(path))
