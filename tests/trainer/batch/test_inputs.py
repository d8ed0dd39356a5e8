"""Folders, patterns, lists and names: which videos a batch takes, where their copies go."""

import os
from pathlib import Path

import pytest

from data_tools.errors import UsageError
from trainer.batch.inputs import batch_videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "sub/b.mkv", "sub/b.mp4", "notes.doc"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).write_text(name)
    return tmp_path / "v"


def test_folders_patterns_and_lists_name_videos(folder: Path, tmp_path: Path) -> None:
    def found(*given: Path) -> list[str]:
        videos, _ = batch_videos(list(given), tmp_path / "out", None)
        return [str(video.path).removeprefix(f"{tmp_path}/") for video in videos]

    every = ["v/a.mp4", "v/sub/b.mkv", "v/sub/b.mp4"]
    assert found(folder) == every and batch_videos([folder], tmp_path / "o", None)[1] == [
        "1 files were not taken for videos, by their suffix"
    ]
    assert found(folder / "**" / "*.m[pk][4v]") == [every[0], *every[1:]]
    (tmp_path / "list.txt").write_text("v/a.mp4\n# not\nv/gone.mp4\n")
    assert found(tmp_path / "list.txt") == ["v/a.mp4", "v/gone.mp4"]
    (folder / "[1].mp4").write_text("a name, not a pattern")
    assert found(folder / "[1].mp4") == ["v/[1].mp4"]
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    assert len(found(folder / "a.mp4", folder / "link.mp4", folder / "a.mp4")) == 1
    (folder / "a link.mp4").symlink_to(folder / "sub" / "b.mp4")
    assert [name for name in found(folder) if "link" in name] == []  # the files themselves are
    assert "2 names lead to videos" in batch_videos([folder], tmp_path / "o", None)[1][1]
    with pytest.raises(UsageError, match="fits no file"):
        found(folder / "*.avi")
    with pytest.raises(UsageError, match="does not exist"):
        found(folder / "c.mp4")


def test_a_name_that_no_file_can_have_and_a_link_to_itself_are_videos_that_cannot_be_read(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "round.mp4").symlink_to("round.mp4")
    (tmp_path / "list.txt").write_text(f"v/a.mp4\nv/round.mp4\n{'0' * 300}.mp4\n")
    for fixed in (None, tmp_path / "fixed"):
        videos, _ = batch_videos([tmp_path / "list.txt"], tmp_path / "out", fixed)
        assert {video.path.name for video in videos} == {"a.mp4", "round.mp4", f"{'0' * 300}.mp4"}
        assert len(batch_videos([folder], tmp_path / "out", fixed)[0]) == 4
    with pytest.raises(UsageError, match="does not exist"):
        batch_videos([Path("0" * 300)], tmp_path / "out", None)


def test_copies_lie_as_their_videos_do(folder: Path, tmp_path: Path) -> None:
    out, fixed = folder / "out", folder / "fixed"
    fixed.mkdir()
    (fixed / "a.mp4").write_text("a copy of the run before")
    videos, _ = batch_videos([folder, folder / "sub/../a.mp4"], out, fixed)
    assert [video.target for video in videos] == [
        fixed / name for name in ("a.mp4", "sub/b.mkv", "sub/b.mp4")
    ]
    assert [video.clash for video in videos] == ["", "", ""]
    odd = ["report_1.mp4", os.fsdecode(b"latin\xe9.mp4"), "new\nline.mp4", "test.mp4"]
    for name in odd:
        (folder / "odd").mkdir(exist_ok=True)
        (folder / "odd" / name).write_bytes(os.fsencode(name))
    named, _ = batch_videos([folder / "odd"], out, fixed)
    assert {video.target for video in named} == {fixed / name for name in odd}
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.mp4").write_text("another")
    both, _ = batch_videos([folder, tmp_path / "w"], out, fixed)
    assert sorted(video.clash[-36:] for video in both)[-1].endswith("same name; rename one of them")
    for option, place in (("--out", (folder, fixed)), ("--fix-dir", (out, folder))):
        with pytest.raises(UsageError, match=f"{option}: .* is where the videos are"):
            batch_videos([folder], *place)
