"""Videos that are crops already: taken as they are, or the face found once a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from data_tools.errors import UsageError
from data_tools.video.cut_clips import CutVideo, cut_video
from data_tools.video.faces import Face, open_detector
from data_tools.video.options import PrepareOptions
from data_tools.video.stages import StageClock
from data_tools.video.verdicts import KeptClip
from videos import head, write_video

calls: list[int] = []


class Counting:
    """The default detector, with its calls counted."""

    def __init__(self) -> None:
        self.inner = open_detector("libfacedetection")

    def detect(self, pictures: list[NDArray[np.uint8]]) -> list[list[Face]]:
        calls.append(len(pictures))
        return self.inner.detect(pictures)


Clips = dict[str, tuple[NDArray[np.uint8], KeptClip]]


def cut(path: Path, work: Path, options: PrepareOptions) -> tuple[Clips, CutVideo]:
    clips: Clips = {}

    def take(clip: KeptClip) -> None:
        colours = "GRAY" if options.gray else "RGB"
        frames = [simplejpeg.decode_jpeg(jpeg, colours) for jpeg in clip.jpegs]
        clips[clip.item] = np.stack(frames), clip

    done = cut_video(path, "v", work, options, take, 1, lambda: None, None, StageClock({}))
    return clips, done


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    """Two heads one after the other, 112 x 112, 25 pictures each."""
    one, sound = head(1, 25, 112)
    other, more = head(5, 25, 112)
    pictures = np.concatenate([one, 255 - other])
    path = tmp_path_factory.mktemp("fixed") / "two.mp4"
    return write_video(path, pictures, np.concatenate([sound, more])), pictures


def test_a_whole_picture_is_taken_as_it_is_and_ends_at_a_cut(
    two: tuple[Path, NDArray[np.uint8]], tmp_path: Path
) -> None:
    path, pictures = two
    options = PrepareOptions(crop="whole", size=112, min_frames=10, quality=95)
    clips, done = cut(path, tmp_path, options)
    assert [len(frames) for frames, _ in clips.values()] == [25, 25]
    seen = np.concatenate([frames for frames, _ in clips.values()])
    assert np.abs(seen.astype(int) - pictures).mean() < 6
    about = clips["000-00"][1].about
    assert (about["crop"], about["confidence"], about["face_size"]) == ("whole", None, None)
    assert all(row.kept for row in done.rows)
    whole, _ = cut(path, tmp_path, PrepareOptions(crop="whole", no_shots=True, min_frames=10))
    assert [frames.shape for frames, _ in whole.values()] == [(50, 224, 224, 3)]


def test_without_speech_no_share_of_it_is_known_and_the_clips_are_the_same(
    two: tuple[Path, NDArray[np.uint8]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = two
    common = {"crop": "whole", "size": 64, "min_frames": 10}
    with_it, done = cut(path, tmp_path, PrepareOptions(**common))
    assert all(row.speech is not None for row in done.rows if row.level == "clip")
    monkeypatch.setattr("data_tools.video.verdicts.speech_share", None)  # is not even called
    without, done = cut(path, tmp_path, PrepareOptions(no_speech=True, **common))
    assert [row.speech for row in done.rows] == [None] * len(done.rows)
    assert without.keys() == with_it.keys()
    for item, (frames, clip) in without.items():
        assert (frames == with_it[item][0]).all()
        assert (clip.audio == with_it[item][1].audio).all()
        assert clip.about == with_it[item][1].about | {"speech": None}


def test_gray_is_the_luma_of_the_picture(
    two: tuple[Path, NDArray[np.uint8]], tmp_path: Path
) -> None:
    path, pictures = two
    options = PrepareOptions(crop="whole", size=112, gray=True, min_frames=10)
    clips, _ = cut(path, tmp_path, options)
    luma = pictures[:25] @ np.array([0.299, 0.587, 0.114])
    frames = clips["000-00"][0]
    assert frames.shape == (25, 112, 112, 1)
    assert np.abs(frames[..., 0] - luma).mean() < 4


def test_a_box_is_that_part(two: tuple[Path, NDArray[np.uint8]], tmp_path: Path) -> None:
    path, pictures = two
    options = PrepareOptions(crop="whole", box=(28, 56, 56, 56), size=56, min_frames=10)
    clips, _ = cut(path, tmp_path, options)
    expected = pictures[:25, 56:112, 28:84]
    assert np.abs(clips["000-00"][0].astype(int) - expected).mean() < 8
    beyond = PrepareOptions(crop="whole", box=(80, 80, 56, 56), min_frames=10)
    clips, done = cut(path, tmp_path, beyond)
    assert not clips
    assert done.rows[0].detail == "the picture is 112x112, --box reaches to 136,136"


def test_the_middle_of_a_picture_that_is_no_square(tmp_path: Path) -> None:
    pictures, sound = head(2, 25, 96)
    wide = np.pad(pictures, ((0, 0), (0, 0), (32, 32), (0, 0)))
    path = write_video(tmp_path / "wide.mp4", wide, sound)
    clips, _ = cut(path, tmp_path, PrepareOptions(crop="whole", size=96, min_frames=10))
    assert np.abs(clips["000-00"][0].astype(int) - pictures).mean() < 8


def test_the_mouth_is_found_once_a_clip_where_following_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, sound = head(3, 100, 160)
    path = write_video(tmp_path / "face.mp4", pictures, sound)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    common = {"crop": "mouth", "size": 64, "gray": True, "detector": "test_fixed:Counting"}
    followed, _ = cut(path, tmp_path, PrepareOptions(**common))
    import test_fixed

    test_fixed.calls.clear()
    fixed, _ = cut(path, tmp_path, PrepareOptions(face_crops=True, **common))
    assert sum(test_fixed.calls) == 3
    one, other = fixed["000-00"][0].astype(int), followed["000-00"][0]
    assert one.shape == other.shape == (100, 64, 64, 1)
    assert np.abs(one - other).mean() < 30  # heads sway; the place is that of the first seconds
    sizes = [found["000-00"][1].about["face_size"] for found in (fixed, followed)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)
    assert 0.6 < (fixed["000-00"][1].about["confidence"] or 0) <= 1


def test_of_a_clip_shorter_than_two_seconds_one_picture_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "short.mp4", *head(3, 30, 160))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import test_fixed

    test_fixed.calls.clear()
    options = PrepareOptions(
        crop="mouth", face_crops=True, min_frames=20, detector="test_fixed:Counting"
    )
    clips, _ = cut(path, tmp_path, options)
    assert test_fixed.calls == [1] and len(clips["000-00"][0]) == 30


def test_a_crop_without_a_face_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", np.full((30, 64, 64, 3), 90, np.uint8), head(1, 30)[1])
    clips, done = cut(path, tmp_path, PrepareOptions(crop="mouth", face_crops=True, min_frames=10))
    assert not clips and done.rows[0].detail == "no face found"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PrepareOptions(box=(0, 0, 64, 64)), "needs --crop whole"),
        (PrepareOptions(crop="whole", box=(0, 0, 64, 32)), "must be square"),
        (PrepareOptions(crop="whole", box=(-1, 0, 64, 64)), "must be square"),
        (PrepareOptions(no_shots=True), "--no-shots needs --crop whole or --face-crops"),
        (PrepareOptions(no_speech=True, min_speech=0.1), "which --no-speech leaves out"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: PrepareOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options.check()
