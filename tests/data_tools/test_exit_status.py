"""Exit status of `pack`, `verify` and `info` on good, partly good and changed input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.__main__ import main
from data_tools.cli import exit_status

MakeClip = Callable[..., Path]


@pytest.fixture
def clips(make_clip: MakeClip, tmp_path: Path) -> Path:
    for number in range(3):
        make_clip(tmp_path / "clips" / f"c{number}", frames=6, seed=number)
    return tmp_path / "clips"


@pytest.fixture
def one_mute_clip(clips: Path) -> Path:
    (clips / "c1" / "audio.wav").unlink()
    return clips


@pytest.fixture
def command(clips: Path, tmp_path: Path) -> list[str]:
    return ["pack", str(clips), str(tmp_path / "out"), "--workers", "1"]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, which must be one line."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_pack_of_good_clips_exits_0(command: list[str]) -> None:
    assert main(command) == 0


def test_pack_that_leaves_clips_out_exits_1_and_lists_them(
    one_mute_clip: Path, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "1 of 3 clips left out" in text and "--allow-dropped" in text
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [(row["clip"], row["reason"]) for row in manifest["dropped"]] == [("c1", "no audio")]


def test_allow_dropped_exits_0_and_still_lists_them(
    one_mute_clip: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--allow-dropped"]) == 0
    assert "1 of 3 clips left out" in capsys.readouterr().out


def test_pack_of_nothing_usable_exits_1_even_with_allow_dropped(
    clips: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for wav in clips.glob("*/audio.wav"):
        wav.unlink()
    assert main([*command, "--allow-dropped"]) == 1
    assert "no clip could be packed" in error_line(capsys)


def test_info_counts_what_was_left_out_by_reason(
    one_mute_clip: Path, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one_mute_clip / "c2" / "frames" / "frame2.jpg").unlink()
    main(command)
    capsys.readouterr()
    assert main(["info", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "2 of 3 clips left out" in text
    assert "no audio" in text and "frame missing" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--workers", "-1"], "--workers must be"),
        (["--source-pattern", "(zzz)?c"], "matches nothing in 'c"),
        (["--size", "4097"], "--size must be at least 16 and at most 4096"),
    ],
)
def test_bad_value_exits_2_with_one_line_before_anything_is_written(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert main([*command, *options]) == 2
    assert message in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_other_options_over_old_output_exit_2_with_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(command)
    assert main([*command, "--seed", "7"]) == 2
    assert "another configuration (seed was 0, is 7)" in error_line(capsys)


def test_changed_clips_over_old_output_exit_2_with_one_line(
    clips: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(command)
    (clips / "c0" / "frames" / "frame0.jpg").write_bytes(b"other")
    assert main(command) == 2
    assert "another configuration (clips_sha256" in error_line(capsys)


def test_verify_exits_0_on_good_shards_and_1_with_the_fault_on_bad_ones(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(command)
    verify = ["verify", str(tmp_path / "out"), "--workers", "1"]
    assert main(verify) == 0
    (tmp_path / "out" / "train-000000.idx").unlink()
    capsys.readouterr()
    assert main(verify) == 1
    assert "train-000000.idx is missing" in capsys.readouterr().out


def test_verify_with_negative_workers_exits_2_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path), "--workers", "-1"]) == 2
    assert "--workers must be" in error_line(capsys)


@pytest.mark.parametrize(
    "arguments",
    [["verify", ""], ["info", ""], ["pack", "", "out"], ["pack", "clips", ""], ["synth", ""],
     ["prepare", "", "--out", "clips"], ["prepare", "a.mp4", "--out="]],
)  # fmt: skip
def test_an_empty_name_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "a file name is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("a bug"), False),
    ],
)
def test_no_memory_is_told_in_a_sentence_and_a_bug_is_not(
    error: Exception, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise error

    if not told:
        with pytest.raises(RuntimeError):
            exit_status("run", work)
        return
    assert exit_status("run", work) == 1
    assert error_line(capsys).startswith("run: out of memory")
