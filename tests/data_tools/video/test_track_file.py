"""The crops of a track, in one file."""

from __future__ import annotations

from pathlib import Path

from data_tools.video.track_file import CropStore, TrackFile


def test_crops_come_back_by_their_picture(tmp_path: Path) -> None:
    store = CropStore(tmp_path)
    crops, other = TrackFile(store, 7), TrackFile(store, 0)
    jpegs = {7 + k: bytes([k]) * (k + 1) for k in range(6)}
    for jpeg in jpegs.values():
        crops.append(jpeg)
        other.append(b"another track")
    assert list(crops.read(jpegs)) == list(jpegs.values())
    assert list(crops.read([12, 7, 9])) == [jpegs[12], jpegs[7], jpegs[9]]
    assert list(other.read([0, 5])) == [b"another track"] * 2


def test_many_crops_go_to_a_file_without_a_name(tmp_path: Path) -> None:
    crops = TrackFile(CropStore(tmp_path), 0)
    jpegs = [bytes([k]) * (1 << 20) for k in range(40)]
    for jpeg in jpegs:
        crops.append(jpeg)
    assert list(crops.read(range(40))) == jpegs
    assert list(tmp_path.iterdir()) == []
