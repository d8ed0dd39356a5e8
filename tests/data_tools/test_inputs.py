"""Which videos are meant, and how their clips are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.errors import UsageError
from data_tools.inputs import SUFFIXES, find_videos, settle_names
from data_tools.names import shown


def test_one_file_by_several_names_is_one_video(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"one")
    (folder / "other.mp4").write_bytes(b"one")  # the same bytes, but another file
    (folder / "b.mp4").symlink_to("a.mp4")
    os.link(folder / "a.mp4", folder / "sub" / "c.mp4")
    (tmp_path / "list.txt").write_text("in/a.mp4\n./in/a.mp4\nin/sub/../b.mp4\nin/gone.mp4\n")
    given = [folder, folder / "a.mp4", folder / "sub", tmp_path / "list.txt"]
    settled = settle_names(find_videos(given)[0])
    taken = {name: why for _, name, why in settled if not why}
    assert set(taken) == {"a", "other", "in/gone"}
    refused = [(name, why) for _, name, why in settled if why]
    assert len(refused) == 7
    for name, why in refused:
        assert name not in taken
        assert why == f"the same file as {folder / 'a.mp4'}"
    assert settled == settle_names(find_videos(given)[0])


def test_a_folder_named_twice_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"one")
    (tmp_path / "link").symlink_to("in")
    for again in (tmp_path / "in", tmp_path / "in" / "..", tmp_path / "link"):
        given = [tmp_path / "in", again / "in" if again.name == ".." else again]
        with pytest.raises(UsageError, match=r"is the same folder as .*/in: name it once"):
            find_videos(given)


def test_a_name_too_long_with_its_escapes_is_shortened(tmp_path):
    for last in (b"1", b"2"):
        (tmp_path / os.fsdecode(b"\xff" * 200 + last + b".mp4")).touch()
    names = {name for _, name in find_videos([tmp_path])[0]}
    assert len(names) == 2
    for name in names:
        (tmp_path / f"{name}.jpg").touch()


def test_names_are_cut_as_pathlib_cuts_them(tmp_path, monkeypatch):
    files = [
        "a.mp4", "A.MP4", "x..mp4", "x.y.mkv", ".hidden.mp4", "..mp4", "none", "mp4", "dot.",
        "b.txt", "sub/a.mp4", "sub/.deep/c.mov", "sub/b b.webm", "train.mp4", "train/x.mp4",
        "montage/x.mp4", "montages.mp4", "report.mp4", ".secret/y.avi", "\u00e9/\udcff.mp4",
        "c\nd.mp4", f"{'l' * 240}/x.mp4",
    ]  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / file).touch()
    (tmp_path / "loop").symlink_to(tmp_path)  # links to folders are not followed
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    videos, others = find_videos([tmp_path])
    inside = [f for f in tmp_path.rglob("*") if not f.is_dir() and not f.name.startswith(".")]
    known = [f for f in inside if f.suffix.lower() in SUFFIXES]
    assert sorted(file for file, _ in videos) == sorted(map(str, known))
    assert others == len(inside) - len(known) == 4
    named = dict(videos)
    for path in known:
        name = shown(path.relative_to(tmp_path).with_suffix(""))
        odd = name.startswith((".", "report", "montage/")) or name == "train"
        assert named[str(path)] == (f"_{name}" if odd else name)
    monkeypatch.chdir(tmp_path / "sub")
    assert [file for file, _ in find_videos([Path(".")])[0]] == [
        ".deep/c.mov", "a.mp4", "b b.webm",
    ]  # fmt: skip


def test_lines_of_a_list_name_videos_by_their_parts(tmp_path, monkeypatch):
    lines = ["/data//x/./a.mp4", "../up.b.mkv", "plain", "end.", "sub/.mp4", " in/blank.mp4 "]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.mp4").touch()
    (tmp_path / "own.txt").write_text("here.mp4\n./here.mp4\n")
    assert find_videos([Path("own.txt")])[0] == [("here.mp4", "here")] * 2
    found = find_videos([tmp_path / "list.txt"])[0]
    assert [name for _, name in found] == [
        "data/x/a", "end.", "in/blank", "plain", "sub/.mp4", "up.b",
    ]  # fmt: skip


@given(st.lists(st.text("ab/", min_size=1, max_size=5).map(lambda text: text.strip("/") or "a")))
def test_a_name_below_another_ones_is_refused_in_any_order(names):
    first: set[str] = set()
    settled = settle_names([(f"/gone/{n}.mp4", name) for n, name in enumerate(names)])
    for name, (_, now, why) in zip(names, settled, strict=True):
        above = any(name.startswith(f"{other}/") for other in first)
        assert ("among those of" in why) == (above and name not in first)
        assert ("has the same name" in why) == (name in first)
        assert (now == name) == (why == "")
        first.add(name)


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    for name in ("v/own/a.mp4", "elsewhere/b.mp4", "elsewhere/deep/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, leads_to in {
        "linked": "../elsewhere",
        "again": "../elsewhere",
        "within": "own",
        "loop": ".",
        "above": "../..",
    }.items():
        (tmp_path / "v" / name).symlink_to(leads_to)
    videos, _ = find_videos([tmp_path / "v"])
    assert [name for _, name in videos] == ["again/b", "again/deep/c", "own/a"]
