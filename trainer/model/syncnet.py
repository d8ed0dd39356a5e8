"""SyncNet: one stream for lips, one for sound, into one space where distance means off-sync.

Both streams take what the loader yields and turn it into floats themselves. After the first
convolution, whose kernel spans five frames, every kernel of the lip stream has a temporal extent of
one, so a single pass over T frames gives the embeddings of all T - 4 windows.

Axis letters: B samples, T frames, H W pixels, C channels, F MFCC columns, K windows, D embedding.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn
from torch.nn import functional

from data_tools.mfcc import CEPSTRA, COLUMNS_PER_FRAME, WINDOW_COLUMNS, WINDOW_FRAMES
from trainer.model.convolutions import ColourConv3d, WholeConv2d, WholeConv3d
from trainer.model.flat import flat_lips


@dataclass(frozen=True)
class Preset:
    """An architecture, its input and the margin that suits the scale of its embeddings."""

    size: int  # frames are size x size
    channels: int  # 3: colour, 1: gray
    embedding: int  # D
    margin: float
    radius: float = 0.0  # of the sphere on which embeddings lie; 0: anywhere, as published


PRESETS = {
    "syncnet": Preset(size=224, channels=3, embedding=1024, margin=20.0),
    "paper": Preset(size=111, channels=1, embedding=256, margin=10.0),
    "small": Preset(size=64, channels=1, embedding=128, margin=10.0),
    "medium": Preset(size=64, channels=1, embedding=128, margin=10.0, radius=8.0),
}


class SyncNet(nn.Module):
    """Lip and sound streams of one preset.

    `netcnnlip`, `netfclip`, `netcnnaud`, `netfcaud` carry the names, and for the preset "syncnet"
    the keys and shapes, of the published weights (`syncnet_v2.model`).

    Attributes:
        frozen: modules that stay in evaluation mode while the others train, by their names.
    """

    def __init__(self, name: str = "syncnet") -> None:
        """Build a preset with fresh weights.

        Raises:
            ValueError: no such preset.
        """
        super().__init__()
        if name not in PRESETS:
            raise ValueError(f"no model {name!r}; there are {', '.join(PRESETS)}")
        self.name = name
        self.preset = PRESETS[name]
        self.frozen: tuple[str, ...] = ()
        builders = {"syncnet": _syncnet, "paper": _paper, "small": _small, "medium": _medium}
        self.netcnnlip, self.netcnnaud, hidden = builders[name]()
        last = [OnSphere(self.preset.radius)] if self.preset.radius else []
        self.netfclip = nn.Sequential(*_head(hidden, self.preset.embedding), *last)
        self.netfcaud = nn.Sequential(*_head(hidden, self.preset.embedding), *last)

    def train(self, mode: bool = True) -> Self:
        """Let all train, or none, but those that are frozen."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def forward(
        self, frames_BTHWC: torch.Tensor, mfcc_BFC: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of both streams, in one call so that DistributedDataParallel sees it."""
        return self.lips(frames_BTHWC), self.sound(mfcc_BFC)

    def lips(self, frames_BTHWC: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W, C) uint8 frames, RGB or gray, T >= 5 -> (B, T - 4, D)."""
        dtype = _compute_dtype(frames_BTHWC.device)
        half = dtype is not torch.float32
        # on a CPU the backward pass is faster in three (benchmarks/cpu_step.py)
        if frames_BTHWC.is_cuda or (half and not torch.is_grad_enabled()):
            x = flat_lips(self.netcnnlip, frames_BTHWC, dtype)
        else:
            # The permuted view is channels_last_3d already: converting the type keeps the layout.
            x = self.netcnnlip(frames_BTHWC.permute(0, 4, 1, 2, 3).to(dtype))
            x = x.flatten(2).transpose(1, 2)  # (B, T - 4, hidden)
        batch, windows = x.shape[:2]
        embedding: torch.Tensor = self.netfclip(x.flatten(0, 1))
        return embedding.view(batch, windows, -1)

    def sound(self, mfcc_BFC: torch.Tensor) -> torch.Tensor:
        """(B, F, 13) float32 features, F = 4 A columns, A >= 5 -> (B, A - 4, D)."""
        # The sound stream pads and pools inside its 20 columns, so windows are cut before it.
        windows = mfcc_BFC.unfold(1, WINDOW_COLUMNS, COLUMNS_PER_FRAME)  # (B, A - 4, 13, 20)
        batch, count = windows.shape[:2]
        x = windows.reshape(batch * count, 1, CEPSTRA, WINDOW_COLUMNS)
        x = self.netcnnaud(x).flatten(1)
        embedding: torch.Tensor = self.netfcaud(x)
        return embedding.view(batch, count, -1)


