"""Pictures, sound and videos that are damaged or hostile."""

import io
import os
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import simplejpeg
import soundfile
from numpy.typing import NDArray
from python_speech_features import sigproc  # noqa: F401 - no input may load a package

from benchmarks.fuzz.child import Case, Target
from benchmarks.fuzz.mutate import Json, mutated
from benchmarks.fuzz.shards import clip
from benchmarks.videos import write_video
from data_tools.clip_data import load_clip
from data_tools.clips import ClipError, find_clips
from data_tools.jpeg import MAX_SIDE, decode_jpeg, jpeg_size
from data_tools.mfcc import SAMPLE_RATE
from data_tools.records import RecordError
from data_tools.sound import read_audio, read_npy
from data_tools.video.convert import Converter
from data_tools.video.decode import Video
from data_tools.video.left_out import doubts, notes
from data_tools.video.probe import promised_length
from data_tools.video.remux import shift_sound
from data_tools.video.remux_copy import RemuxError
from data_tools.video.sound import Sound, VideoError

# The longest that broken times may make half a second: an hour and some, as pictures and samples.
_MOST_PICTURES, _MOST_SAMPLES = 25 * 3700, 16_000 * 3700
_SHAPES = ("()", "(0,)", "(-1,)", "(2**60,)", "(True,)", "(1e3,)", "(4, 1, 13, 20)", "(9**9,)*9")
_KINDS = ("|O", "|V8", "<f8", ">f4", "<i8", "<c16", "<M8[ns]", "<U9", "|S4", "<f2", "[('a','O')]")


def _npy(folder: Path) -> Case:
    stream = io.BytesIO()
    np.save(stream, np.arange(2 * 13 * 20, dtype=np.float32).reshape(2, 1, 13, 20))
    whole = stream.getvalue()
    head = whole[10:128].decode()

    def draw(rng: Random) -> bytes:
        if rng.random() < 0.5:
            return mutated(rng, whole, 128)
        shape, kind = rng.choice(_SHAPES), rng.choice(_KINDS)
        text = head.replace("(2, 1, 13, 20)", shape) if rng.random() < 0.6 else head
        if rng.random() < 0.5:
            text = text.replace("'<f4'", kind if kind[0] == "[" else repr(kind))
        if rng.random() < 0.3:
            text = text.replace("False", rng.choice(("True", "1", "print(1)", "__import__('os')")))
        encoded = text.encode()
        if rng.random() < 0.3:
            encoded = mutated(rng, encoded)
        version = rng.choice((1, 1, 1, 2, 3))
        width = 2 if version == 1 else 4
        length = (len(encoded) % 2 ** (8 * width)).to_bytes(width, "little")
        return b"\x93NUMPY" + bytes([version, 0]) + length + encoded + whole[128:]

    def attempt(content: bytes) -> None:
        found = read_npy(content)
        assert found.nbytes <= len(content) and found.dtype.kind in "fiu", "more than there is"

    return Case(draw, attempt, (ValueError,))


def _jpeg(folder: Path) -> Case:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 16, 3), dtype=np.uint8)
    gray = np.ascontiguousarray(pixels[:, :, :1])
    exif = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    small = simplejpeg.encode_jpeg(pixels, 40)
    bases = (
        small,
        simplejpeg.encode_jpeg(gray, 40, "GRAY", "Gray"),
        small[:2] + exif + small[2:],
    )

    def attempt(content: bytes) -> None:
        size = jpeg_size(np.frombuffer(content, np.uint8))
        found = decode_jpeg(content, "frame0.jpg")
        assert max(found.shape) <= MAX_SIDE, "a picture of more than MAX_SIDE"
        assert size is not None, "what is packed is refused in training"
        assert size[:2] == found.shape[:2], "two sizes of one picture"

    return Case(lambda rng: mutated(rng, rng.choice(bases), 180), attempt, (ClipError,))


