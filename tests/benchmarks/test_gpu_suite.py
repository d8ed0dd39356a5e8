"""The suite for a GPU: every section small on a CPU, what becomes of one that fails, the table."""

import io
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu_suite import __main__ as suite
from benchmarks.gpu_suite import hardware, recipe, resume, sections, steps, table
from benchmarks.gpu_suite.faults import damage
from benchmarks.gpu_suite.lab import Lab, Setting
from benchmarks.gpu_suite.sections import SECTIONS
from data_tools.clip_data import ClipError
from data_tools.jpeg import decode_jpeg
from trainer.data.dataset import Dataset
from trainer.model.syncnet import PRESETS, SyncNet

Figures = dict[str, Any]
Measure = Callable[..., Figures]


@pytest.fixture
def measured(shards_folder: Path, tmp_path: Path) -> Measure:
    """A function that runs a section in this process, small; returns its figures."""

    def run(name: str, device: str = "cpu") -> Figures:
        setting = Setting(device, tmp_path, "small", 8, steps=2, epochs=2, quick=True)
        figures: Figures = {}
        (tmp_path / "work").mkdir()
        sections.measure(
            name,
            Lab(
                setting,
                shards_folder,
                shards_folder,
                tmp_path / "work",
                time.monotonic() + 300,  # other tests run beside
                figures.__setitem__,
            ),
        )
        return figures

    return run


def test_a_cpu_decodes_what_a_cpu_decodes(measured: Measure) -> None:
    figures = measured("decode")
    assert figures["gray, hw_decoder_load 0.65"] == {"mean": 0, "max": 0, "share_over_4": 0}


def test_sums_of_batches_are_those_of_a_synchronised_run(measured: Measure) -> None:
    figures = measured("reuse")
    assert figures["behind_a_sleep"] == figures["at_once"] == figures["synchronised_twice"]
    assert figures["at_once"]["differ"] == 0 and figures["at_once"]["frames"] == 4 * 8 * 5


def test_each_damage_is_found_and_taken_back(measured: Measure) -> None:
    figures = measured("faults")
    assert figures["none"]["quarantined"] == []
    for kind in ("cut in its header", "wrong size", "no JPEG"):
        assert figures[kind]["right"], kind
    assert figures["truncated"]["right"] or figures["truncated"]["accepted"]


def test_the_recipe_is_set_against_the_seed(measured: Measure) -> None:
    figures = measured("recipe")
    together = figures["together"]["CPU"]
    assert figures["seed"]["real_samples_per_s"] == 512
    assert together["times_the_seed"] == pytest.approx(together["samples_per_s"] / 512, abs=0.02)
    assert 0 < together["utilisation"] <= 1 and together["steps_after_the_first_epoch"] == 2
    assert figures["loader_alone"]["CPU"]["samples_per_s"] > 0
    assert "mixed decoding" in figures["not_there"]


def test_the_loop_is_watched_step_by_step(measured: Measure) -> None:
    assert [point["step"] for point in measured("memory")["points"]] == list(range(4, 13))


def test_inference_is_measured_by_piece(measured: Measure) -> None:
    assert set(measured("single")["small, frames_per_s by piece"]) == {"16", "32"}


@pytest.mark.slow
def test_every_section_runs_small(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    arguments = ["--device", "cpu", "--quick", "--cache", str(tmp_path), "--json", str(file)]
    assert suite.main(arguments) == 0
    written = json.loads(file.read_text())
    assert {name: found["state"] for name, found in written["sections"].items()} == dict.fromkeys(
        SECTIONS, "done"
    )
    assert set(written["not_shown"]) == set(SECTIONS) and written["quick"] is True
    assert written["sections"]["resume"]["equal"] == written["sections"]["resume"]["steps"]


def test_an_unknown_section_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.main(["--device", "cpu", "--sections", "speed"]) == 2
    error = capsys.readouterr().err
    assert "no 'speed'" in error and "recipe" in error and error.count("\n") == 1


def test_a_section_that_fails_or_hangs_takes_nothing_from_the_others(
    shards_folder: Path, tmp_path: Path
) -> None:
    sections.preload(cuda=False)
    shards = shards_folder, shards_folder
    wrong = Setting("cpu", tmp_path, "no such model", quick=True)
    failed = sections.run_section("recipe", wrong, shards, most=60)
    assert failed["state"] == "failed" and "no such model" in failed["error"]
    assert "Traceback" in failed["trace"] and "peak" in failed  # what it had found is kept
    began = time.monotonic()
    cut = sections.run_section("sync", Setting("cpu", tmp_path, quick=True), shards, most=0.5)
    assert cut["state"] == "cut" and time.monotonic() - began < 15


def test_a_section_whose_process_dies_is_told() -> None:
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)

    class Dead:
        exitcode = -9

        def join(self, seconds: float = 0) -> None: ...

        def is_alive(self) -> bool:
            return False

    there.send(("figure", "rate", 3))
    there.close()
    found = sections._listen(Dead(), here, time.monotonic() + 5, 5)
    assert found == {"rate": 3, "state": "died", "error": "its process ended with status -9"}


