"""Draws docs/sync_page.png, what `syncnet --html` writes:  python -m benchmarks.sync_picture

A synthetic talking head whose sound is early by two frames and, from the middle on, late by six,
measured by `python -m trainer.sync --html` and photographed in Chromium (extra [browser-test]).
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.options import VideoSeconds
from benchmarks.result import try_writing
from data_tools.atomic import atomic_path
from data_tools.cli import command, exit_status, parse
from data_tools.errors import MissingPackage, UserError
from data_tools.mfcc import FPS, SAMPLES_PER_FRAME

PICTURE = Path(__file__).parents[1] / "docs" / "sync_page.png"
EARLY, LATE = 2, 6  # frames
WIDTH = 900  # pixels
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """The program of Chromium: what SYNCNET_BROWSER names, or what is on PATH.

    Raises:
        UserError: there is none.
    """
    names = (os.environ.get("SYNCNET_BROWSER", ""), *_BROWSERS)
    found = next(filter(None, map(shutil.which, filter(None, names))), None)
    if found is None:
        raise UserError("no Chromium on PATH; install one, or name its program in SYNCNET_BROWSER")
    return found


def make_video(path: Path, seconds: float) -> None:
    """Write a head whose sound jumps in the middle."""
    from benchmarks.videos import write_video
    from data_tools.synth.clips import render_clip

    frames = round(seconds * FPS)
    heads, sound = render_clip(np.random.default_rng(3), frames, 200)
    pictures = np.full((frames, 270, 480, 3), (96, 104, 112), np.uint8)
    pictures[:, 35:235, 140:340] = heads
    middle, frame = frames // 2 * SAMPLES_PER_FRAME, SAMPLES_PER_FRAME
    late = sound[middle - LATE * frame : len(sound) - LATE * frame]
    moved = np.concatenate([sound[EARLY * frame : middle], np.zeros(EARLY * frame, np.int16), late])
    write_video(path, pictures, moved, (480, 270))


def photograph(page: Path, picture: Path) -> None:
    """Write a PNG of a page as Chromium shows it.

    Raises:
        MissingPackage: the extra [browser-test] is not installed.
        UserError: there is no Chromium.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingPackage(
            "playwright is not installed; this needs: pip install 'syncnet-trainer[browser-test]'"
        ) from None

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=find_browser())
        shown = browser.new_page(viewport={"width": WIDTH, "height": 600})
        shown.goto(page.absolute().as_uri())
        shown.wait_for_selector("html[data-drawn]")
        while shown.locator("video").evaluate("(video) => video.readyState") < 2:
            shown.wait_for_timeout(50)
        shown.locator(".mended").click()
        shown.locator(".seek").fill("7")
        while shown.locator("video").evaluate("(video) => video.seeking"):
            shown.wait_for_timeout(50)
        shown.wait_for_timeout(200)
        place = shown.locator("section.video").bounding_box()
        assert place is not None
        top, height = place["y"] - 12, place["height"]
        with atomic_path(picture) as partial:
            shown.screenshot(
                path=partial,
                type="png",
                clip={"x": 0, "y": top, "width": WIDTH, "height": height},
                full_page=True,
            )
        browser.close()


def main(argv: list[str] | None = None) -> int:
    """Command line; 2 wrong usage, 1 if the picture cannot be made."""
    parser = command("python -m benchmarks.sync_picture", __doc__ or "")
    parser.add_argument("--out", type=Path, default=PICTURE, help="PNG to write")
    parser.add_argument("--seconds", type=VideoSeconds, default=20.0, help="of the video")

    def work() -> None:
        from trainer import sync

        args = parse(parser, argv)
        try_writing(args.out)
        find_browser()
        with tempfile.TemporaryDirectory() as name:
            video, page = Path(name) / "talk.mp4", Path(name) / "report.html"
            make_video(video, args.seconds)
            before = Path.cwd()
            os.chdir(name)  # so that the page names the file alone
            try:
                status = sync.main([video.name, "--html", page.name])
            finally:
                os.chdir(before)
            if status != 0:
                raise UserError(f"trainer.sync ended with status {status}")
            photograph(page, args.out.absolute())
        print(f"wrote {args.out}")

    return exit_status("sync_picture", work, "stopped")


if __name__ == "__main__":
    sys.exit(main())