def _sound_file(subtype: str, form: str) -> bytes:
    noise = np.random.default_rng(0).integers(-8000, 8000, 6 * 640, dtype=np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, noise, SAMPLE_RATE, format=form, subtype=subtype)
    return stream.getvalue()


def _wav(folder: Path) -> Case:
    kinds = (("PCM_16", "WAV"), ("FLOAT", "WAV"), ("IMA_ADPCM", "WAV"), ("PCM_24", "AIFF"))
    more = (("DOUBLE", "CAF"), ("VORBIS", "OGG"), ("PCM_16", "FLAC"), ("PCM_16", "W64"))
    bases = [_sound_file(*kind) for kind in (*kinds, *more)]
    file = folder / "audio.wav"

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        audio, features = read_audio(folder, 6)
        assert audio is not None and len(audio) <= 9 * 640, "more sound than was asked for"
        assert features.dtype == np.float32 and np.isfinite(features).all(), "MFCC not finite"

    def draw(rng: Random) -> bytes:
        return mutated(rng, bases[0] if rng.random() < 0.4 else rng.choice(bases), 64)

    return Case(draw, attempt, (ClipError,))


def _clip(folder: Path) -> Case:
    """A clip whose parts are changed, one at a time: the first byte says which."""
    place = clip(folder / "clips" / "one")
    frame, wav, told = place / "frames" / "frame3.jpg", place / "audio.wav", place / "clip.json"
    whole = (frame.read_bytes(), wav.read_bytes())
    about = Json({"source": "a video", "crop": "face", "start": 1.5, "track": [1, 2]})

    def draw(rng: Random) -> bytes:
        part = rng.randrange(3)
        content = about.draw(rng) if part == 2 else mutated(rng, whole[part])
        return bytes([part]) + content

    def attempt(content: bytes) -> None:
        part = content[0] if content else 0
        told.unlink(missing_ok=True)
        frame.write_bytes(content[1:] if part == 0 else whole[0])
        wav.write_bytes(content[1:] if part == 1 else whole[1])
        if part == 2:
            told.write_bytes(content[1:])
        (found,) = find_clips(folder / "clips")
        assert isinstance(found.source, str), "a source that is no text"
        load_clip(found)

    return Case(draw, attempt, (ClipError, RecordError))