def test_sections_that_are_not_timed_run_first_and_time_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    def run(name: str, *_: Any) -> Figures:
        done.append(name)
        return {"state": "done"}

    monkeypatch.setattr(sections, "run_section", run)
    told: Figures = {}
    seconds = iter([100.0] * 4 + [1.0])  # asked before a section, and for its most
    sections.run_sections(
        ["recipe", "decode", "host"],
        Setting("cpu", Path()),
        (Path(), Path()),
        lambda: next(seconds),
        told.__setitem__,
    )
    assert done == ["decode", "recipe"]
    assert told["host"]["state"] == "skipped"


@pytest.mark.parametrize("name", ["small", "syncnet"])
def test_both_ways_to_compute_are_the_lip_stream(name: str) -> None:
    torch.manual_seed(0)
    preset, model = PRESETS[name], SyncNet(name).eval()
    shape = (1, 6, preset.size, preset.size, preset.channels)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8)
    with torch.no_grad():
        expected = model.lips(frames)
        for way in (steps.in_two_dimensions, steps.in_three_dimensions):
            assert torch.allclose(way(model, frames), expected, rtol=1e-4, atol=1e-4)


def test_the_column_of_the_jpeg_unit() -> None:
    told = "# gpu sm mem enc dec jpg ofa\n# Idx % % % % % %\n 0 97 40 0 0 55 0\n 0 1 1 0 0 - 0\n"
    assert recipe.jpeg_column(told) == [55]
    assert recipe.jpeg_column("# gpu sm mem enc dec\n 0 97 40 0 0\n") == []


def test_the_log_names_decoders() -> None:
    log = io.StringIO(
        "[nvjpeg_hw_decoder] made\n[nvjpeg_hw_decoder] decode\n[libjpeg_turbo_decoder] x\n"
    )
    found = hardware.read_log(log)
    assert found["named"] == {"nvjpeg_hw_decoder": 2, "libjpeg_turbo_decoder": 1}
    assert found["lines"] == 3 and len(found["hardware_lines"]) == 2


@pytest.mark.parametrize("kind", ["truncated", "cut in its header", "no JPEG"])
def test_damage_keeps_the_length_and_cannot_be_decoded(kind: str, shards_folder: Path) -> None:
    jpeg = Dataset(shards_folder, "train").shards[0].jpeg(0, 0).tobytes()
    broken = damage(jpeg, kind, np.random.default_rng(0))
    assert len(broken) == len(jpeg)
    with pytest.raises(ClipError):
        decode_jpeg(broken, "x.jpg")


