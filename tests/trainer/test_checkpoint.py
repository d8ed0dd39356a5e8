"""Checkpoints: whole or not at all, never executed, old ones removed."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import checkpoint
from trainer.checkpoint import CheckpointError


def state(step: int) -> dict[str, Any]:
    return {"model": {"w": torch.full((3,), step)}, "optimizer": {}, "config": {}, "step": step}


def test_last_best_and_the_newest_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, state(step), keep=2, best=step == 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.pt",
        "last.pt",
        "step-00000004.pt",
        "step-00000005.pt",
    ]
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 5
    assert checkpoint.load(tmp_path / "best.pt")["step"] == 3


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Attack()))
    torch.save({"model": Attack()}, tmp_path / "worse.pt")
    for name in ("bad.pt", "worse.pt"):
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_truncated_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), keep=0, best=False)
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.pt")
    for name in ("cut.pt", "missing.pt", "foreign.pt"):
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(tmp_path / name)


def test_find_means_what_resume_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checkpoint.find("auto", tmp_path / "new") is None
    assert checkpoint.find("auto", None) is None
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    checkpoint.save(run, state(1), keep=0, best=False)
    assert checkpoint.find("auto", None) == Path("runs/a/last.pt")
    assert checkpoint.find(str(run), None) == run / "last.pt"
    with pytest.raises(CheckpointError, match="nowhere"):
        checkpoint.find("nowhere", None)
