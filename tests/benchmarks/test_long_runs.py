"""What grows is told from what moves; a leak that is planted in a real run is found."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import long_runs
from benchmarks.long_runs import BOUNDS, Look, Watched, judge
from data_tools.errors import UserError

# Each step keeps 100 kB, every fiftieth a file, every seventieth a thread.
_LEAK = """
import threading
from trainer.data.loader import Loader
kept, honest = [], Loader.__next__
def leaking(self):
    kept.append(bytearray(b"x" * 100_000))
    if len(kept) % 50 == 0:
        kept.append(open("/dev/null"))
    if len(kept) % 70 == 0:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return honest(self)
Loader.__next__ = leaking
"""


def looks(total: int, memory_per_unit: float = 0.0, files_per_unit: float = 0.0) -> list[Look]:
    """A hundred looks at a run that grows: 60 MB at its start, then a wave of 5 MB and a peak."""
    found = []
    for number in range(100):
        done = total * number / 100
        memory = 100 + min(60.0, 600 * done / total) + 5 * math.sin(number)
        memory += 300 * (number == 70) + memory_per_unit * done
        held = {"memory_mb": memory, "resident_mb": memory, "threads": 4.0 + (number == 50)}
        found.append({"done": done, "files": 9 + files_per_unit * done // 1, **held})
    return found


def test_what_grows_is_told_from_what_moves() -> None:
    assert all(held["flat"] for held in judge(looks(1000), 1000).values())
    grown = judge(looks(1000, memory_per_unit=0.03), 1000)
    assert not grown["memory_mb"]["flat"] and grown["files"]["flat"]
    assert grown["memory_mb"]["grown"] == pytest.approx(0.03 * 800, abs=4)
    assert not judge(looks(1000, files_per_unit=1 / 200), 1000)["files"]["flat"]
    with pytest.raises(UserError, match="too few for a slope"):
        judge(looks(1000)[:25], 1000)


def test_a_run_that_fails_is_no_result(tmp_path: Path) -> None:
    broken = Watched("x", "import sys; sys.exit('no shards')", (), "steps", 9, tmp_path / "none")
    with pytest.raises(UserError, match="'x' ended with status 1: no shards"):
        long_runs.measure(broken, tmp_path / "said")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_leak_that_is_planted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_runs, "_PAUSE", 0.05)
    loader, *_ = long_runs.runs(tmp_path, tmp_path, 700, 2, 2, 1.0, 1)
    for code, flat in ((loader.code, True), (_LEAK + loader.code, False)):
        held = long_runs.measure(replace(loader, code=code), loader.progress)["held"]
        assert {name: each["flat"] for name, each in held.items()} == dict.fromkeys(BOUNDS, flat)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_form_is_flat(tmp_path: Path) -> None:
    file = tmp_path / "long_runs.json"
    assert long_runs.main(["--quick", "--cache", str(tmp_path / "c"), "--json", str(file)]) == 0
    found = json.loads(file.read_text())["runs"]
    assert [each["run"] for each in found] == ["loader", "training", "syncnet --out"]
    told = long_runs.readme(json.loads(file.read_text()))
    assert told.count("flat |") == 3 and "**grows**" not in told
    assert list((tmp_path / "c").glob("tmp*")) == []
