"""The fuzzers find what they look for, survive it and try it again; targets read their files."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz import mutate
from benchmarks.fuzz.child import Case, Target
from benchmarks.fuzz.child import fuzz as run
from benchmarks.fuzz.mended import MENDED
from benchmarks.fuzz.targets import TARGETS
from benchmarks.result import RESULTS
from data_tools.errors import UsageError

# What a reader may do wrong, by input, and what is said of it.
WRONG = {
    b"crash": "ends its process: SIGKILL",
    b"leave": "ends its process: status 3",
    b"hang": "hangs: over 0.5 s",
    b"allocate": "MemoryError",
    b"run": "os.system",
    b"import": "import of fuzz_canary",
    b"write": "writes to",
    b"read": "reads '/etc/hostname'",
    b"rename": "os.rename of",
    b"hidden": "os.system",
    b"bug": "KeyError in test_fuzz.py:",
    b"assert": "AssertionError in test_fuzz.py:",
    b"lines": "an error of more than a line, or that commands a terminal",
    b"silent": "an error without words",
    b"long": "an error of more than 2,000 characters",
}
FINE = {b"fine": None, b"refused": "", b"own file": None}


def misread(content: bytes) -> None:
    what = content.decode()
    if what == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "leave":
        os._exit(3)
    elif what == "hang":
        while True:
            pass
    elif what == "allocate":
        bytearray(1 << 40)
    elif what == "run":
        os.system("echo")
    elif what == "import":
        __import__("fuzz_canary")
    elif what == "write":
        (Path.cwd().parent / "elsewhere").write_text("x")
    elif what == "read":
        Path("/etc/hostname").read_text()
    elif what == "rename":
        os.rename("../a", "../b")
    elif what == "hidden":
        with suppress(BaseException):
            os.system("echo")
    elif what == "bug":
        {}["x"]
    elif what == "assert":
        assert what == "", "two sizes of one picture"
    elif what == "own file":
        Path("mine").write_text("x")
    elif what != "fine":
        raise UsageError({"lines": "a\x1b", "silent": "", "long": "x" * 3000}.get(what, "no"))


def test_whatever_goes_wrong_is_found_and_the_next_input_is_tried() -> None:
    def make(folder: Path) -> Case:
        return Case(lambda rng: b"", misread)

    target = Target("misread", "a word", make, 1, seconds=0.5)
    given = [word for pair in zip(WRONG, len(WRONG) * [b"refused"], strict=True) for word in pair]
    told: list[int] = []
    tried = run(target, len(given) + len(FINE), 0, told.append, [*given, *FINE])
    assert tried.inputs == sum(told) == len(given) + len(FINE)
    found = {content: said for said, content in tried.findings.items()}
    for content, said in WRONG.items():
        if content != b"hidden":  # of the same kind as another, which is kept once
            assert found.pop(content).startswith(said), content
    assert found == {}
    assert run(target, 1, 0, told.append, [b"hidden"]).findings.keys() == {"os.system (b'echo',)"}
    assert run(target, 2, 0, told.append, [b"refused", b"fine"]).refused == 1


def test_every_target_reads_and_refuses_and_nothing_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, findings = tmp_path / "fuzz.json", tmp_path / "findings"
    arguments = ["--quick", "--seed", "140", "--json", str(file)]  # it once had a finding
    assert fuzz.main([*arguments, "--findings", str(findings)]) == 0, capsys.readouterr().out
    rows = json.loads(file.read_text())["rows"]
    assert [row["target"] for row in rows] == list(TARGETS)
    assert all(row["findings"] == 0 < row["inputs"] for row in rows) and not findings.exists()
    many = {row["target"]: row for row in rows if row["inputs"] > 30}
    silent = {"index", "cache"}  # what is damaged is made anew, without a word
    for name, row in many.items():
        assert (0 < row["refused"] < row["inputs"]) or name in silent, row


def test_a_finding_is_kept_and_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(folder: Path) -> Case:
        return Case(lambda rng: b"bug" if rng.random() < 0.5 else b"fine", misread)

    target = Target("keep", "a word", make, 40)
    monkeypatch.setitem(TARGETS, "keep", target)
    monkeypatch.chdir(tmp_path)
    arguments = ["--target", "keep", "--inputs", "40", "--json", "f.json"]
    assert fuzz.main(arguments) == 1
    assert "1 findings, in fuzz-findings" in capsys.readouterr().err
    (row,) = json.loads(Path("f.json").read_text())["rows"]
    assert (row["inputs"], row["findings"]) == (40, 1)
    kept, words = sorted(Path("fuzz-findings").iterdir())
    assert kept.read_bytes() == b"bug" and words.read_text().startswith("KeyError")
    assert fuzz.main(["--replay", str(kept)]) == 1
    assert "keep-" in (said := capsys.readouterr()).out and "1 of 1 are findings" in said.err
    kept.write_bytes(b"refused")
    assert fuzz.main(["--replay", str(kept)]) == 0
    assert fuzz.main(["--replay", str(words.with_name("other"))]) == 2


def test_inputs_follow_from_seed_and_number_and_differ() -> None:
    json_of = mutate.Json({"a": [1, {"b": "x"}], "c": None})
    draws = [json_of.draw(Random(number)) for number in range(300)]
    assert draws == [json_of.draw(Random(number)) for number in range(300)]
    assert len(set(draws)) > 150
    assert any(b'"b": "x", "b": ' in text for text in draws)  # given twice
    whole = bytes(range(256)) * 4
    lengths = {len(mutate.mutated(Random(number), whole)) for number in range(200)}
    assert min(lengths) < len(whole) < max(lengths)


def test_the_committed_result_holds_a_million_inputs_and_no_open_finding() -> None:
    result = json.loads((RESULTS / "fuzz.json").read_text())
    assert {row["target"] for row in result["rows"]} == set(TARGETS)
    assert sum(row["inputs"] for row in result["rows"]) == result["inputs"] >= 1_000_000
    assert result["findings"] == sum(row["findings"] for row in result["rows"]) == 0
    assert result["mended"] == sum(map(len, MENDED.values()))
    assert MENDED.keys() <= set(TARGETS)