def test_losses_are_compared_step_by_step(tmp_path: Path) -> None:
    for name, losses in (("a", [1.0, 2.0, 4.0]), ("b", [1.0, 2.0, 5.0])):
        (tmp_path / name).mkdir()
        rows = [
            {"epoch": 1, "step": i, "phase": "train", "loss": loss, "data_ms": 0, "total_ms": 1}
            for i, loss in enumerate(losses)
        ]
        (tmp_path / name / "steps.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = resume.compared(tmp_path / "a", tmp_path / "b", at=1)
    assert found["equal"] == 2 and found["rows"] == [3, 3]
    assert found["largest_difference_before"] == 0 and found["largest_difference_after"] == 0.25


def test_mfu_is_of_both_peaks(tmp_path: Path) -> None:
    lab = Lab(Setting("cpu", tmp_path), tmp_path, tmp_path, tmp_path, 0.0, lambda *_: None)
    top = {"measured_tflop_per_s": 500.0, "data_sheet_tflop_per_s": 989.0}
    found = recipe.mfu(lab, 4920.0, top)
    assert found["tflop_per_s"] == 53.2
    assert found["mfu_of_measured_peak"] == 0.1064 and found["mfu_of_data_sheet_peak"] == 0.0538


def sample() -> Figures:
    """The result of a run whose sections ended in every way that there is."""
    return {
        "device": "cuda",
        "quick": False,
        "model": "syncnet",
        "batch_size": 1024,
        "machine": {
            "gpu": "NVIDIA H200", "cores": 16, "processor": "X", "python": "3.12", "versions": {},
        },
        "sections": {
            "decode": {"gray": {"mean": 0.3, "max": 9.0}, "state": "done"},
            "sync": {
                "paired, auto": {"synchronises": True, "places": {"step.py:7 int(x)": 10}},
                "multiway, auto": {"synchronises": False},
                "state": "done",
            },
            "recipe": {
                "step_alone": {"samples_per_s": 5000},
                "loader_alone": {
                    "mixed": {"samples_per_s": 6000}, "cache": {"samples_per_s": 9000},
                },
                "together": {
                    "mixed": {
                        "samples_per_s": 4000, "times_the_seed": 7.81, "utilisation": 0.9912,
                        "first_step_wait_ms": 1.5, "other_step_wait_ms": 1.0,
                        "hours_300_epochs": 0.32, "mfu_of_data_sheet_peak": 0.0437,
                        "mfu_of_measured_peak": 0.06, "gpu_used_gb": 40.1, "torch_peak_gb": 30.5,
                    },
                    "cache": {"skipped": "no time was left"},
                },
                "state": "cut", "error": "its time was up | really",
            },
            "single": {"state": "failed", "error": "OutOfMemoryError"},
        },
    }  # fmt: skip


def test_the_table_tells_what_each_section_found() -> None:
    shown = table.readme(sample())
    assert "On one NVIDIA H200" in shown
    assert (
        "none, in 1 of the 2 ways to train that were reached; paired, auto: step.py:7 int(x)"
        in shown
    )
    assert (
        "| mixed | 6,000 | **4,000** | 7.8 x | 1.5 ms | 1.0 ms | 99.1% | 19 min | 4.4% | 40 GB |"
        in shown
    )
    assert "| cache | 9,000 | no time was left |" in shown
    assert "cut: its time was up / really" in shown and "failed: OutOfMemoryError" in shown
    assert shown.count("not measured") == len(SECTIONS) - 4
    widths = [row.count("|") for row in shown.splitlines() if row.startswith("|")]
    assert widths == [3] * (len(SECTIONS) + 2) + [11] * 4
    assert "**4,000 samples/s, 8 times the seed's 512**: 300 epochs in 19 min" in table.short(
        sample()
    )
    assert "Nothing yet" in table.short(None)


def test_a_result_of_a_cpu_or_a_quick_one_is_no_measurement(tmp_path: Path) -> None:
    file = tmp_path / "gpu_suite.json"
    assert table.read(file) is None and "Nothing yet" in table.readme(None)
    for changed, shown in (({}, True), ({"device": "cpu"}, False), ({"quick": True}, False)):
        file.write_text(json.dumps(sample() | changed))
        assert (table.read(file) is not None) is shown


def test_every_section_has_its_words() -> None:
    assert set(table._TELLERS) == set(SECTIONS)
    for name in SECTIONS:
        assert table._TELLERS[name]({"state": "failed"}) is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_decodes_nearly_what_a_cpu_decodes(measured: Measure) -> None:
    figures = measured("decode", "cuda")
    assert figures and all(each["mean"] < 2 for each in figures.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_warm_step_of_the_loop_synchronises(measured: Measure) -> None:
    figures = measured("sync", "cuda")
    assert len(figures) == 6 and not any(each["synchronises"] for each in figures.values()), figures
