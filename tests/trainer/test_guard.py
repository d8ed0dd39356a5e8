"""The guard: figures by hand, and real runs forced to learn nothing, called out in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer import guard
from trainer.guard import EVERY, Guard
from trainer.losses import Pairs, shifted
from trainer.run import main
from trainer.sampler import TrainSampler
from trainer.scoring import auc

CPU = torch.device("cpu")


def looked(lips: torch.Tensor, sound: torch.Tensor, loss: float = 1.0, looks: int = 12) -> Guard:
    watching = Guard(lr=1e-3, warmup_steps=10)
    pairs = shifted(len(lips), lips.shape[1], sound.shape[1], 0, 1, CPU)
    for look in range(looks):
        watching.look(look * EVERY, torch.tensor(loss), lips, sound, pairs)
        watching.look(look * EVERY + 1, torch.tensor(torch.nan), lips, sound, pairs)
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
    watching = Guard(1e-3, 0)
    for step in range(0, 20 * EVERY, EVERY):
        watching.look(step, torch.tensor(0.0), lips, sound, Pairs(genuine, false))
    seen = watching.seen()
    assert seen is not None and seen.order == 1 and watching.order_now() == 1
    assert seen.gap == pytest.approx(0.5)


def test_each_fault_has_its_words_once() -> None:
    torch.manual_seed(0)
    lips, sound = torch.randn(2, 4, 60, 16)
    assert looked(lips, lips + 0.1 * sound).verdict(500) is None
    chance = looked(lips, sound)
    assert chance.verdict(50) is None  # too early to say
    assert "still at chance" in str(chance.verdict(500)) and chance.verdict(501) is None
    assert "collapsed" in str(looked(1 + 0 * lips, 1 + 0 * sound).verdict(30))
    assert "blown up" in str(looked(lips, lips, loss=float("nan")).verdict(30))
    assert looked(lips, sound, looks=3).verdict(500) is None
    scores = {"auc": 0.501, "accuracy_k5": 0.1, "loss": 1.0}
    assert "validation is at chance" in str(Guard(1e-3, 5).verdict(20, scores))
    assert Guard(1e-3, 5).verdict(20, scores | {"auc": 0.7}) is None


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
        honest = TrainSampler.batch

        def shuffled(self: TrainSampler, *given: Any, **named: Any) -> Any:
            runs = honest(self, *given, **named)
            np.random.default_rng(runs.start.sum()).shuffle(runs.label)
            return runs

        monkeypatch.setattr(TrainSampler, "batch", shuffled)
    assert main(arguments(shards_folder, tmp_path / "run", *more)) == 1
    said = capsys.readouterr()
    assert "not learning:" in said.err and "Try " in said.err
    assert said.out.count("val loss") <= 1


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
    assert "not near zero. Try" in capsys.readouterr().err
    assert main(arguments(shards_folder, tmp_path / "run", "--overfit", "-1")) == 2


def test_the_guard_costs_nothing_on_most_steps() -> None:
    watching = Guard(1e-3, 0)
    watching.look(1, torch.zeros(()), torch.zeros(0), torch.zeros(0), None)  # type: ignore[arg-type]
    assert watching.seen() is None and guard.EVERY > 1
