"""results.jsonl: whole lines, whatever happens to the process, the power or the disk."""

import json
import os
import resource
from pathlib import Path

import pytest

from data_tools.records import RecordError
from data_tools.video.record import VideoFile, identity
from trainer.batch.report import write_reports
from trainer.batch.results import ResultFile, VideoResult, read_result, read_results


def result(name: str, **more: object) -> VideoResult:
    return VideoResult(name, VideoFile(f"/{name}", 3, 4), "centred", [{"offset_frames": 1}], **more)


def names(path: Path) -> list[str]:
    return [found.video for _, _, found in read_results(path)]


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    odd = os.fsdecode(b"\xff\n.mp4")
    with ResultFile(path) as file:
        file.append(result("a.mp4", left_out=["track 1: short"]))
        file.append(result(odd))
    (first, end, one), (second, _, other) = read_results(path)
    assert (one, other) == (result("a.mp4", left_out=["track 1: short"]), result(odd))
    assert first == 0 and second == end and read_result(path, second) == other
    assert [json.loads(line)["tracks"] for line in path.open()] == 2 * [[{"offset_frames": 1}]]
    nan = VideoResult("n", VideoFile("/n"), tracks=[{"lse_c": float("nan")}])
    assert json.loads(nan.line())["tracks"] == [{"lse_c": None}]


@pytest.mark.parametrize(
    "torn", [b'{"video":"c.mp4","fi', b"\0\0\0\0", b'{"video":\0\0\0\n', result("c").line()[:-1]]
)
def test_a_torn_last_line_is_dropped(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    whole = result("a").line() + result("b").line()
    path.write_bytes(whole + torn)
    assert names(path) == ["a", "b"]
    with ResultFile(path) as file:
        assert path.read_bytes() == whole
        file.append(result("c"))
    assert names(path) == ["a", "b", "c"]


def test_a_damaged_line_among_others_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(result("a").line() + b"{}\n" + result("b").line())
    with pytest.raises(RecordError, match=r"line 2, holds no result of a video: .*delete the line"):
        ResultFile(path)


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResultFile(path) as file:
        file.append(result("a"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                file.append(result("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == result("a").line()
        file.append(result("b"))
    assert names(path) == ["a", "b"]


def test_a_result_is_of_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    missing = VideoResult("v", identity(path))
    path.write_text("one")
    assert not missing.is_current()
    found = VideoResult("v", identity(path))
    assert found.is_current()
    path.write_text("other")
    assert not found.is_current()
    path.unlink()
    assert found.is_current()  # what was found stays
    assert VideoResult("v", VideoFile("a\0b", 1, 1)).is_current()  # no file can be called so


def test_failed_is_what_gave_nothing_or_could_not_be_mended() -> None:
    assert not result("a").failed and not result("a", mend={"done": "not mended"}).failed
    assert result("a", mend={"done": "failed"}).failed
    assert VideoResult("a", VideoFile("/a")).failed


@pytest.mark.parametrize(
    "more",
    [
        {"mend": {}},
        {"mend": {"done": True}},
        {"mend": {"done": "written", "moved_frames": "x"}},
        {"tracks": [{}]},
        {"tracks": [{"trusted": True, "offset_frames": None}]},
        {"tracks": [{"trusted": True, "offset_frames": 1e999}]},
    ],
)
def test_a_result_that_another_hand_changed_is_named(
    more: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "results.jsonl"
    track = {"trusted": True, "offset_frames": 1}
    line = {"video": "a.mp4", "file": {"path": "/a.mp4"}, "tracks": [track]} | more
    path.write_bytes(json.dumps(line).encode() + b"\n")
    with pytest.raises(
        RecordError, match=r"a\.mp4 that is not as it was written .*delete its line"
    ):
        write_reports(path, "", None)
