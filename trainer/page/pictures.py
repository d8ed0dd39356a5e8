"""Pictures of a video's faces for its page, each decoded from the key picture before it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

SIDE = 176  # pixels of a picture: twice what the page shows, for sharp screens
_QUALITY = 80
_CONTEXT = 1.5  # of the square beside the face's longer side: hair and chin
_MOST_DECODED = 600  # pictures from a key picture on; a longer way costs seconds


def face_pictures(path: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], float]:
    """A picture of each track's face as a data URI, and how long the file says that it lasts.

    "" where there is none: the file is gone, or its clock runs so that the moment is not found. Of
    no tracks the file is not opened: what made a worker hang or crash may be in it.

    Args:
        rows: of the tracks, as `trainer.score.report.as_json`.

    Returns:
        As many texts as rows; seconds, 0 where they are unknown.
    """
    import av

    from data_tools.names import is_unplain
    from data_tools.video.containers import open_container
    from data_tools.video.convert import Converter
    from data_tools.video.sound import VideoError
    from data_tools.video.streams import choose_picture, promised_seconds

    none = [""] * len(rows)
    if not rows or not path.exists() or is_unplain(path):
        return none, 0.0
    try:
        with open_container(path) as container:
            stream = choose_picture(container, silent=True)
            seconds = promised_seconds(container, stream, stream)
            converter = Converter(Fraction(stream.sample_aspect_ratio or 1))
            first = next(container.decode(stream))
            origin = first.pts * first.time_base
            pictures = []
            for row in rows:
                face = row.get("face")
                middle = (row["start_seconds"] + row["end_seconds"]) / 2
                moment = face["seconds"] if face else middle
                frame = _picture_at(container, stream, origin + Fraction(moment))
                pictures.append("" if frame is None else _jpeg(converter.rgb(frame), face))
            return pictures, seconds
    except (av.error.FFmpegError, VideoError, StopIteration, OSError, ValueError, TypeError):
        # Measured it was by a decoder that reads on behind damage; a picture is not worth that.
        return none, 0.0


def _picture_at(container: Any, stream: Any, moment: Fraction) -> Any:
    """The picture that is shown at a presentation time, seconds; None if it is not found."""
    container.seek(int(moment / stream.time_base), stream=stream)
    shown = None
    for count, frame in enumerate(container.decode(stream)):
        if frame.pts is None or count == _MOST_DECODED:
            return None
        if frame.pts * frame.time_base > moment:
            return shown
        shown = frame
    return shown


def _jpeg(rgb: NDArray[np.uint8], face: Mapping[str, Any] | None) -> str:
    """The square around a face, or the middle of the picture, as a data URI."""
    height, width = rgb.shape[:2]
    if face is None:
        x, y, side = width / 2, height / 2, min(height, width)
    else:
        left, top, right, bottom = face["box"]
        x, y = (left + right) / 2, (top + bottom) / 2
        side = min(_CONTEXT * max(right - left, bottom - top), height, width)
    # Moved inside the picture: black beyond its edge would look like a fault.
    x = min(max(x, side / 2), width - side / 2)
    y = min(max(y, side / 2), height - side / 2)
    at, down, size = round(x - side / 2), round(y - side / 2), max(1, int(side))
    square = rgb[max(0, down) : max(0, down) + size, max(0, at) : max(0, at) + size]
    how = cv2.INTER_AREA if size > SIDE else cv2.INTER_LINEAR
    small = np.ascontiguousarray(cv2.resize(square, (SIDE, SIDE), interpolation=how), np.uint8)
    jpeg = simplejpeg.encode_jpeg(small, _QUALITY, "RGB", "420")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
