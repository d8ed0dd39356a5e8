"""Every benchmark answers --help; what is a part of others says so."""

import importlib
import runpy
import sys

import pytest

COMMANDS = [
    "batch_speed",
    "changes",
    "compare_loaders",
    "faults.__main__",
    "finetune",
    "first_step",
    "face_network",
    "front_picture",
    "fuzz.__main__",
    "gpu_suite.__main__",
    "growth",
    "inference_speed",
    "loader_rate",
    "long_runs",
    "pack_speed",
    "plan_scale",
    "prepare_speed",
    "profile_steps",
    "real_refine",
    "real_speech",
    "report",
    "shift_recovery",
    "speakers",
    "speech_network",
    "studies.detectors",
    "timing_cost",
]
STUDIES = ["augmentation", "loss", "margin", "min_shift", "pairing", "refinement"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as left:
        module.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m benchmarks.{name.removesuffix('.__main__')} ")
    assert (module.__doc__ or "").splitlines()[0] in shown


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.studies import study

    module = importlib.import_module(f"benchmarks.studies.{name}")
    with pytest.raises(SystemExit) as left:
        study.main(module.STUDY, ["--help"])
    assert left.value.code == 0
    assert f"python -m benchmarks.studies.{name}" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("name", ["attribute", "official", "ridge"])
def test_a_part_says_of_what(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("a part of python -m benchmarks.") and said.count("\n") == 1


@pytest.mark.parametrize("name", [*COMMANDS, *(f"studies.{name}" for name in STUDIES)])
def test_a_benchmark_can_be_started_by_its_name(name: str) -> None:
    """What `python -m benchmarks.NAME` runs: each has its last two lines."""
    source = importlib.import_module(f"benchmarks.{name}").__file__
    assert source is not None
    with open(source, encoding="utf-8") as stream:
        assert 'if __name__ == "__main__":\n    sys.exit(main(' in stream.read()
