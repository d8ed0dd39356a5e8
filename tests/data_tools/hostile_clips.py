"""Bytes from outside, and what may become of them: plain functions that assert it.

Each `check_x(content, folder)` puts `content` in place of one file of something sound that
`clip_to_damage` or `shards_to_damage` laid down in `folder`, and raises AssertionError for anything
but the documented outcome: another exception, memory beyond the bound, or a changed folder.
"""

from __future__ import annotations

import io
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import simplejpeg
import soundfile
from hypothesis import strategies as st

from data_tools.clip_data import ClipData, load_clip
from data_tools.clips import Clip, ClipError, find_clips
from data_tools.jpeg import MAX_SIDE, decode_jpeg, jpeg_size
from data_tools.manifest import ShardError
from data_tools.mfcc import CEPSTRA, WINDOW_COLUMNS, mfcc
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.records import RecordError
from data_tools.shards import Shard
from data_tools.verifying import verify

MAX_GROWTH = 400 << 10  # kB: one picture of MAX_SIDE takes 50 MB, its decoder's coefficients 100 MB
TRAIN = "train-000000"
T = TypeVar("T")


def mutations(base: bytes) -> st.SearchStrategy[bytes]:
    """`base` with some bytes changed, put in or cut off, or anything at all."""
    values = st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from(
            [b"\xff" * 2, b"\xff" * 4, b"\0" * 4, b"\x7f" + b"\xff" * 3, b"\x80\0\0\0"]
        ),
    )
    # Half of the changes lie where the headers are.
    places = st.one_of(st.integers(0, min(250, len(base))), st.integers(0, len(base)))
    edits = st.lists(st.tuples(places, values, st.integers(0, 8)), min_size=1, max_size=5)

    def edited(changes: list[tuple[int, bytes, int]]) -> bytes:
        content = base
        for at, new, replaced in changes:
            content = content[:at] + new + content[at + replaced :]
        return content

    cut = st.integers(0, len(base)).map(lambda kept: base[:kept])
    return st.one_of(edits.map(edited), edits.map(edited), cut, st.binary(max_size=400))


