"""The comparison, the curves and the packing speed, each small; no time is asserted."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import cache_rate, compare_loaders, growth, pack_speed
from benchmarks.processes import cpu_seconds, isolated, process_tree
from benchmarks.result import RESULTS, Result


@pytest.mark.slow
def test_the_comparison_runs(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    names = ["torch-persistent", "ours", "ours-cached", "replay"]
    arguments = ["--quick", "--cache", str(tmp_path / "cache"), "--json", str(file)]
    assert compare_loaders.main([*arguments, "--loader", *names]) == 0
    written = json.loads(file.read_text())
    assert set(written["loaders"]) == set(names) and written["quick"]
    for row in written["loaders"].values():
        assert row["samples_per_s"] > 0 and 0 < row["utilisation"] <= 1
        assert row["first_step_wait_ms"] <= row["first_step_wait_p99_ms"]
    assert written["loaders"]["torch-persistent"]["processes"] >= 1


@pytest.mark.slow
def test_the_cache_is_measured_and_told_of(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    arguments = ["--quick", "--cache", str(tmp_path / "cache"), "--json", str(file)]
    assert cache_rate.main(arguments) == 0
    written = json.loads(file.read_text())
    assert [row["frames"] for row in written["rows"]] == ["224 RGB", "64 gray"]
    for row in written["rows"]:
        for name in ("libjpeg", "decode", "cached", "cached_first"):
            assert row[f"{name}_windows_s"] > 0
    told = cache_rate.readme(written)
    assert "224 RGB" in told and "128 GB" in told


def test_hours_of_video_that_fit_a_memory() -> None:
    assert cache_rate.hours(111 * 111, 128) == pytest.approx(115.4, abs=0.1)
    assert cache_rate.hours(224 * 224 * 3, 128) == pytest.approx(9.4, abs=0.1)


def test_an_unknown_loader_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_loaders.main(["--loader", "fast"]) == 2
    error = capsys.readouterr().err
    assert "no loader 'fast'" in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_curves_are_measured_and_drawn(tmp_path: Path) -> None:
    file = tmp_path / "growth.json"
    assert growth.main(["--quick", "--cache", str(tmp_path / "c"), "--json", str(file)]) == 0
    curves = json.loads(file.read_text())["curves"]
    assert [point["x"] for point in curves["shards"]] == [1, 3, 10]
    frames = [point["frames"] for point in curves["shards"]]
    assert frames == [frames[0], 3 * frames[0], 10 * frames[0]]
    assert all(0 <= point["left_in_memory"] <= 1 for point in curves["shards"])
    assert [point["x"] for point in curves["cache"]] == [0, 25, 50, 75, 100]
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_curves_are_drawn_again_from_their_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "growth.json"
    file.write_bytes((RESULTS / "growth.json").read_bytes())
    assert growth.main(["--from", str(file)]) == 0
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    file.write_text("[]")
    assert growth.main(["--from", str(file)]) == 2
    assert "is no result of growth" in capsys.readouterr().err


@pytest.mark.slow
def test_packing_is_set_against_a_copy(tmp_path: Path) -> None:
    file = tmp_path / "pack.json"
    assert pack_speed.main(["--quick", "--cache", str(tmp_path / "c"), "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["copy_mb_per_s"] > 0 and written["of_copy"]["1"] > 0
    assert written["files"] == 20 * 76


def test_pack_speed_without_clips_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack_speed.main(["--clips-dir", str(tmp_path), "--cache", str(tmp_path / "c")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_quick_run_never_replaces_what_was_measured() -> None:
    written = Result("compare_loaders", {"answer": 1}, quick=True).write(None)
    assert written.parent != RESULTS and json.loads(written.read_text())["answer"] == 1
    written.unlink()


def _fail() -> None:
    raise ValueError("no such thing")


def _die() -> None:
    os._exit(3)


def test_what_fails_in_its_own_process_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"^no such thing$"):
        isolated(_fail)
    with pytest.raises(RuntimeError, match="ended with status 3"):
        isolated(_die)


def test_processes_and_their_time_are_found() -> None:
    assert os.getpid() in process_tree(os.getpid())
    assert process_tree(os.getppid()).count(os.getpid()) == 1
    before = cpu_seconds()
    while cpu_seconds() < before + 0.05:
        sum(range(10000))
