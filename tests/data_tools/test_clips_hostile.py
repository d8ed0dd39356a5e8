"""Clips from outside: sound in every form, pictures and arrays that claim what they are not."""

from __future__ import annotations

import base64
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import soundfile
from hypothesis import HealthCheck, given, settings

import hostile_clips as hostile
from data_tools import clip_data, clips
from data_tools.clip_data import ClipData, load_clip
from data_tools.clips import Clip, ClipError, find_clips, frame_files
from data_tools.jpeg import Conversion, decode_jpeg, jpeg_size
from data_tools.mfcc import mfcc
from data_tools.sound import read_npy

MakeClip = Callable[..., Path]
FRAMES = 30


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Path:
    """A clip of 30 frames to change."""
    return make_clip(tmp_path / "clip", frames=FRAMES)


def loaded(folder: Path) -> ClipData:
    return load_clip(Clip(folder.name, folder, None, folder.name))


def refused(folder: Path) -> ClipError:
    with pytest.raises(ClipError) as error:
        loaded(folder)
    return error.value


# --- sound


def speech() -> np.ndarray:
    """30 frames of sound whose last samples are the extremes of 16 bit."""
    audio = np.random.default_rng(0).normal(0, 3000, FRAMES * 640).astype(np.int16)
    audio[-4:] = [32767, -32768, 1, -1]
    return audio


def write(folder: Path, samples: np.ndarray, subtype: str, format: str = "WAV") -> None:
    content = hostile.wav_bytes(samples, subtype, format)
    (folder / "audio.wav").write_bytes(content)


@pytest.mark.parametrize(
    ("subtype", "format", "within"),
    [
        ("FLOAT", "WAV", 0),
        ("DOUBLE", "WAV", 0),
        ("PCM_16", "WAV", 0),
        ("PCM_24", "WAV", 0),
        ("PCM_32", "WAV", 0),
        ("PCM_U8", "WAV", 256),
        ("ULAW", "WAV", 1024),
        ("ALAW", "WAV", 1024),
        ("FLOAT", "WAVEX", 0),
        ("DOUBLE", "RF64", 0),
        ("FLOAT", "W64", 0),
        ("PCM_16", "FLAC", 0),
        ("PCM_24", "FLAC", 0),
        ("FLOAT", "AIFF", 0),
        ("PCM_16", "AIFF", 0),
        ("FLOAT", "AU", 0),
        ("DOUBLE", "CAF", 0),
        ("ALAC_16", "CAF", 0),
    ],
)
def test_the_same_sound_in_any_form_gives_the_same_samples(
    clip: Path, subtype: str, format: str, within: int
) -> None:
    audio = speech()
    write(clip, audio / 32768 if subtype in ("FLOAT", "DOUBLE") else audio, subtype, format)
    data = loaded(clip)
    assert data.audio is not None
    assert np.abs(data.audio.astype(int) - audio).max() <= within
    if within == 0:
        np.testing.assert_array_equal(data.mfcc, mfcc(audio))


def test_big_endian_float_wav_is_read_as_well(clip: Path) -> None:
    audio = speech()
    path = clip / "audio.wav"
    soundfile.write(path, audio / 32768, 16_000, subtype="FLOAT", endian="BIG")
    assert path.read_bytes()[:4] == b"RIFX"
    np.testing.assert_array_equal(loaded(clip).audio, audio)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_compressed_sound_is_near_the_original_and_does_not_wrap(clip: Path, subtype: str) -> None:
    beat = 30_000 * np.sin(np.arange(FRAMES * 640) * 0.05)
    write(clip, beat / 32768, subtype, "OGG")
    audio = loaded(clip).audio
    assert audio is not None
    assert np.corrcoef(audio, beat)[0, 1] > 0.99


