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

# Pixels. PySceneDetect scales down as well: of 28 real videos the scores with 64 lie 0.1 from those
# with 256 in the mean and 1.8 at most, where a cut is 27.
SIDE = 64


class _Quick(ContentDetector):
    """ContentDetector with the same scores, its sums taken by OpenCV: a sixth of the time.

    Pictures are RGB, not BGR.
    """

    _last: NDArray[np.uint8] | None = None

    def _calculate_frame_score(
        self, timecode: FrameTimecode, frame_img: NDArray[np.uint8]
    ) -> float:
        hsv = np.asarray(cv2.cvtColor(frame_img, cv2.COLOR_RGB2HSV), np.uint8)
        last, self._last = self._last, hsv
        if last is None:
            return 0.0
        if last.shape != hsv.shape:  # the video goes on in another shape
            last = np.asarray(cv2.resize(last, hsv.shape[1::-1]), np.uint8)
        # By default hue, saturation and brightness weigh 1 each, edges nothing. Sums of bytes are
        # exact in double precision.
        pixels = float(hsv.shape[0] * hsv.shape[1])
        hue, saturation, brightness, _ = cv2.sumElems(cv2.absdiff(hsv, last))
        return (hue / pixels + saturation / pixels + brightness / pixels) / 3.0


class Cuts:
    """Tells for each picture, in order, whether a new shot begins with it."""

    def __init__(self, threshold: float = SHOT_THRESHOLD) -> None:
        # No minimum length: two cuts in a row make a short shot that the report names, whereas a
        # cut held back would let a track run on into another picture.
        self._detector = _Quick(
            threshold=threshold, min_scene_len=0, filter_mode=FlashFilter.Mode.SUPPRESS
        )
        # Without a minimum length times are handed back and not looked at; to make one takes as
        # long as to score a picture.
        self._time = FrameTimecode(0, float(FPS))

    def begins_shot(self, picture: NDArray[np.uint8]) -> bool:
        """picture: the next one, (H, W, 3) RGB uint8, scaled to about SIDE pixels."""
        return bool(self._detector.process_frame(self._time, picture))
