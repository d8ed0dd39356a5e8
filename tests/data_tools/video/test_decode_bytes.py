"""Damaged videos of four containers: whatever the bytes, a reading or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.video.decode import Video
from data_tools.video.sound import VideoError
from hostile_clips import mutations
from hostile_videos import check_copy, check_video
from videos import write_video

SUFFIXES = (".mp4", ".mkv", ".avi", ".ts")


class Whole(dict[str, bytes]):
    """Whole videos by suffix; hypothesis would else print them."""

    def __repr__(self) -> str:
        return "whole videos"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Half a second of noise in each container, small so that changes meet what matters."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    sound = rng.integers(-3000, 3000, 12 * 640, dtype=np.int16)
    folder = tmp_path_factory.mktemp("whole")
    codecs = {".avi": "pcm_s16le"}
    return Whole(
        (
            suffix,
            write_video(
                folder / f"whole{suffix}", pictures, sound, sound_codec=codecs.get(suffix, "aac")
            ).read_bytes(),
        )
        for suffix in SUFFIXES
    )


@settings(deadline=None, max_examples=500)
@given(data=st.data())
def test_any_bytes_as_a_video(
    whole: Whole, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(SUFFIXES))
    content = data.draw(mutations(whole[suffix]))
    check_video(content, suffix, tmp_path_factory.getbasetemp())


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_bytes_as_a_video_to_mend(
    whole: Whole, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(SUFFIXES))
    content = data.draw(mutations(whole[suffix]))
    check_copy(content, suffix, tmp_path_factory.mktemp("mend"))


def test_codecs_that_nobody_knows_are_named(whole: Whole, tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    for place, what in ((b"vids", "picture"), (b"auds", "sound")):
        at = whole[".avi"].index(b"strf", whole[".avi"].index(place))
        # the codec's number: of pictures in four letters, of sound in two bytes
        at += 8 + (16 if what == "picture" else 0)
        content = whole[".avi"]
        path.write_bytes(content[:at] + b"\xee\xee" + content[at + 2 :])
        with pytest.raises(VideoError, match=f"unknown codec: no decoder is known for its {what}"):
            Video(path)
