"""The guard: figures by hand, and real runs forced to learn nothing, called out in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.data.sampler import TrainSampler
from trainer.model.losses import Pairs, shifted
from trainer.run import main
from trainer.score.scoring import auc
from trainer.train import guard
from trainer.train.guard import EVERY, Guard

CPU = torch.device("cpu")


def looked(lips: torch.Tensor, sound: torch.Tensor, loss: float = 1.0, looks: int = 12) -> Guard:
    watching = Guard(lr=1e-3, warmup_steps=10, windows=128)
    pairs = shifted(len(lips), lips.shape[1], sound.shape[1], 0, 1, CPU)
    for look in range(looks):
        watching.look(look * EVERY, torch.tensor(loss), lips, sound, pairs)
    return watching


def test_figures_are_those_of_the_pairs() -> None:
    torch.manual_seed(0)
    lips = torch.randn(3, 6, 8)
    sound = lips + torch.randn(3, 6, 8)
    seen = looked(lips, sound).seen()
    assert seen is not None and seen.loss == 1
    d = torch.cdist(lips, sound).numpy()
    eye = np.eye(6, dtype=bool)
    genuine, false = d[:, eye].ravel(), d[:, ~eye].ravel()
    assert seen.order == pytest.approx(auc(genuine, false), abs=1e-5)
    assert seen.gap == pytest.approx(1 - genuine.mean() / false.mean(), rel=1e-4)
    assert 0.8 < seen.spread < 1.2


def test_pairs_in_neither_mask_are_not_looked_at() -> None:
    lips, sound = torch.zeros(1, 2, 1), torch.tensor([[[1.0], [2.0]]])
    genuine = torch.tensor([[[True, False], [False, False]]])
    false = torch.tensor([[[False, True], [False, False]]])
    watching = Guard(1e-3, 0, 1)
    for step in range(0, 20 * EVERY, EVERY):
        watching.look(step, torch.tensor(0.0), lips, sound, Pairs(genuine, false))
    seen = watching.seen()
    assert seen is not None and seen.order == 1 and watching.order_now() == 1
    assert seen.gap == pytest.approx(0.5)


SCORES = {"auc": 0.501, "accuracy_k5": 0.1, "loss": 13.0, "false_distance": 5.0}


def test_each_fault_has_its_words_once() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(2, 4, 60, 16)
    assert looked(lips, lips + 0.1 * sound).verdict(500) is None
    chance = looked(lips, sound)
    assert "still at chance" in str(chance.verdict(500)) and chance.verdict(501) is None
    assert "collapsed" in str(looked(1 + 0 * lips, 1 + 0 * sound).verdict(30))
    assert "blown up" in str(looked(lips, lips, loss=float("nan")).verdict(30))
    assert "blown up" in str(looked(lips, sound, looks=1).verdict(0, SCORES | {"loss": np.inf}))
    assert "validation is at chance" in str(looked(lips, sound).verdict(99, SCORES))


def test_a_validation_tells_of_an_explosion_after_a_few_steps() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(2, 4, 60, 16)
    far = {"loss": 5358.0, "false_distance": 146.0}
    said = str(looked(lips, sound, looks=8).verdict(14, SCORES | far))
    assert "exploded" in said and "loss 5,358" in said
    assert looked(lips, sound, looks=8).verdict(14, SCORES | far | {"auc": 0.7}) is None


def test_nothing_is_said_of_chance_before_a_healthy_run_would_have_learnt() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(2, 4, 60, 16)
    assert looked(lips, sound, looks=3).verdict(0, SCORES) is None
    assert looked(lips, sound).verdict(98, SCORES) is None
    assert looked(lips, sound).verdict(98) is None
    learning = looked(lips, lips + 0.1 * sound)
    assert learning.verdict(500, SCORES) is None  # averaged weights, say


def test_chance_waits_for_the_warm_up_and_for_enough_windows() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(2, 4, 60, 16)
    pairs = shifted(4, 60, 60, 0, 1, CPU)
    for warmup, windows, first in (
        (50, 10_000, 100),
        (0, 64, 200),
        (50, 128, 100),
        (500, 128, 550),
    ):
        watching = Guard(1e-3, warmup, windows)
        for step in range(12):
            watching.look(step * EVERY, torch.tensor(1.0), lips, sound, pairs)
        assert watching.verdict(first - 2, SCORES) is None
        assert "at chance" in str(watching.verdict(first - 1, SCORES))


def arguments(shards: Path, run: Path, *more: str) -> list[str]:
    sizes = ["--train.batch_size", "8", "--data.val_runs", "2", "--data.windows_per_clip", "40"]
    return ["--data.shards", str(shards), "--run.dir", str(run), *sizes, *more]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["learning rate", "labels"])
def test_a_run_forced_to_collapse_is_called_out_before_its_first_validation_ends(
    shards_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    more = ["--train.epochs", "4", "--train.val_every", "4", "--guard", "stop"]
    if how == "learning rate":
        more += ["--train.lr", "0.1", "--train.warmup_steps", "0"]
    else:
        # of eight windows a look, the share that is nearer strays too far from a half by chance
        more += ["--train.batch_size", "32", "--data.windows_per_clip", "160"]
        # this run is too short for 12,800 windows
        monkeypatch.setattr(guard, "_WINDOWS", 1000)
        honest = TrainSampler.batch
        dice = np.random.default_rng(0)  # not by run: seven clips would be learnt by heart

        def shuffled(self: TrainSampler, *given: Any, **named: Any) -> Any:
            runs = honest(self, *given, **named)
            dice.shuffle(runs.label)
            return runs

        monkeypatch.setattr(TrainSampler, "batch", shuffled)
    assert main(arguments(shards_folder, tmp_path / "run", *more)) == 1
    said = capsys.readouterr()
    assert "not learning:" in said.err and "Try " in said.err
    assert said.out.count("val loss") <= 1


@pytest.mark.parametrize(
    ("more", "called_out"),
    [
        (["--train.lr", "0.1", "--train.epochs", "8"], True),
        (["--train.epochs", "3"], False),
        (["--train.epochs", "1"], False),
    ],
)
def test_a_validation_after_a_few_steps_tells_broken_from_early(
    shards_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    called_out: bool,
) -> None:
    small = ["--train.batch_size", "16", "--data.windows_per_clip", "5", "--guard", "stop"]
    run = arguments(shards_folder, tmp_path / "run", *small, *more)
    assert main(run) == called_out
    said = capsys.readouterr()
    assert ("exploded" in said.err) == called_out
    assert said.out.count("val loss") == 1


def test_overfit_learns_a_batch_by_heart(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(shards_folder, tmp_path / "run", "--overfit", "1")) == 0
    assert "learnt by heart" in capsys.readouterr().out


def test_overfit_says_when_a_batch_cannot_be_learnt(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--overfit", "1", "--train.lr", "1e-12"]
    assert main(arguments(shards_folder, tmp_path / "run", *more)) == 1
    assert "not learnt by heart, which takes" in capsys.readouterr().err
    assert main(arguments(shards_folder, tmp_path / "run", "--overfit", "-1")) == 2


def test_the_guard_costs_nothing_on_most_steps() -> None:
    watching = looked(*torch.randn(2, 4, 60, 16), looks=8)
    before = watching.seen()
    watching.look(41, torch.zeros(()), torch.zeros(0), torch.zeros(0), None)  # type: ignore[arg-type]
    assert watching.seen() == before and guard.EVERY > 1
