"""Videos at a URL and on standard input."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from data_tools import elsewhere
from data_tools.elsewhere import Copies, Elsewhere, ElsewhereError, check_videos, video_name
from data_tools.errors import UsageError
from data_tools.remote import RemoteError
from servers import serving


class Piped(io.TextIOWrapper):
    """Standard input that holds bytes."""

    def __init__(self, content: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_names_that_are_files_stay_files() -> None:
    for name in ("a.mp4", "12:30 x.mp4", "./-", "talk: part 1.mp4", "http:x.mp4"):
        assert video_name(name) == Path(name)
    assert video_name("-") == Elsewhere("-") and str(video_name("-")) == "stdin"
    with pytest.raises(UsageError, match="empty"):
        video_name("")


@pytest.mark.parametrize(
    ("url", "shown", "name"),
    [
        ("https://u:pw@h.org/a/x%20y.mp4?sig=abc", "https://h.org/a/x%20y.mp4", "x y.mp4"),
        ("s3://bucket/x.mp4", "s3://bucket/x.mp4", "x.mp4"),
        ("s3://bucket/a/b/x.mp4", "s3://bucket/a/b/x.mp4", "x.mp4"),
    ],
)
def test_a_url_shows_no_secret(url: str, shown: str, name: str) -> None:
    video = video_name(url)
    assert (str(video), video.name) == (shown, name)
    assert "pw" not in repr(video) and "abc" not in repr(video)


@pytest.mark.parametrize(
    "url", ["https://h.org", "https://h.org/", "s3://bucket", "ftp://u:pw@h/x"]
)
def test_what_is_no_file_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"names no file|no URL that can be read") as error:
        video_name(url)
    assert "pw" not in str(error.value)


def test_a_url_is_copied_and_the_copy_removed(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"a" * 5000)
    (tmp_path / "y.mp4").write_bytes(b"b" * 10)
    with serving(tmp_path) as web, Copies() as copies:
        host = web.url.removeprefix("http://")
        one, two = (video_name(f"http://me:pw@{host}/{name}.mp4?sig=1") for name in "xy")
        path = copies.local(one)
        assert path.name == "x.mp4" and path.read_bytes() == b"a" * 5000
        assert copies.local(one) == path and web.asked["GET", "x.mp4"] == 1
        other = copies.local(two)
        assert other.read_bytes() == b"b" * 10 and not path.exists()
        assert copies.local(tmp_path) == tmp_path
        with pytest.raises(RemoteError, match=r"z\.mp4 is missing: HTTP 404") as error:
            copies.local(video_name(f"http://me:pw@{host}/z.mp4?sig=1"))
        assert "pw" not in str(error.value) and "sig" not in str(error.value)
    assert not other.parent.exists()


def test_a_file_that_grows_is_no_matter_of_manifests(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.mp4").write_bytes(b"a" * 5000)
    sizes = iter((4000, 5000))
    monkeypatch.setattr(elsewhere.Remote, "size", lambda *_: next(sizes))
    with (
        Copies() as copies,
        pytest.raises(ElsewhereError, match=r"x\.mp4 was written to meanwhile"),
    ):
        copies.local(video_name(f"file://{tmp_path}/x.mp4"))


def test_a_size_that_is_not_known_is_no_hindrance(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.mp4").write_bytes(b"a" * 5000)
    monkeypatch.setattr(elsewhere.Remote, "size", lambda *_: None)
    with Copies() as copies:
        path = copies.local(video_name(f"file://{tmp_path}/x.mp4"))
        assert path.read_bytes() == b"a" * 5000 and path.parent != tmp_path


def test_standard_input_is_read_to_its_end(monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", Piped(b"a" * 3_000_000))
    with Copies() as copies:
        path = copies.local(Elsewhere("-"))
        assert path.stat().st_size == 3_000_000
        assert copies.local(Elsewhere("-")) == path
    for stdin, words in ((Piped(b""), "stdin is empty"), (Piped(b"a", True), "is a terminal")):
        monkeypatch.setattr("sys.stdin", stdin)
        with Copies() as copies, pytest.raises(ElsewhereError, match=words):
            copies.local(Elsewhere("-"))


def test_a_full_disk_is_one_sentence(monkeypatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(elsewhere, "_read_stdin", full)
    with Copies() as copies, pytest.raises(ElsewhereError, match="has no room for a copy"):
        copies.local(Elsewhere("-"))
    assert list(tmp_path.iterdir()) == []


def test_videos_that_do_not_go_together() -> None:
    url = video_name("https://u:pw@h.org/x.mp4")
    check_videos([url, Path("a.mp4"), Elsewhere("-")], None, batch=False)
    with pytest.raises(UsageError, match=r"give https://h\.org/x\.mp4 without it"):
        check_videos([Path("a.mp4"), url], None, batch=True)
    signed = [video_name(f"https://h.org/x.mp4?id={number}") for number in (1, 2)]
    check_videos([signed[0], signed[0]], None, batch=False)
    for two in (signed, [Elsewhere("-"), Path("stdin")]):
        with pytest.raises(UsageError, match=r"both be called (https://h\.org/x\.mp4|stdin)"):
            check_videos(two, None, batch=False)
    with pytest.raises(UsageError, match="given once"):
        check_videos([Elsewhere("-"), Elsewhere("-")], None, batch=False)
    with pytest.raises(UsageError, match="or a language like en"):
        check_videos([url], "klingon", batch=False)


def test_a_folder_is_for_many_videos(tmp_path: Path) -> None:
    check_videos([tmp_path], None, batch=True)
    with pytest.raises(UsageError, match="is a folder, which needs --out RESULTS"):
        check_videos([Path("a.mp4"), tmp_path], None, batch=False)