def test_lower_bits_of_integers_go_and_floats_are_rounded_as_in_prepare(clip: Path) -> None:
    fine = np.random.default_rng(0).integers(-(2**29), 2**29, FRAMES * 640, dtype=np.int32)
    write(clip, fine, "PCM_32")
    np.testing.assert_array_equal(loaded(clip).audio, fine >> 16)
    write(clip, fine / 2**31, "DOUBLE")
    np.testing.assert_array_equal(loaded(clip).audio, np.rint(fine / 65536))


@pytest.mark.parametrize("peak", [1.001, 2.0, 3.9])
def test_levels_a_little_beyond_full_scale_are_clipped_as_players_do(
    clip: Path, peak: float
) -> None:
    loud = peak * np.sin(np.arange(FRAMES * 640) * 0.05)
    write(clip, loud, "FLOAT")
    np.testing.assert_array_equal(
        loaded(clip).audio, np.clip(np.rint(loud.astype(np.float32) * 32768.0), -32768, 32767)
    )


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("scale", [32768, 2**31 / 100, 8, 1e300])
def test_magnitudes_of_integers_stored_as_float_are_refused_with_the_remedy(
    clip: Path, subtype: str, scale: float
) -> None:
    if subtype == "FLOAT" and scale > 1e30:
        pytest.skip("a float holds no such number")
    write(clip, speech() / 32768 * scale, subtype)
    error = refused(clip)
    assert error.reason == "audio levels"
    assert "divide" in error.detail and "32768" in error.detail


def test_quiet_magnitudes_of_integers_are_told_by_being_whole(clip: Path) -> None:
    write(clip, np.random.default_rng(0).integers(-1, 2, FRAMES * 640) * 1.0, "FLOAT")
    assert refused(clip).reason == "audio levels"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(clip: Path, value: float) -> None:
    audio = speech() / 32768
    audio[1234] = value
    write(clip, audio, "FLOAT")
    error = refused(clip)
    assert error.reason == "audio levels" and "NaN or infinite" in error.detail


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_digital_silence_is_left_out(clip: Path, subtype: str) -> None:
    write(clip, np.zeros(FRAMES * 640), subtype)
    assert refused(clip).reason == "silent"


def test_silent_audio_npy_is_left_out(clip: Path) -> None:
    (clip / "audio.wav").unlink()
    np.save(clip / "audio.npy", np.full((26, 1, 13, 20), -36.0, np.float32))
    assert refused(clip).reason == "silent"


@pytest.mark.parametrize(
    ("samples", "subtype"),
    [
        (np.random.default_rng(0).integers(-1, 2, FRAMES * 640).astype(np.int16), "PCM_16"),
        # 16-bit magnitudes in a file of 32 bits, as scipy writes int32
        (np.random.default_rng(0).integers(-9000, 9000, FRAMES * 640, np.int32), "PCM_32"),
    ],
    ids=["cast without a scale", "wide"],
)
def test_sound_that_was_scaled_away_is_silent(
    clip: Path, samples: np.ndarray, subtype: str
) -> None:
    write(clip, samples, subtype)
    assert refused(clip).reason == "silent"


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_32"])
def test_wave64_whose_floats_cannot_be_told_is_refused(clip: Path, subtype: str) -> None:
    audio = speech() / 32768
    write(clip, audio, "FLOAT", "W64")
    assert loaded(clip).audio is not None
    # As FFmpeg writes it: the format "extensible", its second half says what the samples are.
    kind = 3 if subtype == "FLOAT" else 1
    rest = struct.pack("<HHI", 32, 4, 4) + struct.pack("<H", kind)
    rest += bytes.fromhex("000000001000800000aa00389b71")
    body = struct.pack("<HHIIHH", 0xFFFE, 1, 16_000, 64_000, 4, 32)
    body += struct.pack("<HHI", 22, 32, 4) + rest[8:]
    guid = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    samples = audio.astype("<f4").tobytes()
    chunks = b"fmt " + guid + struct.pack("<Q", 24 + len(body)) + body
    chunks += b"data" + guid + struct.pack("<Q", 24 + len(samples)) + samples
    riff = bytes.fromhex("726966662e91cf11a5d628db04c10000")
    head = riff + struct.pack("<Q", 40 + len(chunks)) + b"wave" + guid
    (clip / "audio.wav").write_bytes(head + chunks)
    assert "store it as WAV" in refused(clip).detail


