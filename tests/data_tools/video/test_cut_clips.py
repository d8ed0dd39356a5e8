"""A process is ended when it says nothing for long, and not asked for more than that."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_tools.video.cut_clips import watching

_PROGRAM = """
import sys, time
from pathlib import Path
from data_tools.video.cut_clips import watching
with watching(Path("log"), 1.0) as beat:
    for _ in range(30):
        beat()
        time.sleep(0.05)
    print("alive", flush=True)
    if sys.argv[1] == "silent":
        time.sleep(60)
"""


@pytest.mark.parametrize("then", ["done", "silent"])
def test_silence_alone_ends_a_process_and_says_where(then: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM, then], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout == "alive\n"
    log = (tmp_path / "log").read_text()
    if then == "done":
        assert (found.returncode, log) == (0, "")
    else:
        assert found.returncode == 1 and "Timeout (0:00:01.1" in log and "<string>" in log


def test_calls_that_follow_each_other_start_one_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[float] = []
    ended: list[bool] = []

    def start(seconds: float, **_: Any) -> None:
        started.append(seconds)

    now = [100.0]
    monkeypatch.setattr(faulthandler, "dump_traceback_later", start)
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: ended.append(True))
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with watching(tmp_path / "log", 600.0) as beat:
        for _ in range(350):
            beat()
            now[0] += 0.01
    # no silence of 600 s, and none of 601 s passes
    assert started == [601.0] * 4 and ended == [True]
