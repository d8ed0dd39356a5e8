"""The shard format: members in order, DALI's own index, readable by WebDataset and DALI."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset

from data_tools.clip_data import load_clip
from data_tools.clips import Clip
from data_tools.manifest import ShardError, read_manifest
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shard_writer import write_shard
from data_tools.shards import Shard, open_shards
from data_tools.tar_index import index_tar

MakeClip = Callable[..., Path]


@pytest.fixture(scope="module")
def flac_shards(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One noise clip of 12 frames, named with a dot, packed with its sound."""
    root = tmp_path_factory.mktemp("flac")
    make_clip(root / "clips" / "talk.v1" / "cut 3", frames=12)
    pack(root / "clips", root / "out", PackOptions(flac=True))
    return root / "out"


def members(tar: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(tar) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]


def test_a_sample_is_json_mfcc_flac_and_the_frames_in_order(flac_shards: Path) -> None:
    names = [name for name, _ in members(flac_shards / "train-000000.tar")]
    key = names[0].removesuffix(".json")
    frames = [f"{key}.{number:05d}.jpg" for number in range(12)]
    assert names == [f"{key}.json", f"{key}.mfcc.npy", f"{key}.flac", *frames]


def test_without_flac_there_is_no_sound_member(shards_folder: Path) -> None:
    names = [member.extension for member in index_tar(shards_folder / "val-000000.tar")[0]]
    assert names == ["json", "mfcc.npy", *(f"{number:05d}.jpg" for number in range(50))]


def test_keys_have_no_dots(flac_shards: Path) -> None:
    (shard,) = open_shards(flac_shards, "train")
    assert shard.records[0].clip == "talk.v1/cut 3"
    assert "." not in shard.keys[0] and " " not in shard.keys[0] and "/" not in shard.keys[0]


def test_flac_holds_the_samples_of_the_wav(flac_shards: Path) -> None:
    content = dict(members(flac_shards / "train-000000.tar"))
    (flac,) = (data for name, data in content.items() if name.endswith(".flac"))
    wav = flac_shards.parent / "clips" / "talk.v1" / "cut 3" / "audio.wav"
    packed, rate = soundfile.read(io.BytesIO(flac), dtype="int16")
    np.testing.assert_array_equal(packed, soundfile.read(wav, dtype="int16")[0])
    assert rate == 16000


def test_json_describes_the_clip(flac_shards: Path) -> None:
    described = json.loads(members(flac_shards / "train-000000.tar")[0][1])
    expected = {"clip": "talk.v1/cut 3", "source": "talk.v1", "split": "train", "fps": 25}
    shape = {"frames": 12, "height": 32, "width": 32, "channels": 3}
    assert described.items() >= (expected | shape).items()


def test_idx_is_byte_for_byte_what_dalis_wds2idx_writes(
    shards_folder: Path, tmp_path: Path
) -> None:
    from wds2idx import IndexCreator

    tars = sorted(shards_folder.glob("*.tar"))
    assert tars
    for tar in tars:
        with IndexCreator(str(tar), str(tmp_path / "dali.idx"), verbose=False) as creator:
            creator.create_index()
        assert tar.with_suffix(".idx").read_bytes() == (tmp_path / "dali.idx").read_bytes()


def test_webdataset_reads_the_shards(shards_folder: Path) -> None:
    tar = shards_folder / "val-000000.tar"
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    shard = Shard(tar)
    assert [sample["__key__"] for sample in samples] == shard.keys
    assert samples[1]["00049.jpg"] == bytes(shard.jpeg(1, 49))
    np.testing.assert_array_equal(np.load(io.BytesIO(samples[1]["mfcc.npy"])), shard.mfcc(1))


def test_dali_reads_the_shards(shards_folder: Path) -> None:
    from nvidia.dali import fn, pipeline_def

    tar = shards_folder / "val-000000.tar"

    @pipeline_def(batch_size=2, num_threads=1, device_id=None)
    def read() -> tuple[object, ...]:
        return tuple(
            fn.readers.webdataset(
                paths=[str(tar)],
                index_paths=[str(tar.with_suffix(".idx"))],
                ext=["00000.jpg", "00049.jpg"],
            )
        )

    pipeline = read()
    pipeline.build()
    first, last = pipeline.run()
    shard = Shard(tar)
    for clip in range(2):
        assert bytes(first.at(clip)) == bytes(shard.jpeg(clip, 0))
        assert bytes(last.at(clip)) == bytes(shard.jpeg(clip, 49))