def test_one_sample_is_no_silence(clip: Path) -> None:
    audio = np.zeros(FRAMES * 640, np.int16)
    audio[5000] = 2
    write(clip, audio, "PCM_16")
    assert loaded(clip).audio is not None


def test_truncated_wav_is_told_by_its_length(clip: Path) -> None:
    path = clip / "audio.wav"
    path.write_bytes(path.read_bytes()[: 44 + 2 * 20 * 640])
    assert "30 frames of picture, 20 of sound" in refused(clip).detail


@pytest.mark.parametrize(
    ("at", "layout", "value", "words"),
    [
        (24, "<I", 1_000_000_000, "at 1000000000 Hz"),
        (22, "<H", 1000, "1000 channels"),
        (22, "<H", 0, "unreadable audio"),
    ],
)
def test_a_header_that_claims_too_much_is_refused(
    clip: Path, at: int, layout: str, value: int, words: str
) -> None:
    path = clip / "audio.wav"
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, at, value)
    if at == 22:  # the block's size must fit the channels
        struct.pack_into("<H", content, 32, 2 * value)
    path.write_bytes(content)
    assert words in str(refused(clip))


def test_data_size_that_is_not_known_is_read_to_the_end(clip: Path) -> None:
    path = clip / "audio.wav"  # as sox and ffmpeg write to a pipe
    content = bytearray(path.read_bytes())
    for at in (4, 40):
        struct.pack_into("<I", content, at, 0xFFFFFFFF)
    path.write_bytes(content)
    audio = loaded(clip).audio
    assert audio is not None and len(audio) == FRAMES * 640


