"""Pages written: one of a few videos, or of a batch an index and a page for each video."""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from data_tools.atomic import atomic_path, finite
from data_tools.elsewhere import Elsewhere
from data_tools.errors import UsageError
from data_tools.names import shown
from trainer.page import charts
from trainer.page.content import LABELS, ORDER, SIGNS, VideoView, video_view
from trainer.page.pictures import face_pictures
from trainer.score.tolerance import Judged, Tolerance

if TYPE_CHECKING:
    from jinja2 import Environment

EMBEDDED_MB = 200  # of a video in a page: browsers hold it several times, and as text


@dataclass(frozen=True)
class PageOptions:
    """How pages are made.

    Attributes:
        tolerance: by which they say what is in tolerance; None: they do not.
        embed: whether they hold the videos; otherwise they play them from where they lie.
    """

    tolerance: Tolerance | None = None
    embed: bool = False


def check_embedded(videos: Iterable[Path | Elsewhere]) -> None:
    """Whether these videos can be put into a page.

    Raises:
        UsageError: one is too large, or no file here.
    """
    for path in videos:
        if not isinstance(path, Path):
            raise UsageError(f"--embed puts files into pages: fetch {path} first")
        if path.is_file() and path.stat().st_size > EMBEDDED_MB << 20:
            raise UsageError(
                f"--embed: {shown(path)} has {path.stat().st_size >> 20:,} MB, and a page holds a "
                f"video of at most {EMBEDDED_MB} MB; without --embed it is played from its file"
            )


def write_page(
    path: Path, videos: Iterable[Judged], options: PageOptions, more: Mapping[str, list[str]] = {}
) -> None:
    """Write one page about a few videos, which needs no other file but the videos themselves.

    Args:
        more: lines to say of a video besides, such as of its mend.

    Raises:
        MissingPackage: the extra [html] is not installed.
        OSError: it cannot be written.
    """
    views = [
        view_of(video, options, path.parent, tuple(more.get(video.video, ()))) for video in videos
    ]
    title = f"Sync of {Path(views[0].name).name}" if len(views) == 1 else "Sync of videos"
    write_text(path, page_text(views, title, options, script=charts.library()))


def view_of(
    video: Judged, options: PageOptions, folder: Path, more: tuple[str, ...] = ()
) -> VideoView:
    """A video as a page in `folder` shows it, pictures included."""
    path = Path(video.video)
    pictures, seconds = face_pictures(path, video.rows)
    view = video_view(video, options.tolerance, seconds, more)
    tracks = [
        replace(track, picture=picture)
        for track, picture in zip(view.tracks, pictures, strict=True)
    ]
    if not path.is_file() or not tracks:  # without tracks no page plays it
        return replace(view, tracks=tracks)
    if options.embed and path.stat().st_size <= EMBEDDED_MB << 20:
        data = base64.b64encode(path.read_bytes()).decode()
        return replace(view, tracks=tracks, data=data)
    return replace(view, tracks=tracks, source=address_from(folder, path))


def address_from(folder: Path, path: Path) -> str:
    """The URL by which a page in `folder` finds a file: relative, so that both may move."""
    # ./: a colon in a name would make its beginning a protocol's
    return "./" + quote(os.fsencode(os.path.relpath(path.absolute(), folder.absolute())))


def page_text(
    views: list[VideoView],
    title: str,
    options: PageOptions,
    script: str = "",
    script_at: str = "",
    back: str = "",
    made_of: str = "",
) -> str:
    """A page about videos as HTML.

    Args:
        script: Vega, for a page by itself.
        script_at: the URL of a file that holds it, for one of many.
        back: the URL of the index; empty without one.
        made_of: a digest of what the page is made of.
    """
    data = [
        {
            "seconds": view.seconds,
            "mend": view.mend,
            "tracks": [_specs(view, number, options) for number in range(len(view.tracks))],
        }
        for view in views
    ]
    return render(
        "video.html",
        views=views,
        title=title,
        data=finite(data),
        script=script,
        script_at=script_at,
        back=back,
        made_of=made_of,
        tolerance=options.tolerance,
    )


def _specs(view: VideoView, number: int, options: PageOptions) -> dict[str, Any]:
    row = view.tracks[number].row
    return {
        "curve": charts.curve(row, options.tolerance),
        "confidence": charts.confidence(row, view.seconds),
        "course": charts.course(row, view.seconds, options.tolerance),
    }


def render(template: str, **values: Any) -> str:
    """A template filled; everything in it is escaped, and only scripts of ours may run."""
    digest = hashlib.sha256(repr(sorted(values.items())).encode("utf-8", "backslashreplace"))
    return environment().get_template(template).render(
        nonce=digest.hexdigest()[:24], signs=SIGNS, labels=LABELS, order=ORDER, **values
    )  # fmt: skip


@lru_cache(maxsize=1)
def environment() -> "Environment":
    """The templates of this package.

    Raises:
        MissingPackage: the extra [html] is not installed.
    """
    charts.check_packages()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("trainer.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": False}
    made.globals["part"] = lambda name: templates()[name]
    return made


@lru_cache(maxsize=1)
def templates() -> dict[str, str]:
    """The files of `templates/`, by their names."""
    folder = resources.files("trainer.page") / "templates"
    return {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.is_file()}


def write_text(path: Path, text: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def digest_of(*parts: object) -> str:
    """A digest of what a page is made of, this version of the templates included."""
    made = json.dumps([templates(), *map(str, parts)], sort_keys=True)
    return hashlib.sha256(made.encode("utf-8", "backslashreplace")).hexdigest()[:32]
