"""What the header of a video promises, without decoding anything."""

from __future__ import annotations

from pathlib import Path

import av

from data_tools.names import is_unplain
from data_tools.video.containers import open_container


def promised_length(path: Path) -> float:
    """Seconds that a video says it lasts; 0 if it does not say or cannot be opened."""
    if is_unplain(path):
        return 0.0
    try:
        with open_container(path) as container:
            return max(0.0, (container.duration or 0) / av.time_base)
    except (av.error.FFmpegError, OSError, ValueError):
        return 0.0
