"""What a training's summary.json says of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from data_tools.errors import UsageError
from data_tools.keep import KEEP, Row, write_keep
from data_tools.records import RecordError
from mutations import changed_bytes, changed_json, documented
from trainer.config.command import parse
from trainer.data.dataset import Dataset
from trainer.score.verdicts import VerdictOptions
from trainer.train import checkpoint
from trainer.train import rounds as module
from trainer.train.same_clips import state_of

SUMMARY = {"finished": True, "seconds": 1.5, "val_auc": 0.5, "test_accuracy_k5": None, "steps": 3}


@settings(deadline=None, max_examples=200)
@given(data=changed_json(SUMMARY) | changed_bytes(json.dumps(SUMMARY).encode()))
def test_any_summary_of_a_training(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    run = tmp_path_factory.getbasetemp()
    (run / "summary.json").write_bytes(data)
    documented(lambda: (module._finished(run), module._final_scores(run)))


def test_a_summary_with_nan_is_read_and_a_damaged_one_named(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text('{"finished": true, "val_loss": NaN, "val_auc": 0.5, "test_auc": null}')
    assert module._finished(tmp_path) and module._final_scores(tmp_path) == {"val_auc": 0.5}
    file.write_text('{"finished": "yes"}')
    with pytest.raises(RecordError, match="finished: expected bool, got str"):
        module._finished(tmp_path)


def test_a_training_of_other_options_or_labels_is_not_taken_for_ours(
    shards_folder: Path, tmp_path: Path
) -> None:
    """Done or not; where it was computed, and where the shards lie, does not matter."""
    sets, run, words = module.Sets(shards_folder), tmp_path / "round-2/run", ["--train.steps", "2"]
    keys, manifest = Dataset(shards_folder, "train").keys, tmp_path / "keep.csv"
    write_keep(manifest, {key: Row(KEEP, 1.0, 0) for key in keys[1:]})
    config, _ = parse([*words, "--data.shards", "elsewhere", "--train.device", "cuda"])
    clips = state_of(Dataset(shards_folder, "train", dict.fromkeys(keys[1:], 0)))
    state = {"step": 2, "best": 0.5, "seconds": 1.0, "quarantine": {}, "clips": clips}
    run.mkdir(parents=True)
    checkpoint.save(
        run, {"model": {}, "optimizer": {}, "config": config.as_dict(), **state}, 0, best=True
    )
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    assert module._train(sets, run, manifest, words) == run / "best.pt"
    module.check_options(sets, run, [*words, "--data.threads", "3"])

    def refined(*more: str) -> None:
        given = sets, tmp_path, 2, VerdictOptions(), [*words, *more]
        module.refine(*given, say=pytest.fail, weights=tmp_path / "W")  # type: ignore[arg-type]

    for more, said in (
        (["--train.steps", "6"], r"was trained with train\.steps 2, not 6: give the options"),
        (["--loss.margin", "3"], r"was trained with loss\.margin None, not 3"),
    ):
        with pytest.raises(UsageError, match=said):  # before anything is scored
            refined(*more)
    write_keep(manifest, {key: Row(KEEP, 1.0, 0) for key in keys})
    for finished in (True, False):
        with pytest.raises(UsageError, match=r"keeps or moves other .* give another --out, or"):
            module._train(sets, run, manifest, words)
        if finished:
            (run / "summary.json").unlink()
