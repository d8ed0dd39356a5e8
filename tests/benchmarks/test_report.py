"""What the README and docs show is what results/*.json hold, each block once."""

from pathlib import Path

import pytest

from benchmarks import report


def test_every_page_holds_the_committed_figures() -> None:
    texts = {path: path.read_text() for path in report.pages()}
    report.check_places(texts)
    for text in texts.values():
        assert report.rendered(text) == text


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all pages."""
    for page in report.pages():
        path = tmp_path / page.relative_to(report.ROOT)
        path.parent.mkdir(exist_ok=True)
        path.write_text(page.read_text())
    (tmp_path / "docs").mkdir(exist_ok=True)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    return tmp_path


def page_with(line: str) -> tuple[Path, str]:
    """The page that has a line that begins so, and that line."""
    for page in report.pages():
        for text in page.read_text().splitlines():
            if text.startswith(line):
                return page, text
    raise AssertionError(line)


def test_the_check_fails_where_a_figure_was_typed(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, row = page_with("| libjpeg-turbo")
    page.write_text(page.read_text().replace(row, row + " 1", 1))
    assert report.main(["--check"]) == 1
    error = capsys.readouterr().err
    assert "differs" in error and page.name in error
    assert report.main([]) == 0 and report.main(["--check"]) == 0


def test_a_block_may_move_to_another_page(copy: Path) -> None:
    page, marker = page_with("<!-- results: shifts")
    text = page.read_text()
    start = text.index(marker)
    end = text.index("<!-- end -->", start) + len("<!-- end -->\n")
    page.write_text(text[:start] + text[end:])
    (copy / "docs" / "new.md").write_text(f"# New\n\n{marker}\n<!-- end -->\n")
    assert report.main([]) == 0 and report.main(["--check"]) == 0
    assert "| shift recovery |" in (copy / "docs" / "new.md").read_text()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("<!-- results: shifts -->\n<!-- end -->\n", "'shifts' stands twice: "),
        ("<!-- results: nothing -->\n<!-- end -->\n", "docs/new.md has a block 'nothing'"),
        ("<!-- results: shifts -->\n", "docs/new.md: a block lacks its <!-- end -->"),
    ],
)
def test_a_block_out_of_place_is_named(
    copy: Path, block: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "docs" / "new.md").write_text(block)
    assert report.main(["--check"]) == 1 and report.main([]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 2


def test_a_block_that_stands_nowhere_is_named(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, marker = page_with("<!-- results: shifts")
    page.write_text(page.read_text().replace(marker, "", 1))
    assert report.main(["--check"]) == 1
    assert "'shifts' stands in no page" in capsys.readouterr().err


def test_a_result_older_than_its_table_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "_read", lambda name: {"videos": 3})
    assert report.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "has no '" in said and "measure it again" in said and said.count("\n") == 1


def test_a_typed_figure_would_be_found() -> None:
    page, row = page_with("| libjpeg-turbo")
    text = page.read_text()
    assert report.rendered(text.replace(row, row + " 1")) == text
