"""Pools whose processes share the cores among them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools.errors import UserError
from data_tools.workers import WorkerDied, each_result, worker_pool


def test_processes_of_a_pool_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"
    for name in names:
        monkeypatch.delenv(name, raising=False)
    cores = len(os.sched_getaffinity(0))
    with worker_pool(2) as pool:
        told = [pool.submit(os.getenv, name).result() for name in names]
    assert told == [str(max(1, cores // 2)), "1"]
    assert not os.environ.keys() & set(names)


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with worker_pool(2) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("workers", [1, 2])
def test_each_result_comes_with_its_task(workers: int) -> None:
    tasks = ["ab", "c", ""]
    results = dict(each_result(len, tasks, workers, "counting"))
    assert results == {"ab": 2, "c": 1, "": 0}


def test_one_worker_or_one_task_is_done_here() -> None:
    here = os.getpid()
    assert [pid for _, pid in each_result(_pid, [1, 2], 1, "counting")] == [here, here]
    assert [pid for _, pid in each_result(_pid, [1], 8, "counting")] == [here]
    assert list(each_result(_pid, [], 8, "counting")) == []
    assert here not in [pid for _, pid in each_result(_pid, [1, 2], 2, "counting")]


def test_a_killed_process_is_the_users_matter() -> None:
    with pytest.raises(WorkerDied, match=r"a packing process was killed .* fewer --workers"):
        list(each_result(os._exit, [1, 1], 2, "packing"))
    assert issubclass(WorkerDied, UserError)


def test_what_a_task_raises_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(each_result(_reciprocal, [1, 0], 2, "dividing"))


def _pid(_: int) -> int:
    return os.getpid()


def _reciprocal(number: int) -> float:
    return 1 / number


# Starts the second process, says its number and waits for ever, as does that one.
_PARENT = """
import os, subprocess, sys, time
code = "from data_tools.workers import end_with_parent; end_with_parent(); print(1, flush=True)"
code += "; import time; time.sleep(1000)"
environment = {**os.environ, "SYNCNET_PARENT": str(os.getpid())}
child = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(1000)
"""


def test_a_program_ends_with_the_one_that_started_it_though_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    stat, deadline = Path(f"/proc/{child}/stat"), time.monotonic() + 60
    while stat.exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
