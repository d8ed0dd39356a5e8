"""Every benchmark runs, small, and writes what it prints; no time is asserted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    compare_loaders,
    crop_speed,
    dataset_hours,
    first_step,
    growth,
    loader_rate,
    pack_speed,
    prepare_speed,
    profile_steps,
    timing_cost,
    videos,
)
from benchmarks.gpu_suite import __main__ as gpu_suite


def test_loader_rate_measures_loader_and_ceiling(shards_folder: Path) -> None:
    figures = loader_rate.measure(shards_folder, batch_size=16, rounds=2, epochs=10)
    assert figures["loader_frames_per_s"] > 0 and figures["libjpeg_turbo_frames_per_s"] > 0
    assert figures["ratio_min"] <= figures["ratio"] <= figures["ratio_max"]
    assert len(figures["memory_mb"]) == 10


def test_first_step_reports_both_waits(shards_folder: Path) -> None:
    figures = first_step.measure(shards_folder, 8, epochs=2, steps=3, headroom=1.4)
    assert 0 <= figures["first_step_wait_ms"] <= figures["first_step_wait_ms_max"]
    assert 0 < figures["utilisation"] <= 1


def test_timing_cost_is_a_share_of_a_step() -> None:
    figures = timing_cost.measure(torch.device("cpu"), batch_size=8, repetitions=50)
    assert figures["share"] == pytest.approx(figures["timing_ms"] / figures["step_ms"], rel=0.1)


@pytest.mark.parametrize(
    ("benchmark", "arguments"),
    [
        (loader_rate, []),
        (first_step, []),
        (timing_cost, []),
    ],
)
def test_a_quick_run_writes_its_result(
    benchmark: Any, arguments: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "result.json"
    if benchmark is not timing_cost:  # which needs no data
        arguments = [*arguments, "--cache", str(tmp_path)]
    benchmark.main(["--quick", *arguments, "--json", str(file)])
    assert json.loads(file.read_text())["quick"] is True


@pytest.mark.parametrize("benchmark", [loader_rate, first_step, compare_loaders, profile_steps])
def test_missing_shards_are_one_sentence(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["--shards", str(tmp_path / "no"), "--cache", str(tmp_path / "c")]) == 1
    error = capsys.readouterr().err
    assert "manifest.json is missing" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "benchmark",
    [
        loader_rate,
        first_step,
        timing_cost,
        gpu_suite,
        pack_speed,
        growth,
        compare_loaders,
        profile_steps,
    ],
)
def test_where_a_result_cannot_be_written_nothing_is_measured(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert benchmark.main(["--json", str(tmp_path)]) == 2
    assert benchmark.main(["--json", str(tmp_path / "file" / "x.json")]) == 1
    said = capsys.readouterr()
    assert "is a folder" in said.err and "cannot be written" in said.err
    assert said.err.count("\n") == 2 and said.out == ""


@pytest.mark.parametrize(
    ("benchmark", "arguments"),
    [
        (loader_rate, ["--rounds", "0"]),
        (first_step, ["--epochs", "1"]),
        (first_step, ["--headroom", "0"]),
        (timing_cost, ["--device", "toaster"]),
        (pack_speed, ["--rounds", "0"]),
        (growth, ["--seconds", "0"]),
        (compare_loaders, ["--batch-size", "3"]),
        (gpu_suite, ["--device", "cpu", "--steps", "1"]),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    benchmark: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err
    assert arguments[-2] in error and error.count("\n") == 1


@pytest.mark.slow
def test_prepare_speed_measures_its_floor_and_every_stage(tmp_path: Path) -> None:
    video = videos.synthetic_video(tmp_path, seconds=4)
    figures = prepare_speed.measure(video, rounds=1, copies=2)
    assert figures["seconds_of_video"] == 4 and figures["clips"] == 1
    assert figures["seconds_per_second_all_cores"] > 0 and figures["cost_over_floor"] > 0
    assert set(figures["shares"]) >= {"decode", "shots", "detect", "crop", "encode", "speech"}
    # what is not a stage grows when the machine is busy
    assert 0.5 < sum(figures["shares"].values()) < 1.01


def test_without_a_gpu_the_suite_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert gpu_suite.main([]) == 2
    error = capsys.readouterr().err
    assert "--device cpu" in error and error.count("\n") == 1


def test_a_result_names_machine_and_command(tmp_path: Path) -> None:
    report_file = tmp_path / "x.json"
    from benchmarks.result import report as write

    write("x", {"answer": 42}, report_file)
    written: dict[str, Any] = json.loads(report_file.read_text())
    assert written["answer"] == 42 and written["machine"]["cores"] >= 1
    assert "torch" in written["machine"]["versions"] and "benchmarks.x" in written["command"]


def test_crops_straight_to_shards_are_measured_against_their_floor(tmp_path: Path) -> None:
    figures = crop_speed.measure_crops(tmp_path, rounds=1, seconds=1.0, count=2)
    assert figures["cost_over_floor"] > 0.8 and figures["mouth_all_cores"] > 0
    assert {"decode", "shots", "crop", "encode", "speech", "write"} <= figures["shares"].keys()
    bare = figures["whole_bare"]
    assert (
        0.8 < bare["cost_over_floor_min"] <= bare["cost_over_floor_max"] and bare["all_cores"] > 0
    )
    result = {"processes": 2, "seconds_per_second_all_cores": 10.0, "crops": figures}
    rows = crop_speed.readme_rows(result)
    assert "`--crop whole`" in rows[0][0]
    assert sum("--no-shots --no-speech" in row[0] for row in rows) == 2
    del figures["whole_bare"]  # of a result from before it was measured
    assert crop_speed.readme_rows(result) == [r for r in rows if "--no-speech" not in r[0]]
    assert crop_speed.readme_rows({"processes": 2}) == []


def test_hours_of_data_sets_follow_from_the_rates() -> None:
    measured = {"processes": 2, "seconds_per_second_all_cores": 10.0}
    table = dataset_hours.readme(measured | {"crops": {"mouth_all_cores": 100.0}})
    assert "| VoxCeleb2 | 24.4 h | 3.1 h | 46 min |" in table  # 2,442 h / 100, ...
    assert "| HDTF | 1.6 h | 12 min | 3 min |" in table
    assert "(5.0 x cores)" in table and "and 50.0 of face crops" in table
    unmeasured = dataset_hours.readme(measured)
    assert "| VoxCeleb2 | 10.2 days |" in unmeasured and "counted as searched" in unmeasured
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name, (hours, _) in dataset_hours.DATA_SETS.items():
        assert f"\n| {name} | {hours:,} | " in page
