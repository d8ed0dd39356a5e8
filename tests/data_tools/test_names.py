"""Names of files are names, whatever they look like."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from data_tools.atomic import atomic_path, try_writing
from data_tools.errors import UsageError
from data_tools.inputs import find_videos
from data_tools.names import (
    address,
    first_line,
    is_unplain,
    listed,
    open_plain,
    print_anything,
    real_path,
    shown,
)
from data_tools.synth.clips import synthesize
from videos import write_video

NAMES = [
    "12:30 interview.mkv",
    "talk: part 1.mkv",
    "file:x.mkv",
    "http:x.mkv",
    "concat:a|b.mkv",
    "subfile,,start,0,end,9,,:x.mkv",
    "pipe:0",
    "data:text",
    "-dash.mkv",
    "--",
    "%03d.mkv",
    "a\nb.mkv",
    " blanks ",
    "...",
    "[b]{}$x_{*?~.mkv",
    "a?b#c&d%20\\.mkv",
    "\x1b[31m.mkv",
    os.fsdecode(b"\xff\xfe.mkv"),
    "ü" * 125 + "x.mkv",
]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = np.zeros((5, 32, 32, 3), np.uint8)
    folder = tmp_path_factory.mktemp("video")
    return write_video(folder / "v.mkv", pictures, np.zeros(3200, np.int16), sound_codec="flac")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_ffmpeg_reads_and_writes_files_of_any_name(name, video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, out = Path(name), Path("out") / name
    source.write_bytes(video.read_bytes())
    out.parent.mkdir()
    with (
        av.open(address(source)) as given,
        av.open(address(out), "w", format="matroska") as made,
    ):
        assert len(given.streams) == 2
        copy = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                packet.stream = copy
                made.mux(packet)
    assert [file.name for file in out.parent.iterdir()] == [name]
    with av.open(address(out)) as given:
        assert len(list(given.decode(given.streams.video[0]))) == 5


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_files_of_any_name_are_written_whole(name, tmp_path):
    path = tmp_path / name
    try_writing(path)
    with atomic_path(path) as partial:
        partial.write_text("all of it")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_shown_in_one_line(name):
    text = shown(Path(name))
    assert len(text.splitlines()) == 1 and "\x1b" not in text
    assert text.encode().decode() == text
    if name.isprintable():
        assert text == name


def test_what_is_printable_is_shown_as_it_is():
    for name in ("日本　語.mp4", "é e\u0301.mp4", "👩‍👧.mp4", "a\u00a0b.mp4"):
        assert shown(name) == name


def test_a_list_holds_any_name_but_line_ends(tmp_path):
    names = [name for name in NAMES if "\n" not in name]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "#1.mkv").touch()
    lines = [*names, "# a comment", "", "  absent.mkv  ", "./#1.mkv"]
    file = tmp_path / "list.txt"
    for before, end in ((b"", b"\n"), (b"\xef\xbb\xbf", b"\r\n")):
        file.write_bytes(before + end.join(os.fsencode(line) for line in lines) + end)
        assert listed(file) == [*names, "absent.mkv", "./#1.mkv"]


def test_a_comment_of_a_list_may_be_long_and_a_first_word_is_all_that_counts(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text(f"# {'x' * 5000}\n#\0\na/b {'0.3 ' * 2000}\n")
    assert listed(file, first_word=True) == ["a/b"]
    with pytest.raises(OSError, match="can be no name of a file"):
        listed(file)
    file.write_text("y" * 5000 + " 0.3\n")
    with pytest.raises(OSError, match="can be no name of a file"):
        listed(file, first_word=True)


def test_a_link_to_itself_is_a_path_as_any_other(tmp_path):
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "link").symlink_to(tmp_path)
    assert real_path(tmp_path / "link" / "round" / "file") == tmp_path / "round" / "file"
    for name in (tmp_path / "round", tmp_path / ("x" * 300)):
        assert not is_unplain(name)
        with pytest.raises(OSError, match=r"symbolic links|name too long"):
            open_plain(name)


def test_no_message_fails_for_what_a_terminal_lacks(monkeypatch):
    for stream in ("stdout", "stderr"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(raw, "ascii", "strict"))
        print_anything()
        print("ü", os.fsdecode(b"\xff"), file=getattr(sys, stream), flush=True)
        assert raw.getvalue() == b"\\xfc \\udcff\n"


def test_folders_of_any_name_hold_clips(tmp_path):
    out = tmp_path / os.fsdecode(b"\xff:1")
    synthesize(out, clips=1, seed=0, size=32, seconds=1.0, workers=1)
    assert len(list(out.rglob("audio.wav"))) == 1


def test_an_error_about_a_name_is_one_line() -> None:
    name = os.fsdecode(b"a\n\xff")
    assert first_line(OSError(2, "No such", name)) == "a\\n\\xff: no such"


@pytest.mark.parametrize("line", ["a\0b.mp4", "a/" * 2100], ids=["NUL", "long"])
def test_a_list_of_what_is_no_name_is_refused(line, tmp_path):
    file = tmp_path / "list.txt"
    file.write_text(f"first.mp4\n{line}\n")
    with pytest.raises(UsageError, match=r"list\.txt: .*can be no name of a file"):
        find_videos([file])


def test_half_a_character_is_shown_escaped():
    assert shown("a\ud800\udcff\x1b") == "a\\ud800\\udcff\\x1b"
