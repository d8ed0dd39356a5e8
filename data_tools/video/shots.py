"""Where one shot ends and the next begins, found picture by picture with PySceneDetect.

The one place that knows PySceneDetect, whose interface changes with its releases.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from data_tools.errors import MissingPackage
from data_tools.mfcc import FPS
from data_tools.video.options import SHOT_THRESHOLD

try:
    from scenedetect.common import FrameTimecode
    from scenedetect.detector import FlashFilter
    from scenedetect.detectors import ContentDetector
except ImportError as error:
    raise MissingPackage(
        f"PySceneDetect 0.7 is not usable ({error}); finding shots needs: "
        "pip install 'syncnet-trainer[prepare]'"
    ) from None

SIDE = 128  # pixels; PySceneDetect scales down as well, its scores hardly depend on the size


class Cuts:
    """Tells for each picture, in order, whether a new shot begins with it."""

    def __init__(self, threshold: float = SHOT_THRESHOLD) -> None:
        # No minimum length: two cuts in a row make a short shot that the report names, whereas a
        # cut held back would let a track run on into another picture.
        self._detector = ContentDetector(
            threshold=threshold, min_scene_len=0, filter_mode=FlashFilter.Mode.SUPPRESS
        )

    def begins_shot(self, index: int, picture: NDArray[np.uint8]) -> bool:
        """picture: picture `index`, (H, W, 3) RGB uint8, scaled to about SIDE pixels."""
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        return bool(self._detector.process_frame(FrameTimecode(index, float(FPS)), bgr))
