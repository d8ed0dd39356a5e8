"""Pools whose processes share the cores among them."""

import os

import pytest

from data_tools.workers import worker_pool


def test_processes_of_a_pool_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    with worker_pool(2) as pool:
        told = pool.submit(os.getenv, "OMP_NUM_THREADS").result()
    assert told == str(max(1, cores // 2))
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with worker_pool(2) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"
