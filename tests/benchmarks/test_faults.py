"""The faults: that they are injected, and that what is lost is called so."""

import json
from pathlib import Path

import pytest

from benchmarks.faults.__main__ import main
from benchmarks.faults.children import Done
from benchmarks.faults.lab import Kind, Lab, Outcome


def test_a_quick_run_injects_faults_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "faults.json"
    assert main(["--quick", "--json", str(file), "--workers", "1"]) == 0, capsys.readouterr().out
    found = json.loads(file.read_text())
    rows = {row["kind"]: row for row in found["rows"]}
    assert rows["kill pack"]["survived"] == 2 and rows["disk pack"]["refused"] == 1
    assert rows["damaged tar"]["refused"] == 2
    assert "train-000000" in rows["damaged tar"]["sentences"][0]["said"]
    assert "lab-" not in file.read_text() and str(tmp_path) not in file.read_text()
    assert found["quick"] and found["totals"]["lost"] == 0
    assert found["totals"]["tries"] == sum(row["tries"] for row in rows.values()) >= 7


def test_what_is_lost_is_told_with_its_seed_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(lab: Lab, seed: int) -> Outcome:
        if seed == 5:
            raise ValueError("what?")
        status = {6: 1, 7: 1, 8: -11}.get(seed)
        said = "Traceback (most recent call last)\n" if seed == 7 else "pack: no room\n"
        return lab.refused(Done(status, "", said, 1.0, left=0, signalled=False))

    kinds = [Kind("k", "a fault", 5, play)]
    monkeypatch.setattr("benchmarks.faults.all_kinds.KINDS", kinds)
    file = tmp_path / "faults.json"
    assert main(["--json", str(file), "--only", "k", "--seed", "5", "--quick", "--tries", "5"]) == 1
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["survived"], row["refused"], row["lost"]) == (0, 1, 4)
    assert row["sentences"] == [{"said": "pack: no room", "seeds": [6]}]
    assert [one["seed"] for one in row["lost_tries"]] == [5, 7, 8, 9]
    assert "4 of 5 tries were lost" in capsys.readouterr().err
    assert main(["--only", "no such kind"]) == 2
    assert "there is no 'no such kind'" in capsys.readouterr().err
