"""What decides how videos are measured, besides the weights."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from trainer.model.calibration import Mode as Mode
from trainer.model.device import Precision
from trainer.model.network import Network
from trainer.score.scoring import REACH


@dataclass(frozen=True)
class MeasureOptions:
    """How a video is measured. The defaults suit any video and the weights of the package.

    Attributes:
        prepared: the whole picture is the crop of one face already, as the weights need it: the
            mouth for those of the package, the face for syncnet_v2.model.
        crop: the crop to take, "face" or "mouth", or, with --prepared, the one that it is (default:
            what the weights say that they were trained on, else face for syncnet, mouth for the
            others).
        mode: centred: inner products of what moves in lips and sound, best on speakers never seen;
            masked: mean distances, of which only sound that exists counts; parity: as the official
            code scores, zeros beyond the ends and the last window left out (default: the one that
            the weights are calibrated for, else centred).
        max_shift: frames of 40 ms to search to either side, 1..500; memory and time grow with it.
        device: auto (default: a GPU if there is one), cpu or cuda[:n].
        precision: what the network computes in: auto, bfloat16 where the device does so by itself
            (GPUs from Ampere on, CPUs with AVX512-BF16 or AMX), else float32; fp32 or bf16 on every
            device. Parity mode is float32 whatever it says.
        audio_stream: measure this audio stream: its number, counted from 0 as in FFmpeg's a:N, or
            its language, as en, eng or en-GB; a wrong one is answered by a list of those that there
            are (default: the one meant for everybody, no commentary, description or dubbing); --fix
            moves all of them.
    """

    prepared: bool = False
    crop: Literal["face", "mouth"] | None = None
    mode: Mode | None = None
    max_shift: Annotated[int, Meta(ge=1, le=500)] = REACH
    device: str = "auto"
    precision: Precision = "auto"
    audio_stream: int | str | None = None


def crop_note(network: Network, options: MeasureOptions) -> str:
    """One line where the pictures may be other crops than the network needs; empty otherwise."""
    needed, known = network.crop, network.trained_crop
    if known == "whole":
        if options.prepared:
            return ""
        return (
            "note: these weights were trained on whole pictures, as they are; measure such videos "
            "with --prepared, or the offset is wrong"
        )
    if options.crop == needed or (options.crop is None and not options.prepared):
        return ""
    unless = "" if known else ", unless they were trained on others"
    note = f"note: these weights take {needed} crops{unless}; of any other crop the offset is wrong"
    return note if options.crop else f"{note}; if the picture is one, say so with --crop {needed}"
