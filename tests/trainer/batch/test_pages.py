"""The pages of a batch: an index, what needs a look first, that leads to each; none made twice."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

from data_tools.records import RecordError
from data_tools.video.record import VideoFile
from page_rows import EVIL, jumping_row, made_row
from trainer.batch import pages
from trainer.batch.pages import write_pages
from trainer.batch.results import ResultFile, VideoResult
from trainer.page import charts
from trainer.page.pages import PageOptions
from trainer.score.tolerance import TOLERANCES


@pytest.fixture(autouse=True)
def no_vega(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundling takes seconds; tests/trainer/page has the real one."""
    monkeypatch.setattr(charts, "library", lambda: "/* Vega */")


def results(folder: Path, *found: VideoResult) -> Path:
    file = folder / "results.jsonl"
    with ResultFile(file) as stream:
        for result in found:
            stream.append(result)
    return file


def result(name: str, *rows: dict[str, object], **more: object) -> VideoResult:
    return VideoResult(name, VideoFile(f"/videos/{name}", 3, 4), "centred", list(rows), **more)


def named(index: Path) -> list[tuple[str, str]]:
    """The videos of an index with their statuses, in order; every link leads to a page."""
    text = index.read_text(encoding="utf-8")
    lines = re.findall(r'<tr data-status="(\w+)">.*?<a href="([^"]*)">([^<]*)</a>', text, re.DOTALL)
    for _, address, _ in lines:
        assert (index.parent / unquote(unescape(address))).is_file()
    return [(unescape(name), status) for status, _, name in lines]


def test_an_index_leads_to_each_and_begins_with_what_needs_a_look(tmp_path: Path) -> None:
    mend = {"done": "mended", "file": "m/off.mp4", "words": EVIL}
    file = results(
        tmp_path,
        result("sub/fine.mp4", made_row(0)),
        result("fine.mp4", made_row(1)),
        result("off.mp4", made_row(3), mend=mend),
        result("far.mp4", made_row(-9)),
        result("jumps.mp4", jumping_row("jumps.mp4", 6.0)),
        result(f"{EVIL.replace('/', '')}.mp4", left_out=[EVIL], failure="no offset"),
        result("\udcff\n.mp4", made_row(2, trusted=False)),
    )
    index = write_pages(file, "", PageOptions())
    assert index == tmp_path / "index.html" and "<script>window" not in index.read_text()
    assert named(index) == [
        ("far.mp4", "off"),
        ("off.mp4", "off"),
        ("jumps.mp4", "changes"),
        ("\\xff\\n.mp4", "unsure"),
        (f"{EVIL.replace('/', '')}.mp4", "none"),
        ("fine.mp4", "ok"),
        ("sub/fine.mp4", "ok"),
    ]
    (page,) = (tmp_path / "pages").glob("off-*.html")
    text = page.read_text()
    assert 'href="../index.html"' in text and 'src="vega.js"' in text
    assert "Mend: mended" in text and "m/off.mp4" in text and "<script>window" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.html",
        "pages",
        "results.jsonl",
    ]


def test_half_a_character_of_a_name_is_shown_escaped(tmp_path: Path) -> None:
    index = write_pages(results(tmp_path, result("\ud83d.mp4", made_row(0))), "", PageOptions())
    assert named(index) == [(r"\ud83d.mp4", "ok")]


@pytest.mark.parametrize(
    "change",
    [
        {"frame_confidence": 1.5},
        {"start_seconds": "early"},
        {"segments": [{}]},
        {"mean_distance_by_shift": {"x": 1.0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_result_that_another_hand_changed_is_named(
    change: dict[str, object], tmp_path: Path
) -> None:
    file = results(tmp_path, result("a.mp4", made_row(0) | change))
    with pytest.raises(RecordError, match=r"a\.mp4 that is not as it was written"):
        write_pages(file, "", PageOptions())


def test_an_offset_that_no_search_reaches_makes_no_bar_for_all_before_it() -> None:
    drawn = charts.histogram({2**31: 1, 0: 3})["data"]["values"]
    assert [bar["frames"] for bar in drawn] == [0, 2**31]
    assert len(charts.histogram({-500: 1, 500: 2})["data"]["values"]) == 1001


def test_a_page_is_written_again_only_if_it_would_be_another(tmp_path: Path) -> None:
    def stamps() -> dict[str, int]:
        return {p.name[:3]: p.stat().st_ino for p in (tmp_path / "pages").iterdir()}

    write_pages(results(tmp_path, result("aaa.mp4", made_row(0))), "", PageOptions())
    first = stamps()
    file = results(tmp_path, result("bbb.mp4", made_row(0)))
    write_pages(file, "", PageOptions())
    assert {name: stamps()[name] for name in first} == first and "bbb" in stamps()
    torn = next((tmp_path / "pages").glob("bbb*"))
    torn.write_text("<!doctype html>")
    killed = torn.with_name(f".{torn.name}.partial-1")
    killed.touch()
    write_pages(file, "", PageOptions())
    assert not killed.exists()
    assert "made-of" in torn.read_text() and stamps()["aaa"] == first["aaa"]
    write_pages(file, "", PageOptions(TOLERANCES["ebu-r37"]))
    assert stamps()["aaa"] != first["aaa"] and stamps()["veg"] == first["veg"]
    assert "ebu-r37" in (tmp_path / "index.html").read_text()


def test_thousands_stand_on_several_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LINES", 2)
    found = [result(f"{number}.mp4", left_out=["no face"]) for number in range(5)]
    index = write_pages(results(tmp_path, *found), "-00001-of-00002", PageOptions())
    parts = [index, *(index.with_name(f"{index.stem}-page{n}.html") for n in (2, 3))]
    assert [len(named(part)) for part in parts] == [2, 2, 1]
    assert sorted(path.name for path in tmp_path.glob("index*")) == sorted(p.name for p in parts)
    assert f'href="{parts[2].name}"' in parts[0].read_text()
    assert write_pages(results(tmp_path / "pages"), "", PageOptions()).is_file()  # of no video
