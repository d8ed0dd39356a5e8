"""Look for faces in the pictures of a video, scaled down to what the detector is asked to see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_tools.video.convert import Converter
from data_tools.video.decode import Picture
from data_tools.video.faces import Face, open_detector
from data_tools.video.montage import Montage
from data_tools.video.options import PrepareOptions


class Search:
    """Finds faces in the pictures of one video.

    Args:
        converter: of the video's pictures.
        montage: is shown the pictures in which faces are looked for.

    Raises:
        UsageError, MissingPackage: as `open_detector`.
    """

    def __init__(
        self, converter: Converter, options: PrepareOptions, montage: Montage | None = None
    ) -> None:
        self._converter, self._montage = converter, montage
        model = options.detector_model
        self._detector = open_detector(options.detector, Path(model) if model else None)

    def faces(self, pictures: Iterable[Picture], size: int) -> dict[int, list[Face]]:
        """The faces of each picture, in its own pixels, by the picture's index.

        size: shorter side of the pictures that faces are looked for in.
        """
        # A batch is of one size, which may change in the middle of a video.
        batches: dict[tuple[int, ...], list[tuple[int, float, NDArray[np.uint8]]]]
        batches = defaultdict(list)
        for picture in pictures:
            small = self._converter.rgb(picture.frame, size)
            scale = self._converter.short_side(picture.frame) / min(small.shape[:2])
            if self._montage is not None:
                self._montage.see(picture.index, small, scale)
            batches[small.shape].append((picture.index, scale, small))
        found: dict[int, list[Face]] = {}
        for batch in batches.values():
            seen = self._detector.detect([small for _, _, small in batch])
            for (index, scale, _), faces in zip(batch, seen, strict=True):
                found[index] = [_scaled(face, scale) for face in faces]
        return found


def _scaled(face: Face, scale: float) -> Face:
    left, top, right, bottom = face.box
    return Face((left * scale, top * scale, right * scale, bottom * scale), face.score)
