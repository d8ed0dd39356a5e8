"""The compact index says what idx and statistics say, and is never older than they are."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools import shard_index, shards, split_index
from data_tools.atomic import write_json
from data_tools.clips import SPLITS
from data_tools.manifest import (
    MANIFEST,
    NOTHING,
    ClipRecord,
    Manifest,
    ShardEntry,
    ShardError,
    read_stats,
)
from data_tools.shard_index import ShardIndex
from data_tools.shard_writer import Members, commit_shard, write_shard
from data_tools.shards import Shard, open_shards, open_split
from data_tools.split_index import index_paths
from data_tools.verifying import verify
from trainer.data.dataset import Dataset

# of a clip: bytes of each frame, MFCC columns, whether it has its sound, height
Clip = tuple[list[int], int, bool, int]
CLIPS = st.tuples(
    st.lists(st.integers(0, 1600), min_size=1, max_size=9),
    st.integers(1, 40),
    st.booleans(),
    st.integers(1, 65_500),
)
LONG_AGO = 10**9  # s


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Small splits are worth an index, too, and are checked piece by piece."""
    monkeypatch.setattr(split_index, "WORTH", 0)
    monkeypatch.setattr(shard_index, "_AT_ONCE", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def write(folder: Path, clips: Sequence[Sequence[Clip]], split: str = "train") -> Path:
    """Shards of clips of random bytes; written long ago."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    entries = []
    for number, of_shard in enumerate(clips):
        made = [_clip(f"c{number}-{at}", clip, rng) for at, clip in enumerate(of_shard)]
        tar = folder / f"{split}-{number:06d}.tar"
        commit_shard(tar, split, write_shard(tar, made), [])
        own = read_stats(tar).totals
        entries.append(ShardEntry(tar.name, split, own.clips, own.frames, own.bytes))
    manifest = Manifest(0, entries, dict.fromkeys(SPLITS, NOTHING), [])
    write_json(folder / MANIFEST, manifest.as_dict())
    age(folder)
    return folder


def _clip(key: str, clip: Clip, rng: np.random.Generator) -> tuple[ClipRecord, Members]:
    sizes, columns, flac, height = clip
    npy = io.BytesIO()
    np.save(npy, rng.standard_normal((columns, 13)).astype("<f4"))
    members = [("json", b"{}"), ("mfcc.npy", npy.getvalue())]
    members += [("flac", rng.bytes(700))] * flac
    members += [(f"{number:05d}.jpg", rng.bytes(size)) for number, size in enumerate(sizes)]
    return ClipRecord(key, key, key, len(sizes), columns, height, 7, 3, 0, "0" * 64), members


def age(folder: Path, seconds: int = LONG_AGO) -> None:
    for path in folder.iterdir():
        os.utime(path, (seconds, seconds))


def parsings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tars that are parsed from now on."""
    found: list[str] = []
    plain = shards.parse_shard

    def parse(tar: Path, absent: bool = False) -> tuple[ShardIndex, list[ClipRecord]]:
        found.append(tar.name)
        return plain(tar)

    monkeypatch.setattr(shards, "parse_shard", parse)
    return found


SOME: list[list[Clip]] = [
    [([600, 0, 512], 8, False, 32), ([513], 3, True, 64)],
    [([5, 1500], 20, True, 32)],
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(CLIPS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_index_says_what_idx_and_statistics_say(clips: list[list[Clip]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = write(Path(name) / "shards", clips)
        parsed = [Shard(folder / f"train-{number:06d}.tar") for number in range(len(clips))]
        made = open_shards(folder, "train")
        assert index_paths(folder, "train")[0].exists()
        mapped = open_split(folder, "train")
        assert not mapped.frames.flags.writeable  # a view of the file
        for plain, one, other in zip(parsed, made, mapped.shards, strict=True):
            for shard in (one, other):
                assert (shard.tar, shard.split, shard.keys) == (plain.tar, plain.split, plain.keys)
                assert shard.records == plain.records
                for what in ("clips", "frames", "first_frame", "offset", "size", "columns"):
                    np.testing.assert_array_equal(getattr(shard, what), getattr(plain, what))
                for clip, record in enumerate(plain.records):
                    np.testing.assert_array_equal(shard.mfcc(clip), plain.mfcc(clip))
                    for frame in range(record.frames):
                        assert bytes(shard.jpeg(clip, frame)) == bytes(plain.jpeg(clip, frame))
        dataset = Dataset(folder, "train")
        records = [record for shard in parsed for record in shard.records]
        assert dataset.frames.tolist() == [record.frames for record in records]
        shapes = [(record.height, record.width, record.channels) for record in records]
        assert list(dataset.frame_shapes) == list(dict.fromkeys(shapes))
        assert dataset.frame_shapes.total() == len(records)


def test_an_index_is_read_in_place_of_what_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "shards", SOME)
    parsed = parsings(monkeypatch)
    open_shards(folder, "train")
    assert parsed == ["train-000000.tar", "train-000001.tar"]
    dataset = Dataset(folder, "train")
    assert dataset.frames.tolist() == [3, 1, 2] and len(parsed) == 2


@pytest.mark.parametrize("suffix", [".tar", ".idx", ".json"])
@pytest.mark.parametrize("change", ["written", "longer", "gone"])
def test_a_file_that_changed_is_read_and_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, change: str
) -> None:
    folder = write(tmp_path / "shards", SOME)
    open_shards(folder, "train")
    parsed = parsings(monkeypatch)
    path = (folder / "train-000001").with_suffix(suffix)
    if change == "written":
        os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
        open_shards(folder, "train")
        assert len(parsed) == 2
        open_shards(folder, "train")
        assert len(parsed) == 2
    elif change == "gone":
        path.unlink()
        with pytest.raises(ShardError, match=f"{path} is missing"):
            open_shards(folder, "train")
    else:
        path.write_bytes(path.read_bytes() + b"x")
        age(folder)
        words = {".tar": "truncated or changed", ".idx": "does not match", ".json": "statistics"}
        with pytest.raises(ShardError, match=words[suffix]):
            open_shards(folder, "train")


def test_shards_packed_again_or_added_are_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", SOME)
    open_shards(folder, "train")
    write(folder, [*SOME, [([9], 4, False, 8)]])
    assert [len(shard) for shard in open_shards(folder, "train")] == [2, 1, 1]
    write(folder, SOME[:1])
    assert [len(shard) for shard in open_shards(folder, "train")] == [2]


def test_a_damaged_index_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "shards", SOME)
    open_shards(folder, "train")
    path = index_paths(folder, "train")[0]
    whole = path.read_bytes()
    parsed = parsings(monkeypatch)
    flipped = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 5)
    ]
    for damaged in (*flipped, b"", whole[:20], whole[:-1], whole + b"x"):
        path.write_bytes(damaged)
        parsed.clear()
        opened = open_split(folder, "train")
        assert len(parsed) == 2 and opened.frames[:, 1].tolist() == [600, 0, 512, 513, 5, 1500]
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("what", "row", "value"),
    [("mfcc", 0, 2**31), ("mfcc", 1, 2**31), ("columns", 2, 2**31), ("frames", 0, 0)]
    + [(column, row, value) for column in "01" for row in (2, 5) for value in (2**31, 2**32 - 1)],
)
def test_an_index_that_leads_out_of_its_tars_is_not_believed(
    tmp_path: Path, what: str, row: int, value: int
) -> None:
    """With right checksums, as who means harm would write it: no byte beside a tar is read."""
    folder = write(tmp_path / "shards", SOME)
    before = open_split(folder, "train")
    index = split_index.find_index(
        folder, "train", [("train-000000.tar", 2), ("train-000001.tar", 1)]
    )
    assert index is not None
    clips, frames = index.clips.copy(), index.frames.copy()
    if what in "01":
        frames[row, int(what)] = value
    else:
        clips[what][row] = value
    forged = split_index.SplitIndex("train", index.shards, clips, frames)
    path = index_paths(folder, "train")[0]
    split_index._write_index(path, forged)
    assert split_index._read_index(path) is None
    np.testing.assert_array_equal(open_split(folder, "train").frames, before.frames)


