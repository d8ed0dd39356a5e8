"""Progress: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from data_tools import progress as module
from data_tools.progress import Pace, heard_by, progress, still_alive

COUNT_TO_FOUR = """
from data_tools.progress import progress
with progress("packing", 4, "clips") as advance:
    for _ in range(4):
        advance(1)
"""


def test_plain_lines_tell_count_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    with progress("packing", 10, "clips") as advance:
        advance(0)  # small pieces of work, less than a unit of which is done
        advance(3)
        advance(7)
    begun, first, last = capsys.readouterr().err.splitlines()
    assert begun == "packing: 0/10 clips"  # no rate is known, and so no time
    assert re.fullmatch(r"packing: 3/10 clips, [0-9.]+ clips/s, \d+ s left", first)
    assert re.fullmatch(r"packing: 10/10 clips, [0-9.]+ clips/s, 0 s left", last)


def test_short_work_off_a_terminal_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("packing", 2, "clips") as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_pace_of_work_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    pace = Pace(total=50, done=10)
    assert (pace.rate, pace.seconds_left, pace.due(5.0)) == (0.0, None, False)
    now = 105.0
    pace.advance(20)
    assert (pace.done, pace.rate, pace.seconds_left) == (30, 4.0, 5.0)
    assert (pace.due(5.0), pace.due(5.0)) == (True, False)


def test_terminal_gets_a_bar_with_the_count_and_the_rate() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    run = subprocess.Popen([sys.executable, "-c", COUNT_TO_FOUR], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # how Linux tells that the other side of a terminal is closed
        pass
    finally:
        os.close(ours)
    assert run.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "packing" in text and "4/4" in text and "clips/s" in text


def test_whoever_listens_hears_and_nothing_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    heard: list[str] = []
    with heard_by(lambda: heard.append("!")), progress("scoring", 2, "frames") as advance:
        advance(1)
        still_alive()
        advance(1)
    still_alive()
    assert len(heard) == 3 and capsys.readouterr().err == ""
    with progress("scoring", 2, "frames") as advance:
        advance(2)
    assert len(heard) == 3 and "scoring: 2/2 frames" in capsys.readouterr().err


def test_slow_work_has_a_rate_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    pace = Pace(total=10)
    assert pace.rate_in_words("videos") == "0.0 videos/s"
    now = 110.0
    pace.advance(1)
    assert pace.rate_in_words("videos") == "6.0 videos/min"
    pace.advance(9)
    assert pace.rate_in_words("videos") == "1.0 videos/s"
