"""`verify` against changed statistics, manifests and indices, and any single flipped bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.manifest import ShardError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shards import Shard
from data_tools.tar_index import Member, index_tar
from data_tools.verifying import verify, verify_shard

MakeClip = Callable[..., Path]
Change = Callable[[dict[str, Any]], object]
TAR = "train-000000.tar"


@pytest.fixture(scope="module")
def intact(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of three small clips, and one clip left out."""
    root = tmp_path_factory.mktemp("verify")
    for number in range(2):
        make_clip(root / "clips" / "train" / f"c{number}", frames=8, seed=number)
    make_clip(root / "clips" / "val" / "c2", frames=8, seed=2)
    (make_clip(root / "clips" / "train" / "mute", frames=8) / "audio.wav").unlink()
    pack(root / "clips", root / "out", PackOptions(flac=True))
    assert verify(root / "out") == []
    return root / "out"


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy, free to be damaged."""
    return Path(shutil.copytree(intact, tmp_path / "out"))


def member(folder: Path, extension: str) -> Member:
    """A member of the last sample of the shard."""
    return next(m for m in index_tar(folder / TAR)[-1] if m.extension == extension)


def flip(path: Path, offset: int, mask: int = 0xFF) -> None:
    with open(path, "r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ mask]))


def edit(path: Path, change: Change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("extension", ["json", "mfcc.npy", "flac", "00005.jpg"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.99])
def test_flipped_byte_in_any_member_is_named_with_its_clip(
    folder: Path, extension: str, place: float
) -> None:
    hit = member(folder, extension)
    flip(folder / TAR, hit.offset + int(place * hit.size))
    assert any(fault.startswith(f"{TAR}: {hit.name.split('.')[0]}") for fault in verify(folder))


@pytest.fixture(scope="module")
def scratch(intact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of which each example damages, and mends, one bit."""
    return Path(shutil.copytree(intact, tmp_path_factory.mktemp("scratch") / "out"))


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_flipped_bit_of_content_or_index_is_found(scratch: Path, data: st.DataObject) -> None:
    path = scratch / data.draw(st.sampled_from([TAR, TAR.replace("tar", "idx")]))
    if path.suffix == ".tar":
        hit = data.draw(st.sampled_from([m for s in index_tar(path) for m in s]))
        offset = hit.offset + data.draw(st.integers(0, hit.size - 1))
    else:
        offset = data.draw(st.integers(0, path.stat().st_size - 1))
    mask = 1 << data.draw(st.integers(0, 7))
    flip(path, offset, mask)
    try:
        assert verify_shard(scratch / TAR) != []
    finally:
        flip(path, offset, mask)


def test_byte_that_is_no_text_in_the_index_is_found(folder: Path) -> None:
    idx = folder / "train-000000.idx"
    flip(idx, idx.read_bytes().index(b"00003.jpg"), 0x80)
    assert verify(folder) == ["train-000000.idx: does not match the tar"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v1.2 2", "v1.1 2"),
        ("v1.2 2", "v1.2 3"),
        ("json 512", "json 99999999999999999999999"),
        ("json 512", "json x"),
        ("json 512 ", "json 512"),
        ("mfcc.npy", "mfcc.npz"),
        ("00007.jpg", "00008.jpg"),
    ],
)
def test_shard_is_not_opened_with_an_index_that_does_not_fit(
    folder: Path, old: str, new: str
) -> None:
    idx = folder / "train-000000.idx"
    assert old in idx.read_text()
    idx.write_text(idx.read_text().replace(old, new))
    with pytest.raises(ShardError, match="does not match"):
        Shard(folder / TAR)


def first_clip(stats: dict[str, Any]) -> dict[str, Any]:
    clip: dict[str, Any] = stats["clips"][0]
    return clip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.clear(), "statistics"),
        (lambda s: s.pop("dropped"), "statistics"),
        (lambda s: s["clips"].pop(), "does not match"),
        (lambda s: s["dropped"].clear(), "left out"),
        (lambda s: s.update(split="val"), "split"),
        (lambda s: s.update(tar_bytes=1), "truncated or changed"),
        (lambda s: first_clip(s).update(source="x"), "source"),
        (lambda s: first_clip(s).update(hash="0"), "hash"),
        (lambda s: first_clip(s).update(columns=1), "does not match"),
        (lambda s: first_clip(s).update(frames=7), "does not match"),
        (lambda s: first_clip(s).update(channels=1), "channels"),
        (lambda s: first_clip(s).update(bytes=1), "size differs"),
        (lambda s: first_clip(s).update(frames="8"), "statistics are damaged"),
    ],
)
def test_changed_statistics_are_found(folder: Path, change: Change, message: str) -> None:
    edit(folder / "train-000000.json", change)
    faults = verify(folder)
    assert any(message in fault for fault in faults), faults
    assert all("val-000000" not in fault for fault in faults)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["shards"][0].update(clips=1), "2 clips, the manifest says 1"),
        (lambda m: m["shards"][0].update(frames=1), "16 frames, the manifest says 1"),
        (lambda m: m["shards"][0].update(bytes=1), "bytes, the manifest says 1"),
        (lambda m: m["shards"][0].update(split="val"), "the manifest says val"),
        (lambda m: m["splits"]["val"].update(clips=9), "totals"),
        (lambda m: m["dropped"].clear(), "left out"),
        (lambda m: m.update(clips_found=9), "add up to 9"),
        (lambda m: m["shards"].pop(), "not in the manifest"),
    ],
)
def test_changed_manifest_is_found(folder: Path, change: Change, message: str) -> None:
    edit(folder / "manifest.json", change)
    faults = verify(folder)
    assert any(message in fault for fault in faults), faults


@pytest.mark.parametrize("lost", ["shards", "splits", "dropped", "clips_found"])
def test_manifest_without_a_part_is_refused(folder: Path, lost: str) -> None:
    edit(folder / "manifest.json", lambda manifest: manifest.pop(lost))
    with pytest.raises(ShardError, match="not a manifest"):
        verify(folder)
