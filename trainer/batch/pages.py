"""Pages of a batch: an index, what needs a look first, and a page for each video.

All are made from results.jsonl, one video in memory at a time. A page that was made of the same
result before is left as it is, so that going on costs nothing for what is done.
"""

import hashlib
import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from data_tools.atomic import remove_partials
from data_tools.names import shown
from data_tools.progress import progress
from trainer.batch.report import as_written, in_order, judged
from trainer.batch.results import VideoResult
from trainer.page import charts
from trainer.page.content import ORDER, Status, video_verdict
from trainer.page.pages import (
    EMBEDDED_MB,
    PageOptions,
    digest_of,
    page_text,
    render,
    view_of,
    write_text,
)

PAGES = "pages"  # the folder below OUT
LIBRARY = "vega.js"
LINES = 500  # videos on one page of the index
_HEAD = 600  # bytes of a page in which its digest stands
_MADE_OF = re.compile(rb'<meta name="made-of" content="(\w+)">')


@dataclass(frozen=True)
class Line:
    """A video in the index."""

    status: Status
    far: float  # how far its sound is off at most, milliseconds
    name: str
    address: str
    words: str
    tracks: int


def write_pages(file: Path, part: str, options: PageOptions) -> Path:
    """Write the pages of all results in a file; returns the index.

    Args:
        file: results.jsonl; the pages lie beside it.
        part: of the videos, as `RunOptions.part`.

    Raises:
        RecordError: a result is not as it was written.
        MissingPackage: the extra [html] is not installed.
        OSError: a page cannot be written.
    """
    out = file.parent
    folder = out / PAGES
    folder.mkdir(exist_ok=True)
    if not part:  # parts write side by side
        remove_partials(folder)
    _write_library(folder / LIBRARY)
    lines: list[Line] = []
    frames: Counter[int] = Counter()
    count = sum(1 for _ in in_order(file))
    with progress("writing pages", count, "pages") as advance:
        for result in in_order(file):
            page = folder / page_name(result)
            with as_written(file, result):
                write_video_page(page, result, options, f"../index{part}.html")
                lines.append(_line(result, options, f"{PAGES}/{page.name}"))
                frames.update(row["offset_frames"] for row in result.tracks if row["trusted"])
            advance(1)
    lines.sort(key=lambda line: (ORDER.index(line.status), -line.far, line.name))
    return _write_index(out, part, lines, frames, options)


def page_name(result: VideoResult) -> str:
    """The name of a video's page: readable, and of this file alone."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(result.video).stem)[:60].strip("-")
    digest = hashlib.sha256(result.file.path.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{stem or 'video'}-{digest}.html"


def write_video_page(page: Path, result: VideoResult, options: PageOptions, back: str) -> None:
    """Write the page of a video, unless it is there and made of the same.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(result.file.path)
    there = path.is_file()
    made_of = digest_of(result.line(), options, back, there)
    if page.is_file():
        with page.open("rb") as stream:
            found = _MADE_OF.search(stream.read(_HEAD))
        if found and found[1].decode() == made_of:
            return
    if options.embed and there and path.stat().st_size > EMBEDDED_MB << 20:
        print(
            f"--embed: {shown(result.video)} is larger than {EMBEDDED_MB} MB; its page plays it "
            "from its file",
            file=sys.stderr,
        )
    more = () if result.mend is None else (_mend_words(result.mend),)
    # By its full name: it is found whatever the folder of whoever writes pages.
    video = judged(result)._replace(video=result.file.path)
    view = replace(view_of(video, options, page.parent, more), name=shown(result.video))
    text = page_text(
        [view],
        f"Sync of {shown(Path(result.video).name)}",
        options,
        script_at=LIBRARY,
        back=back,
        made_of=made_of,
    )
    write_text(page, text)


def _mend_words(mend: dict[str, object]) -> str:
    words = [f"Mend: {mend.get('done')}"]
    words += [str(mend[name]) for name in ("words", "file") if mend.get(name)]
    return shown("; ".join(words))


def _write_library(path: Path) -> None:
    # The same script for all pages; bundling it takes seconds, so it is kept.
    if not path.exists():
        write_text(path, charts.library())


def _line(result: VideoResult, options: PageOptions, address: str) -> Line:
    verdict = video_verdict(result.tracks, options.tolerance)
    words = verdict.words if result.tracks else "; ".join(result.left_out) or verdict.words
    far = max([abs(row["offset_ms"]) for row in result.tracks if row["trusted"]], default=0)
    return Line(verdict.status, far, shown(result.video), address, shown(words), len(result.tracks))


def _write_index(
    out: Path, part: str, lines: list[Line], frames: Counter[int], options: PageOptions
) -> Path:
    pieces = [lines[first : first + LINES] for first in range(0, len(lines), LINES)] or [[]]
    names = [f"index{part}{f'-page{n + 1}' if n else ''}.html" for n in range(len(pieces))]
    counts = Counter(line.status for line in lines)
    fine = (
        f"{counts['ok']} in sync" if options.tolerance is None else f"{counts['ok']} in tolerance"
    )
    for number, (name, piece) in enumerate(zip(names, pieces, strict=True)):
        text = render(
            "index.html",
            title="Sync of videos",
            heading=f"{len(lines):,} videos: {fine}, {len(lines) - counts['ok']:,} to look at",
            data={"histogram": charts.histogram(frames) if frames and not number else None},
            script="",
            script_at=f"{PAGES}/{LIBRARY}",
            made_of="",
            lines=piece,
            counts=counts,
            pages=names,
            number=number,
            tolerance=options.tolerance,
        )
        write_text(out / name, text)
    return out / names[0]
