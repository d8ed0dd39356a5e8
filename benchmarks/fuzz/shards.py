"""Shards that are damaged or hostile: tar, idx, statistics, manifest, index, cache, bucket."""

import json
import shutil
import struct
import tarfile
import time
import zlib
from pathlib import Path
from random import Random

import numpy as np
import simplejpeg
import soundfile

from benchmarks.fuzz.child import Case, Target
from benchmarks.fuzz.mutate import Json, mutated, mutated_tar, packed, words
from data_tools import cache_file, split_index
from data_tools.cache_file import HEAD, Look, count_filled, read_head, reserved
from data_tools.manifest import MANIFEST, ShardError, read_manifest
from data_tools.mfcc import CEPSTRA, SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.mirror import LocalOptions, open_set
from data_tools.mirror_check import content_fault
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shards import Shard, open_shards
from data_tools.split_index import index_paths, keep_index
from data_tools.tar_index import format_idx, index_tar
from data_tools.verifying import verify, verify_shard

_FRAMES = 6  # the fewest that make a window, and one more
_TAR = "train-000000.tar"
_INDEX_HEAD = "<16sQII"  # of the compact index


def clip(folder: Path, seed: int = 0) -> Path:
    """A clip of six frames of noise with its sound."""
    rng = np.random.default_rng(seed)
    (folder / "frames").mkdir(parents=True)
    for number in range(_FRAMES):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        jpeg = simplejpeg.encode_jpeg(pixels, 50)
        (folder / "frames" / f"frame{number}.jpg").write_bytes(jpeg)
    sound = rng.integers(-8000, 8000, _FRAMES * SAMPLES_PER_FRAME, dtype=np.int16)
    soundfile.write(folder / "audio.wav", sound, SAMPLE_RATE, subtype="PCM_16")
    return folder


def shards(folder: Path) -> Path:
    """A shard of two clips, in `folder`/shards; returns its tar."""
    for number in range(2):
        clip(folder / "clips" / f"clip{number}", number)
    out = folder / "shards"
    pack(folder / "clips", out, PackOptions(ratios=(1, 0, 0)))
    shutil.rmtree(folder / "clips")
    return out / _TAR


def read_all(shard: Shard) -> None:
    """Look at everything that an opened shard names."""
    for number, record in enumerate(shard.records):
        assert shard.mfcc(number).shape == (record.columns, CEPSTRA), "MFCC of another shape"
        for frame in range(record.frames):
            size = shard.size[shard.first_frame[number] + frame]
            assert shard.jpeg(number, frame).size == size, "a frame of another size"


def _idx(folder: Path) -> Case:
    tar = shards(folder)
    idx = tar.with_suffix(".idx")
    whole = idx.read_text()

    def draw(rng: Random) -> bytes:
        if rng.random() < 0.3:
            return mutated(rng, whole.encode())
        return words(
            rng, whole, ("", "-1", "v1.2", "json", "00000.jpg", "1e3", "０", "9" * 30)
        ).encode()

    def attempt(content: bytes) -> None:
        idx.write_bytes(content)
        read_all(Shard(tar))

    return Case(draw, attempt, (ShardError,))


def _of_size(statistics: bytes, size: int) -> bytes:
    """Statistics that say that their tar has `size` bytes."""
    return json.dumps(json.loads(statistics) | {"tar_bytes": size}).encode()


def _tar(folder: Path) -> Case:
    tar = shards(folder)
    idx, statistics = tar.with_suffix(".idx"), tar.with_suffix(".json")
    whole, told, own = tar.read_bytes(), statistics.read_bytes(), idx.read_bytes()
    with tarfile.open(tar) as archive:
        headers = [member.offset for member in archive]
    tries = [0]

    def attempt(content: bytes) -> None:
        tries[0] += 1
        tar.write_bytes(content)
        statistics.write_bytes(_of_size(told, len(content)))
        idx.write_bytes(own)
        samples = index_tar(tar)
        if len(content) % 2:  # a hostile source would have it agree
            idx.write_bytes(format_idx(samples).encode("utf-8", "surrogateescape"))
        content_fault(tar, tar)
        if tries[0] % 8 == 0:
            assert all(verify_shard(tar)), "a fault without words"
        read_all(Shard(tar))

    def draw(rng: Random) -> bytes:
        return mutated_tar(rng, whole, headers) + b"\0" * rng.randrange(2)

    return Case(draw, attempt, (ShardError,))


def _statistics(folder: Path) -> Case:
    tar = shards(folder)
    statistics = tar.with_suffix(".json")
    base = Json(json.loads(statistics.read_text()))
    tries = [0]

    def attempt(content: bytes) -> None:
        tries[0] += 1
        statistics.write_bytes(content)
        if tries[0] % 50 == 0:
            assert all(verify(tar.parent)), "a fault without words"
        fault = content_fault(tar, tar)
        assert fault is None or fault, "a fault without words"
        read_all(Shard(tar))

    return Case(base.draw, attempt, (ShardError,))


