"""Nothing of a training is lost: signals at every step, blown-up weights, two runs, full disks."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.lock import locked
from runs import REPOSITORY, Forking, Job, command, losses, names, train_rows
from trainer.model.syncnet import SyncNet
from trainer.run import main
from trainer.train import checkpoint, timing
from trainer.train.step import TrainStep

# Steps that cost next to nothing: two samples each.
MANY = ["--train.batch_size", "2", "--train.epochs", "7", "--train.val_every", "99"]


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forking]:
    """What starts runs."""
    with Forking(tmp_path_factory.mktemp("said")) as made:
        yield made


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of the times, which takes longer than the steps, is tested elsewhere."""
    monkeypatch.setattr(timing, "plot", lambda rows, picture: None)


def small_command(shards: Path, run: Path, *more: str) -> list[str]:
    return command(shards, run, *MANY, "--resume", "auto", *more)


def step_saved(run: Path, name: str = "last.pt") -> int:
    return int(checkpoint.load(run / name)["step"])


def test_save_steps_saves_at_those_very_steps_whatever_else_is_due(
    forking: Forking, shards_folder: Path, tmp_path: Path
) -> None:
    """50 and 100 are steps at which the guard is asked as well; then kill -9."""
    run, other = tmp_path / "fifty", tmp_path / "hundred"
    fifty = small_command(shards_folder, run, "--run.save_steps", "50", "--run.keep", "9")
    hundred = small_command(shards_folder, other, "--run.save_steps", "100")
    done = forking.run(
        Job(fifty, "SIGKILL", ("step", 99)),
        Job(fifty, "SIGKILL", ("step", 103)),
        Job(hundred, "SIGKILL", ("step", 104)),
    )
    assert [one.status for one in done] == [-signal.SIGKILL] * 3
    assert "resumed at step 50 " in done[1].out
    assert step_saved(run) == step_saved(other) == 100
    assert {name for name in names(run) if name.endswith(".pt")} == {
        "last.pt", "step-00000050.pt", "step-00000100.pt",
    }  # fmt: skip
    assert losses(run)[:100] == losses(other)[:100]


