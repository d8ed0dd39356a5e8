"""How frames are to be decoded: by what, and where they then lie. Said without loading DALI."""

from dataclasses import dataclass
from typing import Literal

Decoder = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Decoding:
    """How frames are decoded, and where they then lie.

    Attributes:
        decoder: "gpu" is DALI's mixed decoder, nvJPEG; "cpu" is libjpeg-turbo. Their pixels differ
            by a level or two.
        device: number of the GPU where the outputs lie; None: in the host's memory.
        hw_decoder_load: share of the frames that the hardware of a GPU's decoder gets.
        pinned: copy the JPEGs into pinned memory before a GPU's decoder fetches them.
    """

    decoder: Decoder = "cpu"
    device: int | None = None
    hw_decoder_load: float = 0.65
    pinned: bool = False

    def __post_init__(self) -> None:
        if self.decoder == "gpu" and self.device is None:
            raise ValueError("a GPU's decoder needs a GPU")


ON_CPU = Decoding()
