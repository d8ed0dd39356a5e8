"""Makes the speech detector's network, speech.onnx:  python -m benchmarks.speech_network

The network and its weights are Silero's (the package silero-vad; MIT), for a whole sequence at
once. There each piece of sound is convolved by itself, four frames at a time: narrow products, in
which a processor waits for the weights. Here the pieces of a sequence are the rows of one picture.

Needs the packages silero-vad and onnx, which come with the extra [test].
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.graph import Graph, write_network
from data_tools.errors import MissingPackage
from data_tools.video.speech import NETWORK

if TYPE_CHECKING:
    from onnx import ModelProto

_STRIDES = 1, 2, 2, 1  # of the encoder's four layers
_FREQUENCIES = 129


def silero_weights() -> dict[str, NDArray[Any]]:
    """The weights of the package's network, by their names.

    Raises:
        MissingPackage: silero-vad is not there.
    """
    import onnx
    from onnx import numpy_helper

    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        words = "the speech network is made from silero-vad: pip install silero-vad"
        raise MissingPackage(words)
    file = Path(spec.origin).with_name("data") / "silero_vad_16k_sequence.onnx"
    model = onnx.load(str(file))
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def speech_network() -> "ModelProto":
    """The detector: pieces of sound in, how likely each is speech out.

    Inputs: "input" (pieces, 576) float32, -1..1 at 16 kHz, 64 samples that precede each piece of
    512; "h" and "c" (1, 1, 128) float32, what the pieces before left behind, or zeros. Outputs:
    "speech_probs" (pieces,) float32, 0..1; "hn" and "cn", for the pieces after.

    Raises:
        MissingPackage: silero-vad or onnx is not there.
    """
    graph, weights = Graph(), silero_weights()
    padded = graph.node("Pad", "input", graph.constant([0, 0, 0, 64]), mode="reflect")
    rows = graph.node("Unsqueeze", padded, graph.constant([0, 1]))  # (1, 1, pieces, 640)
    # Short-time Fourier transform: windows of 256 samples every 128.
    waves = weights["stft.forward_basis_buffer"][:, None]
    parts = [
        graph.node("Conv", rows, graph.constant(half), strides=[1, 128])
        for half in (waves[:_FREQUENCIES], waves[_FREQUENCIES:])
    ]
    power = graph.node("Add", *(graph.node("Mul", part, part) for part in parts))
    x = graph.node("Sqrt", power)
    for number, stride in enumerate(_STRIDES):
        filters = graph.constant(weights[f"encoder.{number}.weight"][:, :, None])
        biases = graph.constant(weights[f"encoder.{number}.bias"])
        x = graph.node("Conv", x, filters, biases, strides=[1, stride], pads=[0, 1, 0, 1])
        x = graph.node("Relu", x)
    # (1, 128, pieces, 1) to the sequence (pieces, 1, 128)
    turned = graph.node("Transpose", x, perm=[2, 0, 3, 1])
    sequence = graph.node("Reshape", turned, graph.constant([-1, 1, 128]))
    recurrent = [graph.constant(weights[f"onnx::LSTM_{number}"]) for number in (209, 210, 211)]
    outputs = ["heard", "hn", "cn"]
    given = [sequence, *recurrent, "", "h", "c"]
    graph.nodes("LSTM", *given, names=outputs, hidden_size=128)
    flat = graph.node("Reshape", "heard", graph.constant([-1, 128]))
    filters = graph.constant(weights["output.weight"][:, :, 0].T)
    biases = graph.constant(weights["output.bias"])
    likely = graph.node("Sigmoid", graph.node("Gemm", graph.node("Relu", flat), filters, biases))
    graph.node("Reshape", likely, graph.constant([-1]), name="speech_probs")
    state = (np.float32, [1, 1, 128])
    return graph.model(
        "silero",
        {"input": (np.float32, ["pieces", 576]), "h": state, "c": state},
        {"speech_probs": (np.float32, ["pieces"]), "hn": state, "cn": state},
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 a package is missing."""
    return write_network("speech_network", __doc__, NETWORK, speech_network, argv)


if __name__ == "__main__":
    sys.exit(main())
