"""What a training's summary.json says of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from data_tools.records import RecordError
from mutations import changed_bytes, changed_json, documented
from trainer.train import rounds as module

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
