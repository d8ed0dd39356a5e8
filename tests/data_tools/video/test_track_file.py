"""The crops of a track, in one file."""

from __future__ import annotations

from pathlib import Path

from data_tools.video.track_file import TrackFile


def test_crops_come_back_by_their_picture(tmp_path: Path) -> None:
    crops = TrackFile(tmp_path / "track.jpegs", 7)
    jpegs = {7 + k: bytes([k]) * (k + 1) for k in range(6)}
    for index, jpeg in jpegs.items():
        crops.append(jpeg)
        if index % 2:
            crops.flush()
    crops.flush()
    assert list(crops.read(jpegs)) == list(jpegs.values())
    assert list(crops.read([12, 7, 9])) == [jpegs[12], jpegs[7], jpegs[9]]
