"""A page in a real browser: it opens, draws, plays, seeks, mends, and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sync_picture import find_browser
from data_tools.errors import UserError
from page_rows import EVIL, jumping_row, made_row
from trainer.page.pages import PageOptions, write_page
from trainer.score.tolerance import Judged
from videos import head, write_video

SECONDS = 6.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, which is on PATH or which SYNCNET_BROWSER names."""
    try:
        found = find_browser()
    except UserError as none:
        pytest.skip(str(none))
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser-test]")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=found)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages about two videos, one that plays them from their files and one that holds them."""
    folder = tmp_path_factory.mktemp("pages")
    pictures, sound = head(5, 50, 64)
    repeat = round(SECONDS / 2)
    name = "12:30 a#b?c 50%.mp4"  # what must not be read as parts of a URL
    video = write_video(
        folder / name, pictures.repeat(repeat, axis=0)[: round(25 * SECONDS)], sound.repeat(repeat)
    )
    rows = [jumping_row(str(video), SECONDS), made_row(0, str(video), track="001", notes=EVIL)]
    gone = made_row(3, str(folder / f"{EVIL.replace('/', '')}.mp4"), doubts=EVIL, extra=EVIL)
    videos = [Judged(str(video), rows, [EVIL]), Judged(gone["video"], [gone], [])]
    write_page(folder / "page.html", videos, PageOptions())
    write_page(folder / "whole.html", videos, PageOptions(embed=True))
    return folder


class Opened:
    """A page in the browser, with everything that it asked for and said."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.page = browser.new_page(**context)
        self.requests: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-drawn]")

    def now(self) -> float:
        return float(self.page.evaluate("document.querySelector('video').currentTime"))

    def until(self, condition: str) -> None:
        """Wait for what is true of `p`, the first player.

        (Playwright's own waiting evaluates text in the page, which its policy forbids.)
        """
        true = self.page.evaluate(_WAIT % condition)
        assert true, f"{condition}: {self.page.evaluate(_STATE)}"


# Looked at before each of the page's own pictures: a busy machine must not miss the moment.
_WAIT = """new Promise((done) => {
  const p = syncnet.players[0], deadline = performance.now() + 20_000;
  const look = () => {
    if (%s) done(true);
    else if (performance.now() > deadline) done(false);
    else setTimeout(look, 10);
  };
  look();
})"""
_STATE = """(() => {
  const p = syncnet.players[0];
  return [p.video.currentTime, p.sound.currentTime, p.delay, p.video.paused, p.sound.paused];
})()"""


def test_a_page_draws_plays_seeks_and_mends(browser: Any, folder: Path) -> None:
    opened = Opened(browser, folder / "page.html", viewport={"width": 1100, "height": 900})
    page = opened.page
    assert page.locator("section.video").first.locator(".chart svg").count() == 6
    assert page.locator(".track").nth(2).locator(".chart svg").count() == 3
    opened.until("p.video.readyState >= 2")
    # a click in the middle of a chart over time goes to the middle of the video
    chart = page.locator("[data-chart=course]").first.bounding_box()
    x = page.evaluate(
        "(() => { const v = syncnet.players[0].views[1];"
        " return v.origin()[0] + v.padding().left + v.scale('x')(4.5); })()"
    )
    page.mouse.click(chart["x"] + x, chart["y"] + 40)
    opened.until("!p.video.seeking && Math.abs(p.video.currentTime - 4.5) < 0.1")
    at_cursor = "Math.abs(p.views[%d].signal('now') - 4.5) < 0.1"
    opened.until(f"{at_cursor % 0} && {at_cursor % 1}")
    page.locator("[data-chart=course]").nth(1).scroll_into_view_if_needed()
    opened.until(at_cursor % 3)
    assert page.locator(".time").inner_text() == "0:04.5 / 0:06.0"
    # the keyboard alone: two seconds back, a frame on, mended, played
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", ".", "m"):
        page.keyboard.press(key)
    opened.until("!p.video.seeking && Math.abs(p.video.currentTime - 0.54) < 0.1")
    assert page.locator(".mended").get_attribute("aria-pressed") == "true"
    assert page.locator(".moved").inner_text() == "80 ms later"
    page.keyboard.press("Space")
    apart = "p.sound.currentTime + p.delay - p.video.currentTime"
    opened.until(f"!p.sound.paused && p.video.currentTime > 1 && Math.abs({apart}) < 0.05")
    assert page.evaluate("[syncnet.players[0].video.muted, syncnet.players[0].sound.muted]") == [
        True,
        False,
    ]
    page.keyboard.press("Space")
    opened.until("p.video.paused && p.sound.paused")
    # beyond the jump the sound comes 240 ms earlier: it is late there
    page.locator(".seek").fill("5")
    opened.until("Math.abs(p.delay + 0.24) < 1e-6")
    opened.until(f"!p.sound.seeking && Math.abs({apart}) < 0.05")
    page.locator(".delay").fill("-100")
    assert page.locator(".moved").inner_text() == "100 ms earlier"
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.said == [] and page.evaluate("window.evil") is None


def test_a_page_holds_its_video_fits_a_phone_and_prints(browser: Any, folder: Path) -> None:
    phone = {"width": 390, "height": 844}
    opened = Opened(browser, folder / "whole.html", viewport=phone, color_scheme="dark")
    page = opened.page
    (folder / "12:30 a#b?c 50%.mp4").unlink()
    opened.until("p.video.readyState >= 2 && p.video.src.startsWith('blob:')")
    assert page.evaluate("document.documentElement.scrollWidth") <= phone["width"]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    page.emulate_media(media="print")
    assert not page.locator(".player").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
    assert opened.said == [] and page.evaluate("window.evil") is None
