"""Checkpoints: whole or not at all, never executed, old ones removed."""

import errno
import math
import os
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hostile_weights as hostile
from trainer.train import checkpoint
from trainer.train.checkpoint import CheckpointError


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


@pytest.mark.parametrize(
    "error", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV]
)
def test_where_there_are_no_links_copies_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refused(*names: Any, **options: Any) -> None:
        raise OSError(error, os.strerror(error), *map(str, names[:1]))

    monkeypatch.setattr(os, "link", refused)
    for step in range(1, 4):
        checkpoint.save(tmp_path, state(step), keep=2, best=step == 2)
    found = {p.name: checkpoint.load(p)["step"] for p in tmp_path.iterdir()}
    assert found == {"last.pt": 3, "best.pt": 2, "step-00000002.pt": 2, "step-00000003.pt": 3}
    assert all(p.stat().st_nlink == 1 for p in tmp_path.iterdir())


def test_a_disk_that_fills_while_copying_leaves_all_that_was(
    small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk(1_500_000)
    big = {"w": torch.zeros(100_000)}  # 0.4 MB: last, best and their successor fit, not a fourth
    checkpoint.save(disk, state(1) | {"model": big}, keep=0, best=True)

    def refused(*names: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    (disk / "ballast").write_bytes(bytes(500_000))
    with pytest.raises(OSError, match=r"No space left on device: .*best\.pt"):
        checkpoint.save(disk, state(2) | {"model": big}, keep=0, best=True)
    assert sorted(p.name for p in disk.iterdir()) == ["ballast", "best.pt", "last.pt"]
    assert all(checkpoint.load(disk / name)["step"] == 1 for name in ("best.pt", "last.pt"))


def test_what_a_killed_process_of_our_number_left_is_not_written_through(tmp_path: Path) -> None:
    """Killed after best.pt was linked and before last.pt was: the partial is best.pt as well."""
    checkpoint.save(tmp_path, state(1), keep=0, best=True)
    os.link(tmp_path / "best.pt", tmp_path / f".last.pt.partial-{os.getpid()}")
    os.link(tmp_path / "best.pt", tmp_path / ".best.pt.partial-1")
    checkpoint.save(tmp_path, state(2), keep=0, best=False)
    assert checkpoint.load(tmp_path / "best.pt")["step"] == 1
    checkpoint.clear(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_the_newest_are_those_written_last_whatever_their_number(tmp_path: Path) -> None:
    foreign = tmp_path / "step-mine.pt"
    foreign.touch()
    for step in (99_999_998, 99_999_999, 100_000_000, 5):  # the last went back to an earlier one
        checkpoint.save(tmp_path, state(step), keep=2, best=False)
    kept = {path.name for path in tmp_path.glob("step-*")}
    assert kept == {"step-00000005.pt", "step-100000000.pt", foreign.name}
    checkpoint.save(tmp_path, state(6), keep=0, best=False)
    assert {path.name for path in tmp_path.glob("step-*")} == {foreign.name}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(bad: float) -> None:
    good = {"a": torch.tensor([3e38, -3e38]), "b": [torch.zeros(0), torch.tensor(3)], "c": "text"}
    assert checkpoint.finite(good) and checkpoint.finite({})
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert not checkpoint.finite(good | {"d": {0: (torch.tensor(bad, dtype=dtype),)}})


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


def test_a_whole_checkpoint_resumes_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = hostile.whole_state()
    for absent in ((), ("average",)):
        path = tmp_path / "last.pt"
        torch.save({key: value for key, value in state.items() if key not in absent}, path)
        receiver = hostile.Receiver()
        found = checkpoint.resume(path)
        assert found.progress == checkpoint.Progress(3, 0.5, 12.5, {"clip": 2})
        for entry in ("model", "loss", *({"average"} - set(absent))):
            taken = found.take(entry, getattr(receiver, entry).state_dict())
            assert all(torch.equal(value, state[entry][key]) for key, value in taken.items())
        receiver.optimizer.load_state_dict(found.optimizer(receiver.optimizer))
        receiver.schedule.load_state_dict(found.schedule(receiver.schedule))
        for number, moments in state["optimizer"]["state"].items():
            mine = receiver.optimizer.state_dict()["state"][number]
            assert all(torch.equal(mine[key], value) for key, value in moments.items())
        assert receiver.optimizer.state_dict()["param_groups"] == state["optimizer"]["param_groups"]
        assert receiver.schedule.state_dict() == state["schedule"]
        assert torch.equal(found.rng("rng", torch.default_generator), state["rng"])
        receiver.resume(path)


def test_what_another_precision_or_device_saved_still_resumes(tmp_path: Path) -> None:
    path, state = tmp_path / "last.pt", hostile.whole_state()
    group = state["optimizer"]["param_groups"][0] | {"fused": True, "new_in_torch": 1}
    optimizer = {"state": {}, "param_groups": [group]}
    cuda = {"cuda_rng": torch.zeros(16, dtype=torch.uint8)}
    torch.save(state | cuda | {"scaler": {}, "optimizer": optimizer}, path)
    receiver = hostile.Receiver()
    receiver.resume(path)
    assert checkpoint.resume(path).scaler(receiver.scaler) == {}


_WEIGHT = "0.weight"


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("step", -1, "step: expected int >= 0"),
        ("step", 10**18, "step: expected int <="),
        ("step", "5", "step: expected int, got str"),
        ("best", math.nan, "best: expected float"),
        ("best", 5, "best: expected float <= 1"),
        ("seconds", math.inf, "seconds: expected float"),
        ("quarantine", {"clip": "x"}, "quarantine"),
        ("quarantine", {5: 5}, "quarantine"),
        ("quarantine", [5], "quarantine: expected object"),
        ("model", 5, "model"),
        ("model", {_WEIGHT: torch.zeros(2, 3)}, "model has no 0.bias"),
        ("loss", {}, "loss has no weight"),
        ("average", 5, "average is 5, not a table"),
        ("average", {"n_averaged": torch.tensor(3)}, "average has no module.0.weight"),
        ("optimizer", {}, "optimizer has no state"),
        ("optimizer", {"state": {}, "param_groups": 5}, "param_groups is 5"),
        ("optimizer", {"state": {}, "param_groups": [{}]}, "has no params"),
        ("schedule", {}, "schedule has no last_epoch"),
        ("schedule", {"last_epoch": 4, "base_lrs": [1e-3]}, "last_epoch is 4, but step is 3"),
        ("schedule", {"last_epoch": 3, "base_lrs": [math.nan]}, "base_lrs.0 is nan"),
        ("scaler", {"scale": 1.0}, "scaler has no growth_factor"),
        ("rng", torch.zeros(5, dtype=torch.uint8), "rng is 5 of uint8, not 5056 of uint8"),
        ("rng", torch.full((5056,), 255, dtype=torch.uint8), "rng is no state of a generator"),
        ("quarantine", torch.zeros(3), "a tensor or another object stands for a plain value"),
        ("config", {}, "config has no section data"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(
    entry: str, value: Any, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "last.pt"
    torch.save(hostile.whole_state() | {entry: value}, path)
    with pytest.raises((CheckpointError, ValueError), match=re.escape(words)) as error:
        hostile.Receiver().resume(path)
    assert "\n" not in str(error.value) and (entry == "config" or str(path) in str(error.value))
    if entry != "config":
        assert "resume from another checkpoint" in str(error.value)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(3, 2), "model.0.weight is 3x2 of float32, not 2x3 of float32"),
        (torch.zeros(2, 3, dtype=torch.float64), "is 2x3 of float64"),
        (torch.full((2, 3), math.nan), "model.0.weight holds numbers that are not finite"),
        (torch.zeros(1).expand(10**5, 10**5), "more numbers than the file holds"),
        ("text", "model.0.weight is text, not a tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_weight_that_does_not_fit_is_named(tensor: Any, words: str, tmp_path: Path) -> None:
    path, state = tmp_path / "last.pt", hostile.whole_state()
    torch.save(state | {"model": state["model"] | {_WEIGHT: tensor}}, path)
    with hostile.bounded(), pytest.raises(CheckpointError, match=re.escape(words)):
        hostile.Receiver().resume(path)


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_state_crashes_or_takes_room(rng: random.Random) -> None:
    hostile.check_checkpoint(hostile.mutated_checkpoint(rng))