def _manifest(folder: Path) -> Case:
    tar = shards(folder)
    manifest = tar.parent / MANIFEST
    base = Json(json.loads(manifest.read_text()))
    tries = [0]

    def attempt(content: bytes) -> None:
        tries[0] += 1
        manifest.write_bytes(content)
        read_manifest(tar.parent)
        if tries[0] % 50 == 0:
            assert all(verify(tar.parent)), "a fault without words"
        for shard in open_shards(tar.parent, "train"):
            read_all(shard)

    return Case(base.draw, attempt, (ShardError,), several=True)


def _index(folder: Path) -> Case:
    tar = shards(folder)
    split_index.WORTH = 0
    later = time.time_ns() + 10**12
    opened = open_shards(tar.parent, "train")
    made = split_index.SplitIndex("train", [], opened[0].clips, opened[0].frames)
    stamp = split_index.stamp_of(str(tar))
    assert stamp is not None
    told = [split_index.IndexedShard(tar.name, stamp, len(made.clips), len(made.frames))]
    keep_index(tar.parent, split_index.SplitIndex("train", told, made.clips, made.frames), later)
    path = index_paths(tar.parent, "train")[0]
    whole = path.read_bytes()
    size = struct.calcsize(_INDEX_HEAD)
    magic, length, _, _ = struct.unpack(_INDEX_HEAD, whole[:size])
    text, arrays = whole[size : size + length], whole[size + length :]
    base = Json(json.loads(text))

    def draw(rng: Random) -> bytes:
        kind = rng.random()
        if kind < 0.2:
            return mutated(rng, whole, 40)
        said = base.draw(rng) if kind < 0.5 else text
        numbers = mutated(rng, arrays, len(arrays)) if kind >= 0.4 else arrays
        if kind >= 0.7:  # as long as it was
            numbers = numbers[: len(arrays)].ljust(len(arrays), b"\0")
        crcs = zlib.crc32(said), zlib.crc32(numbers)
        return magic + packed("<QII", len(said), *crcs) + said + numbers

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        for shard in open_shards(tar.parent, "train"):
            read_all(shard)

    return Case(draw, attempt, (ShardError,))


def _cache(folder: Path) -> Case:
    path = folder / "frames.map"
    head = cache_file.Head("a/train-000000.tar", "0" * 32, 12, Look(16, 3, "turbo 3"))
    base = Json(json.loads(json.dumps(head, default=vars)))

    def draw(rng: Random) -> bytes:
        content = base.draw(rng)[:HEAD].ljust(HEAD, b"\0") + rng.randbytes(8 * rng.randrange(14))
        return mutated(rng, content, HEAD) if rng.random() < 0.3 else content

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        found = read_head(path)
        assert 0 <= reserved(path) < 2**64, "a negative number of bytes"
        if found is not None:
            assert 0 <= count_filled(path, found) <= found.frames, "more frames than there are"

    return Case(draw, attempt, ())


def _bucket(folder: Path) -> Case:
    import fsspec

    tar = shards(folder)
    names = (MANIFEST, _TAR, f"{tar.stem}.idx", f"{tar.stem}.json")
    whole = [(tar.parent / name).read_bytes() for name in names]
    jsons = {0: Json(json.loads(whole[0])), 3: Json(json.loads(whole[3]))}
    with tarfile.open(tar) as archive:
        headers = [member.offset for member in archive]
    # no hash of the statistics, as earlier versions wrote: so that more is read
    old = json.loads(whole[0])
    del old["shards"][0]["sha256"]
    jsons[4] = Json(old)
    parts = struct.Struct("<4I")
    files, copy = fsspec.filesystem("memory"), folder / "copy"

    def draw(rng: Random) -> bytes:
        content = list(whole)
        for number in rng.sample(range(4), rng.choice((1, 1, 2))):
            if number in jsons:
                content[number] = jsons[number].draw(rng)
            elif number == 1:
                content[1] = mutated_tar(rng, whole[1], headers)
            else:
                content[2] = words(rng, whole[2].decode(), ("-1", "", "json", "9" * 30)).encode()
        if content[0] == whole[0]:
            entry = {**old["shards"][0], "bytes": len(content[1])}
            content[0] = json.dumps({**old, "shards": [entry]}).encode()
            if content[3] == whole[3]:
                content[3] = _of_size(whole[3], len(content[1]))
        return parts.pack(*map(len, content)) + b"".join(content)

    def attempt(content: bytes) -> None:
        sizes = parts.unpack(content[: parts.size].ljust(parts.size, b"\0"))
        at = parts.size
        for name, size in zip(names, sizes, strict=True):
            files.pipe_file(f"/set/{name}", content[at : at + size])
            at += size
        shutil.rmtree(copy, ignore_errors=True)
        for shard in open_shards(open_set("memory://set", LocalOptions(str(copy))), "train"):
            read_all(shard)

    return Case(draw, attempt, several=True)


TARGETS = (
    Target("idx", "DALI's index beside a tar", _idx, 10_000),
    Target("tar", "a shard's tar", _tar, 1500),
    Target("statistics", "a shard's .json", _statistics, 3000),
    Target("manifest", "manifest.json", _manifest, 3000),
    Target("index", "the compact index of a split", _index, 1000),
    Target("cache", "the map of a cache of frames", _cache, 15_000),
    Target("bucket", "a set of shards that a server sends", _bucket, 600),
)