def test_a_folder_that_takes_no_file_has_its_index_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "shards", SOME)
    beside, cached = index_paths(folder, "train")
    beside.mkdir()  # no file can have that name: root may write to read-only folders
    parsed = parsings(monkeypatch)
    for _ in range(2):
        assert len(open_shards(folder, "train")) == 2
    assert len(parsed) == 2 and cached.is_file() and not caplog.records
    cached.unlink()
    cached.mkdir()
    for _ in range(2):
        assert len(open_shards(folder, "train")) == 2  # kept in memory
    assert len(parsed) == 6
    assert "no index of" in caplog.records[0].message


def test_no_index_is_kept_of_what_was_only_just_written_or_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "shards", SOME)
    (folder / "train-000000.idx").touch()
    assert len(open_shards(folder, "train")) == 2
    assert not index_paths(folder, "train")[0].exists()
    age(folder)
    monkeypatch.setattr(split_index, "WORTH", 7)  # one more than there are
    assert len(open_shards(folder, "train")) == 2
    assert not index_paths(folder, "train")[0].exists()


def test_an_index_of_other_shards_is_not_taken(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", SOME)
    other = write(tmp_path / "other", [[([7, 7], 4, False, 8)], [([8], 4, False, 8)]])
    for each in (folder, other):
        open_shards(each, "train")
    shutil.copy(index_paths(other, "train")[0], index_paths(folder, "train")[0])
    assert open_split(folder, "train").frames[:, 1].tolist() == [600, 0, 512, 513, 5, 1500]


def test_several_at_once_find_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", SOME)
    found: list[list[int]] = []

    def work() -> None:
        for _ in range(5):
            found.append(open_split(folder, "train").frames[:, 1].tolist())
            index_paths(folder, "train")[0].unlink(missing_ok=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[600, 0, 512, 513, 5, 1500]] * 20


def test_statistics_and_tars_that_change_while_in_use_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", SOME)
    first, second = open_shards(folder, "train")
    write(folder, [[([9], 4, False, 8)], [([90_000], 4, False, 8)]])
    with pytest.raises(ShardError, match=r"train-000000\.json was changed while in use"):
        first.keys  # noqa: B018
    with pytest.raises(ShardError, match=r"train-000001\.tar was changed while in use"):
        second.jpeg(0, 0)


def test_verify_takes_an_index_for_no_fault(tmp_path: Path, shards_folder: Path) -> None:
    copy = Path(shutil.copytree(shards_folder, tmp_path / "copy"))
    age(copy)
    open_shards(copy, "train")
    assert index_paths(copy, "train")[0].exists()
    assert verify(copy) == []