class OnSphere(nn.Module):
    """Embeddings of one length, so that distances compare angles and none can grow by growing."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (N, D) float32 of length `radius`."""
        return self.radius * functional.normalize(x.float(), dim=-1)


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers in the model."""
    return sum(p.numel() for p in model.parameters())


def _compute_dtype(device: torch.device) -> torch.dtype:
    # bfloat16 and float16 hold 0..255 exactly, so autocast's type costs no second conversion
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


def _head(hidden: int, embedding: int) -> list[nn.Module]:
    return [
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, embedding),
    ]


def _lip(
    before: int,
    after: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    frames: int = 1,
    conv: type[nn.Conv3d] = nn.Conv3d,
) -> list[nn.Module]:
    """Convolution over `frames` x kernel x kernel, batch normalisation, ReLU."""
    layer = conv(
        before,
        after,
        (frames, kernel, kernel),
        stride=(1, stride, stride),
        padding=(0, padding, padding),
    )
    return [layer, nn.BatchNorm3d(after), nn.ReLU(inplace=True)]


def _lip_pool(padding: int = 0) -> nn.Module:
    return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, padding, padding))


def _aud(
    before: int,
    after: int,
    kernel: int | tuple[int, int] = 3,
    padding: int = 1,
    stride: int | tuple[int, int] = 1,
    conv: type[nn.Conv2d] = nn.Conv2d,
) -> list[nn.Module]:
    layer = conv(before, after, kernel, padding=padding, stride=stride)
    return [layer, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def _syncnet() -> tuple[nn.Sequential, nn.Sequential, int]:
    """The published v2 layout, 13,631,616 parameters; positions in the Sequentials are its keys."""
    lips = nn.Sequential(
        *_lip(3, 96, 7, stride=2, frames=WINDOW_FRAMES, conv=ColourConv3d),
        _lip_pool(),
        *_lip(96, 256, 5, stride=2, padding=1),
        _lip_pool(padding=1),
        *_lip(256, 256, 3, padding=1),
        *_lip(256, 256, 3, padding=1),
        *_lip(256, 256, 3, padding=1),
        _lip_pool(),
        *_lip(256, 512, 6, conv=WholeConv3d),
    )
    sound = nn.Sequential(
        *_aud(1, 64),
        nn.MaxPool2d(1, stride=1),  # does nothing, but keeps the numbering
        *_aud(64, 192),
        nn.MaxPool2d(3, stride=(1, 2)),
        *_aud(192, 384),
        *_aud(384, 256),
        *_aud(256, 256),
        nn.MaxPool2d(3, stride=2),
        *_aud(256, 512, kernel=(5, 4), padding=0, conv=WholeConv2d),
    )
    return lips, sound, 512


def _paper() -> tuple[nn.Sequential, nn.Sequential, int]:
    """After Chung and Zisserman 2016: VGG-M on 111 x 111 gray mouths, five frames fused at once.

    Frames stacked as channels under a 2-D kernel are the same sum as a 3-D kernel of depth five.
    """
    lips = nn.Sequential(
        *_lip(1, 96, 3, frames=WINDOW_FRAMES),  # 109
        _lip_pool(),  # 54
        *_lip(96, 256, 3, stride=2, padding=1),  # 27
        _lip_pool(),  # 13
        *_lip(256, 512, 3, padding=1),
        *_lip(512, 512, 3, padding=1),
        *_lip(512, 512, 3, padding=1),
        _lip_pool(),  # 6
        *_lip(512, 256, 6, conv=WholeConv3d),
    )
    sound = nn.Sequential(
        *_aud(1, 96),
        *_aud(96, 256),
        nn.MaxPool2d(3, stride=(1, 2)),  # 11 x 9
        *_aud(256, 512),
        *_aud(512, 512),
        *_aud(512, 512),
        nn.MaxPool2d(3, stride=2),  # 5 x 4
        *_aud(512, 256, kernel=(5, 4), padding=0, conv=WholeConv2d),
    )
    return lips, sound, 256


def _small() -> tuple[nn.Sequential, nn.Sequential, int]:
    """About 0.4 M parameters for 64 x 64 gray mouths: learns on two CPU cores in minutes."""
    lips = nn.Sequential(
        *_lip(1, 24, 5, stride=2, padding=2, frames=WINDOW_FRAMES),  # 32
        *_lip(24, 48, 3, stride=2, padding=1),  # 16
        *_lip(48, 64, 3, stride=2, padding=1),  # 8
        *_lip(64, 96, 3, stride=2, padding=1),  # 4
        *_lip(96, 96, 4, conv=WholeConv3d),
    )
    sound = nn.Sequential(
        *_aud(1, 32),
        *_aud(32, 48, stride=(1, 2)),  # 13 x 10
        *_aud(48, 64, stride=2),  # 7 x 5
        *_aud(64, 64, stride=2),  # 4 x 3
        *_aud(64, 96, kernel=(4, 3), padding=0, conv=WholeConv2d),
    )
    return lips, sound, 96


def _medium() -> tuple[nn.Sequential, nn.Sequential, int]:
    """1.7 M parameters for 64 x 64 gray mouths, the network that comes with the package.

    Its embeddings lie on a sphere, which keeps the distances of a small training set's memorised
    pairs from growing without end. A first stride of four leaves little to compute at full size,
    so that the width is spent where maps are small: a step costs no more than one of `small`.
    """
    lips = nn.Sequential(
        *_lip(1, 32, 8, stride=4, padding=2, frames=WINDOW_FRAMES),  # 16
        *_lip(32, 64, 3, stride=2, padding=1),  # 8
        *_lip(64, 128, 3, padding=1),
        *_lip(128, 128, 3, stride=2, padding=1),  # 4
        *_lip(128, 256, 4, conv=WholeConv3d),
    )
    sound = nn.Sequential(
        *_aud(1, 48, stride=(1, 2)),  # 13 x 10
        *_aud(48, 96, stride=2),  # 7 x 5
        *_aud(96, 128),
        *_aud(128, 128, stride=2),  # 4 x 3
        *_aud(128, 256, kernel=(4, 3), padding=0, conv=WholeConv2d),
    )
    return lips, sound, 256
