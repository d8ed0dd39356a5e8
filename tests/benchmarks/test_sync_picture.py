"""The picture of a page is drawn by the command, and is small enough for docs/sync.md."""

from pathlib import Path

import pytest

from benchmarks import sync_picture
from benchmarks.sync_picture import PICTURE, WIDTH, find_browser
from data_tools.errors import UserError


def size_of(picture: Path) -> tuple[int, int]:
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def test_the_committed_picture_fits_a_page() -> None:
    width, height = size_of(PICTURE)
    assert width == WIDTH and 600 < height < 1200 and PICTURE.stat().st_size <= 200_000


def test_without_a_browser_it_says_so_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SYNCNET_BROWSER", "no-such-browser")
    assert sync_picture.main(["--out", str(tmp_path / "x.png")]) == 1
    assert sync_picture.main(["--seconds", "1"]) == 2
    said = capsys.readouterr().err
    assert "no Chromium on PATH" in said and "at least 3" in said and said.count("\n") == 2


@pytest.mark.slow
def test_the_command_writes_one_file(tmp_path: Path) -> None:
    try:
        find_browser()
    except UserError as none:
        pytest.skip(str(none))
    pytest.importorskip("playwright")
    out = tmp_path / "page.png"
    assert sync_picture.main(["--seconds", "8", "--out", str(out)]) == 0
    assert size_of(out)[0] == WIDTH and list(tmp_path.iterdir()) == [out]
