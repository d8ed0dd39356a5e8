"""A run goes on with the clips that it began with, wherever they lie."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from data_tools.errors import UsageError
from data_tools.keep import KEEP, Row, write_keep
from data_tools.records import convert
from runs import command
from trainer import run
from trainer.data.dataset import Dataset
from trainer.train import checkpoint
from trainer.train.checkpoint import Progress, Resumed
from trainer.train.same_clips import check_same_clips, state_of


def saved(dataset: Dataset, **changes: Any) -> Resumed:
    """A checkpoint of a training on these clips."""
    state = {"step": 1, "best": 0.5, "seconds": 1.0, "quarantine": {}, "clips": state_of(dataset)}
    return Resumed(Path("last.pt"), {}, convert(state | changes, Progress))


def opened(folder: Path, keep: Mapping[str, int] | None = None) -> Dataset:
    return Dataset(folder, "train", keep)


def test_moved_sets_are_the_same_and_others_are_named(
    shards_folder: Path, many_shards: Path, tmp_path: Path
) -> None:
    before, words = saved(opened(shards_folder)), list[str]()
    copy = Path(shutil.copytree(shards_folder, tmp_path / "elsewhere"))
    check_same_clips(before, opened(copy), words.append)
    check_same_clips(None, opened(copy), words.append)
    assert words == []
    with pytest.raises(UsageError, match=r"holds other training clips than those last\.pt was"):
        check_same_clips(before, opened(many_shards), words.append)
    two = saved(Dataset([shards_folder, shards_folder], "train"))
    with pytest.raises(UsageError, match=rf"^{many_shards} holds.*--model.init last.pt and anothe"):
        check_same_clips(two, Dataset([shards_folder, many_shards], "train"), words.append)
    state = state_of(opened(shards_folder))
    state[0]["val"]["hashes"] = "0" * 64
    with pytest.raises(UsageError, match="holds other validation clips than those"):
        check_same_clips(saved(opened(copy), clips=state), opened(copy), words.append)
    # of an older version, which does not tell
    check_same_clips(saved(opened(copy), clips=None), opened(many_shards), words.append)
    assert len(words) == 1 and "does not say which clips it was trained on" in words.pop()
    # of an older set, which has no hashes, the sizes
    state[0]["val"]["hashes"] = None
    check_same_clips(saved(opened(copy), clips=state), opened(copy), words.append)


def test_what_a_manifest_keeps_and_moves_counts(shards_folder: Path) -> None:
    keys = opened(shards_folder).keys
    whole = saved(opened(shards_folder))
    same = opened(shards_folder, dict.fromkeys(keys, 0))
    check_same_clips(whole, same, pytest.fail)
    late, early = ({**dict.fromkeys(keys, 0), keys[0]: by} for by in (-1, 1))
    for other in (late, early, dict.fromkeys(keys[1:], 0)):
        with pytest.raises(UsageError, match="keeps or moves other training clips of"):
            check_same_clips(whole, opened(shards_folder, other), pytest.fail)
    with pytest.raises(UsageError, match="keeps or moves"):
        check_same_clips(saved(opened(shards_folder, late)), opened(shards_folder, early), print)


def test_a_run_says_what_it_had_and_is_asked(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*command(shards_folder, tmp_path / "run", "--resume", "auto"), "--train.steps"]
    assert run.main([*argv, "1"]) == 0
    assert checkpoint.load(tmp_path / "run" / "last.pt")["clips"] == state_of(opened(shards_folder))
    keys = opened(shards_folder).keys
    write_keep(tmp_path / "keep.csv", {key: Row(KEEP, 1.0, 0) for key in keys[:-1]})
    assert run.main([*argv, "2", "--data.manifest", str(tmp_path / "keep.csv")]) == 2
    shown = capsys.readouterr().err
    assert "data.manifest keeps or moves other training clips of" in shown and "Give the" in shown
