"""Pages as files: whole, escaped, asking nobody for anything; no browser needed."""

from __future__ import annotations

import base64
import io
import json
import resource
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from page_rows import EVIL, jumping_row, made_row
from trainer import sync
from trainer.page.content import video_verdict, video_view
from trainer.page.pages import PageOptions, address_from, check_embedded, page_text, write_page
from trainer.page.pictures import SIDE, face_pictures
from trainer.score.tolerance import TOLERANCES, Judged
from videos import write_video

PLAIN = PageOptions()
VOID = {"meta", "link", "img", "input", "br"}


class Parsed(HTMLParser):
    """A page's elements, its text outside of scripts and styles, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag == "script":
            self.scripts.append((found, ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] = self.scripts[-1][0], self.scripts[-1][1] + data
        elif self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> Any:
        return next(json.loads(text) for about, text in self.scripts if about.get("id") == "data")


def parsed(*rows: dict[str, Any], options: PageOptions = PLAIN, **more: Any) -> Parsed:
    view = video_view(Judged("a.mp4", list(rows), more.pop("left_out", [])), options.tolerance)
    return Parsed(page_text([view], "a page", options, **more))


def test_the_command_writes_a_page_by_itself(
    video: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bad = tmp_path / "out.html", tmp_path / "<script>alert(1)<.mp4"
    bad.write_bytes(b"no video")
    names = [str(video), str(bad)]
    arguments = ["--weights", str(weights), "--prepared", "--crop", "mouth", "--html", str(out)]
    assert sync.main([*names, *arguments]) == 1
    assert f"wrote {out}" in capsys.readouterr().out
    page = Parsed(out.read_text(encoding="utf-8"))
    assert [about.get("aria-label") for about in page.all("video")] == [str(video)]
    (player,) = page.all("video")
    assert (tmp_path / player["src"]).resolve() == video.resolve()
    assert page.all("img")[0]["src"].startswith("data:image/jpeg;base64,")
    assert str(bad) in page.text and "not a readable video" in page.text
    assert len(page.data) == 2 and len(page.data[0]["tracks"]) == 1
    assert 700_000 < out.stat().st_size < 1_200_000  # Vega is in it


def test_nothing_is_fetched_and_only_our_scripts_run() -> None:
    page = parsed(made_row(), jumping_row("a.mp4", 6.0), script="/* Vega */")
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-")
    nonce = policy.split("'nonce-")[1].split("'")[0]
    ours = [about for about, _ in page.scripts if "type" not in about]
    assert len(ours) == 2 and all(about == {"nonce": nonce} for about in ours)
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert "//" not in attributes.get(name, "")
    assert all("alt" in about for about in page.all("img"))


def test_what_files_say_is_escaped_everywhere() -> None:
    evil = {"notes": EVIL, "doubts": EVIL, "over_time": EVIL, "meaning": EVIL, "odd": EVIL}
    clean = parsed(
        made_row(0, notes="n", doubts="d", over_time="t", odd="o"), left_out=["x"], back="i.html"
    )
    page = parsed(made_row(0, track=EVIL, **evil), left_out=[EVIL], back="i.html")
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in clean.elements]
    assert page.text.count("<script>window.evil") >= 5
    data = next(text for about, text in page.scripts if about.get("id") == "data")
    assert "<" not in data and ">" not in data


@pytest.mark.parametrize(
    ("rows", "tolerance", "status", "words"),
    [
        ([made_row(0)], None, "ok", "In sync"),
        ([made_row(1)], None, "ok", "In sync within a frame (+40 ms)"),
        ([made_row(3)], None, "off", "Audio is 120 ms early; delay it by 120 ms"),
        ([made_row(2)], "bt1359", "ok", "Audio is 80 ms early; delay it by 80 ms"),
        ([made_row(3)], "bt1359", "off", "Audio is 120 ms early; delay it by 120 ms"),
        ([made_row(2, trusted=False)], None, "unsure", "Not sure; best guess: +80 ms"),
        ([made_row(0), made_row(2, trusted=False)], None, "ok", "In sync"),
        ([made_row(1, clearness=20.0), made_row(2)], None, "off", "Audio is 80 ms early"),
        ([made_row(5), made_row(-2)], None, "off", "Its faces differ: by -80 to +200 ms"),
        ([jumping_row("a", 6.0), made_row(0)], "netflix", "changes", "The offset changes: audio"),
        ([], None, "none", "No offset could be measured"),
    ],
)
def test_the_verdict_is_said_in_words_and_by_a_sign(
    rows: list[dict[str, Any]], tolerance: str | None, status: str, words: str
) -> None:
    options = PageOptions(None if tolerance is None else TOLERANCES[tolerance])
    page = parsed(*rows, options=options)
    sign = next(about for tag, about in page.elements if about.get("class", "").startswith("sign"))
    assert sign["class"] == f"sign {status}" and words in page.text
    assert video_verdict(rows, options.tolerance).words.startswith(words)


def test_charts_hold_what_was_measured() -> None:
    row = jumping_row("a.mp4", 6.0)
    (specs,) = parsed(row, options=PageOptions(TOLERANCES["ebu-r37"])).data[0]["tracks"]
    curve = {point["frames"]: point["y"] for point in specs["curve"]["data"]["values"]}
    assert curve == {-int(s): y for s, y in row["mean_distance_by_shift"].items()}
    assert min(curve, key=lambda offset: curve[offset]) == row["offset_frames"]
    course = specs["course"]["data"]["values"]
    assert [(part["t"], part["t2"], part["ms"]) for part in course] == [(0, 3, 80), (3, 6, -240)]
    long = made_row(frame_confidence=[0.5] * 90_000 + [None] * 10_000, end_seconds=4000.0)
    values = parsed(long).data[0]["tracks"][0]["confidence"]["data"]["values"]
    assert len(values) == 400 and values[0]["c"] == 0.5 and values[-1]["c"] is None
    assert values[-1]["t"] == pytest.approx(4000, abs=10)


def test_fields_that_it_does_not_know_are_listed_and_a_speaker_is_named() -> None:
    page = parsed(
        made_row(speaking=0.834, speaker="speaks", mended_by="resampling", more=[1], flag=True)
    )
    assert "Speaks (best fit 83 % of the time)" in page.text
    assert "mended by" in page.text and "resampling" in page.text
    bare = made_row(lse_c=None, lse_d=float("nan"), clearness=None, probability=None)
    del bare["face"], bare["segments"], bare["over_time"], bare["jumps"], bare["drift_ppm"]
    assert "not known" in parsed(bare).text  # of a version that followed no offset
    silent = parsed(made_row(speaking=None), made_row(speaking="odd", speaker="speaks"), bare)
    assert "peaks" not in silent.text
    others = parsed(
        made_row(speaking=0.12, speaker="listens"), made_row(speaking=0.5, speaker="not sure")
    )
    assert "Listens" in others.text and "Not sure whether it speaks" in others.text
    assert "of the time" not in others.text


def test_a_face_is_shown_where_and_when_it_was(tmp_path: Path) -> None:
    pictures = np.zeros((50, 96, 192, 3), np.uint8)
    pictures[:25, :, :96, 0] = pictures[25:, :, :96, 2] = 220  # left: red, from 1 s on blue
    video = write_video(tmp_path / "v.mp4", pictures, np.zeros(32_000, np.int16), gop=10)
    places = [(0.5, [10, 10, 60, 60]), (1.5, [10, 10, 60, 60]), (1.5, [130, 20, 180, 70])]
    rows = [made_row(face={"seconds": s, "box": box}) for s, box in places] + [made_row()]
    found, seconds = face_pictures(video, rows)
    assert seconds == pytest.approx(2, abs=0.1)
    means = []
    for picture in found:
        bytes_ = base64.b64decode(picture.removeprefix("data:image/jpeg;base64,"))
        image = Image.open(io.BytesIO(bytes_))
        assert image.size == (SIDE, SIDE)
        means.append(np.asarray(image).mean(axis=(0, 1)).round(-2).tolist())
    assert means[:3] == [[200, 0, 0], [0, 0, 200], [0, 0, 0]]
    assert face_pictures(video, []) == ([], 0.0)  # not opened: it would know its length
    assert face_pictures(tmp_path / "gone.mp4", rows) == ([""] * 4, 0.0)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    assert face_pictures(tmp_path / "bad.mp4", rows) == ([""] * 4, 0.0)


def test_a_file_s_address_is_no_other_s(tmp_path: Path) -> None:
    assert address_from(tmp_path, tmp_path / "12:30 a#b?c 50%.mp4") == (
        "./12%3A30%20a%23b%3Fc%2050%25.mp4"
    )
    assert address_from(tmp_path / "pages", tmp_path / "v.mp4") == "./../v.mp4"
    assert address_from(tmp_path, tmp_path / "\udcff.mp4") == "./%FF.mp4"


def test_a_video_too_large_to_be_held_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(201 << 20)
    with pytest.raises(ValueError, match=r"--embed: .*large\.mp4 has 201 MB.*at most 200 MB"):
        check_embedded([large])


def test_a_page_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    out.write_text("before")
    with pytest.raises(OSError, match=r"page\.html"):
        with_no_room(lambda: write_page(out, [Judged("a.mp4", [made_row()], [])], PLAIN))
    assert out.read_text() == "before" and [path.name for path in tmp_path.iterdir()] == [out.name]


def with_no_room(work: Callable[[], None]) -> None:
    """Do what may write files of 100 kB at most."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_not_installed_is_named(
    video: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert sync.main([str(video), "--weights", str(weights), "--html", "x.html"]) == 1
    said = capsys.readouterr().err
    assert "vl_convert is not installed" in said and "pip install 'syncnet-trainer[html]'" in said