def clip_to_damage(folder: Path) -> Path:
    """A clip of six frames with audio.wav in `folder`/clip; audio.npy as `npy_of_clip` has it."""
    rng = np.random.default_rng(0)
    clip = folder / "clip"
    (clip / "frames").mkdir(parents=True)
    for number in range(6):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        (clip / "frames" / f"frame{number}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, 90))
    (clip / "audio.wav").write_bytes(wav_bytes(_noise()))
    return clip


def _noise() -> np.ndarray:
    return np.random.default_rng(1).integers(-8000, 8000, 6 * 640, dtype=np.int16)


def wav_bytes(samples: np.ndarray, subtype: str = "PCM_16", format: str = "WAV") -> bytes:
    """A sound file at 16 kHz."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16_000, format=format, subtype=subtype)
    return stream.getvalue()


def npy_bytes() -> bytes:
    """audio.npy of the clip to damage."""
    features = mfcc(_noise())
    stream = io.BytesIO()
    np.save(stream, np.stack([features[4 * i : 4 * i + 20].T[None] for i in range(1)]))
    return stream.getvalue()


def shards_to_damage(folder: Path) -> Path:
    """Shards of two clips in `folder`/shards."""
    clip_to_damage(folder / "clips" / "one")
    other = clip_to_damage(folder / "clips" / "two")
    (other / "audio.wav").write_bytes(wav_bytes(_noise()[::-1].copy()))
    pack(folder / "clips", folder / "shards", PackOptions(ratios=(1, 0, 0)))
    return folder / "shards"


def check_frame(content: bytes, folder: Path) -> None:
    """`content` as a frame of the clip in `folder`: a picture within bounds, or a ClipError."""
    with _bounded(folder), _instead(folder / "clip" / "frames" / "frame3.jpg", content):
        data = _loaded(folder)
    if data is not None:
        assert max(data.height, data.width) <= MAX_SIDE
        found = jpeg_size(np.frombuffer(content, np.uint8))
        assert found is not None, "a JPEG that is packed must not be refused in training"
        assert found[:2] == decode_jpeg(content, "frame").shape[:2]


def check_wav(content: bytes, folder: Path) -> None:
    """`content` as the sound of the clip in `folder`: finite MFCC of its length, or a ClipError."""
    with _bounded(folder), _instead(folder / "clip" / "audio.wav", content):
        data = _loaded(folder)
    if data is not None:
        assert data.audio is not None and abs(len(data.audio) // 640 - 6) <= 2
        np.testing.assert_array_equal(data.mfcc, mfcc(data.audio))


def check_npy(content: bytes, folder: Path) -> None:
    """`content` as the audio.npy of the clip in `folder`, or a ClipError."""
    wav = folder / "clip" / "audio.wav"
    hidden = wav.rename(folder / "audio.wav")
    try:
        with _bounded(folder), _instead(folder / "clip" / "audio.npy", content):
            data = _loaded(folder)
    finally:
        hidden.rename(wav)
    if data is not None:
        assert data.mfcc.shape[1] == CEPSTRA and len(data.mfcc) >= WINDOW_COLUMNS
        assert data.mfcc.dtype == np.float32 and np.isfinite(data.mfcc).all()


def check_clip_json(content: bytes, folder: Path) -> None:
    """`content` as the clip.json of the clip in `folder`: a source as text, or one sentence."""
    with _bounded(folder), _instead(folder / "clip" / "clip.json", content):
        found = _only(lambda: find_clips(folder), (ValueError, RecordError))
    assert found is None or isinstance(found[0].source, str)


def check_tar(content: bytes, folder: Path) -> None:
    """`content` as a tar of the shards in `folder`: faults in words, nothing else."""
    with _bounded(folder), _instead(folder / "shards" / f"{TRAIN}.tar", content):
        _check_shards(folder / "shards")


def check_tar_of_its_size(content: bytes, folder: Path) -> None:
    """The same with statistics that say its size, so that a look at the size does not end it."""
    statistics = folder / "shards" / f"{TRAIN}.json"
    stats = json.loads(statistics.read_text()) | {"tar_bytes": len(content)}
    with _instead(statistics, json.dumps(stats).encode()):
        check_tar(content, folder)


def check_idx(content: bytes, folder: Path) -> None:
    """`content` as an index of the shards in `folder`: faults in words, nothing else."""
    with _bounded(folder), _instead(folder / "shards" / f"{TRAIN}.idx", content):
        _check_shards(folder / "shards")


def _check_shards(shards: Path) -> None:
    faults = _only(lambda: verify(shards), ShardError)
    assert faults is None or all(isinstance(fault, str) and fault for fault in faults)
    shard = _only(lambda: Shard(shards / f"{TRAIN}.tar"), ShardError)
    if shard is None:
        assert faults is None or faults
        return
    for clip in range(len(shard.keys)):
        assert shard.mfcc(clip).shape == (shard.columns[clip], CEPSTRA)
        for frame in range(shard.records[clip].frames):
            assert shard.jpeg(clip, frame).size == shard.size[shard.first_frame[clip] + frame]


def _loaded(folder: Path) -> ClipData | None:
    def load() -> ClipData:
        (clip,) = find_clips(folder)
        assert isinstance(clip, Clip)
        return load_clip(clip)

    return _only(load, ClipError)


def _only(
    call: Callable[[], T], allowed: type[Exception] | tuple[type[Exception], ...]
) -> T | None:
    """What `call` returns; None for an `allowed` error, which must be one sentence."""
    try:
        return call()
    except allowed as error:
        assert str(error).strip() and "Traceback" not in str(error)
        return None
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error


@contextmanager
def _instead(file: Path, content: bytes) -> Iterator[None]:
    former = file.read_bytes() if file.exists() else None
    file.write_bytes(content)
    try:
        yield
    finally:
        if former is None:
            file.unlink()
        else:
            file.write_bytes(former)


@contextmanager
def _bounded(folder: Path) -> Iterator[None]:
    names = _names(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MAX_GROWTH, f"memory grew by {grown >> 10} MB"
    assert _names(folder) == names


def _names(folder: Path) -> list[str]:
    return sorted(os.path.join(top, name) for top, _, inside in os.walk(folder) for name in inside)
