"""A video is one file: what FFmpeg would read of other files is refused, whatever it is called."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data_tools.video.decode import Video
from data_tools.video.probe import promised_length
from data_tools.video.remux import shift_sound
from data_tools.video.remux_copy import RemuxError
from data_tools.video.sound import VideoError
from videos import write_video

LISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "list.mp4": "ffconcat version 1.0\nfile 'private/other.ts'\n",
}


def test_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "private" / "other.ts"
    other.parent.mkdir()
    noise = np.random.default_rng(0).integers(-3000, 3000, 12 * 640, dtype=np.int16)
    write_video(other, np.full((12, 48, 64, 3), 90, np.uint8), noise)
    assert promised_length(other) > 0
    for name, text in LISTS.items():
        file = tmp_path / name
        file.write_text(text.format(other))
        with pytest.raises(VideoError, match="a list of other files, or no video"):
            Video(file)
        assert promised_length(file) == 0
        with pytest.raises(RemuxError, match="cannot be copied"):
            shift_sound(file, tmp_path / "copy.mkv", Fraction(1, 5))
    assert not (tmp_path / "copy.mkv").exists()
