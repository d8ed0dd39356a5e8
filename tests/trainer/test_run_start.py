"""Trainings that start from weights, and steps in parts: real runs, killed and gone on with."""

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from runs import Forking, Job, command, losses, train_rows
from trainer.run import main
from trainer.train import checkpoint, timing

SHORT = ["--train.epochs", "3", "--train.batch_size", "4", "--data.windows_per_clip", "2"]
MULTIWAY = ["--data.pairing", "multiway", "--data.run_frames", "16", "--augment.noise", "0.5"]
PARTS = ["--train.accumulate", "2", "--train.average", "0.9"]
INIT = ["--model.init_lr", "0.5", "--model.freeze", "lips:2"]


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    """What starts runs."""
    with Forking(tmp_path_factory.mktemp("said")) as made:
        yield made


def test_killed_and_resumed_it_is_the_same_run_to_the_bit_without_its_file(
    forking: Forking, weights: Path, shards_folder: Path, tmp_path: Path
) -> None:
    """kill -9 as the fourth step begins; then the file of weights is gone."""
    own = tmp_path / "start.pt"
    own.write_bytes(weights.read_bytes())
    argv = [*SHORT, *MULTIWAY, *PARTS, *INIT, "--model.init", str(own), "--run.save_steps", "1"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    done = forking.run(
        Job(command(shards_folder, whole, *argv)),
        Job(command(shards_folder, halves, *argv), "SIGKILL", ("step", 3)),
    )
    assert [one.status for one in done] == [0, -signal.SIGKILL], done[0].err
    assert "14 of 14 layers loaded" in done[0].out and "samples in 2 parts" in done[0].out
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    own.unlink()
    (resumed,) = forking.run(Job(["--resume", str(halves)]))
    assert resumed.status == 0, resumed.err
    assert "resumed at step 3 " in resumed.out and "layers loaded" not in resumed.out
    assert losses(halves) == losses(whole)
    first, second = (checkpoint.load(run / "last.pt")["model"] for run in (whole, halves))
    assert all(torch.equal(first[key], second[key]) for key in first)
    began = torch.load(weights, weights_only=True)
    frozen = [key for key in began if key.startswith(("netcnnlip.0.", "netcnnlip.1."))]
    assert len(frozen) == 7 and all(torch.equal(first[key], began[key]) for key in frozen)
    for run in (whole, halves):
        told = json.loads((run / "summary.json").read_text())["init"]
        assert told == {"weights": str(own), "sha256": digest, "layers": 14}
    # all parts' times are in the one row of a step, whose phases cannot exceed it on a CPU
    for row in train_rows(whole):
        assert sum(row.spent(phase) for phase in timing.PHASES) <= row.total_ms + 0.01


def test_what_makes_no_sense_is_refused_in_a_sentence(
    weights: Path, shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def said(status: int, *more: str) -> str:
        assert main(command(shards_folder, run, *SHORT, *more)) == status
        return capsys.readouterr().err

    assert "moth is no file" in said(1, "--model.init", "moth")
    assert "add --model.name medium" in said(2, "--model.init", "mouth")
    assert "give that as well" in said(2, "--model.freeze", "lips")
    assert "give that as well" in said(2, "--model.init_lr", "0.1")
    assert "above 0, up to 1" in said(2, "--model.init", "mouth", "--model.init_lr", "0")
    assert "model.init is empty" in said(2, "--model.init", "")
    assert "does not make 3 equal parts" in said(2, "--train.accumulate", "3")
    state = torch.load(weights, weights_only=True)
    del state["netcnnlip.0.bias"]
    torch.save(state, tmp_path / "part.pt")
    part = ["--model.init", str(tmp_path / "part.pt")]
    assert "lips 1 did not come with model.init" in said(2, *part, "--model.freeze", "lips:2")
    assert not (run / "steps.jsonl").exists()


def test_a_resumed_run_cannot_have_begun_otherwise(
    forking: Forking, weights: Path, shards_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    argv = command(shards_folder, run, *SHORT, "--model.init", str(weights))
    (killed,) = forking.run(Job([*argv, "--run.save_steps", "1"], "SIGKILL", ("step", 1)))
    assert killed.status == -signal.SIGKILL, killed.err
    again = command(shards_folder, run, *SHORT, "--resume", "auto")
    assert main([*again, "--model.init", "mouth"]) == 2
    assert "leave it out, a checkpoint goes on with its own weights" in capsys.readouterr().err
    assert main([*again, "--model.freeze", "lips"]) == 2
    state = checkpoint.load(run / "last.pt")
    del state["init"]
    torch.save(state, run / "last.pt")
    assert main(again) == 1
    assert "its init does not name the layers" in capsys.readouterr().err
