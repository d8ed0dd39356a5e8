"""The command line of `prepare`: its options, and what it does without its extra."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from data_tools.cli import parse, read_options
from data_tools.commands import prepare
from data_tools.commands.prepare import RunOptions, _parser
from data_tools.video.options import PrepareOptions

# A machine without the extra [prepare].
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("av", "scenedetect", "silero_vad", "pebble"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from data_tools.__main__ import main
sys.exit(main(["prepare", *sys.argv[1:]]))
"""


def without_extra(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_defaults_are_those_of_the_dataclasses() -> None:
    args = parse(_parser(), ["video.mp4", "--out", "clips"])
    assert read_options(PrepareOptions, args) == PrepareOptions()
    assert read_options(RunOptions, args) == RunOptions()


def test_every_option_has_a_help() -> None:
    text = _parser().format_help()
    for settings in (PrepareOptions, RunOptions):
        for field in fields(settings):
            assert f"--{field.name.replace('_', '-')}" in text
            assert field.name == "workers" or f"{field.name}:" in (settings.__doc__ or "")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--size", 15, "at least 16"),
        ("--size", 4097, "at most 4096"),
        ("--quality", 0, "at least 1"),
        ("--quality", 101, "at most 100"),
        ("--min-frames", 4, "at least 5"),
        ("--min-face", -1, "at least 0"),
        ("--detect-every", 0, "at least 1"),
        ("--detect-size", 31, "at least 32"),
        ("--num-shards", 0, "at least 1"),
        ("--workers", -1, "at least 0"),
        ("--stall-limit", -1, "at least 0"),
        ("--stall-limit", "inf", "at most"),
        ("--max-clip", "nan", "at least 0"),
        ("--min-sharpness", "inf", "at most"),
        ("--min-confidence", 1.1, "at most 1"),
        ("--min-speech", "nan", "at most 1"),
        ("--shot-threshold", -1, "at least 0"),
        ("--crop", "ear", "'face', 'mouth'"),
        ("--engine", "steam", "'local', 'ray'"),
        ("--num-shards", "two", "a whole number"),
    ],
)
def test_every_limit_is_one_sentence(
    option: str,
    value: object,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "clips"
    assert prepare.main(["v.mp4", "--out", str(out), f"{option}={value}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"python -m data_tools prepare: {option} ")
    assert words in line
    assert not out.exists()


def test_a_folder_that_cannot_be_written_to_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "v.mp4").write_bytes(b"no video")
    for out, why in (
        (tmp_path / "file" / "out", "not a directory"),
        (tmp_path / ("x" * 300), "file name too long"),
        (Path("/proc/self/fdinfo"), "no such file or directory"),
    ):
        for option in ("--shards", "--out"):
            assert prepare.main([str(tmp_path / "v.mp4"), option, str(out)]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"the folder {out} cannot be written to: {why}" in line


def test_clips_and_shards_need_two_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("x")
    for shards in (tmp_path / "x", tmp_path / "y" / ".." / "x", tmp_path / "link"):
        words = ["v.mp4", "--out", str(tmp_path / "x"), "--shards", str(shards)]
        assert prepare.main(words) == 2
        assert "--shards and --out must be two folders" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_paths_of_any_name_stay_paths() -> None:
    names = ["#", "null", "12"]
    for name in names:
        args = parse(_parser(), ["--out", name, "--shards", name, "--detector-model", name, *names])
        assert [args.out, args.shards, *args.videos] == list(map(Path, [name, name, *names]))
        assert args.detector_model == name


def test_help_and_wrong_usage_need_no_extra(tmp_path: Path) -> None:
    shown = without_extra("--help")
    assert shown.returncode == 0 and "--min-sharpness" in shown.stdout
    wrong = without_extra(tmp_path / "gone.mp4", "--out", tmp_path / "clips")
    assert wrong.returncode == 2 and "gone.mp4 does not exist" in wrong.stderr


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    done = without_extra(tmp_path / "v.mp4", "--out", tmp_path / "clips")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "pip install 'syncnet-trainer[prepare]'" in line
    assert not (tmp_path / "clips").exists()
