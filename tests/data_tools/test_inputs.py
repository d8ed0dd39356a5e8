"""Which videos are meant, and how their clips are called."""

from __future__ import annotations

import os

import pytest

from data_tools.errors import UsageError
from data_tools.inputs import find_videos, settle_names


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
