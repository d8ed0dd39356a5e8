"""Face detectors behind one signature: pictures in, boxes out.

The default is libfacedetection's network, which lies beside this module. YuNet runs in OpenCV from
a model file that the user gives. Any other detector, one on a GPU for instance, is a function in a
module of the user's own, named as `module:function`, that returns an object with `detect`.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from data_tools.errors import UsageError
from data_tools.video.network import open_network

NETWORK = Path(__file__).with_name("faces.onnx")
THRESHOLD = 0.6  # below it both networks see faces in curtains
_NMS_OVERLAP = 0.3
_STRIDES = 8, 16, 32  # pixels between two places at which the network centres faces
_SMALLEST = 16  # pixels: a shorter picture makes the detectors' feature maps empty


@dataclass(frozen=True)
class Face:
    """A face: its box (left, top, right, bottom) in pixels of the picture, and its score 0..1."""

    box: tuple[float, float, float, float]
    score: float


class Detector(Protocol):
    """What `prepare` asks of a detector."""

    def detect(self, pictures: list[NDArray[np.uint8]]) -> list[list[Face]]:
        """The faces of each picture, (H, W, 3) RGB uint8, all of one size: one batch."""
        ...


def open_detector(name: str, model: Path | None = None) -> Detector:
    """The detector called `name`: "libfacedetection", "yunet" (needs `model`) or "module:function".

    Raises:
        UsageError: no such detector, or it needs a model file.
        MissingPackage: its package is missing.
    """
    if name == "libfacedetection":
        return _Libfacedetection()
    if name == "yunet":
        if model is None:
            raise UsageError("the detector yunet needs --detector-model FILE.onnx")
        return _YuNet(model)
    if ":" in name:
        module, function = name.split(":", 1)
        try:
            detector: Detector = getattr(importlib.import_module(module), function)()
        except (ImportError, AttributeError) as error:
            raise UsageError(f"--detector {name}: {error}") from None
        return detector
    raise UsageError(
        f"no detector {name!r}: libfacedetection, yunet, or module:function of your own"
    )


class _Libfacedetection:
    """libfacedetection's network in ONNX Runtime: its own code's boxes in a quarter of the time.

    `benchmarks/face_network.py` makes faces.onnx and says what comes out of it.
    """

    def __init__(self) -> None:
        self._network = _network()

    def detect(self, pictures: list[NDArray[np.uint8]]) -> list[list[Face]]:
        return [self._faces(picture) for picture in pictures]

    def _faces(self, picture: NDArray[np.uint8]) -> list[Face]:
        if min(picture.shape[:2]) < _SMALLEST:
            return []
        below, right = (-side % _STRIDES[-1] for side in picture.shape[:2])
        if below or right:
            border = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT)
            picture = np.asarray(border, np.uint8)
        scores, boxes = self._network.run(["scores", "boxes"], {"picture": picture})
        likely = np.flatnonzero(scores >= THRESHOLD)
        places, strides = _places(*picture.shape[:2])
        stride = strides[likely, None]
        middles = (places[likely] + boxes[likely, :2]) * stride
        sizes = np.exp(boxes[likely, 2:]) * stride
        corners = middles - sizes / 2
        rectangles = np.hstack([corners, sizes]).tolist()
        kept = cv2.dnn.NMSBoxes(rectangles, scores[likely].tolist(), THRESHOLD, _NMS_OVERLAP)
        return [
            Face((x, y, x + width, y + height), float(scores[likely[each]]))
            for each in kept
            for x, y, width, height in [rectangles[each]]
        ]


@cache
def _network() -> Any:
    return open_network(NETWORK, "finding faces")


@lru_cache(maxsize=64)
def _places(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where faces may be centred in a picture of this size: (places, 2) x and y, in strides, and
    (places,) the strides in pixels; both float32."""
    places, strides = [], []
    for stride in _STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        places.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full(x.size, stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


class _YuNet:
    def __init__(self, model: Path) -> None:
        if not model.is_file():
            raise UsageError(f"no detector model at {model}")
        try:
            self._net = cv2.FaceDetectorYN.create(
                str(model), "", (320, 320), THRESHOLD, _NMS_OVERLAP
            )
        except cv2.error:
            raise UsageError(f"{model} is not a YuNet model that OpenCV can read") from None

    def detect(self, pictures: list[NDArray[np.uint8]]) -> list[list[Face]]:
        return [self._faces(picture) for picture in pictures]

    def _faces(self, picture: NDArray[np.uint8]) -> list[Face]:
        height, width = picture.shape[:2]
        if min(height, width) < _SMALLEST:
            return []
        self._net.setInputSize((width, height))
        rows = self._net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        if rows is None:
            return []
        return [
            Face((float(x), float(y), float(x + w), float(y + h)), float(row[14]))
            for row in rows
            for x, y, w, h in [row[:4]]
        ]
