"""What one clip gives: starts, errors, pairs; and the offsets that a file lists."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded import RECORD, embeddings, moving
from mutations import changed_bytes, documented
from trainer.score.clip_distances import clip_distances
from trainer.score.evaluation import (
    CONTEXTS,
    EvaluationError,
    EvaluationOptions,
    measure_clip,
    read_offsets,
    sliding_means,
)
from trainer.score.evaluation_report import csv_row
from trainer.score.intervals import Figure, summarise
from trainer.score.scoring import REACH, accuracy, mean_over_windows


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 11), st.integers(0, 5))
def test_sliding_means_are_those_of_every_run(windows: int, width: int, seed: int) -> None:
    distances, valid = clip_distances(*embeddings(0, windows, 1.0, seed), REACH)
    found = sliding_means(distances, valid, width)
    assert len(found) == max(0, windows - width + 1)
    for start, means in enumerate(found):
        part = slice(start, start + width)
        expected = mean_over_windows(distances[None, part], valid[None, part])[0]
        np.testing.assert_allclose(means, expected, rtol=1e-6)


@pytest.mark.parametrize("early", [-9, 0, 1, 4])
def test_a_clip_is_right_where_its_offset_is_nought(early: int) -> None:
    found = measure_clip(RECORD, *embeddings(early, 60, 0.1), EvaluationOptions(), 100)
    assert found.starts.tolist() == [60 - (context - 4) + 1 for context in CONTEXTS]
    assert found.score.offset == early
    assert found.histogram.sum(1).tolist() == found.starts.tolist()
    if abs(early) <= 1:
        # of the first window alone the right shift may lie before the clip
        assert (found.starts - found.right <= abs(early)).all()
    else:  # near an end the right shift lies outside the clip
        assert (found.right < 0.3 * found.starts).all()
        assert (found.histogram[:, early + REACH] > 0.6 * found.starts).all()


def test_an_own_offset_takes_the_place_of_nought() -> None:
    in_sync = measure_clip(RECORD, *embeddings(0, 60, 0.1), EvaluationOptions(), 100)
    early = measure_clip(RECORD, *embeddings(4, 60, 0.1), EvaluationOptions(), 100, own=4)
    wrong = measure_clip(RECORD, *embeddings(0, 60, 0.1), EvaluationOptions(), 100, own=4)
    assert early.parts["inside"].tolist() == in_sync.parts["inside"].tolist()
    assert (early.right > 0.8 * early.starts).all() and not wrong.right.any()
    assert early.genuine.mean() == pytest.approx(in_sync.genuine.mean(), rel=0.3)
    assert wrong.genuine.mean() > 3 * in_sync.genuine.mean()
    result = [summarise([one], EvaluationOptions(resamples=5)) for one in (early, wrong)]
    assert [found.accuracy["clip"].value for found in result] == [1.0, 0.0]
    assert result[1].offset_histogram["clip"][REACH - 4] == 1
    assert csv_row(early)["own_offset_frames"] == 4 and csv_row(early)["offset_frames"] == 4


def test_offsets_are_read_from_what_synth_and_evaluate_write(tmp_path: Path) -> None:
    file = tmp_path / "truth.csv"
    file.write_text("clip,kind,offset_frames\na,in_sync,0\nb,shifted,-4\nc,dubbed,\n")
    assert read_offsets(file) == {"a": 0, "b": -4}
    for text, said in (
        ("clip,offset\na,0\n", "no column offset_frames"),
        ("clip,offset_frames\na,x\n", "line 2: the offset of a, 'x', is no whole number"),
        ("clip,offset_frames\na,0\nb,16\n", "line 3: b is off by 16 frames, more than 15"),
        ("clip,offset_frames\na,1_0\n", "'1_0', is no whole number"),
        ("clip,offset_frames\na\n", "line 2: 1 fields, not 2"),
        ("clip,offset_frames\na,1\na,2\n", "line 3: clip 'a' is twice"),
        ("clip,offset_frames,clip\na,1,b\n", "a column twice"),
        ("", "no column clip and no offset_frames"),
        ('clip,offset_frames\na,"1\n', "line 2"),
    ):
        file.write_text(text)
        with pytest.raises(EvaluationError, match=said):
            read_offsets(file)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_offsets(tmp_path / "none.csv")


def test_accuracy_is_that_of_the_scoring() -> None:
    lips, sound = embeddings(0, 50, 2.0)
    speech = np.arange(50) % 7 < 2
    found = measure_clip(RECORD, lips, sound, EvaluationOptions(), 100, speech_K=speech)
    distances, valid = clip_distances(lips, sound, REACH)
    for i, context in enumerate(CONTEXTS):
        width = context - 4
        cut = range(50 - width + 1)
        runs = np.stack([distances[start : start + width] for start in cut])
        inside = np.stack([valid[start : start + width] for start in cut])
        expected = accuracy(mean_over_windows(runs, inside))
        assert found.right[i] / found.starts[i] == pytest.approx(expected)
        zeros = accuracy(mean_over_windows(runs, np.ones_like(inside)))
        assert found.right_padded[i] / found.starts[i] == pytest.approx(zeros)
        away = [start for start in cut if start >= REACH and start + width + REACH <= 50]
        starts, right = found.parts["inside"][i]
        assert starts == len(away) > 0 and inside[away].all()
        expected = accuracy(mean_over_windows(runs[away], inside[away]))
        assert right / starts == pytest.approx(expected)
        spoken = [start for start in away if speech[start : start + width].any()]
        starts, right = found.parts["speech"][i]
        assert starts == len(spoken) > 0
        expected = accuracy(mean_over_windows(runs[spoken], inside[spoken]))
        assert right / starts == pytest.approx(expected)


def test_centred_runs_are_scored_by_products_of_the_centred_clip() -> None:
    lips, sound = embeddings(0, 60, 1.0)
    corner = lips + 5 * torch.sign(lips[:1]) * torch.arange(60)[:, None].fmod(3)
    options = EvaluationOptions(mode="centred")
    found = measure_clip(RECORD, corner, sound, options, 100)
    left, right = moving(corner), moving(sound)
    products = left @ right.T
    for i, context in enumerate(CONTEXTS):
        width = context - 4
        hits = 0
        for start in range(60 - width + 1):
            means = np.full(2 * REACH + 1, -np.inf)
            for shift in range(-REACH, REACH + 1):
                run = [products[k, k + shift] for k in range(start, start + width)
                       if 0 <= k + shift < 60]  # fmt: skip
                if run:
                    means[shift + REACH] = np.mean(run)
            hits += abs(int(means.argmax()) - REACH) <= 1
        assert found.right[i] == hits
    assert found.score.fit_S is not None and found.score.offset == 0
    masked = measure_clip(RECORD, corner, sound, EvaluationOptions(mode="masked"), 100)
    assert masked.score.fit_S is None
    np.testing.assert_array_equal(masked.genuine, found.genuine)
    assert found.right.sum() != masked.right.sum()


def test_short_clips_and_subsets_of_starts() -> None:
    few = measure_clip(RECORD, *embeddings(0, 60, 0.1), EvaluationOptions(starts=4), 100)
    assert few.starts.tolist() == [4] * len(CONTEXTS)
    short = measure_clip(RECORD, *embeddings(0, 4, 0.1), EvaluationOptions(), 100)
    assert short.starts.tolist() == [4, 2, 0, 0, 0, 0]
    result = summarise([short], EvaluationOptions(resamples=20))
    assert result.accuracy["k15"] == Figure(None, None, None)


@settings(deadline=None, max_examples=300)
@given(data=changed_bytes(b"clip,kind,offset_frames\na,in_sync,0\nb,shifted,-4\nc,dubbed,\n"))
def test_any_file_of_offsets(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "offsets.csv"
    file.write_bytes(data)
    documented(lambda: read_offsets(file), (EvaluationError,))
