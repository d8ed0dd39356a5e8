"""Finding clips and their sources, ordering frames, and refusing what cannot be trained on."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import soundfile

from data_tools.clip_data import load_clip
from data_tools.clips import Clip, ClipError, find_clips, frame_files, natural_key
from data_tools.jpeg import Conversion, decode_jpeg
from data_tools.mfcc import mfcc
from data_tools.records import RecordError

MakeClip = Callable[..., Path]


def as_clip(folder: Path) -> Clip:
    return Clip(folder.name, folder, None, folder.name)


def rewrite_audio(folder: Path, samples: int) -> None:
    """Repeat or cut the clip's sound to `samples`."""
    audio, rate = soundfile.read(folder / "audio.wav", dtype="int16")
    soundfile.write(folder / "audio.wav", np.resize(audio, samples), rate, subtype="PCM_16")


def replace_wav_by_npy(folder: Path, bins: int) -> None:
    """Store the sound as the seed's overlapping MFCC windows, without the wav."""
    features = mfcc(soundfile.read(folder / "audio.wav", dtype="int16")[0])
    windows = [features[4 * i : 4 * i + 20].T[None] for i in range(bins)]
    np.save(folder / "audio.npy", np.stack(windows))
    (folder / "audio.wav").unlink()


def empty_clip(folder: Path) -> None:
    (folder / "frames").mkdir(parents=True)


def test_clips_are_found_at_any_depth_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("clip10", "clip9", "train/a", "video/shot/b", ".hidden/c", "no_clip/d"):
        if name != "no_clip/d":
            empty_clip(tmp_path / name)
        else:
            (tmp_path / name).mkdir(parents=True)
    found = find_clips(tmp_path)
    assert [clip.name for clip in found] == ["clip9", "clip10", "train/a", "video/shot/b"]
    assert [clip.split for clip in found] == [None, None, "train", None]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("clip", "clip"),
        ("video/clip", "video"),
        ("speaker/video/clip", "speaker/video"),
        ("train/video/clip", "video"),
        ("train/clip", "train/clip"),
        ("train", "train"),
    ],
)
def test_source_is_the_folder_above_the_clip_or_the_clip(
    tmp_path: Path, name: str, source: str
) -> None:
    empty_clip(tmp_path / name)
    assert find_clips(tmp_path)[0].source == source


def test_source_pattern_names_the_source_by_its_group(tmp_path: Path) -> None:
    empty_clip(tmp_path / "s1_bbaf2n_0")
    assert find_clips(tmp_path, "^(s[0-9]+)_")[0].source == "s1"


def test_clip_json_goes_before_the_source_pattern(tmp_path: Path) -> None:
    empty_clip(tmp_path / "s1_a")
    (tmp_path / "s1_a" / "clip.json").write_text(json.dumps({"source": "talk.mp4"}))
    assert find_clips(tmp_path, "^(s[0-9]+)_")[0].source == "talk.mp4"


@pytest.mark.parametrize("text", ["{}", "[]", "not json", ""])
def test_clip_json_without_a_source_is_refused(tmp_path: Path, text: str) -> None:
    empty_clip(tmp_path / "a")
    (tmp_path / "a" / "clip.json").write_text(text)
    with pytest.raises(RecordError, match=r'clip\.json is not JSON with a "source"'):
        find_clips(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "no regular expression"),
        ("a", "exactly one group"),
        ("(a)(b)", "exactly one group"),
        ("(zzz)", "matches nothing"),
        ("(zzz)?clip", "matches nothing"),
    ],
)
def test_useless_source_pattern_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    empty_clip(tmp_path / "clip")
    with pytest.raises(ValueError, match=message):
        find_clips(tmp_path, pattern)


def test_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no clip"):
        find_clips(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        find_clips(tmp_path / "absent")


def test_natural_order_puts_frame10_after_frame9() -> None:
    names = ["frame10", "frame9", "a", "frame009b", "9"]
    assert sorted(names, key=natural_key) == ["9", "a", "frame9", "frame009b", "frame10"]


def test_frames_come_in_the_order_of_their_numbers(make_clip: MakeClip, tmp_path: Path) -> None:
    files = frame_files(as_clip(make_clip(tmp_path / "a", frames=12)))
    assert [file.name for file in files] == [f"frame{number}.jpg" for number in range(12)]


def test_frames_may_start_at_any_number_and_carry_zeros(tmp_path: Path) -> None:
    empty_clip(tmp_path / "a")
    for number in range(7, 11):
        (tmp_path / "a" / "frames" / f"{number:06d}.JPEG").touch()
    (tmp_path / "a" / "frames" / "notes.txt").touch()
    names = [file.name for file in frame_files(as_clip(tmp_path / "a"))]
    assert names == ["000007.JPEG", "000008.JPEG", "000009.JPEG", "000010.JPEG"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no frames"),
        (["cover.jpg"], "frame without a number"),
        (["frame1.jpg", "frame01.jpg"], "frame doubled"),
        (["frame0.jpg", "frame2.jpg"], "frame missing"),
    ],
)
def test_frames_that_cannot_be_ordered_are_refused(
    tmp_path: Path, names: list[str], reason: str
) -> None:
    empty_clip(tmp_path / "a")
    for name in names:
        (tmp_path / "a" / "frames" / name).touch()
    with pytest.raises(ClipError) as error:
        frame_files(as_clip(tmp_path / "a"))
    assert error.value.reason == reason


