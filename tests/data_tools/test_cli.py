"""Statuses and messages of `python -m data_tools`: one line, never a traceback."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from jsonargparse.typing import PositiveFloat

from data_tools.__main__ import COMMANDS, main
from data_tools.cli import command, parse, whole

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "options",
    [
        ["--ratios", "80:20"],
        ["--ratios", "a:b:c"],
        ["--ratios", "0:0:0"],
        ["--ratios=-1:1:1"],
        ["--shard-mb", "0"],
        ["--size", "8"],
        ["--quality", "101"],
        ["--seed", "-1"],
        ["--source-pattern", "("],
        ["--source-pattern", "(zzz)?clip"],
    ],
)
def test_bad_value_is_one_line_and_status_2(
    clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert main(["pack", str(clips_folder), str(tmp_path / "out"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m data_tools pack: ")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "python -m data_tools: a command must be given"),
        (["fly"], "python -m data_tools: there is no command 'fly'"),
        (["pack"], "python -m data_tools pack: CLIPS, OUT must be given"),
        (
            ["pack", "a", "b", "--split-by", "moon"],
            "python -m data_tools pack: --split-by must be one of 'source', 'clip', not moon",
        ),
        (["verify"], "python -m data_tools verify: OUT must be given"),
        (
            ["pack", "a", "b", "--ratios", "8", "1", "1"],
            "python -m data_tools pack: unrecognized arguments: 1 1; --ratios takes one value, for "
            "example 80:10:10 (see --help)",
        ),
        (
            ["pack", "a", "b", "c", "--gray"],
            "python -m data_tools pack: unrecognized arguments: c (see --help)",
        ),
        (
            ["pack", "a", "b", "--ratios", "8:1:1", "--fly", "high"],
            "python -m data_tools pack: unrecognized arguments: --fly high (see --help)",
        ),
    ],
)
def test_bad_usage_names_the_error_in_its_last_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(error)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["fly"]])
def test_the_table_shows_every_command(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    asked = arguments in (["--help"], ["-h"])
    assert main(arguments) == (0 if asked else 2)
    out, err = capsys.readouterr()
    assert (err == "") if asked else (out == "")
    for name, purpose in COMMANDS.items():
        assert f"  {name:<9}{purpose}\n" in out + err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: python -m data_tools {name} " in capsys.readouterr().out


def test_a_command_loads_no_other() -> None:
    code = (
        "import sys; from data_tools.__main__ import main; main(['verify', '/dev/null']);"
        "print(*(m for m in sys.modules if m.startswith('data_tools.commands.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["data_tools.commands.verify"]


def test_absent_clips_folder_is_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", str(tmp_path / "absent"), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not a folder of clips" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["verify", "info"])
def test_folder_without_shards_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "not a folder of shards" in line


def test_output_that_is_a_file_is_status_1(
    clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    assert main(["pack", str(clips_folder), str(tmp_path / "out")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_module_runs_as_a_program(shards_folder: Path) -> None:
    command = [sys.executable, "-m", "data_tools", "info", str(shards_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "train" in done.stdout and done.stderr == ""


def test_numbers_of_a_restricted_type_travel_to_other_processes() -> None:
    parser = command("x", "")
    parser.add_argument("--clips", type=whole("OnlyHere", 1))
    parser.add_argument("--rate", type=PositiveFloat)
    given = parse(parser, ["--clips", "3", "--rate", "0.5"])
    assert type(given.clips) is int and type(given.rate) is float
    assert pickle.loads(pickle.dumps((given.clips, given.rate))) == (3, 0.5)