def test_sigterm_at_any_step_saves_that_step(
    forking: Forking, shards_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = small_command(shards_folder, run)
    # the numbers of steps count from 0: these are the 49th to 51st, and the 99th to 101st
    steps = [48, 49, 50, 98, 99, 100]
    done = forking.run(*(Job(argv, "SIGTERM", ("step", at)) for at in steps))
    for at, one, before in zip(steps, done, [0, *(at + 1 for at in steps)], strict=False):
        assert one.status == 0, one.err
        assert f"stopped by SIGTERM; go on with --resume {run}" in " ".join(one.out.split())
        # where the next went on is what this one saved
        assert (f"resumed at step {before} " in one.out) == (before > 0)
        assert not one.err and at + 1 > before
    assert step_saved(run) == 101 == len(train_rows(run))


def test_sigterm_at_validation_save_and_last_step_loses_nothing(
    forking: Forking, shards_folder: Path, tmp_path: Path
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    epochs = ["--train.epochs", "3", "--train.val_every", "1"]  # of four steps
    argv = command(shards_folder, run, *epochs, "--resume", "auto")
    done = forking.run(
        Job(argv, "SIGTERM", ("validation", 0)),  # after the 4th step
        Job(argv, "SIGTERM", ("save", 0)),  # after the 8th
        Job(argv, "SIGTERM", ("step", 11)),  # the last
        Job(argv),
        Job(command(shards_folder, whole, *epochs)),
    )
    assert [one.status for one in done] == [0] * 5, done
    assert "resumed at step 4 of 12" in done[1].out
    # asked to leave while it saved: the next step hears of it
    assert "resumed at step 9 of 12" in done[2].out
    assert "evaluation stopped by SIGTERM" in done[2].out and "│ test" not in done[2].out
    assert "resumed at step 12 of 12" in done[3].out and step_saved(run) == 12
    assert losses(run) == losses(whole) and len(losses(run)) == 12
    assert json.loads((run / "summary.json").read_text())["finished"] is True
    ours, theirs = (checkpoint.load(folder / "best.pt") for folder in (run, whole))
    assert ours["step"] == theirs["step"] and ours["best"] == theirs["best"]


def test_killed_between_best_and_last_the_best_is_found_again(
    forking: Forking, shards_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = command(shards_folder, run, "--train.epochs", "2", "--train.val_every", "1")
    argv += ["--resume", "auto"]
    killed, again = forking.run(Job(argv, "SIGKILL", ("best", 1)), Job(argv))
    assert killed.status == -signal.SIGKILL and again.status == 0, again.err
    assert "resumed at step 4 of 8" in again.out
    best = max((step_saved(run, name), name) for name in ("best.pt", "last.pt"))
    assert best[0] == 8
    saved = checkpoint.load(run / "best.pt")
    assert saved["best"] == checkpoint.load(run / "last.pt")["best"]
    assert not [name for name in names(run) if name.startswith(".")]


def test_a_run_that_blows_up_ends_and_leaves_what_was_good(
    forking: Forking, shards_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    good = command(shards_folder, run, "--train.epochs", "1", "--train.schedule", "constant")
    # given anew when it goes on, the learning rate holds
    more = ["--resume", "auto", "--train.epochs", "9", "--train.lr", "1e6", "--run.save_steps", "1"]
    # the guard is asked neither after the steps nor after a validation before it has happened
    off = command(shards_folder, tmp_path / "off", "--train.lr", "1e6", "--train.epochs", "3")
    done = forking.run(
        Job(good),
        Job([*good, *more]),
        Job([*good, *more, "--guard", "stop"]),
        Job([*off, "--guard", "off", "--run.save_steps", "1"]),
        Job(command(shards_folder, tmp_path / "heart", "--overfit", "1", "--train.lr", "1e6")),
    )
    assert [one.status for one in done] == [0, 1, 1, 0, 1], done
    for one in (done[1], done[2], done[4]):
        assert one.err.count("\n") == 1 and "it has blown up. Try a lower train.lr" in one.err
    assert f"{run / 'last.pt'} is as it was before" in done[1].err
    for name in ("last.pt", "best.pt"):
        assert checkpoint.finite(checkpoint.load(run / name))
    assert step_saved(run, "best.pt") == 4
    said = " ".join(done[3].out.split())
    assert said.count("the weights are no longer finite, so they are not saved") == 1
    assert "the weights are not finite, so they are not evaluated" in said
    assert all(checkpoint.finite(checkpoint.load(p)) for p in (tmp_path / "off").glob("*.pt"))
    assert losses(tmp_path / "off")[-1] is None


def test_weights_that_are_no_numbers_replace_nothing(
    shards_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every loss is a number, but a running variance is not: only a validation would show it."""
    honest = TrainStep.take

    def spoiling(self: Any, batches: Any, step: int, clock: Any) -> torch.Tensor:
        value = honest(self, batches, step, clock)
        if step == 2:
            next(b for name, b in self.model.named_buffers() if "running_var" in name)[0] = np.inf
        return value

    monkeypatch.setattr(TrainStep, "take", spoiling)
    run = tmp_path / "run"
    argv = command(shards_folder, run, "--train.epochs", "1", "--run.save_steps", "1")
    assert main([*argv, "--train.val_every", "9"]) == 1
    assert "step 3: the weights are no longer finite" in capsys.readouterr().err
    assert step_saved(run) == 2
    # nor is a state from which nothing can be learnt gone on with
    state = checkpoint.load(run / "last.pt")
    next(iter(state["model"].values()))[:] = np.nan
    torch.save(state, run / "last.pt")
    assert main([*argv, "--resume", "auto"]) == 1
    assert "holds numbers that are not finite" in capsys.readouterr().err


class Overflowing(torch.nn.Module):
    """A loss that is infinite in the given steps."""

    def __init__(self, loss: torch.nn.Module, steps: set[int]) -> None:
        super().__init__()
        self.honest, self.steps, self.step = loss, steps, 0

    def forward(self, *given: Any) -> torch.Tensor:
        value: torch.Tensor = self.honest(*given)
        if not value.requires_grad:  # a validation's
            return value
        self.step += 1
        return value * np.inf if self.step - 1 in self.steps else value


@pytest.mark.parametrize("bad", [{2}, set(range(2, 99))])
def test_a_step_that_the_scaler_left_out_ends_no_run(
    shards_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bad: set[int],
) -> None:
    """As 16-bit floats overflow now and then; for ever is something else."""
    make = TrainStep.__init__

    def scaled(self: Any, *given: Any, **named: Any) -> None:
        make(self, *given, **named)
        self.scaler = torch.amp.GradScaler("cpu")
        self.loss = Overflowing(self.loss, bad)

    monkeypatch.setattr(TrainStep, "__init__", scaled)
    monkeypatch.setattr("trainer.train.trainer.GUARD_STEPS", 4)
    argv = command(shards_folder, tmp_path / "run", "--train.epochs", "6", "--guard", "stop")
    assert main([*argv, "--train.val_every", "99"]) == (1 if len(bad) > 1 else 0)
    said = capsys.readouterr()
    assert ("it has blown up" in said.err) == (len(bad) > 1)
    assert losses(tmp_path / "run")[2] is None


@pytest.fixture
def live_run(forking: Forking, shards_folder: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A run that would go on for days, in a process of that number; it has saved."""
    run = tmp_path / "live"
    argv = command(shards_folder, run, "--train.epochs", "100000", "--run.save_steps", "1")
    process = forking.start(Job(argv))
    try:
        deadline = time.monotonic() + 120
        while not (run / "last.pt").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield run, process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_dead(
    forking: Forking,
    live_run: tuple[Path, int],
    shards_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, process = live_run
    os.kill(process, signal.SIGSTOP)  # so that whatever changes is not its doing
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    again = command(shards_folder, run)
    for more in ([], ["--resume", "auto"], ["--resume", str(run)], ["--overfit", "1"]):
        assert main([*again, *more]) == 2
        error = capsys.readouterr().err
        assert f"another run is writing to {run}; wait for it (process {process} " in error
        assert error.count("\n") == 1
    (tmp_path / "elsewhere").symlink_to(run)
    assert main(command(shards_folder, tmp_path / "elsewhere", "--resume", "auto")) == 2
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before
    # what it saved may be gone on with elsewhere
    capsys.readouterr()
    step = step_saved(run)
    other = ["--run.dir", str(tmp_path / "other"), "--resume", str(run), "--train.epochs", "1"]
    assert main(other) == 0 and f"resumed at step {step} " in capsys.readouterr().out
    # a dead process's lock is no lock
    os.kill(process, signal.SIGKILL)
    assert forking.wait(process).status == -signal.SIGKILL
    assert main([*again, "--resume", "auto", "--train.epochs", "1"]) == 0
    assert not [name for name in names(run) if name.startswith(".")]
    # nor does a checkpoint from elsewhere replace the run that lies there
    capsys.readouterr()
    assert main([*other, "--train.epochs", "2"]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_a_run_that_cannot_begin_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a" / "b"
    assert main(["--data.shards", str(tmp_path / "nowhere"), "--run.dir", str(run)]) == 1
    assert not names(tmp_path)


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(
    shards_folder: Path, small_disk: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = small_disk(9_000_000)  # one checkpoint fits, 5.4 MB, and not a second beside it
    run = disk / "run"
    argv = command(shards_folder, run, "--train.epochs", "2", "--run.keep", "0")
    saving = [*argv, "--run.save_steps", "2"]
    assert main(saving) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "step 4: [Errno 28] No space left on device" in error
    assert f"those of before are whole: --resume {run} goes on" in error
    assert step_saved(run) == 2 and not [name for name in names(run) if name.startswith(".")]
    small_disk.grow(disk, 60_000_000)
    assert main([*argv, "--resume", "auto"]) == 0
    assert main(command(shards_folder, tmp_path / "whole", "--train.epochs", "2")) == 0
    assert losses(run) == losses(tmp_path / "whole")


def test_a_limit_on_files_ends_the_run_and_leaves_the_checkpoint_before(
    forking: Forking, shards_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = command(shards_folder, run, "--train.epochs", "2", "--resume", "auto")
    # as `ulimit -f` would: a checkpoint has 5.4 MB, steps.jsonl some hundred bytes a step
    checkpoints, rows = forking.run(
        Job([*argv, "--run.save_steps", "2"], file_limit=4_000_000),
        Job([*argv, "--run.dir", str(tmp_path / "rows"), "--train.epochs", "6"], file_limit=1800),
    )
    for one in (checkpoints, rows):
        assert one.status == 1 and one.err.count("\n") == 1, one
        assert "[Errno 27] File too large" in one.err
    assert "last.pt" not in names(run) and not [n for n in names(run) if n.startswith(".")]
    # whole rows up to there, and none beyond
    found = train_rows(tmp_path / "rows")
    assert [row.step for row in found] == list(range(len(found))) and 3 <= len(found) < 12
    assert (tmp_path / "rows" / "steps.jsonl").read_bytes().endswith(b"}\n")


# As written by version 0.1.0 before the run knew locks; what a checkpoint is must not change.
FORMAT = {
    "model": "OrderedDict", "loss": "OrderedDict", "optimizer": "dict", "schedule": "dict",
    "scaler": "dict", "rng": "Tensor", "step": "int", "best": "float", "seconds": "float",
    "quarantine": "dict", "config": "dict", "average": "OrderedDict",
}  # fmt: skip
# Since then: what tells the clips apart, of which earlier versions take no notice.
ADDED = {"clips": "list"}
SCHEDULE = {
    "base_lrs", "last_epoch", "_step_count", "_is_initial", "_get_lr_called_within_step",
    "_last_lr", "lr_lambdas",
}  # fmt: skip


def test_a_checkpoint_of_before_goes_on_to_the_same_losses(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--train.average", "0.9", "--train.epochs", "2", "--run.save_steps", "3"]
    assert main(command(shards_folder, tmp_path / "whole", *options, "--run.keep", "9")) == 0
    state = checkpoint.load(tmp_path / "whole" / "step-00000003.pt")
    assert {key: type(value).__name__ for key, value in state.items()} == FORMAT | ADDED
    assert state["schedule"].keys() == SCHEDULE and state["optimizer"].keys() == {
        "state", "param_groups",
    }  # fmt: skip
    for moments in state["optimizer"]["state"].values():
        assert moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
    old = tmp_path / "old"
    old.mkdir()
    torch.save({key: state[key] for key in FORMAT}, old / "last.pt")  # as it was written then
    rows = (tmp_path / "whole" / "steps.jsonl").read_text().splitlines(keepends=True)
    (old / "steps.jsonl").write_text("".join(rows[:5]) + rows[5][:40])  # and killed two steps on
    assert main(["--resume", str(old)]) == 0
    assert losses(old) == losses(tmp_path / "whole")
    ours, theirs = (checkpoint.load(run / "last.pt") for run in (old, tmp_path / "whole"))
    for part in ("model", "average"):
        assert all(torch.equal(ours[part][key], theirs[part][key]) for key in theirs[part])


RANKS = """
import json, os, resource, signal, sys
import trainer.run as run
from data_tools.lock import locked
from pathlib import Path
from trainer.train import distributed, timing
from trainer.train.step import TrainStep
rank, (shards, out) = int(os.environ["RANK"]), sys.argv[1:]
tiny = ["--train.batch_size", "8", "--data.val_runs", "1", "--train.device", "cpu"]
step, statuses = TrainStep.take, []
# one group for all runs: it cannot be made anew over the same store
processes, leave = distributed.setup("cpu"), distributed.leave
distributed.setup, distributed.leave = lambda device: processes, lambda: None
timing.plot = lambda rows, picture: None
def do(folder, *more):
    argv = ["--data.shards", shards, "--run.dir", f"{out}/{folder}", *tiny, *more]
    statuses.append(run.main(argv))
do("run", "--train.epochs", "1")
do("run", "--train.epochs", "9", "--resume", "auto", "--train.lr", "1e6", "--run.save_steps", "1")
def asked(self, batches, number, clock):
    if number == 5 and rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, batches, number, clock)
TrainStep.take = asked
do("asked", "--train.epochs", "9")
TrainStep.take = step
if rank == 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, resource.RLIM_INFINITY))
do("full", "--train.epochs", "9", "--run.save_steps", "3")
if rank == 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1800, resource.RLIM_INFINITY))
do("rows", "--train.epochs", "9")
if rank == 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
do("taken", "--train.epochs", "9")
leave()
Path(f"{out}/{rank}.json").write_text(json.dumps(statuses))
"""


@pytest.mark.slow
def test_all_processes_end_together_whatever_befalls_one(
    shards_folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    with locked(tmp_path / "taken", "run"):
        done = subprocess.run(
            [sys.executable, *launcher, str(script), str(shards_folder), str(tmp_path)],
            capture_output=True, text=True, env=environment, timeout=240,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == [0, 1, 0, 1, 1, 2] and second == [0, 1, 0, 1, 1, 1]
    said = [line for line in done.stderr.splitlines() if line.startswith("trainer.run: ")]
    wanted = ["it has blown up", r"step 3: .*too large", "too large", "another run"]
    assert len(said) == 4 and all(map(re.search, wanted, said)), said
    assert checkpoint.finite(checkpoint.load(tmp_path / "run" / "last.pt"))
    saved = step_saved(tmp_path / "asked")
    assert saved == len(train_rows(tmp_path / "asked")) == 7  # heard a step later


@pytest.mark.parametrize("program", ["evaluate", "calibrate", "export"])
def test_ctrl_c_is_one_sentence(
    forking: Forking, shards_folder: Path, tmp_path: Path, program: str
) -> None:
    torch.save(SyncNet("small").state_dict(), tmp_path / "w.pt")
    given = ["--weights", str(tmp_path / "w.pt"), "--data.shards", str(shards_folder)]
    argv = {
        "evaluate": [*given, "--split", "train", "--out", str(tmp_path / "out")],
        "calibrate": [*given, "--split", "train", str(tmp_path / "out.safetensors")],
        "export": [str(tmp_path / "w.pt"), str(tmp_path / "out.torchscript")],
    }[program]
    (done,) = forking.run(Job(argv, "SIGINT", (program, 0), program=program))
    assert done.status == 130 and f"{program}: interrupted" in done.err
    assert done.err.count("\n") == 1 and names(tmp_path) == {"w.pt"}