def test_hours_of_sound_for_thirty_frames_are_not_read(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip / "audio.wav"
    soundfile.write(path, np.zeros(0, np.int16), 16_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    size = 2_000_000_000
    struct.pack_into("<I", content, 4, size + 36)
    struct.pack_into("<I", content, 40, size)
    path.write_bytes(content)
    os.truncate(path, 44 + size)  # a hole: no room on the disk
    asked: list[int] = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda sound, frames, **rest: asked.append(frames) or read(sound, frames, **rest),
    )
    assert "30 frames of picture, 1562500 of sound" in refused(clip).detail
    assert max(asked) <= 33 * 640 + 1


# --- pictures


def jpeg(height: int = 32, width: int = 32) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return simplejpeg.encode_jpeg(pixels, 90)


def resized_header(content: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header says another size."""
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


def with_segment(content: bytes, marker: int, body: bytes) -> bytes:
    return content[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + content[2:]


def exif(orientation: int, order: str = "<") -> bytes:
    """The body of an APP1 segment that says how a picture is to be turned."""
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2)
    tiff += struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 7, 0)
    tiff += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + tiff + b"\0\0\0\0"


def reason_of(content: bytes) -> str:
    with pytest.raises(ClipError) as error:
        decode_jpeg(content, "frame3.jpg")
    assert "frame3.jpg" in error.value.detail
    return error.value.reason


@pytest.mark.parametrize(
    ("height", "width"), [(65_500, 65_500), (4097, 32), (32, 4097), (65_500, 1)]
)
def test_a_header_with_a_huge_size_is_refused_before_it_is_decoded(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(ClipError, match=f"is {width}x{height}; a side may have 4096") as error:
        decode_jpeg(resized_header(jpeg(), height, width), "frame3.jpg")
    assert error.value.reason == "picture too large"


def test_the_largest_size_is_taken() -> None:
    assert decode_jpeg(jpeg(4096, 8), "frame3.jpg").shape == (4096, 8, 3)


def test_whatever_the_decoder_raises_is_a_corrupt_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*args: object, **kwargs: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", no_memory)
    assert reason_of(jpeg()) == "corrupt JPEG"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_that_exif_turns_are_refused(orientation: int, order: str) -> None:
    content = with_segment(jpeg(), 0xE1, exif(orientation, order))
    if orientation in (0, 1, 9):  # upright, or no such orientation
        assert decode_jpeg(content, "frame3.jpg").shape == (32, 32, 3)
    else:
        assert reason_of(content) == "turned picture"


@pytest.mark.parametrize("cut", range(6, 38, 3))
def test_damaged_exif_is_passed_over(cut: int) -> None:
    assert decode_jpeg(with_segment(jpeg(), 0xE1, exif(6)[:cut]), "x").shape == (32, 32, 3)


def test_print_colours_are_refused() -> None:
    cmyk = base64.b64decode(  # 8x8, made with Pillow
        "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwD////////////////////////////////////////////////////////"
        "//////////////////////////////8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAAB"
        "AgMEBQYHCAkKC//EALUQAAIBAwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNi"
        "coIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SV"
        "lpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4E"
        "QwBNAFkASwAAPwCSn0+n1//Z"
    )
    assert reason_of(cmyk) == "colours for print"


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tiff"])
def test_other_pictures_called_jpg_are_no_jpeg(suffix: str) -> None:
    content = cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    assert reason_of(content) == "corrupt JPEG"
    assert jpeg_size(np.frombuffer(content, np.uint8)) is None


@pytest.mark.parametrize("marker", [0xC3, 0xC9, 0xCB], ids=["lossless", "arithmetic", "both"])
def test_coding_that_is_not_what_it_claims_is_refused(marker: int) -> None:
    content = jpeg()
    at = content.index(b"\xff\xc0")
    assert reason_of(content[: at + 1] + bytes([marker]) + content[at + 2 :]) in (
        "corrupt JPEG",
        "truncated JPEG",
    )


@pytest.mark.parametrize("at", [4, 5, 7, 9], ids=["precision", "height", "width", "components"])
@pytest.mark.parametrize("value", [0, 2, 12])
def test_impossible_headers_are_refused(at: int, value: int) -> None:
    content = bytearray(jpeg())
    sof = content.index(b"\xff\xc0")
    content[sof + at] = value
    if at in (5, 7):
        content[sof + at + 1] = 0
    if at in (5, 7) and value:
        return  # a size that its data do not fill, which the strict decoder refuses: fuzzed below
    assert reason_of(bytes(content)) in ("corrupt JPEG", "truncated JPEG")


def test_a_picture_of_hundreds_of_scans_is_refused() -> None:
    progressive = cv2.imencode(
        ".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    )[1].tobytes()
    assert decode_jpeg(progressive, "x").shape == (64, 64, 3)
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    assert reason_of(progressive[:-2] + 100 * last + progressive[-2:]) == "corrupt JPEG"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content + b"x" * 100_000,
        lambda content: with_segment(content, 0xFE, b"c" * 65_533),
        lambda content: with_segment(content, 0xE2, b"\xff\xc0" * 1000),
        lambda content: content[:2] + b"\xff\xff\xff" + content[2:],
        lambda content: content[:2] + b"\xff\xe0\0\0\xff\xe2\0\1" + content[2:],
    ],
    ids=["trailing", "comment", "frame header in a segment", "fill", "segments of no length"],
)
def test_what_surrounds_a_picture_does_not_matter(change: Callable[[bytes], bytes]) -> None:
    content = change(jpeg(24, 40))
    np.testing.assert_array_equal(decode_jpeg(content, "x"), decode_jpeg(jpeg(24, 40), "x"))
    found = jpeg_size(np.frombuffer(content, np.uint8))
    assert found is not None and found[:2] == (24, 40)


def test_conversion_has_the_same_bounds(clip: Path) -> None:
    (clip / "frames" / "frame3.jpg").write_bytes(resized_header(jpeg(), 65_500, 65_500))
    with pytest.raises(ClipError, match="picture too large"):
        load_clip(find_clips(clip.parent)[0], Conversion(size=16, gray=True))


# --- files that are no files


@pytest.mark.parametrize("name", ["frames/frame3.jpg", "audio.wav", "audio.npy"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket", "link to a pipe"])
def test_what_is_no_plain_file_is_refused_and_does_not_hang(
    clip: Path, name: str, kind: str
) -> None:
    (clip / "audio.wav").rename(clip / "sound")
    if name != "audio.wav" and name != "audio.npy":
        (clip / "sound").rename(clip / "audio.wav")
    file = clip / name
    file.unlink(missing_ok=True)
    if kind == "folder":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "socket":
        os.mknod(file, 0o140644)
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        os.mkfifo(clip / "pipe")
        file.symlink_to(clip / "pipe")
    error = refused(clip)
    assert error.reason == "not a file" and name in error.detail


@pytest.mark.parametrize("target", ["nowhere", "frame3.jpg"], ids=["dangling", "loop"])
def test_links_to_nothing_are_refused(clip: Path, target: str) -> None:
    file = clip / "frames" / "frame3.jpg"
    file.unlink()
    file.symlink_to(target)
    error = refused(clip)
    assert error.reason == "unreadable file" and "frames/frame3.jpg" in error.detail


def test_a_frame_of_gigabytes_is_not_read(clip: Path) -> None:
    os.truncate(clip / "frames" / "frame3.jpg", 2 << 30)  # a hole
    assert refused(clip).reason == "file too large"


def test_a_clip_of_too_many_frames_or_bytes_is_refused(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_data, "_MAX_CLIP_BYTES", 10_000)
    assert refused(clip).reason == "too long"
    monkeypatch.setattr(clips, "MAX_FRAMES", FRAMES - 1)
    assert "30 frames" in refused(clip).detail


@pytest.mark.parametrize("digits", ["9" * 200, "१२३", "0" * 150 + "3"])
def test_numbers_of_any_length_and_script_are_numbers(tmp_path: Path, digits: str) -> None:
    (tmp_path / "a" / "frames").mkdir(parents=True)
    (tmp_path / "a" / "frames" / f"frame{digits}.jpg").touch()
    assert len(frame_files(find_clips(tmp_path)[0])) == 1


def test_names_of_frames_that_are_no_utf8_are_reported_in_letters(clip: Path) -> None:
    os.rename(clip / "frames" / "frame3.jpg", os.fsencode(clip / "frames") + b"/\xff.jpg")
    error = refused(clip)
    assert error.detail == r"frames/\xff.jpg"


# --- arrays


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def described(shape: str, dtype: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


HEADERS = {
    "shape": npy(described("(1000000000, 1, 13, 20)"), b"\0" * 1040),
    "overflow": npy(described(f"({2**62}, {2**62}, 13, 20)")),
    "negative": npy(described("(-1, 1, 13, 20)"), b"\0" * 1040),
    "two negatives": npy(described("(-1, -1, 13, 20)"), b"\0" * 1040),
    "object": npy(described("(1, 1, 13, 20)", "'|O'"), b"\0" * 2080),
    "structured": npy(described("(1, 1, 13, 20)", "[('a', '<f4')]"), b"\0" * 1040),
    "text": npy(described("(1, 1, 13, 20)", "'<U500000000'")),
    "complex": npy(described("(1, 1, 13, 20)", "'<c8'"), b"\0" * 2080),
    "time": npy(described("(1, 1, 13, 20)", "'<M8[s]'"), b"\0" * 2080),
    "no dtype": npy(described("(1, 1, 13, 20)", "'zz'"), b"\0" * 2080),
    "parentheses": npy("(" * 5000 + ")" * 5000),
    "signs": npy("{'descr': '<f4', 'shape': " + "-" * 9000 + "1}"),
    "long header": npy("{" + " " * 50_000 + "}"),
    "header of 2 GB": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{}",
    "version 9": npy(described("(1, 1, 13, 20)"), b"\0" * 1040, (9, 0)),
    "true": npy(described("(True, True, 13, 20)"), b"\0" * 1040),
    "false": npy(described("(False, True, 13, 20)")),
    "cut": npy(described("(1, 1, 13, 20)"), b"\0" * 1039),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_arrays_are_not_believed_beyond_their_bytes(clip: Path, content: bytes) -> None:
    (clip / "audio.wav").unlink()
    (clip / "audio.npy").write_bytes(content)
    error = refused(clip)
    assert error.reason == "unreadable audio" and error.detail.startswith("audio.npy: ")
    assert len(error.detail) < 200
    with pytest.raises(ValueError):
        read_npy(content)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_in_any_byte_order_and_layout_are_read(clip: Path, dtype: str, order: str) -> None:
    features = mfcc(soundfile.read(clip / "audio.wav", dtype="int16")[0])
    bins = np.stack([features[4 * i : 4 * i + 20].T[None] for i in range(25)])
    np.save(clip / "audio.npy", np.array(bins, dtype, order=order))  # type: ignore[call-overload]
    (clip / "audio.wav").unlink()
    np.testing.assert_array_equal(loaded(clip).mfcc, features[:116])


@pytest.mark.filterwarnings("error")
def test_values_beyond_float32_are_bad_mfcc(clip: Path) -> None:
    (clip / "audio.wav").unlink()
    np.save(clip / "audio.npy", np.full((26, 1, 13, 20), 1e300))
    assert refused(clip).reason == "bad MFCC"


def test_an_array_of_hours_for_thirty_frames_is_not_read(clip: Path) -> None:
    (clip / "audio.wav").unlink()
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 1, 13, 20), np.float32))
    (clip / "audio.npy").write_bytes(stream.getvalue())
    os.truncate(clip / "audio.npy", 3 << 30)
    assert refused(clip).reason == "file too large"


# --- bytes at random


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    hostile.clip_to_damage(folder)
    return folder


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL = simplejpeg.encode_jpeg(np.full((32, 32, 3), 90, np.uint8), 50)
TURNED = with_segment(SMALL, 0xE1, exif(6))


@settings(FUZZ, max_examples=500)
@given(content=hostile.mutations(SMALL) | hostile.mutations(TURNED))
def test_any_bytes_as_a_frame(damaged: Path, content: bytes) -> None:
    hostile.check_frame(content, damaged)


@settings(FUZZ, max_examples=500)
@given(
    content=hostile.mutations(hostile.wav_bytes(speech()[-6 * 640 :]))
    | hostile.mutations(hostile.wav_bytes(speech()[-6 * 640 :] / 32768, "FLOAT"))
    | hostile.mutations(hostile.wav_bytes(speech()[-6 * 640 :], "PCM_16", "FLAC"))
)
def test_any_bytes_as_sound(damaged: Path, content: bytes) -> None:
    hostile.check_wav(content, damaged)


@settings(FUZZ, max_examples=500)
@given(content=hostile.mutations(hostile.npy_bytes()))
def test_any_bytes_as_an_array(damaged: Path, content: bytes) -> None:
    hostile.check_npy(content, damaged)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ('{"source": "a", "sharpness": NaN}', "a"),
        ('{"source": 17}', "17"),
        ('{"source": "v\\udcff1"}', r"v\xff1"),
    ],
)
def test_clip_json_of_other_programs_is_read(clip: Path, text: str, source: str) -> None:
    (clip / "clip.json").write_text(text)
    assert [found.source for found in find_clips(clip.parent)] == [source]


@settings(FUZZ, max_examples=200)
@given(content=hostile.mutations(b'{"source": "talk.mp4", "frames": 6, "speech": 0.5}'))
def test_any_bytes_as_clip_json(damaged: Path, content: bytes) -> None:
    hostile.check_clip_json(content, damaged)
