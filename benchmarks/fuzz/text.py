"""Lists, names, URLs, tables and records that are damaged or hostile."""

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.child import Case, Target
from benchmarks.fuzz.mutate import Json, mutated, words
from data_tools.errors import UsageError
from data_tools.inputs import find_videos, settle_names
from data_tools.keep import KeepError, read_keep
from data_tools.layouts import LAYOUTS, OfficialLists, in_layout, own_split
from data_tools.mirror import folder_of
from data_tools.names import shown
from data_tools.records import RecordError
from data_tools.remote import Remote, is_remote
from data_tools.remote_errors import without_secrets
from data_tools.video.record import open_record
from trainer.batch.inputs import batch_videos
from trainer.batch.pages import write_pages
from trainer.batch.report import write_reports
from trainer.batch.results import ResultFile, read_results
from trainer.page.pages import PageOptions
from trainer.score.tolerance import Tolerance
from trainer.train.rounds import read_summary

_SECRET = "s3cr3t"
_PIECES = (
    *("", "..", ".", "~", "/", "//", "a" * 300, "x.mp4", ".txt", "%00", "\0", "\r", "\t", "\u2028"),
    *(
        "é",
        "😀",
        "\udcff",
        "[",
        "*",
        "?",
        "**",
        "{a,b}",
        "$HOME",
        "`id`",
        ";id",
        "|id",
        "-",
        "--out",
    ),
    *(
        "#",
        "# a",
        "train",
        "report",
        "montage",
        "con",
        "http://x/",
        "file:///etc/passwd",
        "\x1b[2J",
    ),
    *("0" * 400, "-scene1_scene", "_1" * 60, "M003/" * 9, "1001_DFA_ANG_XX", "id00000/x/00001"),
)
_LIST = """# videos
dev/mp4/id00012/21Uxsk56VDQ/00001.mp4
./head.mp4
lrs3/pretrain/00j9bKdiOjk/50001.mp4 0.3
HDTF/WDA_BarackObama_000.mp4
"""
_KEEP = """clip,score,offset,verdict,reason
clip_00007,0.91,0,keep,
clip_00008,0.84,5,realign,audio is 200 ms early; delay it by 200 ms
clip_00009,0.12,-9,no minimum,"no offset fits, clearly"
clip_00010,,,unreadable,truncated JPEG
"""
_URLS = (
    f"https://user:{_SECRET}@host.example:8080/sets/a?X-Amz-Signature={_SECRET}#part",
    f"s3://key:{_SECRET}@bucket/folder/set",
    f"s3://key:a/{_SECRET}/b@bucket/folder/set",
    f"http://user:{_SECRET}@[::1]:99/a/b/?token={_SECRET}",
    "gs://bucket/set/",
    "memory://a/b",
    "file:///tmp/set",
)
_ITEM: dict[str, Any] = {
    "video": "a",
    "level": "video",
    "item": "",
    "start_seconds": 0.0,
    "end_seconds": 2.5,
    "frames": 62,
    "kept": True,
    "reason": "",
    "detail": "",
    "confidence": 0.9,
}
_FILE = {"path": "/videos/a.mp4", "size": 1000, "mtime_ns": 1_700_000_000_000_000_000}


def _text(rng: Random, whole: str, pieces: tuple[str, ...]) -> bytes:
    """Lines of a text with words changed, or bytes."""
    if rng.random() < 0.25:
        return mutated(rng, whole.encode())
    return words(rng, whole, pieces).encode("utf-8", "surrogateescape")


def _list(folder: Path) -> Case:
    file, videos = folder / "list.txt", folder / "videos"
    videos.mkdir()
    (videos / "head.mp4").write_bytes(b"")
    (folder / "head.mp4").write_bytes(b"")
    out = folder / "out"

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        found, _ = find_videos([file, videos])
        for path, name, _ in settle_names(found):
            target = (out / f"{name}.json").resolve()
            # what is refused is named by its path, and never written
            assert "\n" not in shown(path), "a name of more than a line"
            assert target.is_relative_to(out) or "(" in name, "clips outside the folder"
        for video in batch_videos([file], out, folder / "mended")[0]:
            assert video.target is not None
            inside = video.target.resolve().is_relative_to(folder / "mended")
            assert inside, "a copy outside the folder"

    return Case(lambda rng: _text(rng, _LIST, _PIECES), attempt, (UsageError,), confined=False)


