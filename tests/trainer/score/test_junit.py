"""JUnit XML as Jenkins and GitLab read it."""

import os
from pathlib import Path
from xml.etree import ElementTree as ET

from measured import track_result
from trainer.score.junit import write_junit
from trainer.score.report import row
from trainer.score.tolerance import TOLERANCES, Judged

# Of Jenkins' junit-10.xsd, what such a file may hold: attributes, which must be, elements inside.
SCHEMA = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"},
        {"name", "tests", "failures", "errors"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "classname", "time", "status", "assertions", "file", "line"},
        {"name", "classname"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
    "skipped": ({"type", "message"}, set(), set()),
}


def test_each_track_is_a_case_that_any_reader_takes(tmp_path: Path) -> None:
    odd = os.fsdecode(b'a<&">\xff\x1b\x00 \xef\xbf\xbe.mp4')
    videos = [
        Judged("in.mp4", [row(track_result(1)), row(track_result(-1))], []),
        Judged(
            "out.mp4", [row(track_result(2)), row(track_result(-2, doubts=("short <1 s>",)))], []
        ),
        Judged(odd, [], ["no sound", "it's \x07 broken"]),
    ]
    out = tmp_path / "junit.xml"
    counts = write_junit(out, lambda: iter(videos), TOLERANCES["ebu-r37"])
    assert counts == {"tests": 5, "failures": 1, "errors": 1, "skipped": 1}
    root = ET.parse(out).getroot()
    assert root.tag == "testsuites"
    for element in root.iter():
        may, must, inside = SCHEMA[element.tag]
        assert must <= set(element.keys()) <= may
        assert {child.tag for child in element} <= inside
    (suite,) = root
    assert {name: int(suite.attrib[name]) for name in counts} == counts
    outcomes = [[(o.tag, o.attrib["message"], o.text) for o in case] for case in suite]
    assert outcomes[:2] == [[], []]
    (failure,) = outcomes[2]
    words = (
        "audio is 80 ms early; delay it by 80 ms (ebu-r37: audio at most 40 ms early, 60 ms late)"
    )
    assert failure == ("failure", words, words)
    assert outcomes[3][0][:2] == ("skipped", "not sure: short <1 s>")
    assert outcomes[4][0][1] == "no sound; it's \\x07 broken"
    names = [case.attrib["name"] for case in suite]
    assert names[0] == "in.mp4 000 0.0-2.0 s" and names[4].startswith('a<&">\\xff\\x1b')
    assert {case.attrib["classname"] for case in suite} == {"syncnet.ebu-r37"}


def test_no_video_is_a_file_as_well(tmp_path: Path) -> None:
    write_junit(tmp_path / "x.xml", lambda: [], TOLERANCES["netflix"])
    (suite,) = ET.parse(tmp_path / "x.xml").getroot()
    assert suite.attrib["tests"] == "0" and len(suite) == 0
