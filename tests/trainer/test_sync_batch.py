"""`syncnet --out` as it is used: hundreds of videos, broken ones, hanging ones, killed twice.

It takes minutes, so it runs only where SYNCNET_SOAK=1 asks for it; what it tests as a whole,
tests/trainer/batch tests part by part.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools.mfcc import SAMPLES_PER_FRAME
from videos import head, write_video

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("SYNCNET_SOAK" not in os.environ, reason="takes minutes: SYNCNET_SOAK=1"),
]

# PyAV as a file that hangs (or whose decoder crashes) makes it behave, in whatever process.
_FAULTY_AV = """
import os, signal, time
import av
_open = av.open
def opened(file, *args, **kwargs):
    if "hangs" in str(file): time.sleep(10_000)
    if "crashes" in str(file): os.kill(os.getpid(), signal.SIGKILL)
    return _open(file, *args, **kwargs)
av.open = opened
"""
_STALL = 20  # seconds


def make_videos(folder: Path, count: int) -> None:
    """Short prepared heads, of which every twentieth is broken, two hang and one crashes."""
    folder.mkdir()
    heads = [head(seed, 50, 64) for seed in range(8)]
    for number in range(count):
        pictures, sound = heads[number % len(heads)]
        early = number % 5
        frames = 30 + number % 11  # no two neighbours take the same time
        part = sound[early * SAMPLES_PER_FRAME :][: frames * SAMPLES_PER_FRAME]
        path = write_video(folder / f"{number:03d}.mp4", pictures[:frames], part)
        if number % 20 == 7:
            path.write_bytes(path.read_bytes()[:: 1 + number % 3][:900])
        if number in (count // 3, count // 2):
            path.rename(folder / f"{number:03d}-hangs.mp4")
        if number == count // 4:
            path.rename(folder / f"{number:03d}-crashes.mp4")


class Run:
    """One process of `syncnet`, and the memory of it and its workers."""

    def __init__(self, videos: Path, out: Path, weights: Path, site: Path) -> None:
        arguments = [str(videos), "--out", str(out), "--weights", str(weights), "--prepared"]
        arguments += ["--crop", "mouth", "--workers", "2", "--stall-limit", str(_STALL)]
        paths = [str(site), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer.sync", *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.memory: list[tuple[int, int, int]] = []  # results, parent's MB, largest worker's MB

    def results(self) -> int:
        """How many are there."""
        file = self.out / "results.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def until(self, results: int) -> None:
        """Wait for so many results, or the end."""
        deadline = time.monotonic() + 900
        while self.process.poll() is None and self.results() < results:
            assert time.monotonic() < deadline
            own = self.process.pid
            pids = [own, *children(own)]
            sizes = [size for size in map(resident, pids) if size]
            if len(sizes) > 1:
                self.memory.append((self.results(), sizes[0], max(sizes[1:])))
            time.sleep(0.05)

    def kill(self) -> None:
        """As an impatient system does."""
        workers = children(self.process.pid)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 10
        while any(map(resident, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(resident, workers)), "workers outlive their parent"

    def finish(self) -> tuple[int, str]:
        """Its exit status and what it said."""
        self.until(10**9)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


def children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in found.split()]


def resident(pid: int) -> int:
    """Megabytes; 0 of a process that is not there, or dead."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    line = next((line for line in text.splitlines() if line.startswith("VmRSS")), "0 0 kB")
    return int(line.split()[1]) // 1024


@pytest.mark.parametrize("count", [24, 200])
def test_killed_twice_it_ends_as_if_undisturbed(count: int, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_FAULTY_AV)
    make_videos(tmp_path / "videos", count)
    places = tmp_path / "videos", weights, tmp_path / "site"

    def start(name: str) -> Run:
        return Run(places[0], tmp_path / name, *places[1:])

    whole = start("undisturbed")
    status, said = whole.finish()
    assert status == 1, said
    lines = (whole.out / "results.jsonl").read_bytes().splitlines()
    found = {Path(r["video"]).stem: r for r in map(json.loads, lines)}
    assert len(lines) == len(found) == count
    assert sum(r["failure"] == "stalled" for r in found.values()) == 2
    assert [name for name, r in found.items() if r["failure"] == "process died"] == [
        f"{count // 4:03d}-crashes"
    ]
    assert sum(bool(r["tracks"]) for r in found.values()) >= count * 0.8

    for share in (0.2, 0.7):
        run = start("killed")
        run.until(round(share * count))
        run.kill()
        kept = run.results()
        assert kept >= share * count
    last = start("killed")
    assert last.finish()[0] == 1
    again = (last.out / "results.jsonl").read_bytes().splitlines()
    assert sorted(again) == sorted(lines)  # none missing, none twice, all the same
    for name in ("results.csv", "report.json"):
        assert (last.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert len({row["video"] for row in csv.DictReader((last.out / "results.csv").open())}) == count
    assert not list((last.out / ".syncnet").glob("work*"))

    if count >= 200:  # flat: from a quarter of the results to all of them
        early = [sizes for results, *sizes in whole.memory if count // 4 <= results < count // 3]
        late = [sizes for results, *sizes in whole.memory if results > 0.9 * count]
        for who in (0, 1):
            before, after = (max(sizes[who] for sizes in part) for part in (early, late))
            assert after <= before + 30, (who, before, after)