def _containers(folder: Path) -> list[tuple[str, bytes]]:
    """Half a second of picture and sound in every common container, with its suffix."""
    rng = np.random.default_rng(0)
    pictures = np.full((12, 48, 64, 3), 90, np.uint8)
    for number, picture in enumerate(pictures):
        picture[:, 4 * number : 4 * number + 8] = 200
    noise = rng.integers(-9000, 9000, 12 * 640, dtype=np.int16)
    base = folder / "base.mp4"
    write_video(base, pictures, noise, (64, 48))
    found = [(".mp4", base.read_bytes())]
    for suffix in (".mkv", ".ts", ".flv", ".mov"):
        out = folder / f"base{suffix}"
        with av.open(str(base)) as given, av.open(str(out), "w") as made:
            streams = {s.index: made.add_stream_from_template(s) for s in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    made.mux(packet)
        found.append((suffix, out.read_bytes()))
        out.unlink()
    found.append((".avi", _avi(folder / "base.avi", pictures, noise)))
    base.unlink()
    return found


def _avi(out: Path, pictures: NDArray[np.uint8], sound: NDArray[np.int16]) -> bytes:
    """The same as AVI with the codecs of its time."""
    with av.open(str(out), "w") as made:
        video: Any = made.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = made.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for picture in pictures:
            made.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        made.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
        frame.sample_rate = 16_000
        made.mux([*audio.encode(frame), *audio.encode(None)])
    content = out.read_bytes()
    out.unlink()
    return content


_LISTS = (  # of files elsewhere, as FFmpeg knows them: none may be opened
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n",
    b"ffconcat version 1.0\nfile '%s'\n",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    b"a=rtpmap:96 H264/90000\n# %s\n",
    b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period><AdaptationSet>"
    b"<Representation><BaseURL>%s</BaseURL></Representation></AdaptationSet></Period></MPD>",
)


def _draw_video(bases: list[tuple[str, bytes]], other: Path, rng: Random) -> bytes:
    """A container's suffix in five bytes, and the container."""
    suffix, whole = rng.choice(bases)
    if rng.random() < 0.04:
        content = rng.choice(_LISTS) % rng.choice((os.fsencode(other.name), os.fsencode(other)))
        content = mutated(rng, content) if rng.random() < 0.5 else content
    else:
        content = mutated(rng, whole, 1500)
    return suffix.encode().ljust(5) + content


def _video(folder: Path) -> Case:
    bases = _containers(folder)
    other = folder / "other.ts"  # a whole one that an input must not lead to
    other.write_bytes(dict(bases)[".ts"])

    def attempt(content: bytes) -> None:
        suffix = content[:5].decode("ascii", "ignore").strip() or ".mp4"
        file = folder / f"any{suffix}"
        file.write_bytes(content[5:])
        os.utime(other, (0, 1))  # so that reading it would show
        promised_length(file)
        try:
            _watch_video(file)
        finally:
            assert other.stat().st_atime_ns == 0, "another file was read"

    return Case(lambda rng: _draw_video(bases, other, rng), attempt, (VideoError,))


def _watch_video(file: Path) -> None:
    """All pictures and all sound of a video, with what is said of what it lacks."""
    sound = Sound(file.parent / "sound.raw")
    last = count = -1
    try:
        with Video(file) as video:
            converter = Converter(video.aspect)
            for picture in video.pictures(sound):
                assert picture.index > last, "pictures out of order"
                last, count = picture.index, count + 1
                if count < 3:
                    assert converter.rgb(picture.frame, 64).shape[2] == 3, "no picture of 3 colours"
                assert count <= _MOST_PICTURES, "pictures without end"
            told = (*notes(video, sound), *doubts(video, sound))
        assert sound.length <= _MOST_SAMPLES, "sound without end"
        assert all("\n" not in words for words in told), "a note of more than a line"
    finally:
        sound.close()


def _mend(folder: Path) -> Case:
    bases = _containers(folder)
    other = folder / "other.ts"
    other.write_bytes(dict(bases)[".ts"])
    outs = [folder / f"copy{suffix}" for suffix in (".mp4", ".mkv")]

    def attempt(content: bytes) -> None:
        suffix = content[:5].decode("ascii", "ignore").strip() or ".mp4"
        file = folder / f"any{suffix}"
        file.write_bytes(content[5:])
        out = outs[len(content) % 2]
        before = {path.name for path in folder.iterdir()}
        os.utime(other, (0, 1))
        try:
            shift_sound(file, out, Fraction(1, 5))
            assert out.stat().st_size < 10 * len(content) + 100_000, "a copy that is far larger"
        finally:
            out.unlink(missing_ok=True)
            left = {path.name for path in folder.iterdir()} - before
            assert not left, "a file that is left over"
            assert other.stat().st_atime_ns == 0, "another file was read"

    return Case(lambda rng: _draw_video(bases, other, rng), attempt, (RemuxError,))


TARGETS = (
    Target("npy", "an .npy file", _npy, 15_000),
    Target("jpeg", "a frame", _jpeg, 320_000, megabytes=700),
    Target("wav", "a clip's sound, in eight formats", _wav, 1500),
    Target("clip", "a folder of a clip", _clip, 800, megabytes=700),
    Target("video", "a video, in six containers", _video, 1000, seconds=60, megabytes=1500),
    Target(
        "mend",
        "a video to be copied with its sound shifted",
        _mend,
        600,
        seconds=60,
        megabytes=1500,
    ),
)