def _names(folder: Path) -> Case:
    """Names of videos as the layouts of data sets read them, and official lists of them."""
    bases = [layout.tree for layout in LAYOUTS.values()] + _LIST.splitlines()
    file = folder / "list.txt"

    def draw(rng: Random) -> bytes:
        name = mutated(rng, rng.choice(bases).encode()) if rng.random() < 0.6 else b""
        pieces = [rng.choice(_PIECES) for _ in range(rng.randrange(1, 9))]
        rest = rng.choice(("", "/", "_", "-")).join(pieces)
        rest *= rng.choice((1, 1, 2, 30))
        return (name + rest.encode("utf-8", "surrogateescape"))[:4096]  # the longest path

    def attempt(content: bytes) -> None:
        name = content.decode("utf-8", "surrogateescape").replace("\0", "")
        for layout in LAYOUTS.values():
            in_layout(layout, name, f"/videos/{name}.mp4")
            own_split(layout, name)
        file.write_bytes(content)
        lists = OfficialLists([f"train={file}"])
        lists.find(name)
        lists.missing([name])

    return Case(draw, attempt, (UsageError,))


def _url(folder: Path) -> Case:
    def draw(rng: Random) -> bytes:
        url = rng.choice(_URLS)
        if rng.random() < 0.5:
            for _ in range(rng.randrange(1, 3)):
                at = rng.randrange(len(url))
                if _SECRET not in url[at : at + 12]:
                    url = url[:at] + rng.choice(_PIECES) + url[at + rng.randrange(3) :]
            return url.encode("utf-8", "surrogateescape")
        return mutated(rng, url.encode())

    def attempt(content: bytes) -> None:
        url = content.decode("utf-8", "surrogateescape")
        before, at, _ = url.partition("?")[0].partition("://")[2].partition("@")
        signed = at and re.fullmatch(rf"[^/@\[]*:(?:{_SECRET}|a/{_SECRET}/b)", before)
        told = ""
        try:
            if not is_remote(url):
                return
            remote = Remote(url)
            told = f"{remote.shown} {remote.file('a')} {remote!r}"
            ends = any(map(str.isspace, url)) or set(url) & set("'\"<>)")
            told += "" if ends else without_secrets(url)
            place = folder_of(url, str(folder / "copies")).resolve()
            assert place.parent == folder / "copies", "a copy outside the folder"
        except UsageError as error:
            told = str(error)
            raise
        finally:
            # only where it stands as who signs in, and nowhere in the path
            if signed and url.partition("?")[0].count(_SECRET) == 1 and "@@" not in url:
                assert _SECRET not in told, "a password is shown"

    return Case(draw, attempt, (UsageError,))


def _keep(folder: Path) -> Case:
    file = folder / "keep.csv"
    pieces = (
        "",
        ",",
        '"',
        '""',
        "\0",
        "1e999",
        "nan",
        "-",
        "５",
        "9" * 400,
        "keep",
        "realign",
        ",,,,",
        "\r",
    )

    def draw(rng: Random) -> bytes:
        text = words(rng, _KEEP.replace(",", " , "), pieces).replace(" , ", ",")
        return mutated(rng, _KEEP.encode()) if rng.random() < 0.4 else text.encode()

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        assert any(row.used for row in read_keep(file).values()), "nothing is kept"

    return Case(draw, attempt, (KeepError,))


