"""Packing folders from outside: names of any bytes, one clip by several names, bounds, damage."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hostile_clips as hostile
from data_tools.__main__ import main
from data_tools.clips import SPLITS, Clip, find_clips
from data_tools.manifest import ClipRecord, in_two_splits
from data_tools.packing import pack
from data_tools.plan import PackOptions, plan_shards
from data_tools.shards import open_shards
from data_tools.tar_index import index_tar
from data_tools.verifying import verify

MakeClip = Callable[..., Path]


def records(out: Path) -> dict[str, list[ClipRecord]]:
    return {
        split: [record for shard in open_shards(out, split) for record in shard.records]
        for split in SPLITS
    }


def names(out: Path) -> list[str]:
    return sorted(record.clip for split in records(out).values() for record in split)


def packed(clips: Path, out: Path, options: PackOptions | None = None) -> dict[str, str]:
    """Pack and verify; what was left out, each with its detail."""
    manifest = pack(clips, out, options or PackOptions())
    assert verify(out) == []
    assert manifest.clips_found == len(names(out)) + len(manifest.dropped)
    return {row.clip: f"{row.reason}: {row.detail}" for row in manifest.dropped}


# --- names

ODD_NAMES = [
    b"latin\xe9",
    b"\xff\xfe",
    b"line\nbreak",
    b"tab\tquote\"'`$(x)",
    b"key=value",
    b"-dash",
    b"--workers",
    b"space ",
    b"dot.",
    b"a..b",
    b"[red]",
    b":smile:",
    b"$\\frac$",
    "\u202eevil".encode(),
    unicodedata.normalize("NFC", "é").encode(),
    unicodedata.normalize("NFD", "é").encode(),
    "éclair 🎬".encode(),
    b"x" * 255,
    b"back\\slash",
    b"100%",
]


@pytest.fixture(scope="module")
def odd_clips(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odd") / "clips"
    for seed, name in enumerate(ODD_NAMES):
        made = make_clip(root / f"clip{seed}", frames=6, seed=seed)
        os.rename(os.fsencode(made), os.fsencode(root) + b"/" + name)
    return root


def test_clips_of_any_name_are_packed_and_named_in_text(odd_clips: Path, tmp_path: Path) -> None:
    assert packed(odd_clips, tmp_path / "out") == {}
    clips = names(tmp_path / "out")
    assert len(set(clips)) == len(ODD_NAMES)
    assert r"latin\xe9" in clips and r"\xff\xfe" in clips and r"line\nbreak" in clips
    members = [
        member.name
        for tar in (tmp_path / "out").glob("*.tar")
        for s in index_tar(tar)
        for member in s
    ]
    assert all(member.isascii() and " " not in member for member in members)


def test_the_screen_shows_any_name_on_one_line(
    odd_clips: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    clips = tmp_path / "clips"
    good = os.fsencode(odd_clips) + b"/dot."
    shutil.copytree(good, os.fsencode(clips / "good"))
    damages = {
        b"/\xff": ("audio.wav", r"no audio\s.*\s\\xff: neither"),
        b"/a\nb": ("frames/frame3.jpg", r"frame missing\s.*\sa\\nb: no frame 3"),
        b"/a[/red]": ("frames/frame0.jpg", r"length mismatch\s.*\sa\[/red\]: "),
    }
    for name, (lost, _) in damages.items():
        made = Path(os.fsdecode(shutil.copytree(good, os.fsencode(clips) + name)))
        (made / lost).unlink()
        if lost == "frames/frame0.jpg":
            soundfile.write(made / "audio.wav", np.ones(9 * 640, np.int16), 16_000)
    out = os.fsdecode(os.fsencode(tmp_path) + b"/out\xff")
    assert main(["pack", str(clips), out, "--workers", "1"]) == 1
    text = capfd.readouterr().out
    assert r"out\udcff" in text and "3 of 4 clips left out" in text
    for _, row in damages.values():
        assert re.search(row, text), text
    for command in (["info", out], ["verify", out, "--workers", "1"]):
        assert main(command) == 0
        assert r"out\udcff" in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_montage_takes_any_name(make_clip: MakeClip, tmp_path: Path) -> None:
    for seed, name in enumerate(("$\\frac$", "line\nbreak")):
        make_clip(tmp_path / "clips" / name, frames=6, seed=seed)
    pack(tmp_path / "clips", tmp_path / "out", PackOptions(ratios=(1, 0, 0)))
    picture = tmp_path / "look.png"
    arguments = ["info", str(tmp_path / "out"), "--montage", str(picture), "--clips", "2"]
    assert main([*arguments, "--frames", "2"]) == 0
    assert picture.stat().st_size > 0


def keys_of(names: list[str]) -> list[str]:
    clips = [Clip(name, Path(), None, name) for name in names]
    plan = plan_shards(clips, [[1]] * len(clips), PackOptions())
    keys = {clip.name: key for shard in plan for key, clip in shard.clips}
    return [keys[name] for name in names]


def test_keys_do_not_differ_by_case_alone() -> None:
    keys = keys_of(["Clip", "clip", "CLIP", "other"])
    assert len({key.lower() for key in keys}) == 4
    assert keys[3] == "other"


def test_a_clip_called_as_the_key_of_another_has_its_own() -> None:
    (hashed,) = keys_of(["a b"])
    keys = keys_of(["a b", hashed, hashed.upper()])
    assert len({key.lower() for key in keys}) == 3
    assert all(len(key) <= 80 for key in keys)


@given(
    st.lists(
        st.text(st.sampled_from("aAbB_ .é\u0301e"), min_size=1, max_size=6),
        min_size=1,
        max_size=30,
        unique=True,
    ).map(sorted)
)
def test_keys_are_unique_for_readers_without_case(names: list[str]) -> None:
    keys = keys_of(names)
    assert len({key.lower() for key in keys}) == len(names)


def test_bytes_that_look_like_the_letters_of_another_name_are_kept_apart(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    make_clip(tmp_path / "clips" / r"\xff", frames=6, seed=1)
    made = make_clip(tmp_path / "clips" / "other", frames=6, seed=2)
    os.rename(made, os.fsencode(tmp_path / "clips") + b"/\xff")
    assert packed(tmp_path / "clips", tmp_path / "out") == {}
    assert len(set(names(tmp_path / "out"))) == 2


# --- one clip by several names


@pytest.fixture
def several(make_clip: MakeClip, tmp_path: Path) -> Path:
    """Clips of four videos."""
    for number in range(8):
        make_clip(tmp_path / "clips" / f"video{number // 2}" / f"c{number}", frames=6, seed=number)
    return tmp_path / "clips"


def test_a_linked_folder_is_packed_once(several: Path, tmp_path: Path) -> None:
    (several / "again").symlink_to("video1")
    (several / "video0" / "twin").symlink_to(several / "video3" / "c6")
    dropped = packed(several, tmp_path / "out")
    assert set(dropped) == {"again/c2", "again/c3", "video0/twin"}
    assert dropped["again/c2"] == "same clip: the same as video1/c2 under another name"
    assert len(names(tmp_path / "out")) == 8


def test_a_split_that_is_a_link_to_another_is_not_packed_again(
    several: Path, tmp_path: Path
) -> None:
    (several / "train").mkdir()
    for video in list(several.glob("video*")):
        video.rename(several / "train" / video.name)
    (several / "val").symlink_to("train")
    dropped = packed(several, tmp_path / "out")
    assert len(dropped) == 8 and all(name.startswith("val/") for name in dropped)
    assert [len(found) for found in records(tmp_path / "out").values()] == [8, 0, 0]


def test_loops_and_links_to_links_end_and_lose_nothing(several: Path, tmp_path: Path) -> None:
    (several / "video0" / "up").symlink_to("..")
    (several / "self").symlink_to(".")
    (several / "knot").symlink_to("knot")
    (several / "nowhere").symlink_to("absent")
    ladder = tmp_path / "ladder"  # 2**30 ways to its foot
    for step in range(30):
        (ladder / str(step)).mkdir(parents=True)
        for side in "ab":
            (ladder / str(step) / side).symlink_to(ladder / str(step + 1))
    (ladder / "30").mkdir()
    (several / "ladder").symlink_to(ladder / "0")
    assert packed(several, tmp_path / "out") == {}
    assert len(names(tmp_path / "out")) == 8


def test_clips_outside_are_reached_by_links_as_before(
    several: Path, make_clip: MakeClip, tmp_path: Path
) -> None:
    make_clip(tmp_path / "elsewhere" / "x", frames=6, seed=20)
    (several / "linked").symlink_to(tmp_path / "elsewhere")
    assert packed(several, tmp_path / "out") == {}
    assert "linked/x" in names(tmp_path / "out")


def hard_linked(source: str, target: str) -> None:
    os.link(source, target)


@pytest.mark.parametrize("split_by", ["source", "clip"])
@pytest.mark.parametrize("how", [hard_linked, shutil.copy2], ids=["hard links", "copies"])
def test_the_same_files_are_one_clip(
    several: Path, tmp_path: Path, split_by: str, how: Callable[[str, str], object]
) -> None:
    for number in range(8):
        copied = several / f"other{number}" / "copy"
        shutil.copytree(several / f"video{number // 2}" / f"c{number}", copied, copy_function=how)
    options = PackOptions(ratios=(50, 25, 25), split_by=split_by)
    dropped = packed(several, tmp_path / "out", options)
    assert len(dropped) == 8
    hashes = {
        split: {record.hash for record in found}
        for split, found in records(tmp_path / "out").items()
    }
    assert sum(map(len, hashes.values())) == 8
    assert len(set.union(*hashes.values())) == 8


def test_one_clip_in_two_split_folders_stays_in_one(several: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(several / "video0", several / split / f"of_{split}")
    dropped = packed(several, tmp_path / "out")
    assert len(dropped) == 4
    found = [record.hash for split in records(tmp_path / "out").values() for record in split]
    assert len(set(found)) == len(found) == 8


def test_the_same_sound_stored_otherwise_is_the_same_clip(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several / "video0" / "c0", several / "video9" / "c0")
    wav = several / "video9" / "c0" / "audio.wav"
    audio, rate = soundfile.read(wav, dtype="float32")
    soundfile.write(wav, audio, rate, subtype="FLOAT")
    assert list(packed(several, tmp_path / "out")) == ["video9/c0"]


def test_the_same_pictures_with_other_sound_are_another_clip(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several / "video0" / "c0", several / "video9" / "dubbed")
    shutil.copy(several / "video1" / "c3" / "audio.wav", several / "video9" / "dubbed")
    assert packed(several, tmp_path / "out") == {}


def test_a_link_to_a_copy_names_what_is_packed(several: Path, tmp_path: Path) -> None:
    shutil.copytree(several / "video0" / "c0", several / "video9" / "copy")
    (several / "zlink").symlink_to("video9")
    dropped = packed(several, tmp_path / "out")
    assert set(dropped) == {"video9/copy", "zlink/copy"}
    assert all("the same as video0/c0" in words for words in dropped.values())


def test_left_out_twins_are_said_and_the_run_can_be_repeated(
    several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (several / "again").symlink_to("video1")
    command = ["pack", str(several), str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 1
    assert "same clip" in capsys.readouterr().out
    assert main([*command, "--allow-dropped"]) == 0


def test_one_clip_in_two_splits_is_found_by_pack_and_verify(
    several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two files that differ, and are the same once encoded anew.
    for split in ("train", "val"):
        shutil.copytree(several / "video0" / "c0", several / split / f"of_{split}" / "c")
    frame = several / "val" / "of_val" / "c" / "frames" / "frame0.jpg"
    content = frame.read_bytes()
    frame.write_bytes(content[:2] + b"\xff\xfe\x00\x04hi" + content[2:])
    shutil.rmtree(several / "video0")
    command = ["pack", str(several), str(tmp_path / "out"), "--workers", "1", "--size", "16"]
    assert main(command) == 1
    sentence = "train/of_train/c (train) and val/of_val/c (val) are the same clip"
    assert sentence in capsys.readouterr().out.replace("\n", " ")
    assert verify(tmp_path / "out") == [sentence]
    assert in_two_splits(sorted((tmp_path / "out").glob("*.tar"))) == [sentence]


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def closed(path: Path) -> object:
        if Path(path).name == "video2":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError, match="video2"):
        find_clips(several)


# --- bounds of options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", "1" + "0" * 400),
        ("--shard-mb", "1" + "0" * 400),
        ("--workers", "1000000000"),
        ("--size", "1" + "0" * 400),
        ("--quality", "1" + "0" * 400),
        ("--ratios", "1" + "0" * 400 + ":1:1"),
    ],
)
def test_numbers_of_pack_are_bounded(
    several: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
) -> None:
    assert main(["pack", str(several), str(tmp_path / "out"), option, value]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert option in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--clips", "--frames", "--seed"])
@pytest.mark.parametrize("value", ["1000000000", "1" + "0" * 400, "-1"])
def test_numbers_of_info_are_bounded(
    shards_folder: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    if option == "--seed" and value == "1000000000":
        pytest.skip("a seed may be that large")
    assert main(["info", str(shards_folder), option, value]) == 2
    assert option in capsys.readouterr().err


def test_workers_of_verify_are_bounded(
    shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(shards_folder), "--workers", "1000000000"]) == 2
    assert "at most 1024" in capsys.readouterr().err


# --- bytes at random in shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    hostile.shards_to_damage(folder)
    return folder


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damaged(shards: Path, suffix: str) -> st.SearchStrategy[bytes]:
    return hostile.mutations((shards / "shards" / f"{hostile.TRAIN}{suffix}").read_bytes())


@settings(FUZZ, max_examples=250)
@given(data=st.data())
def test_any_bytes_as_a_tar(shards: Path, data: st.DataObject) -> None:
    content = data.draw(damaged(shards, ".tar"))
    hostile.check_tar(content, shards)
    hostile.check_tar_of_its_size(content, shards)


@settings(FUZZ, max_examples=250)
@given(data=st.data())
def test_any_bytes_as_an_index(shards: Path, data: st.DataObject) -> None:
    hostile.check_idx(data.draw(damaged(shards, ".idx")), shards)