def test_loaded_clip_holds_the_files_bytes_and_the_sound(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    folder = make_clip(tmp_path / "a", frames=30, size=32)
    data = load_clip(as_clip(folder))
    assert (data.height, data.width, data.channels) == (32, 32, 3)
    assert data.jpegs[10] == (folder / "frames" / "frame10.jpg").read_bytes()
    audio = soundfile.read(folder / "audio.wav", dtype="int16")[0]
    np.testing.assert_array_equal(data.audio, audio)
    np.testing.assert_array_equal(data.mfcc, mfcc(audio))


def test_audio_npy_without_wav_gives_the_wavs_mfcc(make_clip: MakeClip, tmp_path: Path) -> None:
    by_wav = load_clip(as_clip(make_clip(tmp_path / "wav")))
    replace_wav_by_npy(make_clip(tmp_path / "npy"), bins=25)
    by_npy = load_clip(as_clip(tmp_path / "npy"))
    assert by_npy.audio is None
    np.testing.assert_array_equal(by_npy.mfcc, by_wav.mfcc[: 4 * 24 + 20])


@pytest.mark.parametrize("sound", [28, 29, 31, 32])
def test_two_frames_between_sound_and_picture_pass(
    make_clip: MakeClip, tmp_path: Path, sound: int
) -> None:
    folder = make_clip(tmp_path / "a", frames=30)
    rewrite_audio(folder, sound * 640)
    assert len(load_clip(as_clip(folder)).jpegs) == 30


@pytest.mark.parametrize("sound", [27, 33])
def test_three_frames_between_sound_and_picture_fail(
    make_clip: MakeClip, tmp_path: Path, sound: int
) -> None:
    folder = make_clip(tmp_path / "a", frames=30)
    rewrite_audio(folder, sound * 640)
    with pytest.raises(ClipError, match=f"30 frames of picture, {sound} of sound") as error:
        load_clip(as_clip(folder))
    assert error.value.reason == "length mismatch"


def test_mismatch_is_also_found_by_audio_npy(make_clip: MakeClip, tmp_path: Path) -> None:
    replace_wav_by_npy(make_clip(tmp_path / "a", frames=30), bins=22)
    with pytest.raises(ClipError, match="length mismatch"):
        load_clip(as_clip(tmp_path / "a"))


def npy_with_header(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no npy",
        b"\x93NUMPY",
        b"PK\x03\x04",
        npy_with_header(b"{'descr': '<f4', 'shape': (31( 13), }"),
    ],
)
def test_unreadable_audio_npy_is_refused(
    make_clip: MakeClip, tmp_path: Path, content: bytes
) -> None:
    folder = make_clip(tmp_path / "a")
    (folder / "audio.wav").unlink()
    (folder / "audio.npy").write_bytes(content)
    with pytest.raises(ClipError, match="unreadable audio"):
        load_clip(as_clip(folder))


def test_features_that_are_not_finite_are_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "a", frames=5)
    (folder / "audio.wav").unlink()
    np.save(folder / "audio.npy", np.full((1, 1, 13, 20), np.inf, np.float32))
    with pytest.raises(ClipError, match="bad MFCC"):
        load_clip(as_clip(folder))


def test_five_frames_are_long_enough_four_are_not(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "five", frames=5)
    rewrite_audio(folder, 6 * 640)
    assert len(load_clip(as_clip(folder)).jpegs) == 5
    with pytest.raises(ClipError, match="too short"):
        load_clip(as_clip(make_clip(tmp_path / "four", frames=4)))


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"GIF89a", b"\x00" * 500])
def test_what_is_no_jpeg_is_a_corrupt_jpeg(content: bytes) -> None:
    with pytest.raises(ClipError) as error:
        decode_jpeg(content, "frame0.jpg")
    assert error.value.reason == "corrupt JPEG"
    assert "frame0.jpg" in error.value.detail


def test_truncation_is_noticed_however_late_it_comes(make_clip: MakeClip, tmp_path: Path) -> None:
    jpeg = (make_clip(tmp_path / "a", frames=1) / "frames" / "frame0.jpg").read_bytes()
    for kept in (len(jpeg) // 2, len(jpeg) - 2):
        with pytest.raises(ClipError, match="truncated JPEG"):
            decode_jpeg(jpeg[:kept], "frame0.jpg")


def test_gray_jpeg_decodes_to_one_channel() -> None:
    gray = np.full((16, 24, 1), 77, np.uint8)
    pixels = decode_jpeg(simplejpeg.encode_jpeg(gray, 95, "GRAY", "Gray"), "g")
    np.testing.assert_array_equal(pixels, gray)


@pytest.mark.parametrize(
    ("conversion", "shape"),
    [
        (Conversion(size=16), (16, 16, 3)),
        (Conversion(size=48), (48, 48, 3)),
        (Conversion(gray=True), (32, 32, 1)),
        (Conversion(size=16, gray=True), (16, 16, 1)),
        (Conversion(quality=10), (32, 32, 3)),
    ],
)
def test_conversion_gives_frames_of_the_asked_shape(
    make_clip: MakeClip, tmp_path: Path, conversion: Conversion, shape: tuple[int, int, int]
) -> None:
    data = load_clip(as_clip(make_clip(tmp_path / "a", frames=6)), conversion)
    assert (data.height, data.width, data.channels) == shape
    assert {decode_jpeg(jpeg, "x").shape for jpeg in data.jpegs} == {shape}


def test_lower_quality_gives_smaller_frames(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = as_clip(make_clip(tmp_path / "a", frames=6))
    low, high = (load_clip(clip, Conversion(quality=quality)) for quality in (20, 95))
    assert sum(map(len, low.jpegs)) < 0.5 * sum(map(len, high.jpegs))


def test_clip_error_crosses_process_boundaries() -> None:
    error = pickle.loads(pickle.dumps(ClipError("no audio", "neither")))
    assert (error.reason, error.detail, str(error)) == ("no audio", "neither", "no audio: neither")
