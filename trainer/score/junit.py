"""Verdicts as JUnit XML, which Jenkins, GitLab and others show among the results of tests.

A test case a face track: passed in tolerance, failed out of tolerance, skipped where the offset
cannot be trusted; a video without any offset is one case with an error. It keeps to what all of
them read (elements and attributes of Jenkins' junit-10.xsd).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from data_tools.atomic import atomic_path
from data_tools.names import shown
from trainer.score.tolerance import Judged, Tolerance, track_verdict

SUITE = "syncnet"
_OUTCOMES = {"failure": "failures", "error": "errors", "skipped": "skipped"}
_NO_XML = re.compile("[\ufffe\uffff]")  # which `shown` lets pass


def write_junit(
    path: Path, videos: Callable[[], Iterable[Judged]], tolerance: Tolerance
) -> dict[str, int]:
    """Write the verdicts on all videos; how many cases there are, and of which outcome.

    Args:
        videos: gives them, twice: their counts stand before them in the file, and none is held.

    Raises:
        OSError: the file cannot be written.
    """
    counts = Counter({"tests": 0} | dict.fromkeys(_OUTCOMES.values(), 0))
    for case in _cases(videos(), tolerance):
        counts["tests"] += 1
        counts.update(_OUTCOMES[outcome.tag] for outcome in case)
    numbers = {name: str(count) for name, count in counts.items()}
    named = {"name": f"{SUITE} {tolerance.name}"}
    # junit-10.xsd has no `skipped` on the outer element.
    outer = ET.Element(
        "testsuites", named | {k: numbers[k] for k in ("tests", "failures", "errors")}
    )
    suite = ET.Element("testsuite", named | numbers)
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n')
        file.write(_open_tag(outer) + "\n" + _open_tag(suite) + "\n")
        for case in _cases(videos(), tolerance):
            file.write(ET.tostring(case, encoding="unicode") + "\n")
        file.write("</testsuite>\n</testsuites>\n")
    return dict(counts)


def _open_tag(element: ET.Element) -> str:
    whole = ET.tostring(element, encoding="unicode", short_empty_elements=False)
    return whole.removesuffix(f"</{element.tag}>")


def _cases(videos: Iterable[Judged], tolerance: Tolerance) -> Iterator[ET.Element]:
    for video in videos:
        for row in video.rows:
            yield _case(video.video, row, tolerance)
        if not video.rows:
            why = "; ".join(video.left_out) or "no offset"
            yield _element(video.video, tolerance, "error", "no offset", why)


def _case(video: str, row: dict[str, Any], tolerance: Tolerance) -> ET.Element:
    seconds = f"{row['start_seconds']:.1f}-{row['end_seconds']:.1f} s"
    name = " ".join(filter(None, (video, row["track"], seconds)))
    verdict = track_verdict(row, tolerance)
    if verdict == "in tolerance":
        return _element(name, tolerance)
    if verdict == "not sure":
        return _element(name, tolerance, "skipped", verdict, f"not sure: {row['doubts']}")
    words = row.get("over_time") or row["meaning"]
    return _element(name, tolerance, "failure", verdict, f"{words} ({tolerance})")


def _element(
    name: str, tolerance: Tolerance, outcome: str = "", kind: str = "", words: str = ""
) -> ET.Element:
    # Jenkins takes what follows a dot of the class for another level, so no file name is in it.
    place = f"{SUITE}.{tolerance.name.replace('.', '_')}"
    case = ET.Element("testcase", {"classname": place, "name": _text(name)})
    if outcome:
        # Jenkins shows the text, GitLab the message of what was skipped and the text of the rest.
        about = {"type": kind, "message": _text(words)}
        ET.SubElement(case, outcome, about).text = _text(words)
    return case


def _text(words: str) -> str:
    """Words as XML can hold them."""
    return _NO_XML.sub("?", shown(words))
