"""Files opened so that FFmpeg reads them and nothing that they name (PyAV)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from data_tools.names import address

# Lists of other files, addresses to listen at, scripts and devices. FFmpeg tells formats by their
# content, so that any of these may be called x.mp4; read as one, it would be a video of other files
# of this machine.
_LEAD_ELSEWHERE = {
    *("applehttp", "concat", "concatf", "dash", "hls", "imf", "image2", "vobsub"),
    *("rtp", "rtsp", "sap", "sdp", "webm_dash_manifest"),
    *("avisynth", "vapoursynth"),
    *("alsa", "fbdev", "kmsgrab", "lavfi", "oss", "v4l2", "video4linux2,v4l2", "x11grab"),
}
FORMATS = ",".join(sorted(av.formats_available - _LEAD_ELSEWHERE))


def open_container(path: Path, **options: str) -> Any:
    """The container at `path`; bytes of its texts that are no UTF-8 are replaced.

    options: of FFmpeg's demuxers.

    Raises:
        av.error.ArgumentError: it is a list of other files or the like, which is not read.
        av.error.FFmpegError, OSError, ValueError: it cannot be read.
    """
    known = {"format_whitelist": FORMATS, **options}
    return av.open(address(path), metadata_errors="replace", container_options=known)
