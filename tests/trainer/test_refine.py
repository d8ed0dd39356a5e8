"""`python -m trainer.refine`: its files, its trainings, and what stops it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.keep import KEEP, NO_MINIMUM, REALIGN, UNREADABLE, read_keep
from data_tools.lock import locked
from trainer.data.dataset import Dataset
from trainer.model.syncnet import SyncNet
from trainer.refine import main
from trainer.score import clip_scores as module
from trainer.score.clip_distances import Embedded
from trainer.train import checkpoint, timing

real_pass = module.embed_clips


def test_score_only_writes_what_training_reads(
    shards_folder: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def perfect(dataset: Dataset, model: SyncNet, *args: Any, **options: Any) -> Iterator[Any]:
        """A perfect network on shards whose third clip is early by 6 and fifth is dubbed."""
        for one in real_pass(dataset, model, *args, **options):
            lips = one.sound_KD
            if one.clip == 2:
                lips = lips.roll(6, 0)
            if one.clip == 4:
                lips = lips[torch.randperm(len(lips), generator=torch.Generator().manual_seed(0))]
            yield Embedded(one.clip, lips, one.sound_KD)

    monkeypatch.setattr(module, "embed_clips", perfect)
    args = ["--data.shards", str(shards_folder), "--weights", str(weights), "--score-only"]
    args += ["--out", str(tmp_path), "--threshold", "0.1", "--threads", "1", "--realign"]
    assert main(args) == 0
    keys = Dataset(shards_folder, "train").keys
    rows = read_keep(tmp_path / "keep.csv")
    assert sorted(rows) == sorted(keys)
    assert rows[keys[2]].verdict == REALIGN
    # window k of the lips shows what was heard at k - 6: the sound is early
    assert rows[keys[2]].offset == 6 and rows[keys[2]].audio_shift == -6
    assert rows[keys[4]].verdict == NO_MINIMUM
    assert all(rows[key].verdict == KEEP for at, key in enumerate(keys) if at not in (2, 4))
    assert (tmp_path / "scores.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "keep.csv" in shown and "1 realign, 1 no minimum" in shown
    assert main([*args, "--threshold", "9"]) == 1
    assert "no clip would be kept" in capsys.readouterr().err


def test_broken_clips_get_a_row(shards_folder: Path, weights: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards_folder, tmp_path / "copy"))
    dataset = Dataset(copy, "train")
    with dataset.shards[0].tar.open("r+b") as stream:
        stream.seek(int(dataset.shards[0].offset[3]))
        stream.write(np.random.default_rng(0).bytes(int(dataset.shards[0].size[3])))
    args = ["--data.shards", str(copy), "--weights", str(weights), "--score-only"]
    assert main([*args, "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    rows = read_keep(tmp_path / "out" / "keep.csv")
    assert rows[dataset.keys[0]].verdict == UNREADABLE


@pytest.mark.parametrize(
    ("args", "status", "problem"),
    [
        (["--score-only"], 2, "--score-only needs --weights"),
        (["--score-only", "--weights", "W", "--train.lr", "1"], 2, "--train.lr"),
        (["--rounds", "1"], 2, "--rounds must be at least 2"),
        (["--device", "toaster"], 2, "--device"),
        (["--threshold", "1", "--reject-share", "0.1"], 2, "not both"),
        (["--reject-share", "1.5"], 2, "--reject-share"),
        (["--threshold", "nan"], 2, "--threshold must be a number"),
        (["--rounds", "two"], 2, "--rounds must be a whole number"),
        (["--threads", "-1"], 2, "--threads must be at least 0"),
        (["--config=#"], 2, "# does not exist"),
        (["--resume=auto"], 2, "--resume is set by the refinement"),
        (["--run.dir", "x"], 2, "set by the refinement"),
        (["--train.no_such_option", "1"], 2, "no_such_option"),
        (["--score-only", "--weights", "nowhere.pt"], 1, "no file"),
        (["--weights", "nowhere.pt"], 1, "no file"),
        (["--out", __file__], 2, "is a file, not a folder"),
        (["--out", f"{__file__}/below"], 2, "is a file, not a folder"),
        (["--train.epochs", "0"], 2, "train.epochs must be at least 1"),
        (["--overfit", "-1"], 2, "--overfit must not be negative"),
        (["--overfit", "2"], 2, "it cannot be combined with --resume"),
        (["--data.shards", "nowhere"], 1, "nowhere"),
    ],
)
def test_bad_usage_is_one_sentence(
    shards_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    status: int,
    problem: str,
) -> None:
    try:
        found = main(["--data.shards", str(shards_folder), "--out", str(tmp_path), *args])
    except SystemExit as left:
        found = int(left.code or 0)
    assert found == status
    shown = capsys.readouterr().err
    assert problem in shown and "Traceback" not in shown


def test_a_training_that_fails_has_said_why_itself(
    shards_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["--data.shards", str(shards_folder), "--out", str(tmp_path)]
    assert main([*args, "--train.batch_size", "100000"]) == 1
    first, second = capfd.readouterr().err.splitlines()
    assert "trainer.run: batch_size 100000 exceeds" in first
    assert second == f"refine: training in {tmp_path / 'round-1' / 'run'} failed, see above"


@pytest.mark.slow
def test_the_loop_trains_scores_and_trains_on_what_is_kept(
    shards_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    args = ["--data.shards", str(shards_folder), "--out", str(out), "--reject-share", "0.3"]
    args += ["--train.batch_size", "8", "--train.epochs", "1", "--data.val_runs", "1"]
    assert main(args) == 0
    summary = json.loads((out / "refine.json").read_text())["rounds"]
    clips = len(Dataset(shards_folder, "train"))
    rejected = sum(count for kind, count in summary[0]["verdicts"].items() if kind != KEEP)
    assert rejected == int(0.3 * clips) and "val_accuracy_k5" in summary[1]
    kept = csv.DictReader((out / "round-1" / "keep.csv").open())
    assert sum(row["verdict"] == KEEP for row in kept) == clips - rejected
    before = (out / "round-2" / "run" / "best.pt").stat().st_mtime_ns
    assert main(args) == 0  # nothing is done again
    assert (out / "round-2" / "run" / "best.pt").stat().st_mtime_ns == before


def test_a_folder_that_another_is_writing_to_is_refused(
    shards_folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--data.shards", str(shards_folder), "--out", str(tmp_path / "out")]
    for more in ([], ["--weights", str(weights), "--score-only"]):
        with locked(tmp_path / "out", "refine"):
            assert main([*args, *more]) == 2
        assert "another refine is writing to" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_whatever_ends_a_refinement_lets_its_training_save(
    shards_folder: Path, tmp_path: Path, number: int, status: int
) -> None:
    """The signal reaches the refinement alone, as `kill` sends it."""
    args = ["--data.shards", str(shards_folder), "--out", str(tmp_path / "out")]
    args += ["--train.batch_size", "8", "--train.epochs", "100000", "--train.val_every", "99999"]
    run = tmp_path / "out" / "round-1" / "run"
    with subprocess.Popen(
        [sys.executable, "-m", "trainer.refine", *args],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not (run / "steps.jsonl").exists() or not (run / "steps.jsonl").stat().st_size:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=100)
    assert process.returncode == status and error.count("\n") == 1
    assert "the same command goes on" in error
    rows = timing.read_rows(run / "steps.jsonl")
    assert checkpoint.load(run / "last.pt")["step"] == len(rows) > 0
