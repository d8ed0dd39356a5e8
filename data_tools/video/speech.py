"""How much of a sound is speech, by the Silero voice activity detector."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from data_tools.video.network import open_network

NETWORK = Path(__file__).with_name("speech.onnx")
_PIECE, _CONTEXT = 512, 64  # samples that the model judges, and those before them that it hears
_AT_ONCE = 512  # pieces, which bounds the memory


def speech_share(audio: NDArray[np.int16]) -> float:
    """Share 0..1 of the 32 ms pieces of `audio`, (samples,) int16 at 16 kHz, that are speech."""
    if len(audio) == 0:
        return 0.0
    pieces = -(-len(audio) // _PIECE)
    padded = np.zeros(_CONTEXT + pieces * _PIECE, np.float32)
    padded[_CONTEXT : _CONTEXT + len(audio)] = audio.astype(np.float32) / 32768
    # Before each piece it hears the end of the one before.
    heard = sliding_window_view(padded, _CONTEXT + _PIECE)[::_PIECE]
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    speech = 0
    for begin in range(0, pieces, _AT_ONCE):
        block = np.ascontiguousarray(heard[begin : begin + _AT_ONCE])
        probabilities, hidden, cell = _network().run(
            ["speech_probs", "hn", "cn"], {"input": block, "h": hidden, "c": cell}
        )
        speech += int((np.asarray(probabilities) > 0.5).sum())
    return speech / pieces


@cache
def _network() -> Any:
    """Silero's network for whole sequences, as `benchmarks/speech_network.py` makes it of its own.

    It computes the same as the streaming one, many times as fast.
    """
    return open_network(NETWORK, "telling speech from noise")