def test_jpeg_bytes_and_their_order_are_those_of_the_files(
    shards_folder: Path, clips_folder: Path
) -> None:
    (shard,) = open_shards(shards_folder, "val")
    for clip, record in enumerate(shard.records):
        for frame in range(record.frames):  # frame10 after frame9, not after frame1
            file = clips_folder / record.clip / "frames" / f"frame{frame}.jpg"
            assert bytes(shard.jpeg(clip, frame)) == file.read_bytes()


def test_shard_gives_the_clips_mfcc(shards_folder: Path, clips_folder: Path) -> None:
    (shard,) = open_shards(shards_folder, "test")
    record = shard.records[1]
    data = load_clip(Clip(record.clip, clips_folder / record.clip, None, record.source))
    np.testing.assert_array_equal(shard.mfcc(1), data.mfcc)
    assert shard.columns[1] == record.columns == len(data.mfcc)


def test_first_frame_counts_the_frames_before_each_clip(shards_folder: Path) -> None:
    (shard,) = open_shards(shards_folder, "train")
    np.testing.assert_array_equal(shard.first_frame, np.arange(len(shard.keys) + 1) * 50)
    assert len(shard.offset) == len(shard.size) == shard.first_frame[-1]


def test_shard_without_clips_leaves_no_file(tmp_path: Path) -> None:
    assert write_shard(tmp_path / "a.tar", []) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_tar_is_a_shard_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ShardError, match="cannot be read as a tar"):
        index_tar(tmp_path / "a.tar")


def test_manifest_counts_what_the_shards_hold(shards_folder: Path) -> None:
    manifest = read_manifest(shards_folder)
    for split, total in manifest.splits.items():
        records = [r for shard in open_shards(shards_folder, split) for r in shard.records]
        assert total.clips == len(records)
        assert total.frames == sum(record.frames for record in records)
    assert manifest.clips_found == 12 and manifest.dropped == []


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header whose twelve bytes of size are these."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def number(size: int) -> bytes:
    """A size as GNU tar writes those that eleven octal digits do not hold."""
    return (b"\x80" if size >= 0 else b"\xff") + (size % 256**11).to_bytes(11, "big")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "blocks",
    [
        header("a.json", number(-512)),
        header("a.json", number(-1024)) * 3,
        header("a", number(-512), b"5") * 3,
        header("a", number(-512), b"Z") * 3,
        header("a.json", number(2**80)),
        header("a.json", number(2**62)),
        header("a.json", number(1 << 20)),
        header("long", number(-512), b"L") * 3,
        header("long", number(2**70), b"L"),
        header("long", number(0), b"L") * 3000,
        header("pax", number(30), b"x") + b"30 GNU.sparse.map=1,x,2".ljust(29) + b"\n" + bytes(482),
        header("pax", number(28), b"x")
        + b"28 size=-1024".ljust(27)
        + b"\n"
        + bytes(484)
        + header("a.json", number(0)),
    ],
)
def test_a_tar_of_impossible_sizes_is_one_sentence(tmp_path: Path, blocks: bytes) -> None:
    tar = tmp_path / "train-000000.tar"
    tar.write_bytes(blocks + bytes(1024))
    with pytest.raises(ShardError, match=r"train-000000\.tar (is damaged|cannot be read)"):
        index_tar(tar)


@pytest.mark.parametrize("field", [1, 2, 5, 6, 9, 10, -3, -2])
@pytest.mark.parametrize("value", [-1, -(2**63), 2**63 - 1, 2**63, 10**30, 2**40])
def test_an_index_beyond_its_tar_is_refused(
    flac_shards: Path, tmp_path: Path, field: int, value: int
) -> None:
    for file in flac_shards.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    idx = tmp_path / "train-000000.idx"
    first, line = idx.read_text().splitlines()
    fields = line.split(" ")
    fields[field] = str(value)
    idx.write_text(f"{first}\n{' '.join(fields)}\n")
    with pytest.raises(ShardError, match="does not match"):
        Shard(tmp_path / "train-000000.tar")


def test_keys_alone_hold_no_records(shards_folder: Path) -> None:
    for shard in open_shards(shards_folder, "train"):
        shard.__dict__.pop("records", None)  # as one that was opened by its index
        keys = shard.keys
        assert "records" not in shard.__dict__  # a million clips have a gigabyte of them
        assert keys == [record.key for record in shard.records] == shard.keys
