"""The official way, written plainly from its description: an independent reference, a baseline.

Windows are cut out of the frames and batched by 20; layers are calls with the tables' numbers.
"""

import sys
from typing import Any

import numpy as np
import python_speech_features
import torch
from numpy.typing import NDArray
from scipy.signal import medfilt
from torch.nn import functional as F

from benchmarks.options import part_of
from trainer.model.syncnet import SyncNet

State = dict[str, torch.Tensor]
_AUDIO = {0: 1, 4: 1, 8: 1, 11: 1, 14: 1, 18: 0}  # layer: padding
_AUDIO_POOL: dict[int, Any] = {4: (3, (1, 2)), 14: (3, 2)}  # after layer: kernel, stride
_LIP: dict[int, Any] = {  # layer: stride, padding
    0: ((1, 2, 2), 0), 4: ((1, 2, 2), (0, 1, 1)), 8: (1, (0, 1, 1)), 11: (1, (0, 1, 1)),
    14: (1, (0, 1, 1)), 18: (1, 0),
}  # fmt: skip
_LIP_POOL: dict[int, Any] = {0: 0, 4: (0, 1, 1), 14: 0}  # after layer: padding


def stand_in_state() -> State:
    """Weights of the published keys and shapes, drawn as the parity reference's were."""
    rng = np.random.default_rng(20260101)
    shapes = {
        key: tuple(value.shape)
        for key, value in SyncNet("syncnet").state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    state = {}
    for key in sorted(shapes):
        shape, index = shapes[key], int(key.split(".")[1])
        if key.endswith("running_var"):
            values = rng.uniform(0.5, 1.5, shape)
        elif key.endswith("running_mean"):
            values = rng.normal(0, 0.1, shape)
        elif key.endswith("weight") and len(shape) >= 2:
            values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif key.endswith("weight") and index in (1, 5, 9, 12, 15, 19):
            values = rng.uniform(0.8, 1.2, shape)
        else:
            values = rng.normal(0, 0.05, shape)
        state[key] = torch.from_numpy(values.astype(np.float32))
    state["netcnnlip.0.weight"] /= 64
    return state


def _norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])


def _head(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    x = F.linear(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"])
    x = F.relu(_norm(state, f"{name}.1", x))
    return F.linear(x, state[f"{name}.3.weight"], state[f"{name}.3.bias"])


@torch.inference_mode()
def embed(
    state: State, bgr_THWC: NDArray[np.uint8], audio: NDArray[np.int16]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lip and sound embeddings of the min_length - 5 windows."""
    count = min(len(bgr_THWC), len(audio) // 640) - 5
    mfcc = np.stack(list(zip(*python_speech_features.mfcc(audio, 16000), strict=True)))
    pictures = torch.from_numpy(bgr_THWC.astype(np.float32)).permute(3, 0, 1, 2)[None]
    sound = torch.from_numpy(mfcc.astype(np.float32))[None, None]
    lips_out, sound_out = [], []
    for first in range(0, count, 20):
        batch = range(first, min(first + 20, count))
        x = torch.cat([pictures[:, :, i : i + 5] for i in batch])
        for layer, (stride, padding) in _LIP.items():
            name = f"netcnnlip.{layer}"
            x = F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)
            x = F.relu(_norm(state, f"netcnnlip.{layer + 1}", x))
            if layer in _LIP_POOL:
                x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), _LIP_POOL[layer])
        lips_out.append(_head(state, "netfclip", x.flatten(1)))
        x = torch.cat([sound[:, :, :, 4 * i : 4 * i + 20] for i in batch])
        for layer, pad in _AUDIO.items():
            name = f"netcnnaud.{layer}"
            x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], 1, pad)
            x = F.relu(_norm(state, f"netcnnaud.{layer + 1}", x))
            if layer in _AUDIO_POOL:
                x = F.max_pool2d(x, *_AUDIO_POOL[layer])
        sound_out.append(_head(state, "netfcaud", x.flatten(1)))
    return torch.cat(lips_out), torch.cat(sound_out)


def score(
    lips: torch.Tensor, sound: torch.Tensor, vshift: int
) -> tuple[int, float, NDArray[np.float32], NDArray[np.float64]]:
    """Offset, confidence, distances (K, 2 vshift + 1), confidence by frame."""
    width = 2 * vshift + 1
    padded = F.pad(sound, (0, 0, vshift, vshift))
    distances = torch.stack(
        [
            F.pairwise_distance(lips[[i]].repeat(width, 1), padded[i : i + width])
            for i in range(len(lips))
        ]
    )
    means = distances.mean(0)
    best = int(means.argmin())
    frames = torch.median(means) - distances[:, best]
    confidence = float(torch.median(means) - means.min())
    return vshift - best, confidence, distances.numpy(), medfilt(frames.double().numpy(), 9)


if __name__ == "__main__":
    sys.exit(part_of("inference_speed"))
