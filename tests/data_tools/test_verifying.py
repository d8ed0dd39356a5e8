"""Every kind of damage to a folder of shards is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.__main__ import main
from data_tools.clips import SPLITS
from data_tools.manifest import ShardError
from data_tools.packing import pack
from data_tools.plan import PackOptions
from data_tools.shards import Shard, open_shards
from data_tools.verifying import verify

MakeClip = Callable[..., Path]
TRAIN, VAL = "train-000000.tar", "val-000000.tar"


@pytest.fixture
def shards(shards_folder: Path, tmp_path: Path) -> Path:
    """A copy of the packed clips to damage."""
    return Path(shutil.copytree(shards_folder, tmp_path / "shards"))


def flip(path: Path, at: int, mask: int = 0xFF) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ mask]))


def test_undamaged_shards_have_no_fault(
    shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(shards_folder) == []
    assert main(["verify", str(shards_folder), "--workers", "1"]) == 0
    assert "12 clips, no fault" in capsys.readouterr().out


@pytest.mark.slow
def test_faults_do_not_depend_on_the_workers(shards: Path) -> None:
    (shards / VAL).with_suffix(".idx").unlink()
    assert verify(shards, workers=2) == verify(shards, workers=1) != []


def test_flipped_byte_in_a_jpeg_is_named_with_its_clip(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = Shard(shards / TRAIN)
    flip(shards / TRAIN, int(shard.offset[60] + shard.size[60] // 2))
    faults = verify(shards)
    assert f"{TRAIN}: {shard.keys[1]}: content differs from its hash" in faults
    assert main(["verify", str(shards), "--workers", "1"]) == 1
    assert f"faults in {len(list(shards.glob('*.tar')))} shards" in capsys.readouterr().out


def test_jpeg_that_no_longer_decodes_is_named_with_its_frame(shards: Path) -> None:
    shard = Shard(shards / TRAIN)
    flip(shards / TRAIN, int(shard.offset[3]))
    assert any(f"{shard.keys[0]}.00003.jpg" in fault for fault in verify(shards))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_truncated_tar_is_named(shards: Path, kept: float) -> None:
    content = (shards / TRAIN).read_bytes()
    (shards / TRAIN).write_bytes(content[: int(kept * len(content))])
    (fault,) = verify(shards)
    assert TRAIN in fault and "truncated or changed" in fault


@pytest.mark.parametrize("suffix", [".tar", ".idx", ".json"])
def test_missing_file_is_named(shards: Path, suffix: str) -> None:
    missing = (shards / VAL).with_suffix(suffix)
    missing.unlink()
    (fault,) = verify(shards)
    assert f"{missing} is missing" in fault


def test_index_of_another_shard_is_named(shards: Path) -> None:
    shutil.copy((shards / TRAIN).with_suffix(".idx"), (shards / VAL).with_suffix(".idx"))
    (fault,) = verify(shards)
    assert "val-000000.idx does not match" in fault


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_flipped_byte_anywhere_in_the_index_is_named(shards: Path, mask: int) -> None:
    idx = (shards / VAL).with_suffix(".idx")
    whole = idx.read_bytes()
    for at in range(0, len(whole), len(whole) // 20):
        flip(idx, at, mask)
        assert any("val-000000.idx" in fault for fault in verify(shards)), at
        idx.write_bytes(whole)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"clips": [{}], "dropped": [], "tar_bytes": 1}'])
def test_damaged_statistics_are_named(shards: Path, text: str) -> None:
    (shards / VAL).with_suffix(".json").write_text(text)
    assert any(VAL in fault and "statistics" in fault for fault in verify(shards))


def test_json_that_differs_from_the_statistics_is_named(shards: Path) -> None:
    path = (shards / VAL).with_suffix(".json")
    stats = json.loads(path.read_text())
    stats["clips"][0]["source"] = "elsewhere"
    path.write_text(json.dumps(stats))
    assert any("differs from the statistics in source" in fault for fault in verify(shards))


def test_clip_missing_from_the_statistics_is_named(shards: Path) -> None:
    path = (shards / VAL).with_suffix(".json")
    stats = json.loads(path.read_text())
    stats["clips"].pop()
    path.write_text(json.dumps(stats))
    assert any("the manifest says" in fault for fault in verify(shards))


def test_leftover_of_a_killed_run_is_named(shards: Path) -> None:
    (shards / f".{TRAIN}.partial-123").touch()
    (fault,) = verify(shards)
    assert f".{TRAIN}.partial-123: left over" in fault


def test_tar_that_the_manifest_does_not_list_is_named(shards: Path) -> None:
    shutil.copy(shards / VAL, shards / "val-000009.tar")
    assert verify(shards) == ["val-000009.tar: not in the manifest"]


def test_shard_whose_clips_were_all_left_out_has_no_fault(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    (make_clip(tmp_path / "clips" / "train" / "bad") / "audio.wav").unlink()
    make_clip(tmp_path / "clips" / "val" / "good")
    pack(tmp_path / "clips", tmp_path / "out", PackOptions())
    assert verify(tmp_path / "out") == []


def test_opening_damaged_shards_names_them_all(shards: Path) -> None:
    for split in SPLITS:
        (shards / f"{split}-000000.idx").unlink()
        with pytest.raises(ShardError, match=f"{split}-000000.idx is missing"):
            open_shards(shards, split)


@pytest.mark.parametrize("manifest", [None, "no JSON", "[]", "{}"])
def test_folder_that_is_not_of_shards_is_one_sentence_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str | None
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    assert main(["verify", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "manifest" in line
