"""Scores of clips; a pass that is killed and goes on."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.keep import KeepError, read_keep, write_keep
from embedded import scored
from mutations import changed_bytes, changed_json, documented
from trainer.data.dataset import Dataset
from trainer.model.syncnet import SyncNet
from trainer.score import clip_scores as module
from trainer.score.clip_scores import PARTIAL, SCORES, ClipScore, score_clips
from trainer.score.verdicts import VerdictOptions, find_rule, give_verdicts


@settings(max_examples=20, deadline=None)
@given(st.integers(-12, 12), st.integers(0, 50))
def test_score_and_offset(early: int, seed: int) -> None:
    found = scored(early, seed)
    assert found.offset == early and found.best_score > 0.3
    assert found.score > 0.3 if abs(early) <= 1 else found.score < 0.05
    dubbed = scored(None, seed)
    assert dubbed.score < 0.1 and dubbed.best_score < found.best_score
    assert found.chance_score is not None and found.chance_score < found.best_score


def test_the_score_is_what_its_formula_says() -> None:
    curve = np.zeros(31)
    curve[15 - 4], curve[15 - 4 + 2], curve[15 + 6] = 2.0, 1.9, 0.5
    # the neighbour two frames away belongs to the peak
    assert module._peak(curve) == 4 and module._lead(curve, 4) == pytest.approx((2 - 0.5) / 2)
    assert module._lead(curve, 0) == pytest.approx((0 - 2) / 2)
    curve[15 - 1] = 1.0
    assert module._lead(curve, 0) == pytest.approx((1 - 2) / 2)
    curve[:5] = -np.inf  # shifts that the clip is too short for
    assert module._lead(curve, 4) == pytest.approx((2 - 1) / 2)
    assert module._lead(np.zeros(31), 0) == 0.0


def test_a_few_windows_of_a_hidden_mouth_change_little() -> None:
    assert scored(0, hidden=6).score == pytest.approx(scored(0).score, abs=0.05)
    assert scored(7, hidden=6).offset == 7


real_pass = module.embed_clips


def killed_after(count: int) -> Any:
    def some(*args: Any, **options: Any) -> Iterator[Any]:
        for number, one in enumerate(real_pass(*args, **options)):
            if number == count:
                raise KeyboardInterrupt
            yield one

    return some


def test_a_killed_pass_goes_on(
    shards_folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_clips(shards_folder, weights, tmp_path / "whole", threads=1)
    assert [one.clip for one in whole] == sorted(Dataset(shards_folder, "train").keys)
    killed = tmp_path / "killed"
    monkeypatch.setattr(module, "embed_clips", killed_after(3))
    with pytest.raises(KeyboardInterrupt):
        score_clips(shards_folder, weights, killed, threads=1)
    assert not (killed / SCORES).exists()
    with open(killed / PARTIAL, "a") as stream:
        stream.write('{"clip": "clip_0')  # a line that was cut off
    asked: list[int] = []

    def noted(dataset: Dataset, model: SyncNet, done: frozenset[int], **options: Any) -> Any:
        asked.extend(set(range(len(dataset))) - done)
        return real_pass(dataset, model, done=done, **options)

    monkeypatch.setattr(module, "embed_clips", noted)
    again = score_clips(shards_folder, weights, killed, threads=1)
    assert len(asked) == len(whole) - 3
    # to the bit: the clips that were left are computed in the batches of the whole pass, and chance
    # is measured with the sound of the same other clip
    assert again == whole and all(one.chance_offset is not None for one in whole)
    assert not (killed / PARTIAL).exists()
    asked.clear()
    assert score_clips(shards_folder, weights, killed, threads=1) == again
    assert asked == []
    # of other weights nothing may be used again
    torch.manual_seed(1)
    other_weights = tmp_path / "other.pt"
    torch.save(SyncNet("small").state_dict(), other_weights)
    score_clips(shards_folder, other_weights, killed, threads=1)
    assert len(asked) == len(whole)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_line_of_scores_is_read_or_measured_again(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    known = asdict(ClipScore("b", 46, 0.5, 3, 0.25, -2, 0.125))
    line = data.draw(changed_json(known) | changed_bytes(json.dumps(known).encode()))
    check_scores(line, tmp_path_factory.getbasetemp())


def check_scores(line: bytes, folder: Path) -> None:
    """What a pass goes on with, and its verdicts, where one line of the scores is `line`."""
    path, identity = folder / SCORES, {"version": 1}
    first = json.dumps(asdict(ClipScore("a", 46, 0.5, 1, 0.5)))
    path.write_bytes(b"\n".join([json.dumps(identity).encode(), first.encode(), line]))
    found = documented(lambda: module._read_scores(path, identity, {"a": 46, "b": 46}), ())
    assert "a" in found and set(found) <= {"a", "b"}
    threshold, spread = find_rule(list(found.values()), VerdictOptions())
    for realign in (False, True):
        rows = give_verdicts(found.values(), threshold.value, spread, realign)
        write_keep(folder / "keep.csv", rows)
        if any(row.used for row in rows.values()):
            assert read_keep(folder / "keep.csv").keys() == found.keys()
        else:  # two clips that disagree may both be left out, and that is refused in words
            with pytest.raises(KeepError, match="keeps no clip"):
                read_keep(folder / "keep.csv")