def _record(value: Any, read: Callable[[Path], object]) -> Callable[[Path], Case]:
    """A reader of a JSON file."""

    def make(folder: Path) -> Case:
        file = folder / "summary.json"

        def attempt(content: bytes) -> None:
            file.write_bytes(content)
            read(file)

        return Case(Json(value).draw, attempt, (RecordError,))

    return make


def _results(folder: Path) -> Case:
    file = folder / "results.jsonl"
    mend = {"done": "written", "words": "", "file": "a.mkv", "moved_frames": 1}
    line = {"video": "a.mp4", "file": _FILE, "mode": "centred", "tracks": [_TRACK], "mend": mend}
    base, whole = Json(line), json.dumps(line).encode() + b"\n"

    def draw(rng: Random) -> bytes:
        end = rng.choice((b"\n", b"\n", b"", b"\r\n"))
        lines = [whole] * rng.randrange(3) + [base.draw(rng) + end] + [whole] * rng.randrange(2)
        return b"".join(lines)

    def attempt(content: bytes) -> None:
        file.write_bytes(content)
        drawn = zlib.crc32(content)  # the same whenever it is tried again
        if drawn % 10 == 0:
            write_reports(file, "", Tolerance("any", 40, 60) if drawn % 20 else None)
        if drawn % 50 == 0:
            write_pages(file, "", PageOptions())
        for _, _, found in read_results(file):
            assert found.line().endswith(b"}\n"), "a result that cannot be written again"
            assert isinstance(found.failed, bool), "neither failed nor done"
            assert isinstance(found.is_current(), bool), "neither changed nor not"
        ResultFile(file).__exit__(None, None, None)

    return Case(draw, attempt, (RecordError,))


_TRACK = {
    "video": "a.mp4", "track": "000", "start_seconds": 0.0, "end_seconds": 2.96, "offset_frames": 1,
    "offset_ms": 40, "meaning": "audio is 40 ms early", "confidence": 1.5, "lse_d": 9.0,
    "lse_c": 1.5, "clearness": 5.1, "probability": 0.98, "windows": 70, "speech": 0.5,
    "trusted": True, "doubts": "", "notes": "", "over_time": "audio is 40 ms early", "jumps": "",
    "drift_ppm": None, "drift_ms_per_minute": None, "speaking": 0.7, "speaking_rank": 1,
    "speaker": True, "mean_distance_by_shift": {"-1": 9.9, "0": 9.5, "1": 9.0},
    "fit_by_shift": {"-1": -3.5, "0": 0.5, "1": None}, "frame_confidence": [2.8, None, 1.5],
    "face": {"seconds": 1.5, "box": [95.0, 91.1, 211.0, 250.2]}, "segments": [
        {"begin_seconds": 0.0, "end_seconds": 2.96, "begin_between_seconds": None,
         "begin_offset_frames": 0.0, "end_offset_frames": 0.0, "sure": True},
    ],
    "drift_error_ppm": None,
}  # fmt: skip
_VIDEO_RECORD = {
    "name": "a", "file": _FILE, "status": "kept", "reason": "", "detail": "", "clips": 1,
    "seconds": 2.5, "rows": [_ITEM, {**_ITEM, "level": "clip"}], "notes": ["a note"], "doubts": [],
}  # fmt: skip
_SUMMARY = {
    "finished": True, "seconds": 12.5, "steps": 400, "parameters": 1000, "utilisation": 0.99,
    "first_step_wait_ms": None, "val_accuracy_k5": 0.5, "test_auc": 0.75,
}  # fmt: skip

TARGETS = (
    Target("list", "a list of videos", _list, 1000),
    Target("names", "names of a data set's videos", _names, 500),
    Target("url", "a URL of shards", _url, 40_000),
    Target("keep", "keep.csv", _keep, 15_000),
    Target("results", "results of many videos", _results, 3000),
    Target("record", "what prepare wrote of a video", _record(_VIDEO_RECORD, open_record), 20_000),
    Target(
        "summary",
        "a run's summary.json",
        _record(_SUMMARY, lambda file: read_summary(file.parent)),
        8000,
    ),
)
